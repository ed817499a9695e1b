//! `slice`: a strided window.

use smallvec::SmallVec;

use super::lower::Access;
use super::{Arity, Arrays, At, Lowering, MapEmitter, Operation, Pad, Partials, RuleError, Types, one, partial};
use crate::array::{Array, Sizes};
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::Var;
use crate::literal::Literal;
use crate::ty::{Shape, Type};

/// A strided window: `out[i…] = x[start + i * stride, …]`.
///
/// # Shapes
/// `start`, `limit` and `stride` have an entry for each dim. Dim `d` of the result is `ceil((limit - start) / stride)`.
/// Provably `0 <= start <= limit <= dim` and `stride >= 1`.
/// # Gradient
/// Linear. The transpose pads with zeros: `start` before, `stride - 1` between, and the rest after.
/// # Numerics
/// Exact: elements are copied.
/// # Errors
/// Lists of a length other than the rank; a stride of 0; a window that leaves the operand, or is not provably inside it.
/// # Source
/// StableHLO specification, `slice`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Slice {
    /// The first position along each dim.
    pub start: Shape,
    /// The end of the window along each dim, not included.
    pub limit: Shape,
    /// The distance between positions along each dim, at least 1.
    pub stride: SmallVec<[usize; 4]>,
}

impl Slice {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let (start, limit): (Shape, Shape) = (r.dims("start")?.into(), r.dims("limit")?.into());
        let stride = match optional_axes(r, "stride")? {
            stride if stride.is_empty() => SmallVec::from_elem(1, start.len()),
            stride => stride,
        };
        Ok(Self { start, limit, stride })
    }

    /// The window `start..limit` along one axis of an operand of this shape, whole along the others.
    pub fn along(shape: &[Dim], axis: usize, start: Dim, limit: Dim) -> Self {
        let mut op = Self {
            start: SmallVec::from_elem(Dim::ZERO, shape.len()),
            limit: shape.iter().cloned().collect(),
            stride: SmallVec::from_elem(1, shape.len()),
        };
        (op.start[axis], op.limit[axis]) = (start, limit);
        op
    }

    /// The result's shape.
    fn shape(&self) -> Shape {
        let dims = self.start.iter().zip(&self.limit).zip(&self.stride);
        dims.map(|((start, limit), &stride)| (limit - start).ceildiv(stride)).collect()
    }
}

impl Operation for Slice {
    fn name(&self) -> &str {
        "slice"
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().with_dims("start", &self.start).with_dims("limit", &self.limit);
        if self.stride.iter().all(|&s| s == 1) { attrs } else { attrs.with_axes("stride", &self.stride) }
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let x = operands[0];
        check_rank("start", self.start.len(), x.rank())?;
        check_rank("limit", self.limit.len(), x.rank())?;
        check_rank("stride", self.stride.len(), x.rank())?;
        for d in 0..x.rank() {
            if self.stride[d] == 0 {
                return Err(Rule::new(format!("the stride of dim {d} is 0"), "ask for a stride of 1 or more"));
            }
            let (start, limit) = (&self.start[d], &self.limit[d]);
            check_ge(&format!("the start of dim {d}"), start, &Dim::ZERO, facts)?;
            check_ge(&format!("the limit of dim {d}"), limit, start, facts)?;
            check_ge(&format!("the size of dim {d}"), &x.shape[d], limit, facts)?;
        }
        one(Type { dtype: x.dtype, shape: check_sound(self.shape())? })
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let shape = cx.sizes(&self.shape())?;
        let mut steps = walk::row_major(x.shape());
        let mut base = 0;
        for d in 0..x.rank() {
            base += cx.size(&self.start[d])? as isize * steps[d];
            // A dim of one position never takes a step, and its stride may exceed any size.
            steps[d] = if shape[d] > 1 { steps[d] * self.stride[d] as isize } else { 0 };
        }
        let data = x.data().gather(walk::offsets(&shape, &steps, base));
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, b: &mut Builder, _: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok(partial(None)) };
        Ok(partial(Some(b.op(self.clone().into(), &[t])?)))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let Some(ct) = cotangents[0] else { return Ok(partial(None)) };
        let shape = b.ty(at.operands[0]).shape.clone();
        let interior: SmallVec<[usize; 4]> = self.stride.iter().map(|s| s - 1).collect();
        let high = (0..shape.len()).map(|d| {
            let spread = Pad::spread(&b.ty(ct).shape[d], interior[d], b.facts());
            &shape[d] - &self.start[d] - spread
        });
        let pad = Pad { low: self.start.clone(), high: high.collect(), interior };
        let zero = b.scalar(Literal::zero(b.ty(ct).dtype));
        Ok(partial(Some(b.op(pad.into(), &[ct, zero])?)))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let mut op = self.clone();
        op.start.insert(0, Dim::ZERO);
        op.limit.insert(0, size.clone());
        op.stride.insert(0, 1);
        Ok(SmallVec::from_iter([b.op(op.into(), operands)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::View }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let at: Vec<Dim> = (0..index.len()).map(|d| &index[d] * Dim::from(self.stride[d]) + &self.start[d]).collect();
        e.operand(0, &at)
    }
}

/// Refuses a list that has not an entry for each dim.
pub(super) fn check_rank(what: &str, len: usize, rank: usize) -> Result<(), Rule> {
    if len == rank {
        return Ok(());
    }
    Err(Rule::new(
        format!("`{what}` has {len} entries, and the operand has {rank} dims"),
        "give an entry for each dim of the operand",
    ))
}

/// Refuses `a` that is not provably at least `b`.
pub(super) fn check_ge(what: &str, a: &Dim, b: &Dim, facts: &Facts) -> Result<(), Rule> {
    match facts.decide_ge(a, b) {
        Some(true) => Ok(()),
        Some(false) => {
            Err(Rule::new(format!("{what} is {a} and must be at least {b}"), "keep the window inside the operand"))
        }
        None => Err(Rule::new(
            format!("{what} is {a} and must be at least {b}, which cannot be decided"),
            format!("state it: assume(\"{a} >= {b}\")"),
        )),
    }
}

/// Refuses sizes without a representable form.
pub(super) fn check_sound(shape: Shape) -> Result<Shape, Rule> {
    match shape.iter().find_map(Dim::fault) {
        None => Ok(shape),
        Some(fault) => {
            Err(Rule::new(format!("a size of the result cannot be represented: {fault}"), "ask for smaller sizes"))
        }
    }
}

/// Axes that may be left out, which is the empty list.
pub(super) fn optional_axes(r: &mut Reader, name: &str) -> Result<SmallVec<[usize; 4]>, AttrError> {
    match r.optional(name) {
        None => Ok(SmallVec::new()),
        Some(attr) => Reader::new(Attrs::new().with(name, attr)).axes(name),
    }
}

/// The row-major positions in an operand from the position that each coordinate contributes; `outside` for those without.
pub(super) fn table_positions<'a>(
    shape: &'a Sizes,
    tables: &'a [Vec<Option<usize>>],
    outside: usize,
) -> impl Iterator<Item = usize> + 'a {
    (0..shape.iter().product()).map(move |position| {
        let index = walk::unravel(position, shape);
        tables.iter().zip(index).map(|(table, i)| table[i]).sum::<Option<usize>>().unwrap_or(outside)
    })
}

#[cfg(test)]
pub(super) mod testing {
    //! Checks that hold for any operation, by running its rules on small arrays.

    use super::*;
    use crate::DType;
    use crate::bindings::Bindings;
    use crate::error::OpError;
    use crate::eval::{evaluate, evaluate_op};
    use crate::graph::ParamKind;
    use crate::kernel::{Guard, ScalarOp};
    use crate::loc::Loc;
    use crate::ops::{self, Op};

    pub(in crate::ops) fn floats(shape: &[usize], values: &[f64]) -> Array {
        Array::new(shape, values.to_vec()).unwrap()
    }

    /// Distinct small integers, as floats.
    pub(in crate::ops) fn counting(shape: &[usize]) -> Array {
        let n: usize = shape.iter().product();
        Array::new(shape, (0..n).map(|i| (i * 7 % 11 + i) as f64 - 3.0).collect()).unwrap()
    }

    pub(in crate::ops) fn sym(name: &str) -> Dim {
        Dim::symbol(name).unwrap()
    }

    pub(in crate::ops) fn infer(op: impl Into<Op>, operands: &[&Type], facts: &Facts) -> Result<Type, OpError> {
        ops::infer(&op.into(), operands, facts, &Loc::UNKNOWN).map(|types| types[0].clone())
    }

    /// The rule that operands break.
    pub(in crate::ops) fn refusal(op: impl Into<Op>, operands: &[&Type]) -> String {
        infer(op, operands, &Facts::default()).unwrap_err().rule().to_owned()
    }

    fn ty(a: &Array) -> Type {
        Type::new(a.dtype(), a.shape().iter().copied())
    }

    /// Evaluates an operation, after its shape rule, which must foretell the result's type.
    pub(in crate::ops) fn run(op: &(impl Clone + Into<Op>), args: &[&Array]) -> Array {
        let op: Op = op.clone().into();
        let types: Vec<Type> = args.iter().map(|a| ty(a)).collect();
        let want = infer(op.clone(), &types.iter().collect::<Vec<_>>(), &Facts::default()).unwrap();
        let out = evaluate_op(&op, args, &Bindings::default()).unwrap().remove(0);
        assert_eq!(ty(&out), want);
        let attrs = op.story().attrs();
        assert_eq!(Op::from_attrs(op.name(), attrs), Ok(op), "attributes round-trip");
        out
    }

    /// Evaluates what `make` builds from a parameter for each array.
    fn build(args: &[Array], make: impl FnOnce(&mut Builder, &[Value]) -> Vec<Value>) -> Vec<Array> {
        let mut b = Builder::new("test");
        let params: Vec<Value> =
            args.iter().enumerate().map(|(i, a)| b.param(format!("p{i}"), ParamKind::Input, ty(a))).collect();
        for (i, v) in make(&mut b, &params).into_iter().enumerate() {
            b.output(format!("o{i}"), v);
        }
        evaluate(&b.finish(), args).unwrap().outputs
    }

    fn dot(a: &Array, b: &Array) -> f64 {
        assert_eq!(a.shape(), b.shape());
        let (a, b) = (a.as_slice::<f64>().unwrap(), b.as_slice::<f64>().unwrap());
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    fn plus(a: &Array, b: &Array, scale: f64) -> Array {
        let (p, q) = (a.as_slice::<f64>().unwrap(), b.as_slice::<f64>().unwrap());
        Array::new(a.shape(), p.iter().zip(q).map(|(x, y)| x + scale * y).collect()).unwrap()
    }

    /// `<op(x), c> == Σ <x_i, transpose(c)_i>` for an operation linear in the marked operands together.
    pub(in crate::ops) fn check_transpose(op: &(impl Clone + Into<Op>), args: &[Array], linear: &[bool]) {
        let y = run(op, &args.iter().collect::<Vec<_>>());
        let c = counting(y.shape());
        let op: Op = op.clone().into();
        let with_c: Vec<Array> = args.iter().chain([&c]).cloned().collect();
        let cts = build(&with_c, |b, v| {
            let (c, operands) = v.split_last().unwrap();
            let at = At { operands, results: &[] };
            let cts = op.story().transpose(b, at, linear, &[Some(*c)]).unwrap();
            assert_eq!(cts.len(), operands.len());
            cts.iter().zip(linear).filter(|(_, l)| **l).map(|(ct, _)| ct.unwrap()).collect()
        });
        let xs = args.iter().zip(linear).filter(|(_, l)| **l).map(|(x, _)| x);
        let back: f64 = xs.zip(&cts).map(|(x, ct)| dot(x, ct)).sum();
        assert_eq!(dot(&y, &c), back);
    }

    /// `op(x + t) - op(x)` is the tangent, for an operation linear in the marked operands together.
    pub(in crate::ops) fn check_tangent(op: &(impl Clone + Into<Op>), args: &[Array], varying: &[bool]) {
        let tangents: Vec<Array> =
            args.iter().zip(varying).filter(|(_, v)| **v).map(|(a, _)| plus(&counting(a.shape()), a, 2.0)).collect();
        let mut left = tangents.iter();
        let moved: Vec<Array> = args
            .iter()
            .zip(varying)
            .map(|(a, v)| if *v { plus(a, left.next().unwrap(), 1.0) } else { a.clone() })
            .collect();
        let before = run(op, &args.iter().collect::<Vec<_>>());
        let after = run(op, &moved.iter().collect::<Vec<_>>());
        assert_eq!(tangent(op, args, varying, &tangents), plus(&after, &before, -1.0));
    }

    /// The tangent that the rule gives.
    pub(in crate::ops) fn tangent(
        op: &(impl Clone + Into<Op>),
        args: &[Array],
        varying: &[bool],
        tangents: &[Array],
    ) -> Array {
        let op: Op = op.clone().into();
        let all: Vec<Array> = args.iter().chain(tangents).cloned().collect();
        build(&all, |b, v| {
            let (operands, mut ts) = (&v[..args.len()], v[args.len()..].iter().copied());
            let y = b.op(op.clone(), operands).unwrap();
            let tangents: Vec<Option<Value>> = varying.iter().map(|v| if *v { ts.next() } else { None }).collect();
            let out = op.story().linearize(b, At { operands, results: &[y] }, &tangents).unwrap();
            vec![out[0].unwrap()]
        })
        .remove(0)
    }

    /// The batching rule gives what the operation gives for each example. Batched operands have a leading dim of one size.
    pub(in crate::ops) fn check_batch(op: &(impl Clone + Into<Op>), args: &[Array], batched: &[bool]) {
        let n = args.iter().zip(batched).find(|(_, is)| **is).unwrap().0.shape()[0];
        let example = |a: &Array, i: usize| {
            let shape = &a.shape()[1..];
            let len: usize = shape.iter().product();
            Array::from_data(shape, a.data().gather(i * len..(i + 1) * len)).unwrap()
        };
        let story: Op = op.clone().into();
        let all =
            build(args, |b, v| story.story().batch(b, v, batched, &n.into()).unwrap().into_iter().collect()).remove(0);
        assert_eq!(all.shape()[0], n);
        for i in 0..n {
            let one: Vec<Array> =
                args.iter().zip(batched).map(|(a, is)| if *is { example(a, i) } else { a.clone() }).collect();
            assert_eq!(example(&all, i), run(op, &one.iter().collect::<Vec<_>>()), "example {i}");
        }
    }

    /// What is emitted for each element equals the reference.
    pub(in crate::ops) fn check_emit(op: &(impl Clone + Into<Op>), args: &[&Array]) {
        let want = run(op, args);
        let op: Op = op.clone().into();
        for position in 0..want.len() {
            let mut e = Scalars { args, vars: Vec::new() };
            let index: Vec<Dim> = walk::unravel(position, want.shape()).into_iter().map(Dim::from).collect();
            let v = op.story().emit(&mut e, &index);
            assert_eq!(Some(e.get(v)), want.data().get(position), "{index:?}");
        }
    }

    /// Computes what is emitted at once, for constant indices; panics on a load outside an operand.
    pub(in crate::ops) struct Scalars<'a> {
        pub(in crate::ops) args: &'a [&'a Array],
        pub(in crate::ops) vars: Vec<Literal>,
    }

    impl Scalars<'_> {
        fn get(&self, v: Var) -> Literal {
            self.vars[v.0 as usize]
        }

        fn push(&mut self, l: Literal) -> Var {
            self.vars.push(l);
            Var(self.vars.len() as u32 - 1)
        }
    }

    impl MapEmitter for Scalars<'_> {
        fn operand(&mut self, i: usize, index: &[Dim]) -> Var {
            let array = self.args[i];
            assert_eq!(index.len(), array.rank());
            let position = index.iter().zip(array.shape()).fold(0, |at, (d, &n)| {
                let d = usize::try_from(d.as_const().unwrap()).unwrap();
                assert!(d < n, "operand {i} at {index:?} of {:?}", array.shape());
                at * n + d
            });
            self.push(array.data().get(position).unwrap())
        }

        fn operand_if(&mut self, i: usize, index: &[Dim], guard: Guard, other: Var) -> Var {
            assert!(!guard.is_always());
            let holds = guard.0.iter().all(|d| d.as_const().unwrap() >= 0);
            if holds { self.operand(i, index) } else { other }
        }

        fn apply(&mut self, op: ScalarOp, args: &[Var]) -> Var {
            let a = self.get(args[0]);
            let dtype = a.dtype();
            let wide = |l: Literal| l.to_i64().map_or(i128::from(l.bits()[0]), i128::from);
            if let ScalarOp::Convert(to) = op {
                return self.push(Literal::from_bits(to, [wide(a) as u64, 0]));
            }
            let (x, y) = (wide(a), wide(self.get(args[1])));
            let value = match op {
                ScalarOp::Add => x + y,
                ScalarOp::Max => x.max(y),
                ScalarOp::Min => x.min(y),
                ScalarOp::Or => x | y,
                ScalarOp::Xor => x ^ y,
                ScalarOp::Shl => x << y,
                ScalarOp::Shr => x >> y,
                other => panic!("{other} is not computed here"),
            };
            self.push(Literal::from_bits(dtype, [value as u64, 0]))
        }

        fn dtype(&self, v: Var) -> DType {
            self.get(v).dtype()
        }

        fn literal(&mut self, value: Literal) -> Var {
            self.push(value)
        }

        fn index_value(&mut self, index: &Dim) -> Var {
            self.push(Literal::from(index.as_const().unwrap()))
        }

        fn index_of(&mut self, var: Var, extent: &Dim) -> Dim {
            let last = extent.as_const().unwrap() - 1;
            Dim::from(self.get(var).to_i64().unwrap().clamp(0, last))
        }

        fn index_raw(&mut self, var: Var) -> Dim {
            Dim::from(self.get(var).to_i64().unwrap())
        }

        fn operand_count(&self) -> usize {
            self.args.len()
        }

        fn operand_shape(&self, i: usize) -> Vec<Dim> {
            self.args[i].shape().iter().map(|&n| n.into()).collect()
        }

        fn operand_dtype(&self, i: usize) -> DType {
            self.args[i].dtype()
        }

        fn table(&mut self, value: &Array, _: &[Dim]) -> Var {
            panic!("no table is computed here: {value:?}")
        }

        fn unsupported(&mut self, op: &str) -> Var {
            panic!("{op} is no map")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::DType;
    use crate::facts::Fact;
    use smallvec::smallvec;

    fn slice(start: &[i64], limit: &[i64], stride: &[usize]) -> Slice {
        let dims = |v: &[i64]| v.iter().map(|&d| Dim::from(d)).collect();
        Slice { start: dims(start), limit: dims(limit), stride: stride.into() }
    }

    #[test]
    fn takes_every_stride_th_element() {
        let x = floats(&[2, 5], &[0., 1., 2., 3., 4., 10., 11., 12., 13., 14.]);
        let op = slice(&[1, 0], &[2, 5], &[1, 2]);
        assert_eq!(run(&op, &[&x]), floats(&[1, 3], &[10., 12., 14.]));
        assert_eq!(run(&slice(&[0, 5], &[2, 5], &[1, 3]), &[&x]).shape(), [2, 0]);
        assert_eq!(run(&slice(&[1, 4], &[2, 5], &[99, 1 << 60]), &[&x]), floats(&[1, 1], &[14.]));
        check_emit(&op, &[&x]);
    }

    #[test]
    fn rules_agree_with_the_definition() {
        for op in [slice(&[1, 0], &[2, 4], &[1, 2]), slice(&[0, 1], &[2, 5], &[2, 3]), slice(&[0, 2], &[2, 2], &[1, 2])]
        {
            check_tangent(&op, &[counting(&[2, 5])], &[true]);
            check_transpose(&op, &[counting(&[2, 5])], &[true]);
            check_batch(&op, &[counting(&[3, 2, 5])], &[true]);
        }
    }

    #[test]
    fn symbolic_windows_need_proof() {
        let n = sym("n");
        let x = Type::new(DType::F32, [n.clone()]);
        let facts = Facts::default();
        let halves = Slice { start: smallvec![Dim::ZERO], limit: smallvec![n.clone()], stride: smallvec![2] };
        assert_eq!(infer(halves, &[&x], &facts).unwrap().to_string(), format!("f32[{}]", n.ceildiv(2)));

        let tail = Slice::along(&x.shape, 0, 1.into(), n.clone());
        let e = infer(tail.clone(), &[&x], &facts).unwrap_err();
        assert_eq!(e.help(), "state it: assume(\"n >= 1\")");
        let mut facts = Facts::default();
        facts.assume(Fact::ge(n.clone(), 1)).unwrap();
        assert_eq!(infer(tail, &[&x], &facts).unwrap().shape[0], n - 1);
    }

    #[test]
    fn the_transpose_of_a_symbolic_window_has_the_operands_type() {
        let n = sym("n");
        for stride in [1, 3] {
            let mut b = Builder::new("test");
            let kind = crate::graph::ParamKind::Input;
            let x = b.param("x", kind, Type::new(DType::F32, [&n + 2]));
            let op = Slice { start: smallvec![Dim::ONE], limit: smallvec![&n + 2], stride: smallvec![stride] };
            let y = b.op(op.clone().into(), &[x]).unwrap();
            let ct = b.zeros(&b.ty(y).clone()).unwrap();
            let back = op.transpose(&mut b, At { operands: &[x], results: &[] }, &[true], &[Some(ct)]).unwrap();
            assert_eq!(b.ty(back[0].unwrap()), b.ty(x));
        }
    }

    #[test]
    fn bad_windows_are_refused() {
        let x = Type::new(DType::F32, [4]);
        assert_eq!(refusal(slice(&[0, 0], &[4], &[1]), &[&x]), "`start` has 2 entries, and the operand has 1 dims");
        assert_eq!(refusal(slice(&[0], &[4], &[0]), &[&x]), "the stride of dim 0 is 0");
        assert_eq!(refusal(slice(&[-1], &[4], &[1]), &[&x]), "the start of dim 0 is -1 and must be at least 0");
        assert_eq!(refusal(slice(&[3], &[2], &[1]), &[&x]), "the limit of dim 0 is 2 and must be at least 3");
        assert_eq!(refusal(slice(&[0], &[5], &[1]), &[&x]), "the size of dim 0 is 4 and must be at least 5");
    }
}
