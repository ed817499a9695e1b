//! Contractions: strides of both operands, straight from the graph's views.

use lehr_ir::dim::{Dim, Symbol};
use lehr_ir::graph::{Node, NodeId, Value};
use lehr_ir::kernel::{Access, AxisKind};
use lehr_ir::ops::Op;
use lehr_ir::plan::{BufferId, Contract, Digits, Epilogue, Matrix, StepKind};
use lehr_ir::ty::{count, strides};
use lehr_ir::{Loc, Shape};
use smallvec::SmallVec;

use super::body::{Body, Surroundings};
use super::{Lowerer, kernel};
use crate::fuse::Group;
use crate::views::strided;

impl<'a> Lowerer<'a> {
    /// A contraction with the kernel that follows it inside, or, where that cannot be, one after the other.
    pub(super) fn contract_with_epilogue(&mut self, product: u32, g: u32, group: &'a Group) {
        let (graph, fusion) = (self.graph, self.fusion);
        let node = graph.node(fusion.groups[product as usize].members[0]);
        let result = node.result();
        let columns = match &node.op {
            Op::Dot(dims) => dims.rhs_free(graph.ty(node.operands[1]).rank()).len(),
            _ => 0,
        };
        let alone = self.buffer_of[result.index()].is_none()
            && self.product_readers.get(&result).is_some_and(|readers| readers[..] == [g]);
        // Where nobody else wants the product, its sums lie where the kernel's result will.
        if alone && let Some(over) = kernel::epilogue_result(self, group, result) {
            let buffer = self.buffer(over);
            self.buffer_of[result.index()] = Some(buffer);
        }
        let epilogue = kernel::epilogue(self, g, group, columns);
        if epilogue.is_none() && alone {
            self.buffer_of[result.index()] = None;
        }
        let Some(mut contract) = self.contract(node) else { return };
        let Some((kernel, buffers)) = epilogue else {
            self.push_contract(Some(contract), node);
            return kernel::lower_group(self, g, group);
        };
        let locs: Vec<Loc> = [node.loc.clone()].into_iter().chain(kernel.locs.iter().cloned()).collect();
        let size = |s: &Symbol| match s.as_str() {
            Epilogue::FIRST_COLUMN => Dim::ZERO,
            Epilogue::COLUMNS => contract.n.clone(),
            _ => Dim::from(s),
        };
        let position = |name: &str| kernel.sizes.iter().position(|s| s.as_str() == name).unwrap_or(0) as u32;
        let (first_column, columns) = (position(Epilogue::FIRST_COLUMN), position(Epilogue::COLUMNS));
        let sizes = kernel.sizes.iter().map(size).collect();
        let kernel = self.kernel_id(kernel);
        contract.epilogue = Some(Epilogue { kernel, buffers: buffers.into(), sizes, first_column, columns });
        let reason = "a matrix product, and what follows it on blocks that are still cached".to_owned();
        self.step(StepKind::Contract(contract), locs, reason);
    }

    /// Adds a matrix product.
    pub(super) fn push_contract(&mut self, contract: Option<Contract>, node: &Node) {
        if let Some(contract) = contract {
            self.step(StepKind::Contract(contract), [node.loc.clone()], "a matrix product".to_owned());
        }
    }

    /// The matrix product that a node is; what its operands need first is added to the plan.
    pub(super) fn contract(&mut self, node: &Node) -> Option<Contract> {
        let Op::Dot(dims) = &node.op else {
            self.refuse(node.op.name());
            return None;
        };
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
        let batch = count(&batch);
        let c_view = Matrix {
            buffer: out,
            offset: Dim::ZERO,
            batch: Digits::even(batch.clone(), area),
            row: Digits::even(rows.clone(), columns.clone()),
            column: Digits::even(columns.clone(), Dim::ONE),
        };
        let dtype = self.graph.ty(c).dtype;
        Some(Contract { dtype, batch, m: rows, n: columns, k: count(&k), a, b, c: c_view, epilogue: None })
    }

    /// An operand as a batch of matrices; one that has too many dims which do not lie evenly is copied first.
    fn matrix(&mut self, v: Value, groups: [&SmallVec<[usize; 4]>; 3]) -> Matrix {
        let shape = self.graph.ty(v).shape.clone();
        if let Some(view) = strided(self.graph, &self.axes, &self.steps, v) {
            let digits =
                |g: &SmallVec<[usize; 4]>| Digits::new(g.iter().map(|&a| (shape[a].clone(), view.strides[a].clone())));
            if let [Some(batch), Some(row), Some(column)] = groups.map(digits) {
                return Matrix { buffer: self.buffer(view.root), offset: view.offset, batch, row, column };
            }
        }
        self.copied(v, groups)
    }

    fn copied(&mut self, v: Value, groups: [&SmallVec<[usize; 4]>; 3]) -> Matrix {
        let order: SmallVec<[usize; 4]> = groups.iter().flat_map(|g| g.iter().copied()).collect();
        let shape: Shape = order.iter().map(|&a| self.graph.ty(v).shape[a].clone()).collect();
        let buffer = self.permuted_copy(v, &order, &shape);
        let stride = strides(&shape);
        let mut from = 0;
        let [batch, row, column] = groups.map(|g| {
            let stride = if g.is_empty() { Dim::ZERO } else { stride[from + g.len() - 1].clone() };
            let size = count(&shape[from..from + g.len()]);
            from += g.len();
            Digits::even(size, stride)
        });
        Matrix { buffer, offset: Dim::ZERO, batch, row, column }
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
