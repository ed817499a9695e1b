//! Scalar operations as expressions.

use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::ScalarOp;

use super::helpers::Helper;
use super::printer::Printer;
use super::{Unsupported, WgslError, recipe};

impl Printer<'_> {
    /// One operation on named operands of these dtypes; recipes print their steps before.
    pub(super) fn apply(&mut self, op: ScalarOp, dtypes: &[DType], args: &[String]) -> Result<String, WgslError> {
        let dtype = *dtypes.first().ok_or(WgslError::Invalid("an operation without operands"))?;
        let unsupported = || WgslError::from(Unsupported::Op { op, dtype });
        if let ScalarOp::Call(function) = op {
            return if dtype == DType::F32 { recipe::call(self, function, args) } else { Err(unsupported()) };
        }
        let text = match (op, args) {
            (ScalarOp::Select, [c, a, b]) => Some(format!("select({b}, {a}, {c})")),
            (ScalarOp::Convert(to), [a]) => self.convert(dtype, to, a),
            (ScalarOp::Bitcast(to), [a]) => bitcast(dtype, to, a),
            _ => match dtype.kind() {
                Kind::Float => self.float_op(op, args),
                Kind::Signed | Kind::Unsigned => self.int_op(op, dtype, args),
                Kind::Bool => bool_op(op, args),
                Kind::Complex => None,
            },
        };
        text.ok_or_else(unsupported)
    }

    fn helper(&mut self, helper: Helper, text: String) -> Option<String> {
        self.helpers.add(helper);
        Some(text)
    }

    fn float_op(&mut self, op: ScalarOp, args: &[String]) -> Option<String> {
        Some(match (op, args) {
            (ScalarOp::Add, [a, b]) => format!("{a} + {b}"),
            (ScalarOp::Sub, [a, b]) => format!("{a} - {b}"),
            (ScalarOp::Mul, [a, b]) => format!("{a} * {b}"),
            (ScalarOp::Div, [a, b]) => format!("{a} / {b}"),
            (ScalarOp::Max, [a, b]) => return self.helper(Helper::MaxF32, format!("max_f32({a}, {b})")),
            (ScalarOp::Min, [a, b]) => return self.helper(Helper::MinF32, format!("min_f32({a}, {b})")),
            (ScalarOp::Fma, [a, b, c]) => format!("fma({a}, {b}, {c})"),
            (ScalarOp::Neg, [a]) => format!("-{a}"),
            (ScalarOp::Abs, [a]) => format!("abs({a})"),
            (ScalarOp::Floor, [a]) => format!("floor({a})"),
            (ScalarOp::Ceil, [a]) => format!("ceil({a})"),
            (ScalarOp::Trunc, [a]) => format!("trunc({a})"),
            (ScalarOp::Round, [a]) => format!("round({a})"),
            (ScalarOp::Sqrt, [a]) => format!("sqrt({a})"),
            (ScalarOp::Ne, [a, b]) => return self.helper(Helper::NeF32, format!("ne_f32({a}, {b})")),
            _ => return comparison(op, args),
        })
    }

    fn int_op(&mut self, op: ScalarOp, dtype: DType, args: &[String]) -> Option<String> {
        let signed = dtype.kind() == Kind::Signed;
        let name = if signed { "i32" } else { "u32" };
        Some(match (op, args) {
            (ScalarOp::Add, [a, b]) => format!("{a} + {b}"),
            (ScalarOp::Sub, [a, b]) => format!("{a} - {b}"),
            (ScalarOp::Mul, [a, b]) => format!("{a} * {b}"),
            (ScalarOp::Div, [a, b]) => {
                let helper = if signed { Helper::DivI32 } else { Helper::DivU32 };
                return self.helper(helper, format!("div_{name}({a}, {b})"));
            }
            (ScalarOp::Rem, [a, b]) => {
                let helper = if signed { Helper::RemI32 } else { Helper::RemU32 };
                return self.helper(helper, format!("rem_{name}({a}, {b})"));
            }
            (ScalarOp::Max, [a, b]) => format!("max({a}, {b})"),
            (ScalarOp::Min, [a, b]) => format!("min({a}, {b})"),
            (ScalarOp::Neg, [a]) => format!("{name}(0) - {a}"),
            (ScalarOp::Abs, [a]) if signed => format!("abs({a})"),
            (ScalarOp::Abs, [a]) => a.clone(),
            (ScalarOp::And, [a, b]) => format!("{a} & {b}"),
            (ScalarOp::Or, [a, b]) => format!("{a} | {b}"),
            (ScalarOp::Xor, [a, b]) => format!("{a} ^ {b}"),
            (ScalarOp::Not, [a]) => format!("~{a}"),
            // The count of an i64 is taken modulo 64, which 32 bits cannot follow.
            (ScalarOp::Shl | ScalarOp::Shr, _) if dtype == DType::I64 => return None,
            (ScalarOp::Shl | ScalarOp::Shr, [a, count]) => {
                let symbol = if op == ScalarOp::Shl { "<<" } else { ">>" };
                let count = if signed { format!("bitcast<u32>({count})") } else { count.clone() };
                format!("{a} {symbol} ({count} & 31u)")
            }
            (ScalarOp::Ne, [a, b]) => format!("{a} != {b}"),
            _ => return comparison(op, args),
        })
    }

    fn convert(&mut self, from: DType, to: DType, a: &str) -> Option<String> {
        let word = |d| matches!(d, DType::I32 | DType::I64 | DType::U32);
        let signed = |d| matches!(d, DType::I32 | DType::I64);
        Some(match (from, to) {
            (DType::F32, DType::F32) | (DType::Bool, DType::Bool) => a.to_owned(),
            (DType::F32, DType::Bool) => {
                let zero = "0.0f";
                return self.helper(Helper::NeF32, format!("ne_f32({a}, {zero})"));
            }
            (DType::F32, to) if signed(to) => return self.helper(Helper::F32ToI32, format!("f32_to_i32({a})")),
            (DType::F32, DType::U32) => return self.helper(Helper::F32ToU32, format!("f32_to_u32({a})")),
            (DType::Bool, DType::F32) => format!("select(0.0f, 1.0f, {a})"),
            (DType::Bool, DType::U32) => format!("select(0u, 1u, {a})"),
            (DType::Bool, to) if signed(to) => format!("select(0, 1, {a})"),
            (DType::U32, DType::Bool) => format!("{a} != 0u"),
            (from, DType::Bool) if signed(from) => format!("{a} != 0"),
            (from, DType::F32) if word(from) => format!("f32({a})"),
            (from, to) if signed(from) == signed(to) && word(from) && word(to) => a.to_owned(),
            (from, DType::U32) if signed(from) => format!("bitcast<u32>({a})"),
            // Half of the values of u32 are no index value.
            (DType::U32, DType::I32) => format!("bitcast<i32>({a})"),
            (_, _) => return None,
        })
    }
}

fn bitcast(from: DType, to: DType, a: &str) -> Option<String> {
    let words = |d| matches!(d, DType::F32 | DType::I32 | DType::U32);
    let name = super::printer::type_name(to);
    match (from, to) {
        (DType::I64, DType::I64) => Some(a.to_owned()),
        (from, to) if from == to && words(to) => Some(a.to_owned()),
        (from, to) if words(from) && words(to) => Some(format!("bitcast<{name}>({a})")),
        (_, _) => None,
    }
}

/// The comparisons that WGSL writes alike for all numbers; its orders are false on NaN.
fn comparison(op: ScalarOp, args: &[String]) -> Option<String> {
    let [a, b] = args else { return None };
    Some(match op {
        ScalarOp::Eq => format!("{a} == {b}"),
        ScalarOp::Lt => format!("{a} < {b}"),
        ScalarOp::Le => format!("{a} <= {b}"),
        ScalarOp::Gt => format!("{a} > {b}"),
        ScalarOp::Ge => format!("{a} >= {b}"),
        ScalarOp::Ne
        | ScalarOp::Add
        | ScalarOp::Sub
        | ScalarOp::Mul
        | ScalarOp::Div
        | ScalarOp::Rem
        | ScalarOp::Max
        | ScalarOp::Min
        | ScalarOp::Fma
        | ScalarOp::Neg
        | ScalarOp::Abs
        | ScalarOp::Floor
        | ScalarOp::Ceil
        | ScalarOp::Trunc
        | ScalarOp::Round
        | ScalarOp::Sqrt
        | ScalarOp::And
        | ScalarOp::Or
        | ScalarOp::Xor
        | ScalarOp::Not
        | ScalarOp::Shl
        | ScalarOp::Shr
        | ScalarOp::Select
        | ScalarOp::Convert(_)
        | ScalarOp::Bitcast(_)
        | ScalarOp::Call(_) => return None,
    })
}

/// False < true.
fn bool_op(op: ScalarOp, args: &[String]) -> Option<String> {
    if let (ScalarOp::Not, [a]) = (op, args) {
        return Some(format!("!{a}"));
    }
    let [a, b] = args else { return None };
    Some(match op {
        ScalarOp::And | ScalarOp::Min => format!("{a} & {b}"),
        ScalarOp::Or | ScalarOp::Max => format!("{a} | {b}"),
        ScalarOp::Xor | ScalarOp::Ne => format!("{a} != {b}"),
        ScalarOp::Eq => format!("{a} == {b}"),
        ScalarOp::Lt => format!("!{a} & {b}"),
        ScalarOp::Le => format!("!{a} | {b}"),
        ScalarOp::Gt => format!("{a} & !{b}"),
        ScalarOp::Ge => format!("{a} | !{b}"),
        ScalarOp::Not
        | ScalarOp::Add
        | ScalarOp::Sub
        | ScalarOp::Mul
        | ScalarOp::Div
        | ScalarOp::Rem
        | ScalarOp::Fma
        | ScalarOp::Neg
        | ScalarOp::Abs
        | ScalarOp::Floor
        | ScalarOp::Ceil
        | ScalarOp::Trunc
        | ScalarOp::Round
        | ScalarOp::Sqrt
        | ScalarOp::Shl
        | ScalarOp::Shr
        | ScalarOp::Select
        | ScalarOp::Convert(_)
        | ScalarOp::Bitcast(_)
        | ScalarOp::Call(_) => return None,
    })
}
