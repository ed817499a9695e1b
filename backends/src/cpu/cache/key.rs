//! What code is known by: a hash over all that it depends on.

use std::any::TypeId;
use std::fmt::{self, Write};

use cranelift_codegen::isa::TargetIsa;
use lehr_ir::kernel::Kernel;

use crate::cpu::code::{Compiler, Options};
use crate::cpu::wide::Width;

/// 192 bits of a BLAKE3 hash.
///
/// It has to withstand kernels made to collide: code of a kernel with other buffers than those it is run on would leave them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(super) [u8; Key::BYTES]);

/// All that code depends on but its kernel.
#[derive(Clone, Copy)]
pub(crate) struct Identity([u8; 32]);

impl Key {
    /// Bytes of a key.
    pub(super) const BYTES: usize = 24;
    /// The key of nothing.
    pub(super) const NONE: Self = Self([0; Self::BYTES]);
    const SUFFIX: &str = ".code";

    /// The name of the file of this key.
    pub(super) fn file_name(&self) -> String {
        format!("{self:?}{}", Self::SUFFIX)
    }

    /// The key of a file of this name.
    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        let hex = name.strip_suffix(Self::SUFFIX)?.as_bytes();
        let digit = |b: u8| char::from(b).to_digit(16).filter(|_| !b.is_ascii_uppercase());
        let mut key = Self::NONE;
        if hex.len() != 2 * Self::BYTES {
            return None;
        }
        for (byte, pair) in key.0.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(key)
    }

    fn of(hasher: &blake3::Hasher) -> Self {
        let mut key = Self::NONE;
        hasher.finalize_xof().fill(&mut key.0);
        key
    }
}

/// In hexadecimal digits.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Identity {
    /// The identity of a compiler's code.
    ///
    /// The build is known by the sources of the two crates that decide what code is, and by the type of the compiler, whose identity
    /// the Rust compiler derives from its own version, the crate's features and profile, and the versions of all its dependencies.
    pub(crate) fn of(isa: &dyn TargetIsa, width: Option<Width>, options: &Options) -> Self {
        let Options { vectors, native, threads: _, texts: _ } = options;
        let mut all = Text(blake3::Hasher::new());
        let build = [env!("CARGO_PKG_VERSION"), env!("LEHR_BACKENDS_SOURCES"), lehr_ir::SOURCES];
        // Writing to a hasher cannot fail.
        let _ = writeln!(all, "lehr {build:?} {:?}", TypeId::of::<Compiler>());
        let _ = writeln!(all, "cranelift {} {} {}", cranelift_codegen::VERSION, isa.triple(), isa.flags());
        for flag in isa.isa_flags() {
            let _ = writeln!(all, "{flag}");
        }
        let _ = writeln!(all, "vectors {vectors} {native} {width:?}");
        Self(*all.0.finalize().as_bytes())
    }

    /// The key of a kernel's code.
    pub(crate) fn kernel(&self, kernel: &Kernel) -> Key {
        let mut text = Text(blake3::Hasher::new_keyed(&self.0));
        let _ = write!(text, "kernel\n{}", kernel.canonical());
        Key::of(&text.0)
    }

    /// The key of a unit of these kernels in this order.
    pub(crate) fn unit(&self, kernels: &[Key]) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"unit\n");
        for key in kernels {
            hasher.update(&key.0);
        }
        Key::of(&hasher)
    }
}

/// Hashes what is written.
struct Text(blake3::Hasher);

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.update(s.as_bytes());
        Ok(())
    }
}
