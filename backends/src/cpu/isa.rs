//! The machine that code is made for.

use std::sync::Arc;

use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::settings::{self, Configurable};

use super::code::CompileError;
use super::emit::Machine;

/// What passes may know of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TargetFacts {
    /// Bytes of a vector register that kernels use; 0 without vectors.
    pub vector_bytes: u32,
    /// Whether fused multiply-add is an instruction.
    pub fma: bool,
}

/// The instruction set of the host; with `native` false only what every machine of its architecture has.
///
/// # Errors
/// [`CompileError::Host`] where Cranelift does not support the host.
pub fn host(native: bool) -> Result<Arc<dyn TargetIsa>, CompileError> {
    let mut flags = settings::builder();
    let settings = [
        ("opt_level", "speed"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ("enable_probestack", "true"),
        ("probestack_strategy", "inline"),
        // Host functions never unwind, and kernels are leaves otherwise.
        ("unwind_info", "false"),
    ];
    for (name, value) in settings {
        flags.set(name, value).map_err(|e| CompileError::Host(e.to_string()))?;
    }
    let builder = cranelift_native::builder_with_options(native).map_err(|e| CompileError::Host(e.to_owned()))?;
    builder.finish(settings::Flags::new(flags)).map_err(|e| CompileError::Host(e.to_string()))
}

/// What the emitter has to know of an instruction set.
pub fn machine(isa: &dyn TargetIsa) -> Machine {
    let enabled = |name: &str| isa.isa_flags().iter().any(|f| f.name == name && f.as_bool() == Some(true));
    match isa.triple().architecture.to_string().as_str() {
        "x86_64" => Machine {
            fma: enabled("has_fma") && enabled("has_avx"),
            round: enabled("has_sse41"),
            vectors: enabled("has_sse41") && enabled("has_sse42") && enabled("has_ssse3"),
            x86: true,
        },
        "aarch64" => Machine { fma: true, round: true, vectors: true, x86: false },
        _ => Machine { fma: false, round: false, vectors: false, x86: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_has_less_than_the_host() -> Result<(), CompileError> {
        let (native, base) = (machine(host(true)?.as_ref()), machine(host(false)?.as_ref()));
        assert!(native.fma >= base.fma && native.vectors >= base.vectors && native.round >= base.round);
        assert_eq!(native.x86, cfg!(target_arch = "x86_64"));
        Ok(())
    }
}
