//! Cooperative matrices: small matrices that the invocations of a subgroup hold and multiply together.

use lehr_ir::dtype::DType;

/// What may be done with a device's cooperative matrices, whose factors are `f16` and whose sums are `f32`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cooperative {
    /// Rows and columns of each, and so the terms of one product: 8 or 16.
    pub size: u32,
    /// Whether products of `f16` take them.
    pub halves: bool,
    /// Whether products of `f32` take them, with factors rounded to `f16`.
    pub rounded: bool,
}

impl Cooperative {
    /// Whether products of a dtype take them.
    pub fn takes(&self, dtype: DType) -> bool {
        match dtype {
            DType::F16 => self.halves,
            DType::F32 => self.rounded,
            _ => false,
        }
    }
}
