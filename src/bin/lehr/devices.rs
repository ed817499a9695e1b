//! `lehr devices`.

use lehr::devices::{Adapter, adapters};

use crate::failure::Failure;

/// The devices, one paragraph each.
pub(crate) fn devices() -> Result<String, Failure> {
    let all = adapters().map_err(|e| Failure::about(&lehr::ir::Loc::UNKNOWN, e))?;
    if all.is_empty() {
        let help = "install a driver for Vulkan, Metal or DirectX 12";
        return Ok(format!("this machine has no device for the backend gpu\n  = help: {help}\n"));
    }
    Ok(all.iter().enumerate().map(|(i, a)| paragraph(i, a)).collect())
}

fn paragraph(i: usize, a: &Adapter) -> String {
    let features = if a.features.is_empty() { "none of use".to_owned() } else { a.features.join(", ") };
    let (least, most) = a.subgroup;
    let subgroup = if least == most { least.to_string() } else { format!("{least} to {most}") };
    [
        format!("{i}: {}", a.name),
        format!("   {} through {}, driver {}", a.kind, a.interface, a.driver),
        format!("   features: {features}"),
        format!(
            "   workgroups of at most {} invocations and {} bytes, subgroups of {subgroup}",
            a.workgroup_size, a.workgroup_bytes
        ),
        format!(
            "   at most {} buffers a shader, {} bytes a binding, {} bytes a buffer",
            a.storage_buffers, a.binding_bytes, a.buffer_bytes
        ),
    ]
    .join("\n")
        + "\n"
}
