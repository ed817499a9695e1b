//! What passes need to know of a device: plain data that a backend fills in.

use crate::dtype::DType;

/// Which vectors the CPU backend's code uses. Results have the same bits with any of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Vectors {
    /// The widest that the machine has, kernel by kernel where they pay.
    #[default]
    Auto,
    /// 512 bits (AVX-512) for every kernel that has such code; an error on a machine without.
    Avx512,
    /// 256 bits (AVX2 with fused multiply-add) for every kernel that has such code; an error on a machine without.
    Avx2,
    /// Only what every machine of the architecture has code for: Cranelift's 128 bits.
    Portable,
    /// None: one element at a time, for tests.
    Scalar,
}

impl Vectors {
    /// Every choice, in declaration order.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Avx512, Self::Avx2, Self::Portable, Self::Scalar];

    /// The spelling on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
            Self::Scalar => "scalar",
        }
    }
}

impl std::fmt::Display for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Vectors {
    type Err = UnknownVectors;

    fn from_str(s: &str) -> Result<Self, UnknownVectors> {
        Self::ALL.into_iter().find(|v| v.name() == s).ok_or_else(|| UnknownVectors(s.to_owned()))
    }
}

/// A spelling that names no vectors.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` are no vectors; there are `auto`, `avx512`, `avx2`, `portable` and `scalar`")]
pub struct UnknownVectors(pub String);

/// Whether forms of matrix products are measured on a device when a program is compiled, and the fastest taken.
///
/// Forms add in different orders, so that results differ in their last bits from device to device, but not from call to call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Tuning {
    /// On devices that have timestamps and are not software.
    #[default]
    Auto,
    /// Never: shapes alone decide.
    Off,
    /// On any device that has timestamps.
    Always,
}

/// Which of a machine's devices runs a program.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The one that is likely fastest: a card of its own before what is part of a processor, that before software.
    #[default]
    Best,
    /// By its position in the list of devices.
    Index(usize),
    /// The first whose name contains this, in any case of letters.
    Name(String),
}

/// A number is an index, `best` or nothing the best, anything else a part of a name.
impl From<&str> for DeviceChoice {
    fn from(s: &str) -> Self {
        match s.trim() {
            "" | "best" => Self::Best,
            s => s.parse().map_or_else(|_| Self::Name(s.to_owned()), Self::Index),
        }
    }
}

impl From<String> for DeviceChoice {
    fn from(s: String) -> Self {
        s.as_str().into()
    }
}

impl From<usize> for DeviceChoice {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Index(i) => write!(f, "{i}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Where the temporaries of a plan live.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Memory {
    /// In one run of bytes, where those that are never alive together overlap, and a result may take an operand's place.
    #[default]
    Arena,
    /// In slots, each of which one temporary at a time has for itself: for devices that track use by whole buffers.
    Slots,
}

/// The capabilities of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its name in dumps.
    pub name: String,
    /// Bytes of one vector register of the emitter that is used by default.
    pub vector_bytes: u32,
    /// Whether a fused multiply-add is one instruction.
    pub fma: bool,
    /// The dtypes that kernels may compute in.
    pub dtypes: Vec<DType>,
    /// The dtypes of contractions that the backend's matrix product takes; others become ordinary kernels.
    ///
    /// One of half precision takes its operands as they lie, sums in `f32` or better and rounds the result once.
    pub contractions: Vec<DType>,
    /// The dtypes of attention that the backend has tiles for; others run on the host.
    pub attention: Vec<DType>,
    /// The most buffers one kernel may bind.
    pub max_buffers: usize,
    /// The most bytes of tiles one kernel may use.
    pub max_tile_bytes: u32,
    /// Whether a row that later loops of a kernel need lies where the kernel's result will, rather than in a tile: caches hold the one
    /// as well as the other, and the result's lines are fetched while something is computed.
    pub rows_in_results: bool,
    /// How many virtual lanes a reduction over the innermost axis has; part of the meaning, so equal on all targets that are
    /// to agree bit for bit.
    pub reduce_lanes: u32,
    /// Elements that one iteration of a parallel loop over a flat map covers.
    pub map_chunk: i64,
    /// Elements that one partial result of a split reduction covers.
    pub reduce_chunk: i64,
    /// Whether convolutions and large windows are first brought into forms that kernels and contractions cover.
    pub legalize_windows: bool,
    /// Where temporaries live.
    pub memory: Memory,
}

impl Default for Target {
    /// A host without special abilities.
    fn default() -> Self {
        Self {
            name: "host".to_owned(),
            vector_bytes: 16,
            fma: false,
            dtypes: DType::ALL.into_iter().filter(|d| !matches!(d, DType::C64 | DType::C128)).collect(),
            contractions: vec![DType::F32, DType::F64],
            attention: vec![DType::F32, DType::F64],
            max_buffers: 64,
            max_tile_bytes: 64 << 10,
            rows_in_results: true,
            reduce_lanes: 32,
            map_chunk: 4096,
            reduce_chunk: 16384,
            legalize_windows: true,
            memory: Memory::Arena,
        }
    }
}
