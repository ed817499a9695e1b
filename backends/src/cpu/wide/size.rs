//! How wide the elements of a vector register are.
//!
//! All values of a kernel are held in as many lanes as a vector has elements of the kernel's widest dtype. Narrower values stand in the
//! low part of a register and are computed by whole vectors all the same; what is above them is of no matter, and only memory is
//! accessed at its own width. A bool is a mask as wide as what was compared, and is made wider or narrower where it meets others.

use lehr_ir::dtype::DType;
use lehr_ir::kernel::Kernel;

use super::Width;

/// Bytes of an element.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Size {
    Four,
    Eight,
}

impl Size {
    /// The widest elements of a kernel. Variables of `i64` alone, which are indices as a rule, do not make it wide.
    pub(super) fn of_kernel(kernel: &Kernel) -> Self {
        let memory = kernel.buffers.iter().map(|b| b.dtype).chain(kernel.tiles.iter().map(|t| t.dtype));
        let vars = kernel.vars.iter().copied().filter(|d| *d != DType::I64);
        if memory.chain(vars).any(|d| d.size() == 8) { Self::Eight } else { Self::Four }
    }

    pub(super) const fn bytes(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The power of two that its bytes are.
    pub(super) const fn shift(self) -> i32 {
        match self {
            Self::Four => 2,
            Self::Eight => 3,
        }
    }

    /// Elements of a vector.
    pub(super) const fn lanes(self, width: Width) -> usize {
        width.bytes() as usize / self.bytes() as usize
    }

    /// All bits of an element.
    pub(super) const fn ones(self) -> u64 {
        match self {
            Self::Four => u32::MAX as u64,
            Self::Eight => u64::MAX,
        }
    }

    /// The highest bit of an element.
    pub(super) const fn sign(self) -> u64 {
        match self {
            Self::Four => 1 << 31,
            Self::Eight => 1 << 63,
        }
    }
}
