//! Operands that drivers would draw wrong conclusions from, hidden from them.
//!
//! WGSL lets a compiler assume that there are no NaNs, no infinities and one zero. So drivers may take `x - x` and `x * 0.0` for
//! 0, `x / x` for 1, `x == x` for true and `x + 0.0` for `x`, all of them wrong for some `x`. What they conclude from is seen in the
//! kernel as well: the same variable on both sides, or a constant zero. One such operand goes through `keep`, an exclusive or with
//! a word that is always 0.

use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Expr, ScalarOp, Var};

use super::helpers::Helper;
use super::printer::{Printer, var_name};

impl Printer<'_> {
    /// Notes a variable that is a zero, of whatever sign.
    pub(super) fn note_zero(&mut self, var: Var, expr: &Expr) {
        if matches!(expr, Expr::Const(c) if c.dtype().is_float() && c.to_f64() == 0.0) {
            self.zeros.insert(var);
        }
    }

    /// The names of an operation's operands, hidden where a driver would conclude too much.
    pub(super) fn operands(&mut self, op: ScalarOp, dtypes: &[DType], operands: &[Var]) -> Vec<String> {
        let twin = match op {
            ScalarOp::Sub | ScalarOp::Div | ScalarOp::Eq | ScalarOp::Le | ScalarOp::Ge => operands.first(),
            _ => None,
        };
        let by_zero = matches!(
            op,
            ScalarOp::Add | ScalarOp::Sub | ScalarOp::Mul | ScalarOp::Div | ScalarOp::Fma | ScalarOp::Call(_)
        );
        let mut names = Vec::new();
        for (i, (var, dtype)) in operands.iter().zip(dtypes).enumerate() {
            let hides = (i > 0 && twin == Some(var)) || (by_zero && self.zeros.contains(var));
            let name = var_name(*var);
            names.push(if hides { self.hidden(*dtype, name) } else { name });
        }
        names
    }

    /// A value that no compiler knows anything of.
    fn hidden(&mut self, dtype: DType, name: String) -> String {
        let (helper, call) = match self.ty(dtype) {
            Ok("f32") => (Helper::Keep, "keep"),
            Ok("f64") if self.target.i64 => (Helper::KeepF64, "keep_f64"),
            // Integers are what they are.
            Ok(_) | Err(_) => return name,
        };
        self.helpers.add(helper);
        format!("{call}({name})")
    }
}
