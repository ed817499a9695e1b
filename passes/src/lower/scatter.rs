//! Scatters: a copy of the operand, then the updates in row-major order, by one thread, so that the result is always the same.

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Node, NodeId};
use lehr_ir::kernel::{Access, AxisKind, ScalarOp};
use lehr_ir::ops::{Combine, MapEmitter, Op};
use lehr_ir::ty::count;

use super::Lowerer;
use super::body::{Body, Surroundings};
use crate::views::flat_index;

impl Lowerer<'_> {
    /// Adds a scatter.
    pub(super) fn scatter(&mut self, node: &Node) {
        let Op::Scatter(scatter) = &node.op else { return self.refuse(node.op.name()) };
        let (x, updates) = (node.operands[0], node.operands[2]);
        let ty = self.graph.ty(x).clone();
        let update_shape = self.graph.ty(updates).shape.clone();
        if count(&ty.shape).is_zero() {
            // A buffer without elements is as good as written.
            return;
        }
        let out = self.buffer(node.result());
        let nothing = |_: NodeId| false;
        let (p, j) = (self.loops.parallel.clone(), self.loops.lane.clone());
        let loops: Vec<_> = (0..update_shape.len()).map(|i| self.loops.reduced(i)).collect();
        let mut body = Body::new(self.graph, self, &nothing, self.graph.facts.clone());
        let memory = body.bind(out, ty.dtype, Access::Write);
        // The copy walks rows of the last dim.
        let mut around = Vec::new();
        for (i, d) in ty.shape.iter().enumerate().take(ty.rank().saturating_sub(1)) {
            let axis = body.around.loops.reduced(i);
            body.open(&axis.symbol);
            around.push((axis, d.clone()));
        }
        let mut index: Vec<Dim> = around.iter().map(|(a, _)| a.at.clone()).collect();
        if ty.rank() > 0 {
            body.open(&j.symbol);
            index.push(j.at.clone());
        }
        let value = body.value(x, &index);
        body.store(memory, flat_index(&ty.shape, &index), value);
        if let Some(last) = ty.shape.last() {
            body.close(&j.symbol, AxisKind::Lane, last.clone(), Vec::new());
        }
        for (axis, extent) in around.into_iter().rev() {
            body.close(&axis.symbol, AxisKind::Serial, extent, Vec::new());
        }
        // Without updates the loops around them are empty, and what they read may have no element.
        if !count(&update_shape).is_zero() {
            for axis in &loops {
                body.open(&axis.symbol);
            }
            let at: Vec<Dim> = loops.iter().map(|a| a.at.clone()).collect();
            let (target, guard) = body.at_node(node, |e| scatter.target(e, &at));
            let flat = flat_index(&ty.shape, &target);
            let update = body.value(updates, &at);
            let new = match scatter.combine {
                Combine::Replace => update,
                other => {
                    let old = body.load_if(memory, flat.clone(), guard.clone());
                    body.apply(scalar(other), &[old, update])
                }
            };
            body.store_if(memory, flat, new, guard);
            for (axis, extent) in loops.iter().zip(&update_shape).rev() {
                body.close(&axis.symbol, AxisKind::Serial, extent.clone(), Vec::new());
            }
        }
        debug_assert!(count(&ty.shape).fault().is_none());
        let locs = vec![node.loc.clone()];
        let (kernel, buffers) = body.finish("scatter".to_owned(), &p.symbol, Dim::ONE, locs);
        self.launch(kernel, buffers, "updates in order, by one thread".to_owned());
    }
}

fn scalar(combine: Combine) -> ScalarOp {
    match combine {
        // A replacement does not look at what was there; it never asks for an operation.
        Combine::Replace | Combine::Add => ScalarOp::Add,
        Combine::Mul => ScalarOp::Mul,
        Combine::Min => ScalarOp::Min,
        Combine::Max => ScalarOp::Max,
    }
}
