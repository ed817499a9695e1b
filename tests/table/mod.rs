//! The table of operations: for each kind, small graphs with data on which its rules are checked.
//!
//! The tests of passes and of devices both include it by its path: neither crate sees the other, and an operation has one set of
//! rows.
//! The match in [`cases`] is exhaustive, so that an operation without a row does not compile.

pub(crate) mod attention;
pub(crate) mod build;
pub(crate) mod control;
pub(crate) mod windows;

use std::sync::Arc;

use lehr_ir::array::Array;
use lehr_ir::eval::{EvalCx, EvalError};
use lehr_ir::graph::{Builder, Graph, Value};
use lehr_ir::literal::Literal;
use lehr_ir::ops::{
    ArgReduce, Arity, Arrays, At, BinaryOp, Broadcast, Call, Combine, CompareOp, Concat, DotDims, Extern, ExternOp,
    Gather, Iota, Op, OpKind, OutOfRange, Pad, Partials, RandomBits, Reduce, ReduceOp, Reshape, Reverse, RuleError,
    Scatter, Select, Slice, Transpose, Types, UnaryOp,
};
use lehr_ir::{DType, Dim, Facts, Rule, Type};
use smallvec::{SmallVec, smallvec};

use build::{build, random, type_of};

/// A graph, data for its parameters, and what to check.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) graph: Graph,
    pub(crate) args: Vec<Array>,
    /// The parameters to differentiate by.
    pub(crate) wrt: Vec<usize>,
    /// Whether second derivatives exist everywhere, by the same rules.
    pub(crate) smooth: bool,
    /// Whether it can be differentiated backwards.
    pub(crate) reverse: bool,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        args: Vec<Array>,
        make: impl FnOnce(&mut Builder, &[Value]) -> Vec<Value>,
    ) -> Self {
        let types: Vec<Type> = args.iter().map(type_of).collect();
        let graph = build(&types, make);
        let wrt = (0..args.len()).filter(|&i| args[i].dtype() == DType::F64).collect();
        Self { name: name.into(), graph, args, wrt, smooth: true, reverse: true }
    }

    pub(crate) fn op(name: impl Into<String>, op: impl Into<Op>, args: Vec<Array>) -> Self {
        let op = op.into();
        Self::new(name, args, |b, v| {
            let id = b.add_node(op, v).unwrap();
            b.graph().node(id).results().collect()
        })
    }

    pub(crate) fn forward_only(mut self) -> Self {
        self.reverse = false;
        self
    }

    pub(crate) fn rough(mut self) -> Self {
        self.smooth = false;
        self
    }

    /// The case's graph with one output more: all inexact outputs times fixed weights, summed.
    pub(crate) fn scalarized(&self) -> Graph {
        let graph = &self.graph;
        let mut b = Builder::with_graph(graph.clone());
        let mut total = None;
        for (i, o) in graph.outputs().iter().enumerate() {
            let ty = graph.ty(o.value).clone();
            if !ty.dtype.is_inexact() {
                continue;
            }
            let shape = ty.static_shape().unwrap();
            let weights = b.constant(random(&shape, 0.5, 1.5, 100 + i as u64));
            let w = b.mul(o.value, weights).unwrap();
            let axes: Vec<usize> = (0..shape.len()).collect();
            let s = b.sum(w, &axes).unwrap();
            total = Some(match total {
                None => s,
                Some(t) => b.add(t, s).unwrap(),
            });
        }
        b.output("loss", total.unwrap());
        b.finish()
    }
}

pub(crate) fn all_cases() -> Vec<Case> {
    OpKind::ALL.iter().flat_map(|&k| cases(k)).collect()
}

/// The rows that have a reverse mode.
pub(crate) fn reversible_cases() -> Vec<Case> {
    all_cases().into_iter().filter(|c| c.reverse).collect()
}

/// The rows of a kind.
pub(crate) fn cases(kind: OpKind) -> Vec<Case> {
    match kind {
        OpKind::Constant => vec![Case::new("const", vec![random(&[3], -1., 1., 1)], |b, v| {
            let c = b.constant(random(&[3], -1., 1., 2));
            vec![c, b.mul(v[0], c).unwrap()]
        })],
        OpKind::Iota => vec![Case::new("iota", vec![random(&[2, 3], -1., 1., 1)], |b, v| {
            let i = b.op(Iota { dtype: DType::F64, shape: dims(&[2, 3]), axis: 1 }.into(), &[]).unwrap();
            vec![i, b.mul(v[0], i).unwrap()]
        })],
        OpKind::Unary => UnaryOp::ALL.iter().filter_map(|&op| unary(op)).collect(),
        OpKind::Binary => BinaryOp::ALL.iter().flat_map(|&op| binary(op)).collect(),
        OpKind::Compare => CompareOp::ALL
            .iter()
            .map(|&op| {
                Case::new(format!("{op:?}"), vec![random(&[4], -1., 1., 1), random(&[4], -1., 1., 2)], |b, v| {
                    let c = b.compare(op, v[0], v[1]).unwrap();
                    let f = b.convert(c, DType::F64).unwrap();
                    vec![c, b.mul(f, v[0]).unwrap()]
                })
                .rough()
            })
            .collect(),
        OpKind::Select => {
            let c = Array::from([true, false, true]);
            vec![Case::op("select", Select, vec![c, random(&[3], -1., 1., 1), random(&[3], -1., 1., 2)])]
        }
        OpKind::Convert => vec![
            Case::new("convert", vec![random(&[3], -1., 1., 1)], |b, v| {
                // To a dtype without derivatives, and back.
                let i = b.convert(v[0], DType::I64).unwrap();
                let f = b.convert(i, DType::F64).unwrap();
                vec![b.mul(f, v[0]).unwrap()]
            })
            .rough(),
        ],
        OpKind::Broadcast => vec![
            broadcast("broadcast_new", &[3], &[2, 3], &[1]),
            broadcast("broadcast_unit", &[2, 1], &[2, 4, 3], &[0, 2]),
            broadcast("broadcast_scalar", &[], &[2, 2], &[]),
            broadcast("broadcast_same_unit", &[1, 3], &[1, 3], &[0, 1]),
        ],
        OpKind::Reshape => vec![
            Case::op("reshape", Reshape { shape: dims(&[3, 2]) }, vec![random(&[2, 3], -1., 1., 1)]),
            Case::op("reshape_scalar", Reshape { shape: dims(&[]) }, vec![random(&[1, 1], -1., 1., 1)]),
        ],
        OpKind::Transpose => {
            vec![Case::op("transpose", Transpose { perm: smallvec![2, 0, 1] }, vec![random(&[2, 3, 4], -1., 1., 1)])]
        }
        OpKind::Slice => vec![Case::op(
            "slice",
            Slice { start: dims(&[1, 0]), limit: dims(&[3, 5]), stride: smallvec![1, 2] },
            vec![random(&[4, 5], -1., 1., 1)],
        )],
        OpKind::Pad => vec![
            pad("pad", &[1, 0], &[0, 2], &[0, 1]),
            pad("pad_negative", &[-1, 2], &[1, -1], &[0, 0]),
            pad("pad_interior_negative", &[-1, 0], &[0, -2], &[2, 1]),
        ],
        OpKind::Concat => vec![Case::op(
            "concat",
            Concat { axis: 1 },
            vec![random(&[2, 1], -1., 1., 1), random(&[2, 3], -1., 1., 2), random(&[2, 2], -1., 1., 3)],
        )],
        OpKind::Reverse => {
            vec![Case::op("reverse", Reverse { axes: smallvec![1] }, vec![random(&[2, 3], -1., 1., 1)])]
        }
        OpKind::Reduce => ReduceOp::ALL.iter().flat_map(|&op| reduce(op)).collect(),
        OpKind::ArgReduce => [true, false]
            .into_iter()
            .map(|max| {
                Case::op(format!("arg_{max}"), ArgReduce::new(max, 1), vec![random(&[2, 4], -1., 1., 1)]).rough()
            })
            .collect(),
        OpKind::ReduceWindow => ReduceOp::ALL.iter().flat_map(|&op| windows::folds(op)).collect(),
        OpKind::Dot => dots(),
        OpKind::Convolution => windows::convolutions(),
        OpKind::Attention => attention::attentions(),
        OpKind::AttentionTangent => attention::tangents(),
        OpKind::AttentionGrad => attention::gradients(),
        OpKind::Gather => gathers(),
        OpKind::Scatter => Combine::ALL.into_iter().flat_map(scatters).collect(),
        OpKind::RandomBits => {
            let key = Array::from([7u32, 9]);
            vec![Case::new("random_bits", vec![key, random(&[4], -1., 1., 1)], |b, v| {
                let bits = b.op(RandomBits { dtype: DType::U32, shape: dims(&[4]) }.into(), &[v[0]]).unwrap();
                let f = b.convert(bits, DType::F64).unwrap();
                let f = b.scale(f, 2f64.powi(-32)).unwrap();
                vec![bits, b.mul(f, v[1]).unwrap()]
            })]
        }
        OpKind::Call => calls(),
        OpKind::Case => control::choices(),
        OpKind::While => control::loops_on_conditions(),
        OpKind::Scan => control::scans(),
        OpKind::Extern => vec![Case::op("extern", cube(), vec![random(&[3], 0.5, 1.5, 1)])],
    }
}

pub(crate) fn dims(sizes: &[i64]) -> SmallVec<[Dim; 4]> {
    sizes.iter().map(|&n| Dim::from(n)).collect()
}

/// The operation on values inside its domain, away from kinks; none where it takes no floats.
fn unary(op: UnaryOp) -> Option<Case> {
    let (low, high, smooth) = match op {
        UnaryOp::Not => return None,
        UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round => {
            (0.1, 0.4, false)
        }
        UnaryOp::Sqrt | UnaryOp::Rsqrt | UnaryOp::Cbrt | UnaryOp::Log | UnaryOp::Log2 | UnaryOp::Log1p => {
            (0.5, 2.0, true)
        }
        UnaryOp::Acosh => (1.5, 3.0, true),
        UnaryOp::Asin | UnaryOp::Acos | UnaryOp::Atanh => (-0.7, 0.7, true),
        UnaryOp::Neg
        | UnaryOp::Exp
        | UnaryOp::Exp2
        | UnaryOp::Expm1
        | UnaryOp::Sin
        | UnaryOp::Cos
        | UnaryOp::Tan
        | UnaryOp::Atan
        | UnaryOp::Sinh
        | UnaryOp::Cosh
        | UnaryOp::Tanh
        | UnaryOp::Asinh
        | UnaryOp::Logistic
        | UnaryOp::Erf
        | UnaryOp::Erfc => (-1.2, 1.2, true),
    };
    let mut case = Case::op(format!("{op:?}"), op, vec![random(&[5], low, high, 3)]);
    case.smooth = smooth;
    Some(case)
}

fn binary(op: BinaryOp) -> Vec<Case> {
    let case =
        |low, high| Case::op(format!("{op:?}"), op, vec![random(&[5], low, high, 4), random(&[5], low, high, 5)]);
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => vec![case(-1.5, 1.5)],
        BinaryOp::Div | BinaryOp::Pow | BinaryOp::Atan2 => vec![case(0.5, 2.0)],
        BinaryOp::Max | BinaryOp::Min | BinaryOp::Rem => vec![case(0.5, 2.0).rough()],
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => Vec::new(),
    }
}

fn broadcast(name: &str, from: &[usize], to: &[i64], axes: &[usize]) -> Case {
    Case::op(name, Broadcast { shape: dims(to), axes: axes.into() }, vec![random(from, -1., 1., 1)])
}

fn pad(name: &str, low: &[i64], high: &[i64], interior: &[usize]) -> Case {
    let op = Pad { low: dims(low), high: dims(high), interior: interior.into() };
    Case::op(name, op, vec![random(&[2, 3], -1., 1., 1), random(&[], -1., 1., 2)])
}

fn reduce(op: ReduceOp) -> Vec<Case> {
    let axes: [&[usize]; 3] = [&[1], &[0, 2], &[]];
    let of = |axes: &[usize]| {
        let op = Reduce { op, axes: axes.into() };
        Case::op(format!("{op:?}"), op, vec![random(&[2, 3, 2], 0.5, 1.5, 6)])
    };
    match op {
        ReduceOp::Sum => axes.into_iter().map(of).collect(),
        ReduceOp::Prod => {
            let mut all: Vec<Case> = axes.into_iter().map(of).collect();
            let zeros = Array::from([[0.0, 2.0, 3.0], [0.0, 0.0, 5.0]]);
            all.push(Case::op("prod_zeros", Reduce { op, axes: smallvec![1] }, vec![zeros]));
            all
        }
        ReduceOp::Max | ReduceOp::Min => axes.into_iter().map(|a| of(a).rough()).collect(),
        ReduceOp::Any | ReduceOp::All => vec![
            Case::new(format!("{op:?}"), vec![random(&[2, 3], -1., 1., 1)], |b, v| {
                let p = b.compare_to(CompareOp::Gt, v[0], 0.0).unwrap();
                vec![b.reduce(op, p, &[1]).unwrap(), v[0]]
            })
            .rough(),
        ],
    }
}

fn dots() -> Vec<Case> {
    let case = |name: &str, x: &[usize], y: &[usize], lb: &[usize], rb: &[usize], lc: &[usize], rc: &[usize]| {
        let op =
            DotDims { lhs_batch: lb.into(), rhs_batch: rb.into(), lhs_contract: lc.into(), rhs_contract: rc.into() };
        Case::op(name, op, vec![random(x, -1., 1., 7), random(y, -1., 1., 8)])
    };
    vec![
        case("matmul", &[2, 3], &[3, 4], &[], &[], &[1], &[0]),
        case("dot_vectors", &[3], &[3], &[], &[], &[0], &[0]),
        case("dot_outer", &[2], &[3], &[], &[], &[], &[]),
        case("dot_batch", &[2, 3, 4], &[4, 2, 5], &[0], &[1], &[2], &[0]),
        case("dot_two_contracted", &[2, 3, 4, 2], &[4, 2, 3, 3], &[3], &[1], &[1, 2], &[2, 0]),
    ]
}

fn gathers() -> Vec<Case> {
    // Rows of a table, one of them twice and one outside.
    let rows = |mode| Gather {
        offset_dims: smallvec![1],
        collapsed_slice_dims: smallvec![0],
        operand_batching_dims: smallvec![],
        start_indices_batching_dims: smallvec![],
        start_index_map: smallvec![0],
        slice_sizes: dims(&[1, 3]),
        mode,
    };
    let at = Array::new(&[4, 1], vec![2i64, 0, 2, 9]).unwrap();
    let take = |mode: OutOfRange| {
        Case::op(format!("gather_{}", mode.name()), rows(mode), vec![random(&[4, 3], -1., 1., 9), at.clone()])
    };
    // One element of each row.
    let along = Gather {
        offset_dims: smallvec![],
        collapsed_slice_dims: smallvec![1],
        operand_batching_dims: smallvec![0],
        start_indices_batching_dims: smallvec![0],
        start_index_map: smallvec![1],
        slice_sizes: dims(&[1, 1]),
        mode: OutOfRange::Zero,
    };
    let picks = Array::new(&[2, 3, 1], vec![0i64, 2, 2, 1, 0, 5]).unwrap();
    let mut all: Vec<Case> = OutOfRange::ALL.into_iter().map(take).collect();
    all.push(Case::op("gather_along", along, vec![random(&[2, 3], -1., 1., 10), picks]));
    all
}

fn scatters(combine: Combine) -> Vec<Case> {
    let op = |mode| Scatter {
        update_window_dims: smallvec![1],
        inserted_window_dims: smallvec![0],
        input_batching_dims: smallvec![],
        scatter_indices_batching_dims: smallvec![],
        scatter_dims_to_operand_dims: smallvec![0],
        mode,
        combine,
    };
    let at = Array::new(&[3, 1], vec![2i64, 0, 2]).unwrap();
    let mut case = |mode: OutOfRange| {
        let args = vec![random(&[4, 2], 0.5, 1.5, 11), at.clone(), random(&[3, 2], 0.5, 1.5, 12)];
        let mut case = Case::op(format!("scatter_{}_{}", combine.name(), mode.name()), op(mode), args);
        match combine {
            Combine::Replace | Combine::Add => {}
            // It has no derivative in the updates.
            Combine::Mul => case.wrt = vec![0],
            Combine::Min | Combine::Max => case.smooth = false,
        }
        case
    };
    OutOfRange::ALL.into_iter().map(&mut case).collect()
}

/// `softmax` over the last dim, as a composite with or without a derivative of its own.
pub(crate) fn softmax(shape: &[usize], own: bool) -> Call {
    let ty = Type::new(DType::F64, shape.iter().copied());
    let last = shape.len() - 1;
    let body = build(std::slice::from_ref(&ty), |b, v| {
        let m = b.reduce(ReduceOp::Max, v[0], &[last]).unwrap();
        let m = b.broadcast_reduced(m, &ty.shape, &[last]).unwrap();
        let d = b.sub(v[0], m).unwrap();
        let e = b.unary(UnaryOp::Exp, d).unwrap();
        let s = b.sum(e, &[last]).unwrap();
        let s = b.broadcast_reduced(s, &ty.shape, &[last]).unwrap();
        vec![b.div(e, s).unwrap()]
    })
    .named("softmax");
    let mut call = Call::new("softmax", Arc::new(body));
    if !own {
        return call;
    }
    let jvp = build(&[ty.clone(), ty.clone()], |b, v| {
        let y = b.op(call.clone().into(), &[v[0]]).unwrap();
        // y * (t - sum(y * t))
        let yt = b.mul(y, v[1]).unwrap();
        let s = b.sum(yt, &[last]).unwrap();
        let s = b.broadcast_reduced(s, &ty.shape, &[last]).unwrap();
        let d = b.sub(v[1], s).unwrap();
        vec![y, b.mul(y, d).unwrap()]
    });
    call.jvp = Some(Arc::new(jvp.named("softmax.jvp")));
    call
}

/// `(x * y, sin(x), trunc(y) as i64)`: several results, one of which does not vary.
pub(crate) fn several() -> Call {
    let ty = build::f64s(&[3]);
    let body = build(&[ty.clone(), ty], |b, v| {
        let p = b.mul(v[0], v[1]).unwrap();
        let s = b.unary(UnaryOp::Sin, v[0]).unwrap();
        vec![p, s, b.convert(v[1], DType::I64).unwrap()]
    });
    Call::new("several", Arc::new(body.named("several")))
}

/// The identity, as a value with a name that a checkpoint can keep.
pub(crate) fn named(name: &str, shape: &[usize]) -> Call {
    let body = build(&[build::f64s(shape)], |_, v| v.to_vec());
    let mut call = Call::new("named", Arc::new(body.named("named")));
    let attr = lehr_ir::attrs::Attr::Str(name.to_owned());
    call.attrs = lehr_ir::attrs::Attrs::new().with(lehr_passes::derivative::CHECKPOINT_NAME, attr);
    call
}

fn calls() -> Vec<Case> {
    let x = || random(&[2, 3], -1., 1., 13);
    let of_call = |name: &str, call: Call| Case::op(name, call, vec![x()]);
    let several_case = Case::op("call_several", several(), vec![random(&[3], -1., 1., 14), random(&[3], -1., 1., 15)]);
    let twice = Case::new("call_twice", vec![x()], |b, v| {
        let call = softmax(&[2, 3], false);
        let y = b.op(call.clone().into(), &[v[0]]).unwrap();
        let z = b.op(call.into(), &[y]).unwrap();
        vec![b.mul(y, z).unwrap()]
    });
    let nested = {
        let inner = softmax(&[2, 3], true);
        let body = build(&[build::f64s(&[2, 3])], |b, v| {
            let y = b.op(inner.into(), &[v[0]]).unwrap();
            let l = b.unary(UnaryOp::Log, y).unwrap();
            vec![b.mul(l, v[0]).unwrap()]
        });
        of_call("call_nested", Call::new("entropy", Arc::new(body.named("entropy"))))
    };
    let mut checkpointed = softmax(&[2, 3], false);
    checkpointed.attrs = lehr_ir::attrs::Attrs::new().with_name(lehr_passes::derivative::CHECKPOINT, "nothing");
    let policy = |name: &str, attr: lehr_ir::attrs::Attr| {
        let body = build(&[build::f64s(&[2, 3]), build::f64s(&[3, 3])], |b, v| {
            let h = b.op(DotDims::matmul(0).into(), v).unwrap();
            let y = b.op(named("h", &[2, 3]).into(), &[h]).unwrap();
            vec![b.unary(UnaryOp::Sin, y).unwrap(), b.op(softmax(&[2, 3], false).into(), &[h]).unwrap()]
        });
        let mut call = Call::new("kept", Arc::new(body.named("kept")));
        call.attrs = lehr_ir::attrs::Attrs::new().with(lehr_passes::derivative::CHECKPOINT, attr);
        Case::op(name, call, vec![x(), random(&[3, 3], -1., 1., 16)])
    };
    vec![
        policy("call_checkpoint_dots", lehr_ir::attrs::Attr::Name("dots".to_owned())),
        policy("call_checkpoint_named", lehr_ir::attrs::Attr::Str("g,h".to_owned())),
        of_call("call", softmax(&[2, 3], false)),
        of_call("call_own_rule", softmax(&[2, 3], true)),
        of_call("call_checkpoint", checkpointed),
        several_case,
        twice,
        nested,
    ]
}

/// `x³`, by an operation of another crate.
pub(crate) fn cube() -> Extern {
    Extern(Arc::new(Cube))
}

#[derive(Debug)]
struct Cube;

impl ExternOp for Cube {
    fn name(&self) -> &str {
        "test.cube"
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        Ok(smallvec![operands[0].clone()])
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let cubes = operands[0].as_slice::<f64>().unwrap().iter().map(|x| x * x * x);
        Ok(smallvec![Array::new(operands[0].shape(), cubes.collect::<Vec<f64>>())?])
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok(smallvec![None]) };
        let sq = b.mul(at.operands[0], at.operands[0])?;
        let slope = b.scale(sq, 3.0)?;
        Ok(smallvec![Some(b.mul(t, slope)?)])
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        Ok(smallvec![b.op(cube().into(), operands)?])
    }
}

/// An operation of another crate without any rule.
#[derive(Debug)]
pub(crate) struct Opaque;

impl ExternOp for Opaque {
    fn name(&self) -> &str {
        "test.opaque"
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        Ok(smallvec![operands[0].clone()])
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        Ok(smallvec![operands[0].clone()])
    }
}

/// A scalar of a literal.
pub(crate) fn scalar(x: f64) -> Array {
    Array::from_literal(Literal::from(x))
}
