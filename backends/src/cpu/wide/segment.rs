//! Straight-line code before registers: a list of operations on values, each defined once.

use std::collections::BTreeMap;

use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Combiner, Guard, Memory, ScalarOp, Var};
use smallvec::SmallVec;

use super::Width;

/// A vector value of the current segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct V(pub(super) u32);

/// An operation of two vectors that is one instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bin {
    Add,
    Sub,
    Mul,
    Div,
    /// The second operand where either is NaN or both are zero.
    Max,
    /// As [`Bin::Max`].
    Min,
    /// The first times two to the power of the second, rounded once. AVX-512 only.
    Scale,
    IAdd,
    ISub,
    IMul,
    MaxS,
    MaxU,
    MinS,
    MinU,
    And,
    Or,
    Xor,
    /// Not the first, and the second.
    AndNot,
    Shl,
    ShrU,
    ShrS,
}

/// An operation of one vector that is one instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Un {
    Sqrt,
    Round,
    Floor,
    Ceil,
    Trunc,
    /// f32 to i32 by truncation; the least i32 where there is none.
    ToInt,
    /// i32 to f32.
    ToFloat,
    IAbs,
    Shl(u8),
    ShrS(u8),
}

/// How elements compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Either is NaN; f32 only.
    Unordered,
}

/// What elements are, for comparisons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Element {
    F32,
    Signed,
    Unsigned,
}

/// How an access goes through memory from lane to lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// One element for all lanes.
    Same,
    /// Neighbours.
    Unit,
    /// Anything else, lane by lane.
    Each,
}

/// A load or store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access<'k> {
    pub(super) memory: Memory,
    pub(super) dtype: DType,
    pub(super) index: &'k Dim,
    pub(super) guard: &'k Guard,
    pub(super) step: Step,
    /// Whether the value differs from lane to lane.
    pub(super) varying: bool,
}

/// An element of an array of partial results: `offset + ((counter + plus) & mask) << shift` in the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) offset: i32,
    /// The place of a counter.
    pub(super) counter: i32,
    /// The place of an addend.
    pub(super) plus: Option<i32>,
    pub(super) mask: i64,
    pub(super) shift: i32,
}

/// A 64-bit integer in the frame, one for all lanes or one each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wide {
    pub(super) offset: i32,
    pub(super) varying: bool,
}

/// Where an operation on 64-bit integers finds an operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Wide(Wide),
    /// This argument of the node, whose elements are of a dtype.
    Value(usize, DType),
}

/// Where the second index of an argument reduction is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Index {
    Wide(Wide),
    At(At),
}

/// What runs lane by lane: operands are in the frame, and so is the result.
#[derive(Clone, Debug)]
pub(super) enum Each<'k> {
    /// A load with a guard (the argument is the value where it does not hold), or without vector form.
    Load(Access<'k>),
    /// A store without vector form.
    Store(Access<'k>),
    /// The quotient or remainder of 32-bit integers, or the remainder of f32.
    Divide { op: ScalarOp, dtype: DType },
    /// An index expression.
    Index { dim: &'k Dim, into: Wide },
    /// An operation with a 64-bit operand or result; without `into` the result is a vector.
    Wide { op: ScalarOp, dtype: DType, operands: SmallVec<[Operand; 3]>, into: Option<Wide> },
    /// Whether the first of two candidates wins, given where it certainly does and where the lesser index decides;
    /// where it does not, its index becomes the second's.
    Pick { first: At, second: Index },
}

impl Each<'_> {
    /// What it is, as a reason for slow code.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Load(access) if access.guard.is_always() => "loads from places that are no neighbours",
            Self::Load(_) => "loads under a condition",
            Self::Store(_) => "stores to places that are no neighbours",
            Self::Divide { .. } => "division of integers",
            Self::Index { .. } => "index values that differ from lane to lane",
            Self::Wide { .. } => "64-bit integers",
            Self::Pick { .. } => "a reduction to an index",
        }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) enum Op<'k> {
    /// These bits in every element.
    Const(u32),
    /// A vector of the frame, which does not change during the segment.
    Home(i32),
    /// An element of the frame, which does not change during the segment, in every element.
    Splat(i32),
    Bin(Bin),
    Un(Un),
    /// All bits set where the comparison holds.
    Compare(Order, Element),
    /// `a·b + c`.
    Fma,
    /// Where the first is set the second, else the third.
    Select,
    /// Where the first two compare so the third, else the fourth.
    Choose(Order, Element),
    /// The elements of a vector moved down by so many.
    Rotate(u8),
    /// The first element in every element.
    First,
    /// A load without guard.
    Load(Access<'k>),
    /// A store.
    Store(Access<'k>),
    /// A vector of partial results.
    Partial(At),
    /// Writes a vector of partial results; only the active lanes if so.
    KeepPartial(At, bool),
    /// Writes a vector to the frame.
    Save(i32),
    /// A loop over lanes, with whether its result differs from lane to lane.
    Each(Each<'k>, bool),
}

/// An operation with its operands.
#[derive(Clone, Debug)]
pub(super) struct Node<'k> {
    pub(super) op: Op<'k>,
    pub(super) args: SmallVec<[V; 3]>,
}

/// What has been collected.
pub(super) struct Segment<'k> {
    pub(super) nodes: Vec<Node<'k>>,
    /// The variables that stand in it.
    pub(super) variables: Vec<(Var, V)>,
    constants: BTreeMap<u32, V>,
    homes: BTreeMap<i32, V>,
    /// Whether there is [`Bin::Scale`].
    pub(super) scales: bool,
}

impl<'k> Segment<'k> {
    /// An empty segment.
    pub(super) fn new(width: Width) -> Self {
        Self {
            nodes: Vec::new(),
            variables: Vec::new(),
            constants: BTreeMap::new(),
            homes: BTreeMap::new(),
            scales: width == Width::Avx512,
        }
    }

    pub(super) fn push(&mut self, op: Op<'k>, args: &[V]) -> V {
        self.nodes.push(Node { op, args: SmallVec::from_slice(args) });
        V(self.nodes.len() as u32 - 1)
    }

    /// The constant with these bits, once a segment.
    pub(super) fn constant(&mut self, bits: u32) -> V {
        if let Some(v) = self.constants.get(&bits) {
            return *v;
        }
        let v = self.push(Op::Const(bits), &[]);
        self.constants.insert(bits, v);
        v
    }

    /// A vector of the frame, once a segment.
    pub(super) fn home(&mut self, place: i32) -> V {
        if let Some(v) = self.homes.get(&place) {
            return *v;
        }
        let v = self.push(Op::Home(place), &[]);
        self.homes.insert(place, v);
        v
    }

    pub(super) fn bin(&mut self, op: Bin, a: V, b: V) -> V {
        self.push(Op::Bin(op), &[a, b])
    }

    pub(super) fn un(&mut self, op: Un, a: V) -> V {
        self.push(Op::Un(op), &[a])
    }

    pub(super) fn compare(&mut self, order: Order, element: Element, a: V, b: V) -> V {
        self.push(Op::Compare(order, element), &[a, b])
    }

    pub(super) fn select(&mut self, mask: V, a: V, b: V) -> V {
        self.push(Op::Select, &[mask, a, b])
    }

    pub(super) fn not(&mut self, a: V) -> V {
        let ones = self.constant(u32::MAX);
        self.bin(Bin::Xor, a, ones)
    }
}

/// How a combiner of one value folds.
pub(super) fn combining_op(combiner: Combiner) -> Option<ScalarOp> {
    match combiner {
        Combiner::Sum => Some(ScalarOp::Add),
        Combiner::Prod => Some(ScalarOp::Mul),
        Combiner::Max => Some(ScalarOp::Max),
        Combiner::Min => Some(ScalarOp::Min),
        Combiner::Any => Some(ScalarOp::Or),
        Combiner::All => Some(ScalarOp::And),
        Combiner::ArgMax | Combiner::ArgMin => None,
    }
}
