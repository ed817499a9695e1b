//! Loops that fold nothing.
//!
//! Every loop tests at its top, and what follows reads the header's parameters: then an accumulator has one use in the body, and loads
//! can fold into instructions.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, InstBuilder, Value, types};
use lehr_ir::kernel::{AxisKind, Expr, Loop, Memory, Stmt, Var};

use super::plan::{Lanes, Plan, accesses, plan};
use super::{EmitError, Emitter, walk};

impl Emitter<'_, '_> {
    /// Emits a loop inside the outermost one.
    pub(super) fn inner_loop(&mut self, l: &Loop) -> Result<(), EmitError> {
        let zero = self.constant(types::I64, 0);
        let end = self.index(&l.extent, 0)?;
        let known = l.extent.as_const();
        self.any_loop(l, zero, end, known)
    }

    /// Emits a loop over `from..to`; `known` is the number of iterations where it is constant.
    pub(super) fn any_loop(&mut self, l: &Loop, from: Value, to: Value, known: Option<i64>) -> Result<(), EmitError> {
        let plan = if self.simd && self.lanes.is_none() { plan(self.kernel, l) } else { None };
        match (l.kind, plan) {
            (AxisKind::Reduce(lanes), Some(plan)) => self.reduce_vectorised(l, lanes, plan, to, known),
            (AxisKind::Reduce(lanes), None) => self.reduce_in_order(l, lanes, to),
            (AxisKind::Parallel | AxisKind::Lane, Some(plan)) => self.vectorised(l, plan, from, to, known),
            (AxisKind::Parallel | AxisKind::Lane | AxisKind::Serial, _) => self.scalar_loop(l, from, to).map(drop),
        }
    }

    /// Emits the body for each iteration of `from..to` and gives the value of the axis after the last.
    pub(super) fn scalar_loop(&mut self, l: &Loop, from: Value, to: Value) -> Result<Value, EmitError> {
        self.counted(from, to, 1, |e, i| e.iteration(l, i))
    }

    fn vectorised(
        &mut self,
        l: &Loop,
        plan: Plan,
        from: Value,
        to: Value,
        known: Option<i64>,
    ) -> Result<(), EmitError> {
        let scope = self.enter();
        let exit = self.b.create_block();
        self.hoist_loads(l, from, to, exit)?;
        let mut i = from;
        let mut left = known;
        for group in stages(plan.group, known) {
            let limit = self.b.ins().iadd_imm_s(to, 1 - group as i64);
            i = self.counted(i, limit, group as i64, |e, i| e.in_lanes(l, i, group, |e| e.iteration(l, i)))?;
            left = left.map(|n| n % group as i64);
        }
        if left != Some(0) {
            self.scalar_loop(l, i, to)?;
        }
        self.jump(exit, &[]);
        self.b.switch_to_block(exit);
        self.leave(scope);
        Ok(())
    }

    /// Runs `body` with a group of lanes of this loop's axis.
    pub(super) fn in_lanes<T>(
        &mut self,
        l: &Loop,
        base: Value,
        group: usize,
        body: impl FnOnce(&mut Self) -> Result<T, EmitError>,
    ) -> Result<T, EmitError> {
        self.lanes = Some(Lanes { axis: l.axis.clone(), base });
        self.group = group;
        self.pool_bases(base, group);
        let r = body(self);
        self.lanes = None;
        self.group = 1;
        r
    }

    /// One iteration, or one group of them: binds the axis and emits the body.
    pub(super) fn iteration(&mut self, l: &Loop, i: Value) -> Result<(), EmitError> {
        self.bind(&l.axis, i);
        self.innermost = Some(l.axis.clone());
        self.hoist_divisions(&l.body)?;
        self.block(&l.body)
    }

    /// A loop from `from` while below `to`; gives the counter after it. The body's scope ends with each iteration.
    pub(super) fn counted(
        &mut self,
        from: Value,
        to: Value,
        step: i64,
        body: impl FnOnce(&mut Self, Value) -> Result<(), EmitError>,
    ) -> Result<Value, EmitError> {
        let (header, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(header, types::I64);
        self.jump(header, &[from]);
        self.b.switch_to_block(header);
        self.exit_unless_below(i, to, exit, inside);
        self.b.switch_to_block(inside);
        let scope = self.enter();
        self.level += 1;
        body(self, i)?;
        self.leave(scope);
        let next = self.b.ins().iadd_imm_s(i, step);
        self.jump(header, &[next]);
        self.b.switch_to_block(exit);
        Ok(i)
    }

    /// Ends the header of a loop.
    ///
    /// The exit comes first: Cranelift's elaboration visits the targets of a branch from last to first, and forgets a loop, with its
    /// invariant code, once it has visited a block outside.
    pub(super) fn exit_unless_below(&mut self, i: Value, to: Value, exit: Block, inside: Block) {
        let done = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, i, to);
        self.b.ins().brif(done, exit, &[], inside, &[]);
    }

    /// Loads ahead of a loop what all its iterations load from one place, and goes to `exit` if there are no iterations.
    ///
    /// Only what each iteration reads for certain may be read here.
    pub(super) fn hoist_loads(&mut self, l: &Loop, from: Value, to: Value, exit: Block) -> Result<(), EmitError> {
        let stored: Vec<Memory> = accesses(&l.body).iter().filter(|(_, _, stores)| *stores).map(|(m, ..)| *m).collect();
        let inside = walk::defined(&l.body);
        let mut wanted = Vec::new();
        for stmt in &l.body {
            if let Stmt::Let { expr: Expr::Load { memory, index, guard, .. }, .. } = stmt
                && guard.is_always()
                && !stored.contains(memory)
                && index.symbols().all(|s| {
                    s != l.axis && self.symbol_known(&s) && Var::from_symbol(&s).is_none_or(|v| !inside.contains(&v))
                })
                && !wanted.contains(&(*memory, index))
            {
                wanted.push((*memory, index));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let some = self.b.create_block();
        let any = self.b.ins().icmp(IntCC::SignedLessThan, from, to);
        self.b.ins().brif(any, some, &[], exit, &[]);
        self.b.switch_to_block(some);
        for (memory, index) in wanted {
            let dtype = self.dtype_of(memory)?;
            let place = self.place(memory, dtype, index, 0)?;
            let v = self.load_scalar(dtype, place);
            self.loads.push((memory, index.clone(), v));
        }
        Ok(())
    }
}

/// The group sizes of the vector loops that follow one another: the main one, and single vectors for most of its rest.
pub(super) fn stages(group: usize, known: Option<i64>) -> Vec<usize> {
    let mut stages = vec![group];
    let rest = known.map_or(i64::MAX, |n| n % group as i64);
    if group > 4 && rest >= 4 {
        stages.push(4);
    }
    stages
}
