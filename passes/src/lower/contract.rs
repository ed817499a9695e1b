//! Contractions: strides of both operands, straight from the graph's views.

use lehr_ir::dim::{Dim, Symbol};
use lehr_ir::graph::{Node, NodeId, Value};
use lehr_ir::kernel::{Access, AxisKind};
use lehr_ir::ops::{Convolution, DotDims, Op};
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
            Op::Convolution(_) => 1,
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
        let Some(mut contract) = self.contract(node, epilogue.is_some()) else { return };
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
        self.step(StepKind::Contract(Box::new(contract)), locs, reason);
    }

    /// Adds a matrix product.
    pub(super) fn push_contract(&mut self, contract: Option<Contract>, node: &Node) {
        if let Some(contract) = contract {
            self.step(StepKind::Contract(Box::new(contract)), [node.loc.clone()], "a matrix product".to_owned());
        }
    }

    /// The matrix product that a node is; what its operands need first is added to the plan.
    ///
    /// With `rows_in_order`, rows of the product are rows of the result, as an epilogue takes them.
    pub(super) fn contract(&mut self, node: &Node, rows_in_order: bool) -> Option<Contract> {
        match &node.op {
            Op::Dot(dims) => Some(self.dot(dims, node)),
            Op::Convolution(c) => self.convolution(c, node, rows_in_order),
            op => {
                self.refuse(op.name());
                None
            }
        }
    }

    fn dot(&mut self, dims: &DotDims, node: &Node) -> Contract {
        let (x, y) = (node.operands[0], node.operands[1]);
        let (x_free, y_free) = (dims.lhs_free(self.graph.ty(x).rank()), dims.rhs_free(self.graph.ty(y).rank()));
        let groups_x = [&dims.lhs_batch, &x_free, &dims.lhs_contract];
        let groups_y = [&dims.rhs_batch, &dims.rhs_contract, &y_free];
        let sizes =
            |v: Value, axes: &[usize]| -> Dim { axes.iter().fold(Dim::ONE, |n, &a| &n * &self.graph.ty(v).shape[a]) };
        let [batch, m, k] = groups_x.map(|axes| sizes(x, axes));
        let n = sizes(y, &y_free);
        let a = self.matrix(x, groups_x);
        let b = self.matrix(y, groups_y);
        self.product(node.result(), [batch, m, n, k], a, b)
    }

    /// A convolution without padding and holes: each place of the window is a row of a matrix whose rows overlap.
    ///
    /// Its sum goes through the operand as that lies in memory, and so do its rows where their order is free: the operand of a
    /// kernel's gradient has channels for a batch, which are neighbours, and examples for channels, which are far apart.
    fn convolution(&mut self, op: &Convolution, node: &Node, rows_in_order: bool) -> Option<Contract> {
        let (x, y, result) = (node.operands[0], node.operands[1], node.result());
        let graph = self.graph;
        let (xs, ys, out) = (&graph.ty(x).shape, &graph.ty(y).shape, &graph.ty(result).shape);
        let (nb, spatial) = (op.batch, op.spatial());
        let first = nb + 1;
        let result_strides = strides(out);
        let rows_of_result =
            |order: &[usize]| Digits::new(order.iter().map(|&d| (out[nb + d].clone(), result_strides[nb + d].clone())));
        let windows = |strides: &Shape| -> Option<Windows> {
            let along = |at: usize| (xs[at].clone(), strides[at].clone());
            let step = |d: usize, size: &Dim, by: usize| (size.clone(), &strides[first + d] * by as i64);
            let places = op.windows.iter().enumerate().map(|(d, w)| step(d, &out[first + d], w.stride));
            let taps = op.windows.iter().enumerate().map(|(d, w)| step(d, &ys[nb + d], w.window_dilation));
            let row: Dims = [along(nb)].into_iter().chain(places).collect();
            let column: Dims = taps.chain([along(first + spatial)]).collect();
            // Rows in another order are more digits of the result, of which there may be too many.
            let row_order = Some(as_it_lies(&row)).filter(|order| !rows_in_order && rows_of_result(order).is_some());
            let row_order = row_order.unwrap_or_else(|| (0..row.len()).collect());
            let column_order = as_it_lies(&column);
            let row = Digits::new(row_order.iter().map(|&d| row[d].clone()))?;
            let column = Digits::new(column_order.iter().map(|&d| column[d].clone()))?;
            Some(Windows { matrix: [Digits::new((0..nb).map(along))?, row, column], row_order, column_order })
        };
        let in_place = strided(graph, &self.axes, &self.steps, x)
            .and_then(|view| windows(&view.strides).map(|digits| (view, digits)));
        let (buffer, offset, windows) = match in_place {
            Some((view, digits)) => (self.buffer(view.root), view.offset, digits),
            None => {
                let order: SmallVec<[usize; 4]> = (0..xs.len()).collect();
                let Some(digits) = windows(&strides(xs)) else {
                    self.refuse(node.op.name());
                    return None;
                };
                (self.permuted_copy(x, &order, xs), Dim::ZERO, digits)
            }
        };
        let Windows { matrix: [batch, row, column], row_order, column_order } = windows;
        let a = Matrix { buffer, offset, batch, row, column };
        let axes = |range: std::ops::Range<usize>| -> SmallVec<[usize; 4]> { range.collect() };
        let last = nb + spatial + 1;
        let summed: SmallVec<[usize; 4]> = column_order.iter().map(|d| nb + d).collect();
        let b = self.matrix(y, [&axes(0..nb), &summed, &axes(last..last + 1)]);
        let sizes = [count(&out[..nb]), count(&out[nb..last]), out[last].clone(), count(&ys[nb..last])];
        let mut product = self.product(result, sizes, a, b);
        if let Some(row) = rows_of_result(&row_order).filter(|_| !row_order.is_sorted()) {
            product.c.row = row;
        }
        Some(product)
    }

    /// The product of two matrices in row-major order: sizes of batch, rows, columns and the sum.
    fn product(&mut self, result: Value, [batch, m, n, k]: [Dim; 4], a: Matrix, b: Matrix) -> Contract {
        let c = Matrix {
            buffer: self.buffer(result),
            offset: Dim::ZERO,
            batch: Digits::even(batch.clone(), &m * &n),
            row: Digits::even(m.clone(), n.clone()),
            column: Digits::even(n.clone(), Dim::ONE),
        };
        Contract { dtype: self.graph.ty(result).dtype, batch, m, n, k, a, b, c, epilogue: None }
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

/// Sizes and strides of dims, the outermost first.
type Dims = SmallVec<[(Dim, Dim); 6]>;

/// The operand of a convolution as a matrix of its windows.
struct Windows {
    /// Batch, row and column.
    matrix: [Digits; 3],
    /// The dims of the rows, examples and places, as they follow one another in the matrix.
    row_order: SmallVec<[usize; 6]>,
    /// The same for its columns, taps and channels.
    column_order: SmallVec<[usize; 6]>,
}

/// The shortest run for whose sake an index changes its order: a product takes it in pieces, and shorter ones are slower
/// than long ones with great strides, as of the channels of an image that has them first.
const SHORTEST_RUN: i64 = 6;

/// The order of an index over some dims in which it goes through memory, the outermost first.
///
/// As they are where that is not known, or leads to short runs.
fn as_it_lies(dims: &Dims) -> SmallVec<[usize; 6]> {
    let given: SmallVec<[usize; 6]> = (0..dims.len()).collect();
    let constants = dims.iter().map(|(size, stride)| Some((size.as_const()?, stride.as_const()?.unsigned_abs())));
    let Some(known) = constants.collect::<Option<SmallVec<[(i64, u64); 6]>>>() else { return given };
    let mut order = given.clone();
    // Where a dim has one index, its stride says nothing.
    order.retain(|&mut d| known[d].0 != 1);
    order.sort_by_key(|&d| std::cmp::Reverse(known[d].1));
    let long = order.last().is_some_and(|&d| known[d].0 >= SHORTEST_RUN);
    let ones = given.iter().copied().filter(|&d| known[d].0 == 1);
    if long { ones.chain(order).collect() } else { given }
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
