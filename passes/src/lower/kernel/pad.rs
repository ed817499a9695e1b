//! Padding by rows: filled, then copied under one condition a row, so that wide code has no lane to ask.

use lehr_ir::Shape;
use lehr_ir::dim::Dim;
use lehr_ir::graph::Node;
use lehr_ir::kernel::{AxisKind, Guard};

use super::GroupKernel;
use crate::lower::Lowerer;
use crate::lower::body::Body;
use crate::lower::domain::LoopAxis;
use crate::views::padded_index;

impl<'a> GroupKernel<'a> {
    /// A group that is one `pad` whose rows of lanes are inside the operand or outside as a whole: the node, where it reads, and
    /// under which condition.
    pub(super) fn padded_rows(&self, index: &[Dim], lane: &LoopAxis) -> Option<(&'a Node, Shape, Guard)> {
        let [m] = self.group.members[..] else { return None };
        let node = self.graph.node(m);
        let (at, guard) = padded_index(self.graph, node, index)?;
        let even = !guard.is_always() && !guard.0.iter().any(|d| d.mentions(&lane.symbol)) && !self.atoms.get();
        even.then_some((node, at, guard))
    }

    /// Rows of padding, then rows of the operand over those that are inside: no lane has a condition of its own.
    pub(super) fn pad_rows(
        &self,
        body: &mut Body<'_, Lowerer<'a>>,
        node: &'a Node,
        index: &[Dim],
        at: &[Dim],
        guard: Guard,
        (p, j, extent): (&LoopAxis, &LoopAxis, &Dim),
    ) {
        let result = node.result();
        let own = self.member_index(self.group.members[0], index);
        let (memory, flat) = self.output(body, result, &own);
        body.open(&j.symbol);
        let filled = body.value(node.operands[1], &[]);
        body.store(memory, flat.clone(), filled);
        body.close(&j.symbol, AxisKind::Lane, extent.clone(), Vec::new());
        body.open_if(&p.symbol);
        body.open(&j.symbol);
        let inside = body.value(node.operands[0], at);
        body.store(memory, flat, inside);
        body.close(&j.symbol, AxisKind::Lane, extent.clone(), Vec::new());
        body.close_if(guard);
    }
}
