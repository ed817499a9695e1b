//! Contractions: strides of both operands, straight from the graph's views.

use lehr_ir::Shape;
use lehr_ir::dim::Dim;
use lehr_ir::graph::{Node, NodeId, Value};
use lehr_ir::kernel::{Access, AxisKind};
use lehr_ir::ops::Op;
use lehr_ir::plan::{BufferId, Contract, Matrix, StepKind};
use lehr_ir::ty::{count, strides};
use smallvec::SmallVec;

use super::Lowerer;
use super::body::{Body, Surroundings};
use crate::views::strided;

impl Lowerer<'_> {
    /// Adds a matrix product.
    pub(super) fn contract(&mut self, node: &Node) {
        let Op::Dot(dims) = &node.op else { return self.refuse(node.op.name()) };
        let (x, y) = (node.operands[0], node.operands[1]);
        let (x_free, y_free) = (dims.lhs_free(self.graph.ty(x).rank()), dims.rhs_free(self.graph.ty(y).rank()));
        let groups_x = [&dims.lhs_batch, &x_free, &dims.lhs_contract];
        let groups_y = [&dims.rhs_batch, &dims.rhs_contract, &y_free];
        let sizes =
            |v: Value, axes: &[usize]| -> Shape { axes.iter().map(|&a| self.graph.ty(v).shape[a].clone()).collect() };
        let (m, n, k) = (sizes(x, &x_free), sizes(y, &y_free), sizes(x, &dims.lhs_contract));
        let batch = sizes(x, &dims.lhs_batch);
        let c = node.result();
        let a = self.matrix(x, groups_x);
        let b = self.matrix(y, groups_y);
        let out = self.buffer(c);
        let (rows, columns) = (count(&m), count(&n));
        let area = &rows * &columns;
        let c_view =
            Matrix { buffer: out, offset: Dim::from(0), batch: area, row: columns.clone(), column: Dim::from(1) };
        let contract = Contract {
            dtype: self.graph.ty(c).dtype,
            batch: count(&batch),
            m: rows,
            n: columns,
            k: count(&k),
            a,
            b,
            c: c_view,
        };
        self.step(StepKind::Contract(contract), [node.loc.clone()], "a matrix product".to_owned());
    }

    /// An operand as a batch of matrices; one whose dims do not lie evenly is copied first.
    fn matrix(&mut self, v: Value, groups: [&SmallVec<[usize; 4]>; 3]) -> Matrix {
        let view = strided(self.graph, &self.axes, &self.steps, v);
        let shape = self.graph.ty(v).shape.clone();
        if let Some(view) = view {
            let merged: Option<SmallVec<[Dim; 3]>> = groups.iter().map(|g| merge(&shape, &view.strides, g)).collect();
            if let Some(s) = merged {
                let buffer = self.buffer(view.root);
                let [batch, row, column] = [s[0].clone(), s[1].clone(), s[2].clone()];
                return Matrix { buffer, offset: view.offset, batch, row, column };
            }
        }
        self.copied(v, groups)
    }

    fn copied(&mut self, v: Value, groups: [&SmallVec<[usize; 4]>; 3]) -> Matrix {
        let order: SmallVec<[usize; 4]> = groups.iter().flat_map(|g| g.iter().copied()).collect();
        let shape: Shape = order.iter().map(|&a| self.graph.ty(v).shape[a].clone()).collect();
        let buffer = self.permuted_copy(v, &order, &shape);
        let stride = strides(&shape);
        let at = |from: usize, len: usize| if len == 0 { Dim::from(0) } else { stride[from + len - 1].clone() };
        let [b, r, c] = groups.map(|g| g.len());
        Matrix { buffer, offset: Dim::from(0), batch: at(0, b), row: at(b, r), column: at(b + r, c) }
    }
}

impl Lowerer<'_> {
    /// A value with its dims in another order, in memory of its own.
    fn permuted_copy(&mut self, v: Value, order: &[usize], shape: &Shape) -> BufferId {
        let dtype = self.graph.ty(v).dtype;
        let to = self.temp(dtype, count(shape));
        if count(shape).is_zero() {
            return to;
        }
        let nothing = |_: NodeId| false;
        let (p, j) = (self.loops.parallel.clone(), self.loops.lane.clone());
        let (rows, last) = (count(&shape[..shape.len().saturating_sub(1)]), shape.last().cloned().unwrap_or(Dim::ONE));
        // Iteration p is a row of the copy; its leading indices follow by division.
        let mut at: SmallVec<[Dim; 4]> = SmallVec::from_elem(j.at.clone(), shape.len());
        let mut rest = p.at.clone();
        for i in (0..shape.len().saturating_sub(1)).rev() {
            at[i] = if i == 0 { rest.clone() } else { rest.modulo(&shape[i]) };
            rest = rest.floordiv(&shape[i]);
        }
        let mut index: Shape = SmallVec::from_elem(Dim::ZERO, shape.len());
        for (i, &a) in order.iter().enumerate() {
            index[a] = at[i].clone();
        }
        let mut facts = self.graph.facts.clone();
        for (axis, extent) in [(&p, &rows), (&j, &last)] {
            // An empty loop's facts do not matter.
            let _ = facts.range(&axis.symbol, Dim::ZERO, extent.clone());
        }
        let mut body = Body::new(self.graph, self, &nothing, facts);
        body.open(&j.symbol);
        let value = body.value(v, &index);
        let memory = body.bind(to, dtype, Access::Write);
        body.store(memory, &(&p.at * &last) + &j.at, value);
        body.close(&j.symbol, AxisKind::Lane, last, Vec::new());
        let (kernel, buffers) = body.finish("transpose_copy".to_owned(), &p.symbol, rows, Vec::new());
        self.launch(kernel, buffers, "an operand of a matrix product whose dims do not lie evenly".to_owned());
        to
    }
}

/// The stride of the last of some dims, if one index over all of them moves evenly.
fn merge(shape: &Shape, strides: &Shape, dims: &[usize]) -> Option<Dim> {
    let wide: SmallVec<[usize; 4]> = dims.iter().copied().filter(|&d| !shape[d].is_one()).collect();
    let Some((&last, _)) = wide.split_last() else { return Some(Dim::from(0)) };
    let mut expected = strides[last].clone();
    for pair in wide.windows(2).rev() {
        expected = &expected * &shape[pair[1]];
        if strides[pair[0]] != expected {
            return None;
        }
    }
    Some(strides[last].clone())
}
