//! `gather`: windows of an operand at positions from data; and the geometry that it shares with `scatter`.

use smallvec::SmallVec;

use super::lower::Access;
use super::slice::{check_ge, optional_axes};
use super::{
    Arity, Arrays, At, Combine, Lowering, MapEmitter, Operation, Partials, RuleError, Scatter, Types, check_axes,
    check_equal, not_linear, one, partial,
};
use crate::array::{Array, Sizes};
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{Guard, ScalarOp, Var};
use crate::literal::Literal;
use crate::ty::{Shape, Type};

/// What becomes of a window that does not lie wholly inside the operand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OutOfRange {
    /// Its start is clamped so that it fits.
    Clip,
    /// A gather gives zeros for it, and a scatter drops it.
    Zero,
}

impl OutOfRange {
    /// Both ways, in declaration order.
    pub const ALL: [Self; 2] = [Self::Clip, Self::Zero];

    /// The text spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Zero => "zero",
        }
    }
}

/// Windows of `x` that start where index vectors say.
///
/// The last dim of the indices is the index vector, with an entry for each of `start_index_map`; the other dims are batch dims
/// and become, in order, the dims of the result that are not in `offset_dims`.
/// An element of the result at batch index `b` and offset `o` is
///
/// `x[start + batch + offset]`, where `start[start_index_map[j]] = indices[b, j]`,
/// `batch[operand_batching_dims[j]] = b[start_indices_batching_dims[j]]`,
/// `offset` is `o` in the dims that are neither collapsed nor batching, and each is 0 elsewhere.
///
/// # Shapes
/// Operands `x` and indices of an integer dtype, of rank 1 or more. `slice_sizes` has an entry for each dim of `x`,
/// which is 1 for collapsed and batching dims. With [`OutOfRange::Clip`] each size is provably at most the dim.
/// # Gradient
/// Linear in `x`. The transpose adds the cotangent into zeros ([`Scatter`] with [`Combine::Add`]).
/// # Numerics
/// Exact: elements are copied. An index that `i64` cannot hold counts as the greatest.
/// # Errors
/// Dims that repeat, lie outside a rank, or do not fit together; a window larger than the operand.
/// # Source
/// StableHLO specification, `gather`, with `index_vector_dim` last.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gather {
    /// The dims of the result that count inside a window, ascending.
    pub offset_dims: SmallVec<[usize; 4]>,
    /// Dims of `x` that windows do not keep, each of slice size 1.
    pub collapsed_slice_dims: SmallVec<[usize; 4]>,
    /// Dims of `x` that run together with batch dims of the indices.
    pub operand_batching_dims: SmallVec<[usize; 4]>,
    /// The batch dims of the indices that these run with, pairwise.
    pub start_indices_batching_dims: SmallVec<[usize; 4]>,
    /// The dim of `x` that each entry of an index vector is a position in.
    pub start_index_map: SmallVec<[usize; 4]>,
    /// The size of windows along each dim of `x`.
    pub slice_sizes: Shape,
    /// What becomes of windows that do not fit.
    pub mode: OutOfRange,
}

impl Gather {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self {
            offset_dims: optional_axes(r, "offset_dims")?,
            collapsed_slice_dims: optional_axes(r, "collapsed_slice_dims")?,
            operand_batching_dims: optional_axes(r, "operand_batching_dims")?,
            start_indices_batching_dims: optional_axes(r, "start_indices_batching_dims")?,
            start_index_map: optional_axes(r, "start_index_map")?,
            slice_sizes: r.dims("slice_sizes")?.into(),
            mode: r.choice("mode", &OutOfRange::ALL, OutOfRange::name)?,
        })
    }

    fn windows(&self) -> Windows<'_> {
        Windows {
            offset: &self.offset_dims,
            collapsed: &self.collapsed_slice_dims,
            operand_batching: &self.operand_batching_dims,
            indices_batching: &self.start_indices_batching_dims,
            map: &self.start_index_map,
            mode: self.mode,
        }
    }

    /// The result's shape for indices of this shape.
    fn shape(&self, indices: &[Dim]) -> Shape {
        let windows = self.windows();
        let mut kept = windows.kept(self.slice_sizes.len());
        let mut batch = indices[..indices.len() - 1].iter();
        let rank = indices.len() - 1 + self.offset_dims.len();
        let dims = (0..rank).map(|d| {
            if self.offset_dims.contains(&d) { kept.next().map(|k| &self.slice_sizes[k]) } else { batch.next() }
        });
        dims.flatten().cloned().collect()
    }

    /// The scatter that is this gather's transpose.
    fn transposed(&self) -> Scatter {
        Scatter {
            update_window_dims: self.offset_dims.clone(),
            inserted_window_dims: self.collapsed_slice_dims.clone(),
            input_batching_dims: self.operand_batching_dims.clone(),
            scatter_indices_batching_dims: self.start_indices_batching_dims.clone(),
            scatter_dims_to_operand_dims: self.start_index_map.clone(),
            mode: self.mode,
            combine: Combine::Add,
        }
    }
}

impl Operation for Gather {
    fn name(&self) -> &str {
        "gather"
    }

    fn attrs(&self) -> Attrs {
        let lists: [(&str, &[usize]); 5] = [
            ("offset_dims", &self.offset_dims),
            ("collapsed_slice_dims", &self.collapsed_slice_dims),
            ("operand_batching_dims", &self.operand_batching_dims),
            ("start_indices_batching_dims", &self.start_indices_batching_dims),
            ("start_index_map", &self.start_index_map),
        ];
        with_lists(&lists).with_dims("slice_sizes", &self.slice_sizes).with_name("mode", self.mode.name())
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let (x, indices) = (operands[0], operands[1]);
        if self.slice_sizes.len() != x.rank() {
            return Err(Rule::new(
                format!("there are {} slice sizes, and the operand has {} dims", self.slice_sizes.len(), x.rank()),
                "give a slice size for each dim of the operand",
            ));
        }
        let windows = self.windows();
        windows.check(x, indices, &self.slice_sizes, facts)?;
        one(Type { dtype: x.dtype, shape: self.shape(&indices.shape) })
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let (x, indices) = (operands[0], operands[1]);
        let dims: Vec<Dim> = indices.shape().iter().map(|&n| n.into()).collect();
        let shape = cx.sizes(&self.shape(&dims))?;
        let sizes = cx.sizes(&self.slice_sizes)?;
        let (windows, starts) = (self.windows(), Starts::new(indices));
        let sources = (0..shape.iter().product()).map(|position| {
            let index = walk::unravel(position, &shape);
            // Nothing stands behind the last element, and what is not there is read as zero.
            windows.locate(x.shape(), &sizes, &starts, &index).unwrap_or(x.len())
        });
        let data = x.data().gather(sources);
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok(partial(None)) };
        Ok(partial(Some(b.op(self.clone().into(), &[t, at.operands[1]])?)))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        if linear[1] {
            return Err(not_linear(self.name()));
        }
        let mut out: Partials = SmallVec::from_elem(None, 2);
        if let (true, Some(ct)) = (linear[0], cotangents[0]) {
            let zeros = b.zeros(&b.ty(at.operands[0]).clone())?;
            out[0] = Some(b.op(self.transposed().into(), &[zeros, at.operands[1], ct])?);
        }
        Ok(out)
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let mut op = self.clone();
        op.offset_dims = shifted(&self.offset_dims);
        if batched[0] {
            op.collapsed_slice_dims = shifted(&self.collapsed_slice_dims);
            op.operand_batching_dims = shifted(&self.operand_batching_dims);
            op.start_index_map = shifted(&self.start_index_map);
        }
        if batched[1] {
            op.start_indices_batching_dims = shifted(&self.start_indices_batching_dims);
        }
        match (batched[0], batched[1]) {
            (true, true) => {
                op.operand_batching_dims.insert(0, 0);
                op.start_indices_batching_dims.insert(0, 0);
                op.slice_sizes.insert(0, Dim::ONE);
            }
            // Every window takes the whole batch.
            (true, false) => {
                op.offset_dims.insert(0, 0);
                op.slice_sizes.insert(0, size.clone());
            }
            (false, true) => {}
            (false, false) => {
                let v = b.op(self.clone().into(), operands)?;
                return Ok(SmallVec::from_iter([super::add_batch(b, v, size)?]));
            }
        }
        Ok(SmallVec::from_iter([b.op(op.into(), operands)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::General }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let (at, guard) = self.windows().place(e, &self.slice_sizes, index);
        if guard.is_always() {
            return e.operand(0, &at);
        }
        let zero = e.literal(Literal::zero(e.operand_dtype(0)));
        e.operand_if(0, &at, guard, zero)
    }
}

/// Attributes of the lists that are not empty.
pub(super) fn with_lists(lists: &[(&str, &[usize])]) -> Attrs {
    let full = lists.iter().filter(|(_, axes)| !axes.is_empty());
    full.fold(Attrs::new(), |attrs, (name, axes)| attrs.with_axes(name, axes))
}

/// Axes behind a new leading dim.
pub(super) fn shifted(axes: &[usize]) -> SmallVec<[usize; 4]> {
    axes.iter().map(|a| a + 1).collect()
}

/// How the dims of windows, of index vectors and of an operand correspond.
///
/// "Index" is the index of an element of what a gather gives or a scatter takes.
pub(super) struct Windows<'a> {
    /// The dims of the index that count inside a window, ascending.
    pub(super) offset: &'a [usize],
    /// Dims of the operand that windows do not keep.
    pub(super) collapsed: &'a [usize],
    /// Dims of the operand that run with batch dims of the indices.
    pub(super) operand_batching: &'a [usize],
    /// Those batch dims, pairwise.
    pub(super) indices_batching: &'a [usize],
    /// The dim of the operand that each entry of an index vector is a position in.
    pub(super) map: &'a [usize],
    /// What becomes of windows that do not fit.
    pub(super) mode: OutOfRange,
}

/// The index vectors of an evaluation.
pub(super) struct Starts {
    shape: Sizes,
    values: Vec<i64>,
}

impl Starts {
    pub(super) fn new(indices: &Array) -> Self {
        let value = |i| indices.data().get(i).and_then(|l| l.to_i64()).unwrap_or(i64::MAX);
        Self { shape: indices.shape().into(), values: (0..indices.len()).map(value).collect() }
    }
}

/// An index split into its batch part and, for each dim of the operand that windows keep, its offset.
type Parts<T> = (SmallVec<[T; 4]>, SmallVec<[Option<T>; 4]>);

impl Windows<'_> {
    /// The dims of the operand that windows keep, ascending.
    pub(super) fn kept(&self, rank: usize) -> impl Iterator<Item = usize> {
        (0..rank).filter(|d| !self.collapsed.contains(d) && !self.operand_batching.contains(d))
    }

    /// Refuses dims that do not fit together, and windows larger than the operand.
    pub(super) fn check(&self, x: &Type, indices: &Type, sizes: &[Dim], facts: &Facts) -> Result<(), Rule> {
        let Some((vector, batch)) = indices.shape.split_last().filter(|_| indices.dtype.is_integer()) else {
            return Err(Rule::new(
                "the indices must be of an integer dtype and have the index vectors as their last dim",
                "convert the indices, or reshape them so that the last dim is the index vector",
            ));
        };
        let rank = x.rank();
        let index_rank = batch.len() + self.offset.len();
        check_dims("collapsed and batching dims of the operand", &[self.collapsed, self.operand_batching], rank)?;
        check_dims("indexed and batching dims of the operand", &[self.map, self.operand_batching], rank)?;
        check_dims("batching dims of the indices", &[self.indices_batching], batch.len())?;
        check_dims("window dims", &[self.offset], index_rank)?;
        if !self.offset.is_sorted() {
            return Err(Rule::new("window dims must ascend", "list them in order, and transpose the result"));
        }
        if self.offset.len() != self.kept(rank).count() {
            return Err(Rule::new(
                format!(
                    "there are {} window dims, and windows keep {} dims",
                    self.offset.len(),
                    self.kept(rank).count()
                ),
                "list a window dim for each dim of the operand that is neither collapsed nor batching",
            ));
        }
        if self.operand_batching.len() != self.indices_batching.len() {
            return Err(Rule::new(
                "batching dims must come in pairs",
                "list as many batching dims of the indices as of the operand",
            ));
        }
        check_equal("the entries of an index vector,", vector, &Dim::from(self.map.len()), facts)?;
        for (&d, &i) in self.operand_batching.iter().zip(self.indices_batching) {
            check_equal("batching dims", &x.shape[d], &batch[i], facts)?;
        }
        self.check_sizes(x, sizes, facts)
    }

    fn check_sizes(&self, x: &Type, sizes: &[Dim], facts: &Facts) -> Result<(), Rule> {
        for (d, size) in sizes.iter().enumerate() {
            let batching = self.operand_batching.contains(&d);
            if (batching || self.collapsed.contains(&d)) && !size.is_one() {
                return Err(Rule::new(
                    format!("the slice size of dim {d} is {size}, and of a collapsed or batching dim it must be 1"),
                    "ask for slice size 1, or keep the dim",
                ));
            }
            check_ge(&format!("the slice size of dim {d}"), size, &Dim::ZERO, facts)?;
            // A window that is too large for the operand never fits: that is an error only where it has to.
            // A dim that has no entry in the index vector holds windows that start at 0.
            let may_miss = self.mode == OutOfRange::Zero && self.map.contains(&d);
            if !batching && !may_miss {
                check_ge(&format!("the size of dim {d}"), &x.shape[d], size, facts)?;
            }
        }
        Ok(())
    }

    fn parts<T: Clone>(&self, rank: usize, index: &[T]) -> Parts<T> {
        let mut offsets = self.offset.iter();
        let mut by_dim: SmallVec<[Option<T>; 4]> = SmallVec::from_elem(None, rank);
        for d in self.kept(rank) {
            by_dim[d] = offsets.next().map(|&o| index[o].clone());
        }
        let batch = index.iter().enumerate().filter(|(d, _)| !self.offset.contains(d)).map(|(_, i)| i.clone());
        (batch.collect(), by_dim)
    }

    /// Where the element at `index` lies in an operand of these sizes; `None` where its window does not fit.
    pub(super) fn locate(&self, operand: &[usize], sizes: &[usize], starts: &Starts, index: &[usize]) -> Option<usize> {
        let (batch, offsets) = self.parts(operand.len(), index);
        let row = batch.iter().zip(&starts.shape).fold(0, |at, (i, n)| at * n + i);
        let vector = &starts.values[row * self.map.len()..];
        let mut position = 0;
        for (d, &n) in operand.iter().enumerate() {
            let mut at = offsets[d].unwrap_or(0);
            if let Some(j) = self.operand_batching.iter().position(|&o| o == d) {
                at = batch[self.indices_batching[j]];
            }
            if let Some(j) = self.map.iter().position(|&o| o == d) {
                let last = n as i64 - sizes[d] as i64;
                let fits = (0..=last).contains(&vector[j]);
                if !fits && self.mode == OutOfRange::Zero {
                    return None;
                }
                at += vector[j].clamp(0, last.max(0)) as usize;
            }
            position = position * n + at;
        }
        Some(position)
    }

    /// Where the element at `index` lies in operand 0, with the index vectors in operand 1; it is there if the guard holds.
    pub(super) fn place(&self, e: &mut dyn MapEmitter, sizes: &[Dim], index: &[Dim]) -> (Vec<Dim>, Guard) {
        let shape = e.operand_shape(0);
        let (batch, offsets) = self.parts(shape.len(), index);
        let mut guard = Guard::always();
        let mut at: Vec<Dim> = offsets.into_iter().map(Option::unwrap_or_default).collect();
        for (&d, &i) in self.operand_batching.iter().zip(self.indices_batching) {
            at[d] = batch[i].clone();
        }
        for (j, &d) in self.map.iter().enumerate() {
            let places = &shape[d] - &sizes[d] + 1;
            if self.mode == OutOfRange::Clip && places.is_one() {
                continue;
            }
            let entry: Vec<Dim> = batch.iter().cloned().chain([Dim::from(j)]).collect();
            let entry = e.operand(1, &entry);
            let entry = emit_i64(e, entry);
            let start = match self.mode {
                OutOfRange::Clip => e.index_of(entry, &places),
                OutOfRange::Zero => {
                    // What does not fit is brought close first, so that no index expression overflows.
                    let past = e.index_value(&places);
                    let entry = e.apply(ScalarOp::Min, &[entry, past]);
                    let before = e.literal(Literal::from(-1i64));
                    let entry = e.apply(ScalarOp::Max, &[entry, before]);
                    let start = e.index_raw(entry);
                    guard.0.push(start.clone());
                    guard.0.push(places - 1 - &start);
                    start
                }
            };
            at[d] += start;
        }
        (at, guard)
    }
}

/// An integer as `i64`, the greatest one for what it cannot hold.
fn emit_i64(e: &mut dyn MapEmitter, v: Var) -> Var {
    let v = if e.dtype(v) == DType::U64 {
        let greatest = e.literal(Literal::from(i64::MAX as u64));
        e.apply(ScalarOp::Min, &[v, greatest])
    } else {
        v
    };
    if e.dtype(v) == DType::I64 { v } else { e.apply(ScalarOp::Convert(DType::I64), &[v]) }
}

/// Refuses dims that repeat, among the lists together, or lie outside the rank.
fn check_dims(what: &str, lists: &[&[usize]], rank: usize) -> Result<(), Rule> {
    let all: SmallVec<[usize; 8]> = lists.iter().flat_map(|l| l.iter().copied()).collect();
    check_axes(&all, rank).map_err(|rule| Rule::new(format!("{what}: {}", rule.rule), rule.help))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::slice::testing::*;
    use super::*;
    use crate::facts::Fact;
    use smallvec::smallvec;

    pub(in crate::ops) fn ints(shape: &[usize], values: &[i64]) -> Array {
        Array::new(shape, values.to_vec()).unwrap()
    }

    fn dims(sizes: &[i64]) -> Shape {
        sizes.iter().map(|&d| d.into()).collect()
    }

    /// Rows of a matrix, by number.
    fn rows(width: i64, mode: OutOfRange) -> Gather {
        Gather {
            offset_dims: smallvec![1],
            collapsed_slice_dims: smallvec![0],
            operand_batching_dims: smallvec![],
            start_indices_batching_dims: smallvec![],
            start_index_map: smallvec![0],
            slice_sizes: dims(&[1, width]),
            mode,
        }
    }

    /// Windows of 2 x 2 in a matrix, the index vector giving (column, row).
    fn patches(mode: OutOfRange) -> Gather {
        Gather {
            offset_dims: smallvec![0, 2],
            collapsed_slice_dims: smallvec![],
            operand_batching_dims: smallvec![],
            start_indices_batching_dims: smallvec![],
            start_index_map: smallvec![1, 0],
            slice_sizes: dims(&[2, 2]),
            mode,
        }
    }

    /// Windows of 2 along the last dim, one batch dim of the operand running with the second of the indices.
    fn along(mode: OutOfRange) -> Gather {
        Gather {
            offset_dims: smallvec![2],
            collapsed_slice_dims: smallvec![],
            operand_batching_dims: smallvec![0],
            start_indices_batching_dims: smallvec![1],
            start_index_map: smallvec![1],
            slice_sizes: dims(&[1, 2]),
            mode,
        }
    }

    fn cases() -> Vec<(Gather, Array, Array)> {
        let mut out = Vec::new();
        for mode in OutOfRange::ALL {
            out.push((rows(3, mode), counting(&[4, 3]), ints(&[5, 1], &[1, 3, 4, -1, 1])));
            out.push((patches(mode), counting(&[3, 4]), ints(&[4, 2], &[0, 0, 2, 1, 3, 1, -1, i64::MIN])));
            out.push((along(mode), counting(&[3, 4]), ints(&[2, 3, 1], &[0, 2, 3, i64::MAX, 1, 2])));
        }
        out
    }

    #[test]
    fn takes_rows() {
        let x = floats(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
        let i = ints(&[4, 1], &[2, 0, 3, -1]);
        let clip = floats(&[4, 2], &[5., 6., 1., 2., 5., 6., 1., 2.]);
        assert_eq!(run(&rows(2, OutOfRange::Clip), &[&x, &i]), clip);
        let zero = floats(&[4, 2], &[5., 6., 1., 2., 0., 0., 0., 0.]);
        assert_eq!(run(&rows(2, OutOfRange::Zero), &[&x, &i]), zero);
    }

    #[test]
    fn takes_windows_where_index_vectors_say() {
        let x = floats(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let i = ints(&[2, 2], &[1, 0, 9, 9]);
        // The result is [offset row, batch, offset column].
        let want = floats(&[2, 2, 2], &[2., 3., 2., 3., 5., 6., 5., 6.]);
        assert_eq!(run(&patches(OutOfRange::Clip), &[&x, &i]), want);
        let want = floats(&[2, 2, 2], &[2., 3., 0., 0., 5., 6., 0., 0.]);
        assert_eq!(run(&patches(OutOfRange::Zero), &[&x, &i]), want);
    }

    #[test]
    fn batching_dims_run_together() {
        let x = floats(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let i = ints(&[1, 2, 1], &[1, 0]);
        assert_eq!(run(&along(OutOfRange::Clip), &[&x, &i]), floats(&[1, 2, 2], &[2., 3., 4., 5.]));
    }

    #[test]
    fn indices_of_any_integer_dtype() {
        let x = counting(&[4, 3]);
        let op = rows(3, OutOfRange::Clip);
        let want = run(&op, &[&x, &ints(&[2, 1], &[3, 1])]);
        let greatest = Array::new(&[2, 1], vec![u64::MAX, 1]).unwrap();
        for i in [greatest, Array::new(&[2, 1], vec![200u8, 1]).unwrap(), Array::new(&[2, 1], vec![3i16, 1]).unwrap()] {
            assert_eq!(run(&op, &[&x, &i]), want);
            check_emit(&op, &[&x, &i]);
        }
    }

    #[test]
    fn emitted_elements_agree() {
        for (op, x, i) in cases() {
            check_emit(&op, &[&x, &i]);
        }
        let large = rows(3, OutOfRange::Zero);
        check_emit(&large, &[&counting(&[0, 3]), &ints(&[2, 1], &[0, 1])]);
    }

    #[test]
    fn rules_agree_with_the_definition() {
        for (op, x, i) in cases() {
            check_tangent(&op, &[x.clone(), i.clone()], &[true, false]);
            check_transpose(&op, &[x.clone(), i.clone()], &[true, false]);
            let stack = |a: &Array| {
                let shape: Vec<usize> = [2].iter().chain(a.shape()).copied().collect();
                let n = a.len();
                Array::from_data(&shape, a.data().gather((0..2 * n).map(|i| if i < n { i } else { 2 * n - 1 - i })))
                    .unwrap()
            };
            check_batch(&op, &[stack(&x), i.clone()], &[true, false]);
            check_batch(&op, &[x.clone(), stack(&i)], &[false, true]);
            check_batch(&op, &[stack(&x), stack(&i)], &[true, true]);
        }
    }

    #[test]
    fn symbolic_operands() {
        let n = sym("n");
        let (x, i) = (Type::new(DType::F32, [n.clone(), 2.into()]), Type::new(DType::I32, [sym("b"), 1.into()]));
        let e = infer(rows(2, OutOfRange::Clip), &[&x, &i], &Facts::default()).unwrap_err();
        assert_eq!(e.help(), "state it: assume(\"n >= 1\")");
        let mut facts = Facts::default();
        facts.assume(Fact::ge(n, 1)).unwrap();
        let want = "f32[b, 2]";
        assert_eq!(infer(rows(2, OutOfRange::Clip), &[&x, &i], &facts).unwrap().to_string(), want);
        assert_eq!(infer(rows(2, OutOfRange::Zero), &[&x, &i], &Facts::default()).unwrap().to_string(), want);
    }

    #[test]
    fn dims_that_do_not_fit_are_refused() {
        let (x, i) = (Type::new(DType::F32, [4, 3]), Type::new(DType::I64, [5, 1]));
        let good = rows(3, OutOfRange::Clip);
        let form = "the indices must be of an integer dtype and have the index vectors as their last dim";
        assert_eq!(refusal(good.clone(), &[&x, &Type::new(DType::F32, [5, 1])]), form);
        assert_eq!(refusal(good.clone(), &[&x, &Type::scalar(DType::I64)]), form);
        assert_eq!(
            refusal(good.clone(), &[&x, &Type::new(DType::I64, [5, 2])]),
            "the entries of an index vector, 2 and 1 must be equal"
        );
        let check = |change: &dyn Fn(&mut Gather), want: &str| {
            let mut op = good.clone();
            change(&mut op);
            assert_eq!(refusal(op, &[&x, &i]), want);
        };
        check(&|op| op.slice_sizes = dims(&[1]), "there are 1 slice sizes, and the operand has 2 dims");
        check(&|op| op.slice_sizes = dims(&[1, 4]), "the size of dim 1 is 3 and must be at least 4");
        check(
            &|op| op.slice_sizes = dims(&[2, 3]),
            "the slice size of dim 0 is 2, and of a collapsed or batching dim it must be 1",
        );
        check(&|op| op.offset_dims = smallvec![2], "window dims: axis 2 is outside the 2 dims of the operand");
        check(&|op| op.offset_dims = smallvec![], "there are 0 window dims, and windows keep 1 dims");
        check(
            &|op| op.operand_batching_dims = smallvec![0],
            "collapsed and batching dims of the operand: axis 0 is named twice",
        );
        check(&|op| op.start_indices_batching_dims = smallvec![0], "batching dims must come in pairs");
    }
}
