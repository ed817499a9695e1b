//! Kernel IR: one loop nest over a straight-line scalar body, the form that all emitters consume.
//!
//! A [`Kernel`] is a loop tree. Axes are parallel, serial, reduce or lane; phases are simply statements that follow one another
//! under a shared outer axis; local tiles carry values from one phase to the next. Map, reduction, softmax, layer norm backward,
//! attention and contraction are shapes of this one structure, not variants of an enum.
//!
//! ```text
//! kernel @softmax(read x: f32[m*n], write y: f32[m*n]) sizes(n, m) {
//!   parallel i in 0..n {
//!     reduce(32) j in 0..m {
//!       %0 = load x[i*m + j]
//!     } -> %1 = max(%0)
//!     reduce(32) j in 0..m {
//!       %2 = load x[i*m + j]
//!       %3 = sub %2, %1
//!       %4 = exp %3
//!       store y[i*m + j], %4
//!     } -> %5 = sum(%4)
//!     lane j in 0..m {
//!       %6 = load y[i*m + j]
//!       %7 = div %6, %5
//!       store y[i*m + j], %7
//!     }
//!   }
//! }
//! ```
//!
//! # Meaning
//! - Index maps are [`Dim`]s over sizes, axes and earlier `i64` variables (spelled `%3`): quasi-affine where no variable occurs.
//!   They are exact: a value that leaves `i64` is an error of the kernel's author, who also answers for what no proof bounds.
//! - A [`Guard`] holds where each of its dims is ≥ 0. A guarded load that does not hold reads nothing and gives `other`;
//!   its index need not have a value then.
//! - `parallel` and `lane` iterations are independent; `serial` iterations run in order.
//! - `reduce(L)`: virtual lane `l` starts at the combiner's identity and takes iterations `l, l+L, l+2L, …` in order;
//!   then, for `w = L/2, L/4, …, 1`, lane `l < w` takes lane `l + w`. So the order of a reduction is a property of the kernel,
//!   never of the vector width or the thread count. `L` is a power of two; `reduce(1)` is a plain left fold.
//! - A variable is visible from its definition to the end of the block that holds it, inner blocks included; a reduction's result is
//!   defined after its loop.
//! - Iterations of a reduce loop are independent but for the fold: what they store, no other iteration of the loop loads.
//! - The fold of a lane is `combine(partial, value)` with the operands in this order, which shows in `max(-0.0, 0.0)`.
//! - Elementary functions are single scalar operations here; [`recipes`] expands them at emission.
//! - Which NaN an operation gives is left open, except that `neg`, `abs`, `bitcast`, `select` and memory keep bits.
//! - Dtypes are real: complex arithmetic is written with its parts.
//!
//! [`parse`] states the grammar and the verifier ([`verify`]) the invariants. [`interpret`] is the reference that emitters are tested against, bit for bit.

use smallvec::SmallVec;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::literal::Literal;
use crate::loc::Loc;

#[doc(hidden)]
pub mod arbitrary;
pub mod cost;
pub mod interpret;
pub mod parse;
pub mod print;
pub mod recipes;
pub mod scalar;
pub mod verify;

pub use cost::{Cost, cost};
pub use scalar::ScalarOp;

/// The name of kernels without one.
const ANONYMOUS: &str = "_";

/// A loop nest over buffers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kernel {
    /// The name dumps print; it takes no part in [`Kernel::canonical_text`].
    pub name: String,
    /// Run-time sizes, each an integer ≥ 0, bound at launch in this order.
    pub sizes: Vec<Symbol>,
    /// The arrays it reads and writes, bound at launch in this order.
    pub buffers: Vec<Buffer>,
    /// Scratch of one iteration of the outermost loop.
    pub tiles: Vec<Tile>,
    /// The dtype of each variable, indexed by [`Var`].
    pub vars: Vec<DType>,
    /// The outermost parallel loop: a launch runs any partition of its iterations on any threads.
    pub body: Loop,
    /// Source lines that went into it, without repeats, for dumps only.
    pub locs: Vec<Loc>,
}

/// An array operand of a kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Buffer {
    /// The name in text; unique among buffers and tiles.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements, over the kernel's sizes.
    pub len: Dim,
    /// What the kernel does with it.
    pub access: Access,
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Access {
    /// Only loads.
    Read,
    /// Stores every element that anyone reads later, and loads only what it has stored itself.
    Write,
    /// Loads what was there before and stores.
    ReadWrite,
}

/// Scratch memory of one iteration of the outermost loop, undefined at its start.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tile {
    /// The name in text; unique among buffers and tiles.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: u32,
}

/// A scalar value, printed `%3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Var(pub u32);

/// A place that loads and stores address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Memory {
    /// Index into [`Kernel::buffers`].
    Buffer(u32),
    /// Index into [`Kernel::tiles`].
    Tile(u32),
}

/// A conjunction of conditions `dim ≥ 0`; the empty guard always holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Guard(pub SmallVec<[Dim; 2]>);

/// One statement of a block.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Stmt {
    /// Defines a variable.
    Let {
        /// The variable defined.
        var: Var,
        /// Its value.
        expr: Expr,
    },
    /// Writes one element where the guard holds.
    Store {
        /// Where to.
        memory: Memory,
        /// Element index.
        index: Dim,
        /// What is written; of the memory's dtype.
        value: Var,
        /// When.
        guard: Guard,
    },
    /// Repeats a block.
    Loop(Loop),
    /// Runs a block where the guard holds.
    If {
        /// When.
        guard: Guard,
        /// What.
        body: Vec<Stmt>,
    },
}

/// The right-hand side of a definition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Expr {
    /// A literal, printed `const 1.5 : f32`.
    Const(Literal),
    /// The value of an index expression as `i64`, printed `index i*4 + j`.
    Index(Dim),
    /// One element, printed `load x[i]`, or `load x[i] if (i - 3) else %2`.
    Load {
        /// Where from.
        memory: Memory,
        /// Element index.
        index: Dim,
        /// When; nothing is read where it does not hold.
        guard: Guard,
        /// The value where the guard does not hold; present exactly if the guard is not empty.
        other: Option<Var>,
    },
    /// A scalar operation, printed `add %0, %1`.
    Apply(ScalarOp, SmallVec<[Var; 3]>),
}

/// A loop over `axis in 0..extent`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Loop {
    /// The index variable, unique along each path from the root.
    pub axis: Symbol,
    /// How iterations relate.
    pub kind: AxisKind,
    /// Number of iterations, ≥ 0; over sizes and outer axes.
    pub extent: Dim,
    /// What each iteration does.
    pub body: Vec<Stmt>,
    /// What is folded over the iterations; empty unless `kind` is [`AxisKind::Reduce`].
    pub reductions: Vec<Reduction>,
}

/// How the iterations of a loop relate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AxisKind {
    /// Independent, over threads. Only the outermost loop is parallel.
    Parallel,
    /// In order.
    Serial,
    /// Independent, over vector lanes.
    Lane,
    /// Folded by [`Loop::reductions`] over this many virtual lanes (a power of two).
    Reduce(u32),
}

/// A fold over the iterations of a reduce loop.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reduction {
    /// How two partial results combine.
    pub combiner: Combiner,
    /// What one iteration contributes: variables of the loop's body.
    pub values: SmallVec<[Var; 2]>,
    /// The variables defined after the loop, as many as `values`, of the same dtypes.
    pub results: SmallVec<[Var; 2]>,
}

/// An associative combination of partial results, with an identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Combiner {
    /// `a + b` from 0.
    Sum,
    /// `a * b` from 1.
    Prod,
    /// The greater, NaN if either is NaN, from the dtype's least value.
    Max,
    /// The lesser, NaN if either is NaN, from the dtype's greatest value.
    Min,
    /// Logical or, from false.
    Any,
    /// Logical and, from true.
    All,
    /// Two values `(x, i64 index)`: the greater `x`, the first NaN before any number, the lesser index among equals.
    ArgMax,
    /// Two values `(x, i64 index)`: the lesser `x`, the first NaN before any number, the lesser index among equals.
    ArgMin,
}

impl Access {
    /// Every way, in declaration order.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::ReadWrite];

    /// The text spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "readwrite",
        }
    }

    /// Whether stores are allowed.
    pub const fn stores(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

impl Var {
    /// The symbol that stands for this variable in index expressions, spelled like it prints.
    pub fn symbol(self) -> Symbol {
        // A percent sign and at most ten digits are always a valid spelling.
        Symbol::new(&self.to_string()).unwrap_or_else(|e| unreachable!("{e}"))
    }

    /// The variable that a symbol stands for: `%3`, without leading zeros.
    pub fn from_symbol(symbol: &Symbol) -> Option<Self> {
        Self::from_text(symbol.as_str())
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('%')?;
        let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        canonical.then(|| digits.parse().ok().map(Self)).flatten()
    }
}

impl Combiner {
    /// Every combiner, in declaration order.
    pub const ALL: [Self; 8] =
        [Self::Sum, Self::Prod, Self::Max, Self::Min, Self::Any, Self::All, Self::ArgMax, Self::ArgMin];

    /// The text spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Prod => "prod",
            Self::Max => "max",
            Self::Min => "min",
            Self::Any => "any",
            Self::All => "all",
            Self::ArgMax => "arg_max",
            Self::ArgMin => "arg_min",
        }
    }

    /// How many values one iteration contributes.
    pub const fn arity(self) -> usize {
        match self {
            Self::Sum | Self::Prod | Self::Max | Self::Min | Self::Any | Self::All => 1,
            Self::ArgMax | Self::ArgMin => 2,
        }
    }

    /// The values that a virtual lane starts from, for a value of `dtype` (and an `i64` index of `i64::MAX` for the last two).
    pub fn identity(self, dtype: DType) -> SmallVec<[Literal; 2]> {
        let one = |l| SmallVec::from_iter([l]);
        match self {
            Self::Sum => one(Literal::zero(dtype)),
            Self::Prod => one(Literal::one(dtype)),
            Self::Max => one(Literal::lowest(dtype)),
            Self::Min => one(Literal::highest(dtype)),
            Self::Any => one(Literal::from(false)),
            Self::All => one(Literal::from(true)),
            Self::ArgMax => SmallVec::from_iter([Literal::lowest(dtype), Literal::from(i64::MAX)]),
            Self::ArgMin => SmallVec::from_iter([Literal::highest(dtype), Literal::from(i64::MAX)]),
        }
    }
}

impl Guard {
    /// The guard that always holds.
    pub fn always() -> Self {
        Self::default()
    }

    /// Whether it always holds.
    pub fn is_always(&self) -> bool {
        self.0.is_empty()
    }
}

impl Kernel {
    /// The name of a buffer or tile, if it exists.
    pub fn memory_name(&self, memory: Memory) -> Option<&str> {
        match memory {
            Memory::Buffer(i) => self.buffers.get(i as usize).map(|b| b.name.as_str()),
            Memory::Tile(i) => self.tiles.get(i as usize).map(|t| t.name.as_str()),
        }
    }

    /// The element type of a buffer or tile, if it exists.
    pub fn memory_dtype(&self, memory: Memory) -> Option<DType> {
        match memory {
            Memory::Buffer(i) => self.buffers.get(i as usize).map(|b| b.dtype),
            Memory::Tile(i) => self.tiles.get(i as usize).map(|t| t.dtype),
        }
    }

    /// The kernel without name and source lines: equal for kernels that may share their code.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { name: ANONYMOUS.to_owned(), locs: Vec::new(), ..self.clone() }
    }

    /// The text of [`Kernel::anonymous`].
    pub fn canonical(&self) -> impl std::fmt::Display + '_ {
        print::Canonical(self)
    }

    /// The text of [`Kernel::anonymous`].
    pub fn canonical_text(&self) -> String {
        self.canonical().to_string()
    }
}
