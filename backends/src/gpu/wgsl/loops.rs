//! Loops.

use lehr_ir::kernel::{AxisKind, Loop, Stmt};

use super::WgslError;
use super::barrier::Touched;
use super::printer::{Context, Printer, axis_name};

/// Whether there is a lane or reduce loop at any depth, which a workgroup shares.
pub(super) fn has_lanes(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|s| match s {
        Stmt::Loop(l) => matches!(l.kind, AxisKind::Lane | AxisKind::Reduce(_)) || has_lanes(&l.body),
        Stmt::If { body, .. } => has_lanes(body),
        Stmt::Let { .. } | Stmt::Store { .. } => false,
    })
}

impl<'k> Printer<'k> {
    pub(super) fn inner_loop(&mut self, l: &'k Loop) -> Result<(), WgslError> {
        match (l.kind, self.context) {
            (AxisKind::Parallel, _) => Err(WgslError::Invalid("a parallel loop inside of another loop")),
            (AxisKind::Serial, _) | (AxisKind::Lane, Context::Lane) => self.in_sequence(l),
            (AxisKind::Lane, Context::Row) => self.over_invocations(l),
            (AxisKind::Reduce(lanes), Context::Row) => self.reduce_together(l, lanes),
            (AxisKind::Reduce(lanes), Context::Lane) => self.reduce_alone(l, lanes),
        }
    }

    /// Opens `for` over `from, from + step, …` below the loop's extent; [`Printer::end_for`] closes it.
    pub(super) fn begin_for(&mut self, l: &'k Loop, from: &str, step: u32) -> Result<(), WgslError> {
        let axis = axis_name(&l.axis);
        let extent = self.index(&l.extent)?;
        let next = if step == 1 { format!("{axis}++") } else { format!("{axis} += {step}") };
        self.open(format!("for (var {axis} = {from}; {axis} < {extent}; {next}) {{"));
        self.axes.push((&l.axis, axis));
        Ok(())
    }

    /// Ends what [`Printer::begin_for`] began.
    pub(super) fn end_for(&mut self) {
        self.axes.pop();
        self.close("}");
    }

    /// Runs `inside` as one invocation on its own.
    pub(super) fn alone<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.context, Context::Lane);
        let result = inside(self);
        self.context = outer;
        result
    }

    fn in_sequence(&mut self, l: &'k Loop) -> Result<(), WgslError> {
        self.begin_for(l, "0", 1)?;
        self.block(&l.body)?;
        if self.context == Context::Row && l.body.iter().any(|s| Touched::by(s).stores()) {
            self.wait();
        }
        self.end_for();
        Ok(())
    }

    fn over_invocations(&mut self, l: &'k Loop) -> Result<(), WgslError> {
        self.begin_for(l, "lane", self.target.workgroup_size.max(1))?;
        self.alone(|p| p.block(&l.body))?;
        self.end_for();
        Ok(())
    }
}
