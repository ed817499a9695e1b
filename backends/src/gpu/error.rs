//! What can go wrong on a device.

use lehr_ir::dim::DimError;
use lehr_ir::eval::EvalError;
use lehr_ir::plan::interpret::PlanRunError;
use lehr_ir::target::DeviceChoice;

/// Why a program was not compiled, or did not run. Variables have the values they had.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is no such adapter.
    #[error("gpu: {}\n  = help: {}", absent(wanted, found), remedy(found))]
    NoAdapter {
        /// What was asked for.
        wanted: DeviceChoice,
        /// The adapters of this machine.
        found: Vec<String>,
    },
    /// An adapter gives no device.
    #[error(
        "gpu: the adapter `{adapter}` gives no device: {reason}\n  = help: choose another adapter, or the backend `cpu`"
    )]
    NoDevice {
        /// The adapter.
        adapter: String,
        /// What its driver says.
        reason: String,
    },
    /// A driver refuses a shader.
    #[error("gpu: the driver refuses a shader: {message}")]
    Shader {
        /// What it says.
        message: String,
    },
    /// Dispatches are to be timed on a device that has no clock for them.
    #[error(
        "gpu: the adapter `{adapter}` has no timestamps, so that its dispatches cannot be timed; leave them untimed"
    )]
    NoTimestamps {
        /// The adapter.
        adapter: String,
    },
    /// There is no memory left on the device.
    #[error(
        "gpu: {bytes} bytes are not to be had beside the {used} in use\n  = help: use smaller batches, or the backend `cpu`"
    )]
    OutOfMemory {
        /// What was asked for.
        bytes: u64,
        /// What this process has on the device.
        used: u64,
    },
    /// A buffer is larger than a shader may bind.
    #[error(
        "gpu: an array of {bytes} bytes is larger than the {limit} that the device binds\n  = help: use smaller arrays, or the backend `cpu`"
    )]
    TooLargeToBind {
        /// Its size.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// Numbers leave the range of 32-bit indices.
    #[error("gpu: {what} is beyond the range of 32-bit indices\n  = help: use smaller arrays, or the backend `cpu`")]
    Range {
        /// Which number.
        what: String,
    },
    /// The device is gone: unplugged, reset, or stopped by its driver because a shader ran for too long.
    #[error(
        "gpu: the device is lost: {reason}\n  = help: start the process again; programs compiled for the device are of no more use"
    )]
    Lost {
        /// What the driver says.
        reason: String,
    },
    /// A call breaks a rule of the interface to devices: a defect of lehr.
    #[error("gpu: the device refuses a call: {message}; this is a defect of lehr, please report it")]
    Refused {
        /// What is wrong.
        message: String,
    },
    /// The plan was made for another kind of memory.
    #[error("gpu: the plan has its temporaries in an arena, a device has slots; lower it for the device's target")]
    Arena,
    /// There are not as many places as outputs.
    #[error("gpu: {got} places were given for {want} outputs")]
    Places {
        /// Outputs of the program.
        want: usize,
        /// Places given.
        got: usize,
    },
    /// The arguments do not fit.
    #[error(transparent)]
    Arguments(#[from] EvalError),
    /// A size cannot be worked out.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// A step that runs on the host failed.
    #[error(transparent)]
    Host(#[from] PlanRunError),
    /// What failed, and the user's lines that it comes from.
    #[error("{source}\n  in: {step}{}", lines(locs))]
    Step {
        /// What the step does.
        step: String,
        /// The lines.
        locs: Vec<String>,
        /// What is wrong.
        source: Box<GpuError>,
    },
}

fn absent(wanted: &DeviceChoice, found: &[String]) -> String {
    match wanted {
        _ if found.is_empty() => "this machine has no adapter".to_owned(),
        DeviceChoice::Index(i) => format!("there is no adapter {i}"),
        DeviceChoice::Name(name) => format!("no adapter's name contains `{name}`"),
        _ => "no adapter can be used".to_owned(),
    }
}

fn remedy(found: &[String]) -> String {
    if found.is_empty() {
        return "install a driver for Vulkan, Metal or DirectX 12, or choose the backend `cpu`; \
                `mesa-vulkan-drivers` of Debian and Ubuntu has one in software"
            .to_owned();
    }
    let list: Vec<String> = found.iter().enumerate().map(|(i, name)| format!("{i}: {name}")).collect();
    format!("choose one of {}", list.join(", "))
}

fn lines(locs: &[String]) -> String {
    locs.iter().map(|l| format!("\n  --> {l}")).collect()
}
