//! Random well-typed graphs, with arrays to run them on.
//!
//! Each graph holds some operations that the run asks for ([`Focus`]), on values made by others, and more at random.
//! All that is unused becomes an output, so that nothing asked for is dead.

use lehr::ir::bindings::Bindings;
use lehr::ir::dim::{Dim, Symbol};
use lehr::ir::facts::Fact;
use lehr::ir::graph::{Builder, Graph, ParamKind, Value};
use lehr::ir::ops::{
    ArgReduce, BinaryOp, Broadcast, Call, CompareOp, Concat, Convert, Iota, Op, OpKind, Pad, RandomBits, Reduce,
    ReduceOp, Reshape, Reverse, Select, Slice, Transpose, UnaryOp,
};
use lehr::ir::{Array, DType, Shape, Type};
use smallvec::SmallVec;

use crate::random::{Flavor, Rng, array};
use crate::shrink;

/// The dtypes of the run.
pub(crate) const DTYPES: [DType; 6] = [DType::F32, DType::F64, DType::I32, DType::I64, DType::Bool, DType::U32];

/// An operation on a dtype that a graph must hold.
pub(crate) type Focus = (OpKind, DType);

/// A graph with arrays for its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) graph: Graph,
    pub(crate) args: Vec<Array>,
}

/// How large a graph may be; smaller limits give smaller graphs of the same kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) extra: usize,
    pub(crate) size: i64,
}

impl Limits {
    pub(crate) const FULL: Self = Self { extra: 4, size: i64::MAX };
}

/// The operations and dtypes that exist: what [`Generator::attempt`] can make.
pub(crate) fn all_focuses() -> Vec<Focus> {
    let supported = |&(kind, dtype): &Focus| match kind {
        OpKind::Iota | OpKind::Dot | OpKind::Convolution => dtype != DType::Bool,
        OpKind::RandomBits => dtype == DType::U32,
        // Their own tests compare them: bounds of what rounding may do to a softmax would be loose.
        OpKind::Attention | OpKind::AttentionTangent | OpKind::AttentionGrad | OpKind::Extern => false,
        OpKind::Constant
        | OpKind::Unary
        | OpKind::Binary
        | OpKind::Compare
        | OpKind::Select
        | OpKind::Convert
        | OpKind::Broadcast
        | OpKind::Reshape
        | OpKind::Transpose
        | OpKind::Slice
        | OpKind::Pad
        | OpKind::Concat
        | OpKind::Reverse
        | OpKind::Reduce
        | OpKind::ArgReduce
        | OpKind::ReduceWindow
        | OpKind::Gather
        | OpKind::Scatter
        | OpKind::Call
        | OpKind::Case
        | OpKind::While
        | OpKind::Scan => true,
    };
    OpKind::ALL.iter().flat_map(|&k| DTYPES.map(|d| (k, d))).filter(supported).collect()
}

/// The dtype that an operation counts for: that of what it works on, or of what it makes if it converts.
pub(crate) fn counted(graph: &Graph, node: &lehr::ir::graph::Node) -> Focus {
    let kind = node.op.kind();
    let v = match kind {
        OpKind::Compare | OpKind::Reduce | OpKind::ArgReduce => node.operands[0],
        _ => node.result(),
    };
    (kind, graph.ty(v).dtype)
}

/// The graph of a seed.
pub(crate) fn generate(mut r: Rng, focuses: &[Focus], limits: Limits) -> Case {
    let flavor = *r.pick(&[Flavor::Dyadic, Flavor::Plain, Flavor::Plain, Flavor::Wild]);
    let mut g = Generator::new(r, flavor, limits);
    for &(kind, dtype) in focuses {
        g.step(kind, dtype);
        for _ in 0..g.r.below(limits.extra + 1) {
            let (kind, dtype) = *g.r.pick(&g.all);
            g.step(kind, dtype);
        }
    }
    g.finish()
}

pub(crate) struct Generator {
    pub(crate) b: Builder,
    pub(crate) r: Rng,
    pub(crate) flavor: Flavor,
    /// Values that operations may take; parameters first.
    values: Vec<Value>,
    params: usize,
    bindings: Bindings,
    /// The dims that shapes are made of.
    pool: Vec<Dim>,
    shapes: Vec<Shape>,
    most: i64,
    all: Vec<Focus>,
}

impl Generator {
    fn new(mut r: Rng, flavor: Flavor, limits: Limits) -> Self {
        // One graph in a hundred is large enough for several threads.
        let large = r.one_in(100);
        let mut b = Builder::new("g");
        let mut bindings = Bindings::default();
        let size = |r: &mut Rng| {
            let n = *r.pick(&[0, 1, 1, 2, 3, 3, 4, 5, 7, 8, 9, 16, 17, 33]);
            i64::min(n, limits.size)
        };
        let mut pool: Vec<Dim> = (0..3).map(|_| Dim::from(size(&mut r))).collect();
        if large {
            pool[0] = Dim::from(i64::min(3000 + r.below(3000) as i64, limits.size));
            pool[1] = Dim::from(i64::min(7, limits.size));
        }
        let mut facts = b.facts().clone();
        for name in ["n", "m"] {
            if !r.one_in(2) {
                continue;
            }
            let symbol = Symbol::new(name).expect("a name");
            let value = size(&mut r);
            bindings.bind(&symbol, value).expect("bound once");
            if value >= 1 && r.one_in(2) {
                facts.assume(Fact::ge(Dim::from(&symbol), Dim::ONE)).expect("no other fact");
            }
            pool.push(Dim::from(&symbol));
            b.param(format!("size_{name}"), ParamKind::Input, Type::new(DType::Bool, [Dim::from(&symbol)]));
        }
        b.set_facts(facts);
        let most = if large { 100_000 } else { 600 };
        let params = b.graph().params().len();
        let mut g = Self {
            b,
            r,
            flavor,
            values: Vec::new(),
            params,
            bindings,
            pool,
            shapes: Vec::new(),
            most,
            all: all_focuses(),
        };
        g.shapes.push(Shape::new());
        while g.shapes.len() < 4 {
            let rank = 1 + g.r.below(3);
            let shape: Shape = (0..rank).map(|_| g.dim()).collect();
            if g.count(&shape).is_some() {
                g.shapes.push(shape);
            } else {
                g.pool[0] = Dim::from(2);
            }
        }
        for dtype in DTYPES {
            for i in 0..g.shapes.len() {
                let kind = if g.r.one_in(4) { ParamKind::Variable } else { ParamKind::Input };
                let ty = Type::new(dtype, g.shapes[i].iter().cloned());
                let v = g.b.param(format!("{dtype}_{i}"), kind, ty);
                g.values.push(v);
            }
        }
        let key = g.b.param("key", ParamKind::Input, Type::new(DType::U32, [2]));
        g.values.push(key);
        g.params += g.values.len();
        g
    }

    /// Adds an operation of a kind on a dtype; several attempts, as a choice may turn out to be refused.
    fn step(&mut self, kind: OpKind, dtype: DType) {
        for _ in 0..30 {
            if self.attempt(kind, dtype).is_some() {
                return;
            }
        }
    }

    fn attempt(&mut self, kind: OpKind, dtype: DType) -> Option<()> {
        match kind {
            OpKind::Constant => {
                let i = self.r.below(self.shapes.len());
                let sizes = self.sizes(&self.shapes[i].clone())?;
                let value = array(&mut self.r, dtype, &sizes, self.flavor);
                self.add(lehr::ir::ops::Constant { value }, &[])
            }
            OpKind::Iota => {
                let mut shape = self.r.pick(&self.shapes).clone();
                if shape.is_empty() {
                    shape.push(self.dim());
                }
                let axis = self.r.below(shape.len());
                self.add(Iota { dtype, shape, axis }, &[])
            }
            OpKind::Unary => {
                let fits: Vec<UnaryOp> =
                    UnaryOp::ALL.iter().copied().filter(|op| op.row().domain.includes(dtype.kind())).collect();
                let x = self.any(dtype)?;
                let op = *self.r.pick(&fits);
                self.add(op, &[x])
            }
            OpKind::Binary => {
                let x = self.any(dtype)?;
                let y = self.like(x)?;
                let op = *self.r.pick(BinaryOp::ALL);
                self.add(op, &[x, y])
            }
            OpKind::Compare => {
                let x = self.any(dtype)?;
                let y = self.like(x)?;
                let op = *self.r.pick(CompareOp::ALL);
                self.add(op, &[x, y])
            }
            OpKind::Select => {
                let x = self.any(dtype)?;
                let y = self.like(x)?;
                let shape = self.b.ty(x).shape.clone();
                let c = self.of(DType::Bool, &shape)?;
                self.add(Select, &[c, x, y])
            }
            OpKind::Convert => {
                let from = *self.r.pick(&DTYPES);
                let x = self.any(from)?;
                self.add(Convert { dtype }, &[x])
            }
            OpKind::Broadcast => self.broadcast(dtype),
            OpKind::Reshape => self.reshape(dtype),
            OpKind::Transpose => {
                let x = self.ranked(dtype, 1)?;
                let perm = self.permutation(self.b.ty(x).rank());
                self.add(Transpose { perm }, &[x])
            }
            OpKind::Slice => self.slice(dtype),
            OpKind::Pad => self.pad(dtype),
            OpKind::Concat => {
                let x = self.ranked(dtype, 1)?;
                let axis = self.r.below(self.b.ty(x).rank());
                let mut parts = vec![x];
                for _ in 0..self.r.below(3) {
                    let mut shape = self.b.ty(x).shape.clone();
                    if self.r.one_in(2) {
                        shape[axis] = self.dim();
                    }
                    parts.push(self.of(dtype, &shape)?);
                }
                self.add(Concat { axis }, &parts)
            }
            OpKind::Reverse => {
                let x = self.ranked(dtype, 1)?;
                let axes = self.subset(self.b.ty(x).rank());
                self.add(Reverse { axes }, &[x])
            }
            OpKind::Reduce => {
                let x = self.any(dtype)?;
                let axes = self.subset(self.b.ty(x).rank());
                let op = *self.r.pick(ReduceOp::ALL);
                self.add(Reduce { op, axes }, &[x])
            }
            OpKind::ArgReduce => {
                let x = self.ranked(dtype, 1)?;
                let axis = self.r.below(self.b.ty(x).rank());
                let max = self.r.one_in(2);
                self.add(ArgReduce::new(max, axis), &[x])
            }
            OpKind::ReduceWindow => self.reduce_window(dtype),
            OpKind::Dot => self.dot(dtype),
            OpKind::Convolution => self.convolution(dtype),
            OpKind::Gather => self.gather(dtype),
            OpKind::Scatter => self.scatter(dtype),
            OpKind::RandomBits => {
                let leading = self.r.one_in(3).then(|| self.dim());
                let key_shape: Shape = leading.clone().into_iter().chain([Dim::from(2)]).collect();
                let key = self.of(DType::U32, &key_shape)?;
                let mut shape: Shape = leading.into_iter().collect();
                for _ in 0..self.r.below(3) {
                    shape.push(self.dim());
                }
                self.add(RandomBits { dtype, shape }, &[key])
            }
            OpKind::Call => self.call(dtype),
            OpKind::Case => self.case(dtype),
            OpKind::While => self.while_loop(dtype),
            OpKind::Scan => self.scan(dtype),
            OpKind::Attention | OpKind::AttentionTangent | OpKind::AttentionGrad | OpKind::Extern => None,
        }
    }

    fn broadcast(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let own = self.b.ty(x).shape.clone();
        let (mut shape, mut axes) = (Shape::new(), SmallVec::new());
        for d in own {
            while shape.len() < 4 && self.r.one_in(3) {
                shape.push(self.dim());
            }
            axes.push(shape.len());
            shape.push(if d.is_one() && self.r.one_in(2) { self.dim() } else { d });
        }
        if self.r.one_in(3) || shape.is_empty() {
            shape.push(self.dim());
        }
        self.add(Broadcast { shape, axes }, &[x])
    }

    fn reshape(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let mut shape = self.b.ty(x).shape.clone();
        match self.r.below(3) {
            0 => shape = Shape::from_iter([lehr::ir::ty::count(&shape)]),
            1 if shape.len() > 1 => {
                let i = self.r.below(shape.len() - 1);
                let next = shape.remove(i + 1);
                shape[i] = &shape[i] * &next;
            }
            _ => {
                // A dim of even size becomes two.
                if let Some(i) = (0..shape.len()).find(|&i| shape[i].as_const().is_some_and(|n| n > 0 && n % 2 == 0)) {
                    let half = shape[i].as_const()? / 2;
                    shape[i] = Dim::from(half);
                    shape.insert(i, Dim::from(2));
                }
                let at = self.r.below(shape.len() + 1);
                shape.insert(at, Dim::ONE);
            }
        }
        self.add(Reshape { shape }, &[x])
    }

    fn slice(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let shape = self.b.ty(x).shape.clone();
        let mut op = Slice { start: Shape::new(), limit: Shape::new(), stride: SmallVec::new() };
        for d in shape {
            let (start, limit) = match d.as_const() {
                Some(n) => {
                    let start = self.r.below(n as usize + 1) as i64;
                    let limit = start + self.r.below((n - start) as usize + 1) as i64;
                    (Dim::from(start), Dim::from(if self.r.one_in(2) { n } else { limit }))
                }
                None => (Dim::ZERO, d),
            };
            op.start.push(start);
            op.limit.push(limit);
            op.stride.push(1 + self.r.below(3));
        }
        self.add(op, &[x])
    }

    fn pad(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let value = self.of(dtype, &[])?;
        let mut op = Pad { low: Shape::new(), high: Shape::new(), interior: SmallVec::new() };
        for _ in 0..self.b.ty(x).rank() {
            op.low.push(Dim::from(self.r.below(5) as i64 - 2));
            op.high.push(Dim::from(self.r.below(5) as i64 - 2));
            op.interior.push(self.r.below(3).saturating_sub(1) * (1 + self.r.below(2)));
        }
        self.add(op, &[x, value])
    }

    /// A call of a body of a few elementwise operations and a reduction.
    fn call(&mut self, dtype: DType) -> Option<()> {
        let x = self.any(dtype)?;
        let y = self.like(x)?;
        let (tx, ty) = (self.b.ty(x).clone(), self.b.ty(y).clone());
        let mut body = Builder::new("body");
        body.set_facts(self.b.facts().clone());
        let mut values = vec![body.param("x", ParamKind::Input, tx.clone()), body.param("y", ParamKind::Input, ty)];
        for _ in 0..1 + self.r.below(3) {
            let (p, q) = (*self.r.pick(&values), *self.r.pick(&values));
            let op: Op = match self.r.below(3) {
                0 => (*self.r.pick(UnaryOp::ALL)).into(),
                1 => Reverse { axes: self.subset(tx.rank()) }.into(),
                _ => (*self.r.pick(BinaryOp::ALL)).into(),
            };
            let operands: &[Value] = if matches!(op, Op::Binary(_)) { &[p, q] } else { &[p] };
            if let Ok(v) = body.op(op, operands) {
                values.push(v);
            }
        }
        let last = *values.last()?;
        let axes = self.subset(tx.rank());
        let folded = body.op(Reduce { op: ReduceOp::Max, axes }.into(), &[last]).ok()?;
        body.output("a", last);
        body.output("b", folded);
        self.add(Call::new("composite", body.into_region()), &[x, y])
    }

    /// Adds a node whose results are not too large; its results become operands of others.
    pub(crate) fn add(&mut self, op: impl Into<Op>, operands: &[Value]) -> Option<()> {
        self.node(op, operands).map(|_| ())
    }

    fn node(&mut self, op: impl Into<Op>, operands: &[Value]) -> Option<Value> {
        let op = op.into();
        let types = self.b.infer(&op, operands).ok()?;
        for ty in &types {
            self.count(&ty.shape)?;
        }
        let id = self.b.push(op, operands.iter().copied().collect(), types);
        let node = self.b.graph().node(id);
        self.values.extend(node.results());
        Some(node.result())
    }

    /// A value of a dtype; of two, the one made later.
    pub(crate) fn any(&mut self, dtype: DType) -> Option<Value> {
        self.choose(|g, v| g.b.ty(v).dtype == dtype)
    }

    /// A value of a dtype and at least a rank.
    pub(crate) fn ranked(&mut self, dtype: DType, rank: usize) -> Option<Value> {
        self.choose(|g, v| g.b.ty(v).dtype == dtype && g.b.ty(v).rank() >= rank)
    }

    fn choose(&mut self, fits: impl Fn(&Self, Value) -> bool) -> Option<Value> {
        let found: Vec<Value> = self.values.iter().copied().filter(|&v| fits(self, v)).collect();
        if found.is_empty() {
            return None;
        }
        Some(found[self.r.below(found.len()).max(self.r.below(found.len()))])
    }

    /// A value of the type of another, now and then that one.
    pub(crate) fn like(&mut self, x: Value) -> Option<Value> {
        let ty = self.b.ty(x).clone();
        self.of(ty.dtype, &ty.shape)
    }

    /// A value of a dtype and shape, made of others if there is none.
    pub(crate) fn of(&mut self, dtype: DType, shape: &[Dim]) -> Option<Value> {
        self.count(shape)?;
        let same = |g: &Self, v: Value| g.b.ty(v).shape.as_slice() == shape;
        if let Some(v) = self.choose(|g, v| same(g, v) && g.b.ty(v).dtype == dtype)
            && !self.r.one_in(6)
        {
            return Some(v);
        }
        if let Some(v) = self.choose(|g, v| same(g, v) && g.b.ty(v).dtype != dtype)
            && self.r.one_in(2)
        {
            return self.node(Convert { dtype }, &[v]);
        }
        // A dim or nothing of the shape, repeated along the others.
        let line = (0..shape.len()).find(|&d| self.shapes.iter().any(|s| s.as_slice() == &shape[d..=d]));
        let (x, axes) = match line {
            Some(d) => (self.choose(|g, v| g.b.ty(v).dtype == dtype && g.b.ty(v).shape[..] == shape[d..=d])?, vec![d]),
            None => (self.choose(|g, v| g.b.ty(v).dtype == dtype && g.b.ty(v).rank() == 0)?, vec![]),
        };
        if axes.len() == shape.len() {
            return Some(x);
        }
        self.node(Broadcast { shape: shape.iter().cloned().collect(), axes: axes.into() }, &[x])
    }

    pub(crate) fn dim(&mut self) -> Dim {
        if self.r.one_in(12) { Dim::ONE } else { self.r.pick(&self.pool).clone() }
    }

    pub(crate) fn size(&self, d: &Dim) -> Option<i64> {
        self.bindings.eval(d).ok().filter(|&n| n >= 0)
    }

    fn sizes(&self, shape: &[Dim]) -> Option<Vec<usize>> {
        shape.iter().map(|d| self.size(d).map(|n| n as usize)).collect()
    }

    /// The number of elements, if it is not too large.
    fn count(&self, shape: &[Dim]) -> Option<i64> {
        let n: i64 = shape.iter().map(|d| self.size(d)).product::<Option<i64>>()?;
        (n <= self.most && shape.len() <= 5).then_some(n)
    }

    pub(crate) fn permutation(&mut self, rank: usize) -> SmallVec<[usize; 4]> {
        let mut perm: SmallVec<[usize; 4]> = (0..rank).collect();
        for i in (1..rank).rev() {
            perm.swap(i, self.r.below(i + 1));
        }
        perm
    }

    /// Some of the axes, ascending; mostly at least one.
    pub(crate) fn subset(&mut self, rank: usize) -> SmallVec<[usize; 4]> {
        let mut axes: SmallVec<[usize; 4]> = (0..rank).filter(|_| self.r.one_in(2)).collect();
        if axes.is_empty() && rank > 0 && !self.r.one_in(8) {
            axes.push(self.r.below(rank));
        }
        axes
    }

    fn finish(mut self) -> Case {
        let uses = self.b.graph().use_counts();
        let made = self.values.clone();
        let mut outputs: Vec<Value> = made.iter().copied().skip(self.params).filter(|v| uses[v.index()] == 0).collect();
        for _ in 0..self.r.below(3) {
            outputs.push(*self.r.pick(&made));
        }
        for (i, v) in outputs.into_iter().enumerate() {
            self.b.output(format!("o{i}"), v);
        }
        for p in 0..self.b.graph().params().len() {
            let v = self.b.graph().param_value(p);
            let ty = self.b.ty(v).clone();
            if self.b.graph().params()[p].kind == ParamKind::Variable
                && self.r.one_in(8)
                && let Some(new) = self.choose(|g, v| *g.b.ty(v) == ty)
            {
                self.b.update(p as u32, new);
            }
        }
        let graph = self.b.graph().clone();
        let mut args = Vec::new();
        for ty in graph.param_types() {
            let sizes = self.sizes(&ty.shape).unwrap_or_default();
            args.push(array(&mut self.r, ty.dtype, &sizes, self.flavor));
        }
        shrink::prune(&Case { graph, args })
    }
}
