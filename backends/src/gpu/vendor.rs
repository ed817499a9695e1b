//! Who makes a device, and what products begin with on it.
//!
//! No number here was measured. Each follows from registers, workgroup memory and how many units there are, and measuring replaces it
//! ([`tune`](super::tune)).
//!
//! # Sources
//! - Intel, oneAPI GPU Optimization Guide, "Registers and Performance": 128 registers of 32 or 64 bytes a hardware thread, which
//!   runs a whole subgroup of 16 or 32.
//! - Arm, Mali OpenCL Developer Guide: local memory lies in main memory, behind the caches.
//! - Apple, Metal Feature Set Tables: 32 KiB of threadgroup memory.
//!
//! What stands below of the others' registers and memory, and all counts of units, are common figures that were not looked up for this
//! table.

use super::contract::tiled::Tiling;

/// Who makes a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Vendor {
    /// AMD.
    Amd,
    /// Apple.
    Apple,
    /// Arm, of Mali and Immortalis.
    Arm,
    /// Intel.
    Intel,
    /// NVIDIA.
    Nvidia,
    /// Qualcomm, of Adreno.
    Qualcomm,
    /// Nobody: a program.
    Software,
    /// Anybody else.
    #[default]
    Other,
}

impl Vendor {
    /// Every vendor, in declaration order.
    pub const ALL: [Self; 8] =
        [Self::Amd, Self::Apple, Self::Arm, Self::Intel, Self::Nvidia, Self::Qualcomm, Self::Software, Self::Other];

    /// The vendor of an adapter.
    pub(super) fn of(info: &wgpu::AdapterInfo) -> Self {
        match info.vendor {
            _ if info.device_type == wgpu::DeviceType::Cpu => Self::Software,
            // Metal tells no number.
            0 if info.name.starts_with("Apple") => Self::Apple,
            id => Self::of_id(id),
        }
    }

    /// The vendor with a number in the lists of PCI or of Khronos.
    fn of_id(id: u32) -> Self {
        match id {
            0x1002 => Self::Amd,
            0x106b => Self::Apple,
            0x13b5 => Self::Arm,
            0x8086 => Self::Intel,
            0x10de => Self::Nvidia,
            0x5143 => Self::Qualcomm,
            0x1_0005 => Self::Software,
            _ => Self::Other,
        }
    }
}

/// What products begin with on a vendor's devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Defaults {
    /// The tile where there are many; the same as the middle one where registers or memory do not hold more.
    pub(super) large: Tiling,
    /// The tile where there are some.
    pub(super) middle: Tiling,
    /// The tile where there are few.
    pub(super) small: Tiling,
    /// Workgroups of tiles that occupy a device: two or so for each of its units.
    pub(super) groups: i64,
    /// The same of workgroups that are light, as those of few vectors.
    pub(super) light_groups: i64,
}

impl Defaults {
    /// Those of a vendor.
    pub(super) fn of(vendor: Vendor) -> Self {
        let (large, middle, small) = (Tiling::LARGE, Tiling::MIDDLE, Tiling::SMALL);
        match vendor {
            // 8 by 8 sums and their factors fit the registers of an invocation, and large cards have some 60 to 130 units.
            Vendor::Nvidia | Vendor::Amd | Vendor::Software | Vendor::Other => {
                Self { large, middle, small, groups: 192, light_groups: 1024 }
            }
            // 8 by 8 sums of a subgroup of 16 are 4 KiB, half of a thread's registers or all of them. 10 to 128 units.
            Vendor::Intel => Self { large: middle, middle, small, groups: 128, light_groups: 1024 },
            // A workgroup with a large tile takes more than half of a core's memory, so that one is there alone. 8 to 80 cores.
            Vendor::Apple => Self { large: middle, middle, small, groups: 96, light_groups: 512 },
            // One subgroup or two a workgroup, whatever registers it takes, and few units.
            Vendor::Qualcomm => Self { large: small, middle: small, small, groups: 32, light_groups: 256 },
            // What passes through workgroup memory passes through the same caches as operands do: little of it. Some 10 to 24 cores.
            Vendor::Arm => Self { large: small, middle: small, small, groups: 32, light_groups: 256 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart() {
        let ids = [0x1002, 0x106b, 0x13b5, 0x8086, 0x10de, 0x5143, 0x1_0005, 0x1010];
        assert_eq!(ids.map(Vendor::of_id), Vendor::ALL);
    }

    #[test]
    fn tiles_do_not_grow_where_there_are_fewer() {
        for vendor in Vendor::ALL {
            let Defaults { large, middle, small, groups, light_groups } = Defaults::of(vendor);
            assert!(large.size >= middle.size && middle.size >= small.size, "{vendor:?}");
            assert!(groups > 0 && light_groups >= groups, "{vendor:?}");
        }
    }
}
