//! The operations of the graph: a closed set of primitives, each with its whole story in one file.
//!
//! A story is an implementation of [`Operation`]: attributes, shape rule, reference semantics, linearisation, transpose,
//! batching rule and lowering. Elementwise operations are rows of a table ([`unary`], [`binary`]).
//! The set is closed under differentiation and batching: rules emit only primitives of the set.
//! There is one open variant, [`Op::Extern`], by which another crate adds an operation.
//!
//! [`Op`] is made by one flat list; a story that is missing, or a test table without a row, does not compile.

use std::fmt;

use smallvec::SmallVec;

use crate::array::Array;
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::error::{OpError, Rule};
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Region, Value};
use crate::kernel::Var;
use crate::loc::Loc;
use crate::ty::Type;

pub mod attention;
pub mod attention_grad;
pub mod attention_tangent;
pub mod binary;
pub mod broadcast;
pub mod call;
pub mod case;
pub mod compare;
pub mod concat;
pub mod constant;
pub mod convert;
pub mod convolution;
pub mod dot;
pub mod extern_op;
pub mod gather;
pub mod iota;
pub mod lower;
pub mod pad;
pub mod random;
pub mod reduce;
pub mod reduce_window;
pub(crate) mod region;
pub mod reshape;
pub mod reverse;
pub mod scan;
pub mod scatter;
pub mod select;
pub mod slice;
pub mod transpose;
pub mod unary;
pub mod while_loop;
pub mod window;

pub use attention::{Attention, Empty, Scores};
pub use attention_grad::AttentionGrad;
pub use attention_tangent::AttentionTangent;
pub use binary::BinaryOp;
pub use broadcast::Broadcast;
pub use call::{CAPTURED, Call, Vjp};
pub use case::Case;
pub use compare::CompareOp;
pub use concat::Concat;
pub use constant::Constant;
pub use convert::Convert;
pub use convolution::Convolution;
pub use dot::DotDims;
pub use extern_op::{Extern, ExternOp};
pub use gather::{Gather, OutOfRange};
pub use iota::Iota;
pub use lower::{Lowering, MapEmitter};
pub use pad::Pad;
pub use random::RandomBits;
pub use reduce::{ArgReduce, Reduce, ReduceOp};
pub use reduce_window::ReduceWindow;
pub use reshape::Reshape;
pub use reverse::Reverse;
pub use scan::Scan;
pub use scatter::{Combine, Scatter};
pub use select::Select;
pub use slice::Slice;
pub use transpose::Transpose;
pub use unary::UnaryOp;
pub use while_loop::While;
pub use window::{Window, Windows};

/// The types of an operation's results.
pub type Types = SmallVec<[Type; 1]>;
/// A value for each of several things, where `None` is a symbolic zero.
pub type Partials = SmallVec<[Option<Value>; 3]>;
/// The arrays an evaluation gives.
pub type Arrays = SmallVec<[Array; 1]>;

/// How many operands an operation takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arity {
    /// So many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
}

/// The operands and results that a derivative rule works on, in the builder's graph.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The operands.
    pub operands: &'a [Value],
    /// The results. A transpose rule of a linear operation has none.
    pub results: &'a [Value],
}

/// Why a derivative or batching rule gives no result.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The operation has no such rule; the reason, in one clause.
    #[error("{0}")]
    Missing(String),
    /// An operation that the rule emits was refused.
    #[error(transparent)]
    Op(#[from] OpError),
}

/// The whole story of an operation.
pub trait Operation {
    /// The name in text.
    fn name(&self) -> &str;

    /// Parameters in text and JSON, in a fixed order.
    fn attrs(&self) -> Attrs;

    /// Number of operands.
    fn arity(&self) -> Arity;

    /// The types of the results, or the rule that the operands break.
    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule>;

    /// Reference semantics on host arrays.
    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError>;

    /// The results' tangents from the operands' tangents, by operations linear in them.
    ///
    /// A result that does not vary, or is not of an inexact dtype, has the tangent `None`.
    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError>;

    /// The cotangents of the operands marked `linear` from the cotangents of the results.
    ///
    /// Only operations that [`Operation::linearize`] emits are transposed, and only in operands they are linear in.
    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError>;

    /// The operation over a batch of operands: `batched[i]` says that operand `i` has a leading batch dim of size `size`.
    ///
    /// All results come with a leading batch dim.
    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError>;

    /// Which kind of step it becomes.
    fn lowering(&self) -> Lowering<'_>;

    /// Emits the value of one element of the (only) result, for operations that lower to [`Lowering::Map`].
    ///
    /// The default serves operations that are never asked: their lowering is of another kind.
    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let _ = index;
        e.unsupported(self.name())
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $Variant:ident($Story:ty),)*) => {
        /// An operation of the graph.
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Op {
            $($(#[$doc])* $Variant($Story),)*
        }

        /// The variants of [`Op`], for tables with a row for each.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum OpKind {
            $($(#[$doc])* $Variant,)*
        }

        impl OpKind {
            /// Every kind, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$Variant,)*];
        }

        impl Op {
            /// The operation's story.
            pub fn story(&self) -> &dyn Operation {
                match self { $(Self::$Variant(op) => op,)* }
            }

            /// Its variant.
            pub fn kind(&self) -> OpKind {
                match self { $(Self::$Variant(_) => OpKind::$Variant,)* }
            }
        }

        $(impl From<$Story> for Op {
            fn from(op: $Story) -> Self {
                Self::$Variant(op)
            }
        })*
    };
}

operations! {
    /// A literal array.
    Constant(Constant),
    /// Positions along an axis.
    Iota(Iota),
    /// An elementwise function of one operand.
    Unary(UnaryOp),
    /// An elementwise function of two operands.
    Binary(BinaryOp),
    /// An elementwise comparison.
    Compare(CompareOp),
    /// An elementwise choice.
    Select(Select),
    /// A change of dtype.
    Convert(Convert),
    /// Repetition along new or size-1 dims.
    Broadcast(Broadcast),
    /// The same elements in another shape.
    Reshape(Reshape),
    /// A permutation of dims.
    Transpose(Transpose),
    /// A strided window.
    Slice(Slice),
    /// Padding at edges and between elements.
    Pad(Pad),
    /// Joining along an axis.
    Concat(Concat),
    /// Reversal along axes.
    Reverse(Reverse),
    /// A fold over axes.
    Reduce(Reduce),
    /// The extreme value along an axis and its position.
    ArgReduce(ArgReduce),
    /// A fold of each window.
    ReduceWindow(ReduceWindow),
    /// The general dot product.
    Dot(DotDims),
    /// Sums of products over windows.
    Convolution(Convolution),
    /// Means of values, weighted by the softmax of scores.
    Attention(Attention),
    /// The derivative of an attention, linear in tangents.
    AttentionTangent(AttentionTangent),
    /// The cotangents of an attention's operands.
    AttentionGrad(AttentionGrad),
    /// The general gather.
    Gather(Gather),
    /// The general scatter.
    Scatter(Scatter),
    /// Counter-based random bits.
    RandomBits(RandomBits),
    /// A graph applied to operands.
    Call(Call),
    /// One of several graphs, chosen by an index.
    Case(Case),
    /// A graph repeated while another holds.
    While(While),
    /// A graph applied to rows in sequence.
    Scan(Scan),
    /// An operation of another crate.
    Extern(Extern),
}

impl Op {
    /// The name in text.
    pub fn name(&self) -> &str {
        self.story().name()
    }

    /// The graphs that it holds, in order.
    pub fn regions(&self) -> SmallVec<[&Region; 2]> {
        match self {
            Self::Call(c) => c.regions().collect(),
            Self::Case(c) => c.branches.iter().collect(),
            Self::While(w) => SmallVec::from_iter([&w.cond, &w.body]),
            Self::Scan(s) => SmallVec::from_iter([&s.body]),
            Self::Constant(_)
            | Self::Iota(_)
            | Self::Unary(_)
            | Self::Binary(_)
            | Self::Compare(_)
            | Self::Select(_)
            | Self::Convert(_)
            | Self::Broadcast(_)
            | Self::Reshape(_)
            | Self::Transpose(_)
            | Self::Slice(_)
            | Self::Pad(_)
            | Self::Concat(_)
            | Self::Reverse(_)
            | Self::Reduce(_)
            | Self::ArgReduce(_)
            | Self::ReduceWindow(_)
            | Self::Dot(_)
            | Self::Convolution(_)
            | Self::Attention(_)
            | Self::AttentionTangent(_)
            | Self::AttentionGrad(_)
            | Self::Gather(_)
            | Self::Scatter(_)
            | Self::RandomBits(_)
            | Self::Extern(_) => SmallVec::new(),
        }
    }

    /// The operation with each graph that it holds replaced by what `f` makes of it, in the order of [`Op::regions`].
    #[must_use]
    pub fn map_regions(&self, mut f: impl FnMut(&Region) -> Region) -> Self {
        match self {
            Self::Call(c) => {
                let Ok(call) = c.map_regions::<std::convert::Infallible>(&mut |r| Ok(f(r)));
                call.into()
            }
            Self::Case(c) => Case { branches: c.branches.iter().map(f).collect() }.into(),
            Self::While(w) => While { cond: f(&w.cond), body: f(&w.body), consts: w.consts }.into(),
            Self::Scan(s) => Scan { body: f(&s.body), length: s.length.clone(), ..*s }.into(),
            other => other.clone(),
        }
    }

    /// The operation of a name and attributes, as text and JSON give them.
    pub fn from_attrs(name: &str, attrs: Attrs) -> Result<Self, AttrError> {
        let mut r = Reader::new(attrs);
        let op = Self::read(name, &mut r)?;
        r.finish()?;
        Ok(op)
    }

    fn read(name: &str, r: &mut Reader) -> Result<Self, AttrError> {
        if let Some(op) = UnaryOp::from_name(name) {
            return Ok(op.into());
        }
        if let Some(op) = BinaryOp::from_name(name) {
            return Ok(op.into());
        }
        if let Some(op) = CompareOp::from_name(name) {
            return Ok(op.into());
        }
        Ok(match name {
            "const" => Constant { value: r.array("value")? }.into(),
            "iota" => Iota::read(r)?.into(),
            "select" => Select.into(),
            "convert" => Convert { dtype: r.dtype("dtype")? }.into(),
            "broadcast" => Broadcast { shape: r.dims("shape")?.into(), axes: r.axes("axes")? }.into(),
            "reshape" => Reshape { shape: r.dims("shape")?.into() }.into(),
            "transpose" => Transpose { perm: r.axes("perm")? }.into(),
            "slice" => Slice::read(r)?.into(),
            "pad" => Pad::read(r)?.into(),
            "concat" => Concat { axis: r.axis("axis")? }.into(),
            "reverse" => Reverse { axes: r.axes("axes")? }.into(),
            "reduce" => Reduce::read(r)?.into(),
            "arg_reduce" => ArgReduce::read(r)?.into(),
            "reduce_window" => ReduceWindow::read(r)?.into(),
            "dot" => DotDims::read(r)?.into(),
            "convolution" => Convolution::read(r)?.into(),
            "attention" => Attention::read(r)?.into(),
            "attention_tangent" => AttentionTangent::read(r)?.into(),
            "attention_grad" => AttentionGrad::read(r)?.into(),
            "gather" => Gather::read(r)?.into(),
            "scatter" => Scatter::read(r)?.into(),
            "random_bits" => RandomBits::read(r)?.into(),
            "call" => Call::read(r)?.into(),
            "case" => Case::read(r)?.into(),
            "while" => While::read(r)?.into(),
            "scan" => Scan::read(r)?.into(),
            _ => return Err(AttrError::UnknownOp(name.to_owned())),
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The result types of an operation on operands of these types, or the error a user sees.
pub fn infer(op: &Op, operands: &[&Type], facts: &Facts, loc: &Loc) -> Result<Types, OpError> {
    let story = op.story();
    let n = operands.len();
    let result = match story.arity() {
        Arity::Exactly(want) if n != want => {
            Err(Rule::new(format!("it takes {want} operands, not {n}"), "pass as many operands as it takes"))
        }
        Arity::AtLeast(want) if n < want => {
            Err(Rule::new(format!("it takes {want} operands or more, not {n}"), "pass as many operands as it takes"))
        }
        Arity::Exactly(_) | Arity::AtLeast(_) => story.infer(operands, facts),
    };
    result.map_err(|rule| OpError::new(story.name(), operands.iter().map(|&t| t.clone()).collect(), rule, loc.clone()))
}

/// One result type.
pub(crate) fn one(ty: Type) -> Result<Types, Rule> {
    Ok(SmallVec::from_iter([ty]))
}

/// One tangent or cotangent.
pub(crate) fn partial(v: Option<Value>) -> Partials {
    SmallVec::from_iter([v])
}

/// Refuses an axis outside the rank.
pub(crate) fn check_axis(axis: usize, rank: usize) -> Result<(), Rule> {
    if axis < rank {
        return Ok(());
    }
    Err(Rule::new(
        format!("axis {axis} is outside the {rank} dims of the operand"),
        "name an axis between 0 and the rank minus 1",
    ))
}

/// Refuses axes that repeat or lie outside the rank.
pub(crate) fn check_axes(axes: &[usize], rank: usize) -> Result<(), Rule> {
    for (i, &a) in axes.iter().enumerate() {
        check_axis(a, rank)?;
        if axes[..i].contains(&a) {
            return Err(Rule::new(format!("axis {a} is named twice"), "name each axis once"));
        }
    }
    Ok(())
}

/// Refuses two dims that are not provably equal.
pub(crate) fn check_equal(what: &str, a: &Dim, b: &Dim, facts: &Facts) -> Result<(), Rule> {
    match facts.decide_eq(a, b) {
        Some(true) => Ok(()),
        Some(false) => Err(Rule::new(
            format!("{what} {a} and {b} must be equal"),
            "transpose, reshape, slice or broadcast an operand so that they agree",
        )),
        None => Err(Rule::new(
            format!("{what} {a} and {b} must be equal, which cannot be decided"),
            format!("state it: assume(\"{a} == {b}\")"),
        )),
    }
}

/// Refuses operands whose types differ in dtype or shape.
pub(crate) fn check_same(operands: &[&Type], facts: &Facts) -> Result<(), Rule> {
    let first = operands[0];
    for (i, ty) in operands.iter().enumerate().skip(1) {
        if ty.dtype != first.dtype {
            return Err(Rule::new(
                format!(
                    "operands must have one dtype, and operand {i} is {} where operand 0 is {}",
                    ty.dtype, first.dtype
                ),
                "convert an operand",
            ));
        }
        check_same_shape(first, ty, facts)?;
    }
    Ok(())
}

/// Refuses an operand of another type than it must have.
pub(crate) fn check_like(i: usize, want: &Type, got: &Type, facts: &Facts) -> Result<(), Rule> {
    let same = want.dtype == got.dtype && check_same_shape(want, got, facts).is_ok();
    if same {
        Ok(())
    } else {
        Err(Rule::new(format!("operand {i} must be {want}, and is {got}"), "pass one of that type"))
    }
}

/// Refuses two types of different shapes.
pub(crate) fn check_same_shape(a: &Type, b: &Type, facts: &Facts) -> Result<(), Rule> {
    if a.shape == b.shape {
        return Ok(());
    }
    if a.rank() != b.rank() {
        return Err(Rule::new(
            format!("operands must have one shape, and their ranks are {} and {}", a.rank(), b.rank()),
            "reshape or broadcast an operand",
        ));
    }
    a.shape.iter().zip(&b.shape).try_for_each(|(x, y)| check_equal("dims", x, y, facts))
}

/// `operands` with each unbatched one repeated along a new leading dim, for rules that need all of them batched.
pub(crate) fn batch_all(
    b: &mut Builder,
    operands: &[Value],
    batched: &[bool],
    size: &Dim,
) -> Result<SmallVec<[Value; 3]>, RuleError> {
    let mut out = SmallVec::new();
    for (&v, &is) in operands.iter().zip(batched) {
        out.push(if is { v } else { add_batch(b, v, size)? });
    }
    Ok(out)
}

/// `v` repeated along a new leading dim.
pub(crate) fn add_batch(b: &mut Builder, v: Value, size: &Dim) -> Result<Value, RuleError> {
    let ty = b.ty(v).clone();
    let shape: Vec<Dim> = std::iter::once(size.clone()).chain(ty.shape.iter().cloned()).collect();
    let axes: Vec<usize> = (1..=ty.rank()).collect();
    Ok(b.broadcast(v, &shape, &axes)?)
}

/// The batching of an operation that acts on each element alone.
pub(crate) fn batch_elementwise(
    op: Op,
    b: &mut Builder,
    operands: &[Value],
    batched: &[bool],
    size: &Dim,
) -> Result<SmallVec<[Value; 1]>, RuleError> {
    let all = batch_all(b, operands, batched, size)?;
    let id = b.add_node(op, &all)?;
    Ok(b.graph().node(id).results().collect())
}

/// The sum of two optional values.
pub(crate) fn add_partials(b: &mut Builder, x: Option<Value>, y: Option<Value>) -> Result<Option<Value>, OpError> {
    Ok(match (x, y) {
        (Some(x), Some(y)) => Some(b.add(x, y)?),
        (x, y) => x.or(y),
    })
}

/// The refusal of a transpose in an operand that the operation is not linear in.
pub(crate) fn not_linear(op: &str) -> RuleError {
    RuleError::Missing(format!("`{op}` is not linear in this operand, so it has no transpose"))
}
