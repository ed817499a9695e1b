//! What passes need to know of a device: plain data that a backend fills in.

use crate::dtype::DType;

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
    pub contractions: Vec<DType>,
    /// The most buffers one kernel may bind.
    pub max_buffers: usize,
    /// The most bytes of tiles one kernel may use.
    pub max_tile_bytes: u32,
    /// How many virtual lanes a reduction over the innermost axis has; part of the meaning, so equal on all targets that are
    /// to agree bit for bit.
    pub reduce_lanes: u32,
    /// Elements that one iteration of a parallel loop over a flat map covers.
    pub map_chunk: i64,
    /// Elements that one partial result of a split reduction covers.
    pub reduce_chunk: i64,
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
            max_buffers: 64,
            max_tile_bytes: 64 << 10,
            reduce_lanes: 32,
            map_chunk: 4096,
            reduce_chunk: 16384,
        }
    }
}
