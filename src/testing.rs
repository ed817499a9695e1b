//! Fail-points for lehr's own tests of what a program does when the machine fails it.

use crate::error::Result;

/// Makes the next installations of native code fail, or succeed again, in the whole process.
///
/// # Errors
/// A machine that native code cannot be made for.
pub fn fail_installation(fail: bool) -> Result<()> {
    crate::engine::cpu::fail_installation(fail)
}
