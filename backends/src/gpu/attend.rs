//! Attention and its gradient as dispatches.
//!
//! A workgroup owns a tile of rows and walks over tiles of columns ([`tiles`]): scores of rows with columns from tiles in workgroup
//! memory, weights from scores, and weighted sums of vectors, which stay in registers. No scores are stored.
//! Rows are queries and columns keys, but for the cotangents of keys and values, whose rows are keys and whose columns are queries.
//! So each result is written by one workgroup, in a fixed order and without atomics:
//!
//! | dispatch | rows | weights | sums of |
//! |---|---|---|---|
//! | forward | queries | `e^(s - top)`, rescaled whenever `top` grows | values |
//! | of queries | queries | `p (d_out · vᵀ - delta) scale` | keys |
//! | of keys | keys | `p (d_out · vᵀ - delta) scale` | queries |
//! | of values | keys | `p` | `d_out` |
//!
//! with `p = e^(s - lse)`. Where sums have more columns than a workgroup keeps, further workgroups make the others, from the same
//! scores. With causal attention, tiles in which nothing is to be seen are left out.
//!
//! A pair that is hidden has a weight of [`HIDDEN`], and no part in any sum, so that what is not finite there does not show.
//! Scores of NaN and +∞ are told by their bits, and make their row NaN: drivers assume away both.

use lehr_ir::dtype::DType;
use lehr_ir::plan::{Attend, AttendPass};

use super::dispatch::Dispatch;
use super::wgsl::{Unsupported, WgslError, WgslTarget};

mod scores;
#[cfg(test)]
mod tests;
mod tiles;
mod view;
mod weights;

/// The weight of a pair that is hidden: the greatest `f32`, as text and as bits.
const HIDDEN: [&str; 2] = ["3.4028235e38f", "0x7f7fffffu"];

/// The shaders that run a step of attention, in order.
///
/// # Errors
/// [`WgslError`] for another dtype than `f32`, for views of too many leading dims, and for what exceeds the target.
pub fn dispatches(attend: &Attend, target: &WgslTarget) -> Result<Vec<Dispatch>, WgslError> {
    if attend.dtype != DType::F32 {
        return Err(Unsupported::DType { dtype: attend.dtype, place: "an attention".to_owned() }.into());
    }
    let parts: &[Part] = match attend.pass {
        AttendPass::Forward { .. } => &[Part::Forward],
        AttendPass::Backward { .. } => &[Part::Queries, Part::Keys, Part::Values],
    };
    let mut all = Vec::new();
    for &part in parts {
        all.extend(tiles::dispatch(attend, part, target)?);
    }
    Ok(all)
}

/// What a dispatch computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// The attention and its rows' `lse`.
    Forward,
    /// The cotangent of the queries.
    Queries,
    /// The cotangent of the keys.
    Keys,
    /// The cotangent of the values.
    Values,
}

impl Part {
    /// Whether rows are keys.
    fn by_key(self) -> bool {
        matches!(self, Self::Keys | Self::Values)
    }

    /// Whether weights take the cotangent of the scores.
    fn has_slopes(self) -> bool {
        matches!(self, Self::Queries | Self::Keys)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Forward => "Attention",
            Self::Queries => "The cotangent of an attention's queries",
            Self::Keys => "The cotangent of an attention's keys",
            Self::Values => "The cotangent of an attention's values",
        }
    }
}
