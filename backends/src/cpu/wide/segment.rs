//! Straight-line code before registers: a list of operations on values, each defined once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Combiner, Guard, Memory, ScalarOp, Var};
use smallvec::SmallVec;

use super::Width;
use super::size::Size;

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
    /// Of 64-bit integers AVX-512 only, as their extremes and arithmetic right shifts are.
    IMul,
    /// The product of the low halves of 64-bit integers.
    MulLow,
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
    /// A float to the signed integer of its size by truncation; the least integer where there is none. Of f64 AVX-512 only.
    ToInt,
    /// f64 to u64 by truncation; all bits set where there is none. AVX-512 only.
    ToUnsigned,
    /// A signed integer to the float of its size. Of i64 AVX-512 only.
    ToFloat,
    /// u64 to f64. AVX-512 only.
    UnsignedToFloat,
    /// i64 to f32. AVX-512 only.
    ToF32,
    /// u64 to f32. AVX-512 only.
    UnsignedToF32,
    IAbs,
    Shl(u8),
    ShrU(u8),
    ShrS(u8),
    /// f32 to f64.
    Promote,
    /// f64 to f32.
    Demote,
    /// i32 to f64.
    ToF64,
    /// f64 to i32 by truncation; the least i32 where there is none.
    ToI32,
    /// Four bytes to eight by the sign bit, as masks are.
    SignExtend,
    ZeroExtend,
    /// The low four bytes of eight.
    Truncate,
    /// f32 rounded to the precision of f16.
    RoundF16,
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
    /// Either is NaN; floats only.
    Unordered,
}

/// What elements are, for comparisons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Element {
    Float(Size),
    Signed(Size),
    Unsigned(Size),
}

impl Element {
    pub(super) const F32: Self = Self::Float(Size::Four);

    pub(super) const fn size(self) -> Size {
        match self {
            Self::Float(size) | Self::Signed(size) | Self::Unsigned(size) => size,
        }
    }

    pub(super) const fn is_float(self) -> bool {
        matches!(self, Self::Float(_))
    }
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
    /// Whether variables of its index and guard are the last operands of its node.
    pub(super) takes_vars: bool,
    /// Whether the guard is known to hold.
    pub(super) granted: bool,
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
    /// An index expression; without `into` the result is a vector.
    Index { dim: &'k Dim, into: Option<Wide> },
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

/// One operation. Its operands and its result are elements of its node's size, unless said.
#[derive(Clone, Debug)]
pub(super) enum Op<'k> {
    /// These bits in every element.
    Const(u64),
    /// A vector of the frame, which does not change during the segment.
    Home(i32),
    /// An element of the frame, which does not change during the segment, in every element.
    Splat(i32),
    Bin(Bin),
    Un(Un),
    /// All bits set where the comparison holds, in a mask of the element's size.
    Compare(Order, Element),
    /// `a·b + c`.
    Fma,
    /// Where the first, a mask of this size, is set the second, else the third.
    Select(Size),
    /// Where the first two compare so the third, else the fourth.
    Choose(Order, Element),
    /// The elements of a vector moved down by so many.
    Rotate(u8),
    /// The first element in every element.
    First,
    /// The vectorised axis, a 64-bit integer in each lane.
    Counter,
    /// An index expression that is the same in all lanes.
    Uniform(Cow<'k, Dim>),
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

/// An operation with its operands and the size of its result's elements.
#[derive(Clone, Debug)]
pub(super) struct Node<'k> {
    pub(super) op: Op<'k>,
    pub(super) size: Size,
    pub(super) args: SmallVec<[V; 3]>,
    /// How many operands come before those that are variables of its indices.
    pub(super) values: u8,
}

impl<'k> Node<'k> {
    pub(super) fn new(op: Op<'k>, size: Size, args: SmallVec<[V; 3]>) -> Self {
        Self { op, size, values: args.len() as u8, args }
    }

    /// The operands that are not variables of its indices.
    pub(super) fn values(&self) -> &[V] {
        &self.args[..usize::from(self.values)]
    }

    /// The variables of its indices with their values, where those are operands.
    pub(super) fn index_vars(&self) -> impl Iterator<Item = (Var, V)> {
        let rest = &self.args[usize::from(self.values)..];
        let vars = if rest.is_empty() { SmallVec::new() } else { self.op.vars() };
        vars.into_iter().zip(rest.iter().copied())
    }
}

impl Op<'_> {
    /// The variables of its indices, each once.
    pub(super) fn vars(&self) -> SmallVec<[Var; 2]> {
        let (index, guard): (&Dim, _) = match self {
            Op::Load(a) | Op::Store(a) | Op::Each(Each::Load(a) | Each::Store(a), _) if a.takes_vars => {
                (a.index, Some(a.guard))
            }
            Op::Uniform(dim) => (dim, None),
            Op::Each(Each::Index { dim, into: None }, _) => (dim, None),
            _ => return SmallVec::new(),
        };
        let mut vars = SmallVec::new();
        for dim in std::iter::once(index).chain(guard.iter().flat_map(|g| &g.0)) {
            for var in dim.symbols().filter_map(|s| Var::from_symbol(&s)) {
                if !vars.contains(&var) {
                    vars.push(var);
                }
            }
        }
        vars
    }
}

/// What has been collected.
pub(super) struct Segment<'k> {
    pub(super) nodes: Vec<Node<'k>>,
    /// The variables that stand in it.
    pub(super) variables: Vec<(Var, V)>,
    constants: BTreeMap<(Size, u64), V>,
    homes: BTreeMap<i32, V>,
    /// Masks in the other size.
    resized: BTreeMap<V, V>,
    pub(super) width: Width,
    /// The size of the kernel's widest elements.
    pub(super) size: Size,
}

impl<'k> Segment<'k> {
    /// An empty segment.
    pub(super) fn new(width: Width, size: Size) -> Self {
        Self {
            nodes: Vec::new(),
            variables: Vec::new(),
            constants: BTreeMap::new(),
            homes: BTreeMap::new(),
            resized: BTreeMap::new(),
            width,
            size,
        }
    }

    pub(super) fn push(&mut self, op: Op<'k>, size: Size, args: &[V]) -> V {
        self.push_node(Node::new(op, size, SmallVec::from_slice(args)))
    }

    pub(super) fn push_node(&mut self, node: Node<'k>) -> V {
        self.nodes.push(node);
        V(self.nodes.len() as u32 - 1)
    }

    /// The size of a value's elements.
    pub(super) fn size_of(&self, v: V) -> Size {
        self.nodes.get(v.0 as usize).map_or(self.size, |n| n.size)
    }

    /// The constant with these bits, once a segment.
    pub(super) fn constant(&mut self, size: Size, bits: u64) -> V {
        if let Some(v) = self.constants.get(&(size, bits)) {
            return *v;
        }
        let v = self.push(Op::Const(bits), size, &[]);
        self.constants.insert((size, bits), v);
        v
    }

    /// A vector of the frame, once a segment.
    pub(super) fn home(&mut self, place: i32, size: Size) -> V {
        if let Some(v) = self.homes.get(&place) {
            return *v;
        }
        let v = self.push(Op::Home(place), size, &[]);
        self.homes.insert(place, v);
        v
    }

    /// An operation of two values of one size.
    pub(super) fn bin(&mut self, op: Bin, a: V, b: V) -> V {
        self.push(Op::Bin(op), self.size_of(a), &[a, b])
    }

    /// An operation whose result is of its operand's size.
    pub(super) fn un(&mut self, op: Un, a: V) -> V {
        self.push(Op::Un(op), self.size_of(a), &[a])
    }

    pub(super) fn compare(&mut self, order: Order, element: Element, a: V, b: V) -> V {
        self.push(Op::Compare(order, element), element.size(), &[a, b])
    }

    /// Where a mask is set `a`, else `b`.
    pub(super) fn select(&mut self, mask: V, a: V, b: V) -> V {
        self.push(Op::Select(self.size_of(mask)), self.size_of(a), &[mask, a, b])
    }

    pub(super) fn not(&mut self, a: V) -> V {
        let size = self.size_of(a);
        let ones = self.constant(size, size.ones());
        self.bin(Bin::Xor, a, ones)
    }

    /// A mask in elements of a size.
    pub(super) fn mask(&mut self, a: V, size: Size) -> V {
        if self.size_of(a) == size {
            return a;
        }
        if let Some(v) = self.resized.get(&a) {
            return *v;
        }
        let v = match self.nodes.get(a.0 as usize).map(|n| &n.op) {
            Some(Op::Const(bits)) => {
                let bits = if *bits == 0 { 0 } else { size.ones() };
                self.constant(size, bits)
            }
            _ => self.push(Op::Un(if size == Size::Eight { Un::SignExtend } else { Un::Truncate }), size, &[a]),
        };
        self.resized.insert(a, v);
        v
    }

    /// Two masks in one size.
    pub(super) fn alike(&mut self, a: V, b: V) -> (V, V) {
        if self.size_of(a) == self.size_of(b) {
            return (a, b);
        }
        (self.mask(a, self.size), self.mask(b, self.size))
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
