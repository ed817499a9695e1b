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
        if args.len() != op.arity() {
            return Err(WgslError::Invalid("an operation with the wrong number of operands"));
        }
        if let ScalarOp::Call(function) = op {
            return if dtype == DType::F32 { recipe::call(self, function, args) } else { Err(unsupported()) };
        }
        let arg = |i: usize| args.get(i).map_or("", String::as_str);
        let operands @ [a, b, c] = [arg(0), arg(1), arg(2)];
        let text = match (op, dtype.kind()) {
            (ScalarOp::Select, _) => Some(format!("select({c}, {b}, {a})")),
            (ScalarOp::Convert(to), _) => self.convert(dtype, to, a),
            (ScalarOp::Bitcast(to), _) => bitcast(dtype, to, a),
            (op, Kind::Float) => self.float_op(op, operands),
            (op, Kind::Signed | Kind::Unsigned) => self.int_op(op, dtype, operands),
            (op, Kind::Bool) => bool_op(op, operands),
            (_, Kind::Complex) => None,
        };
        text.ok_or_else(unsupported)
    }

    fn helper(&mut self, helper: Helper, text: String) -> Option<String> {
        self.helpers.add(helper);
        Some(text)
    }

    fn float_op(&mut self, op: ScalarOp, [a, b, c]: [&str; 3]) -> Option<String> {
        Some(match op {
            ScalarOp::Add => format!("{a} + {b}"),
            ScalarOp::Sub => format!("{a} - {b}"),
            ScalarOp::Mul => format!("{a} * {b}"),
            ScalarOp::Div => format!("{a} / {b}"),
            ScalarOp::Max => return self.helper(Helper::MaxF32, format!("max_f32({a}, {b})")),
            ScalarOp::Min => return self.helper(Helper::MinF32, format!("min_f32({a}, {b})")),
            ScalarOp::Fma => format!("fma({a}, {b}, {c})"),
            ScalarOp::Neg => format!("-{a}"),
            ScalarOp::Abs => format!("abs({a})"),
            ScalarOp::Floor => format!("floor({a})"),
            ScalarOp::Ceil => format!("ceil({a})"),
            ScalarOp::Trunc => format!("trunc({a})"),
            ScalarOp::Round => format!("round({a})"),
            ScalarOp::Sqrt => format!("sqrt({a})"),
            ScalarOp::Ne => return self.helper(Helper::NeF32, format!("ne_f32({a}, {b})")),
            // The orders of WGSL are false on NaN.
            ScalarOp::Eq => format!("{a} == {b}"),
            ScalarOp::Lt => format!("{a} < {b}"),
            ScalarOp::Le => format!("{a} <= {b}"),
            ScalarOp::Gt => format!("{a} > {b}"),
            ScalarOp::Ge => format!("{a} >= {b}"),
            ScalarOp::Rem
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

    fn int_op(&mut self, op: ScalarOp, dtype: DType, [a, b, _]: [&str; 3]) -> Option<String> {
        let signed = dtype.kind() == Kind::Signed;
        let name = if signed { "i32" } else { "u32" };
        Some(match op {
            ScalarOp::Add => format!("{a} + {b}"),
            ScalarOp::Sub => format!("{a} - {b}"),
            ScalarOp::Mul => format!("{a} * {b}"),
            ScalarOp::Div => {
                let helper = if signed { Helper::DivI32 } else { Helper::DivU32 };
                return self.helper(helper, format!("div_{name}({a}, {b})"));
            }
            ScalarOp::Rem => {
                let helper = if signed { Helper::RemI32 } else { Helper::RemU32 };
                return self.helper(helper, format!("rem_{name}({a}, {b})"));
            }
            ScalarOp::Max => format!("max({a}, {b})"),
            ScalarOp::Min => format!("min({a}, {b})"),
            ScalarOp::Neg => format!("{name}(0) - {a}"),
            ScalarOp::Abs if signed => format!("abs({a})"),
            ScalarOp::Abs => a.to_owned(),
            ScalarOp::And => format!("{a} & {b}"),
            ScalarOp::Or => format!("{a} | {b}"),
            ScalarOp::Xor => format!("{a} ^ {b}"),
            ScalarOp::Not => format!("~{a}"),
            // The count of an i64 is taken modulo 64, which 32 bits cannot follow.
            ScalarOp::Shl | ScalarOp::Shr if dtype == DType::I64 => return None,
            ScalarOp::Shl | ScalarOp::Shr => {
                let symbol = if op == ScalarOp::Shl { "<<" } else { ">>" };
                let count = if signed { format!("bitcast<u32>({b})") } else { b.to_owned() };
                format!("{a} {symbol} ({count} & 31u)")
            }
            ScalarOp::Eq => format!("{a} == {b}"),
            ScalarOp::Ne => format!("{a} != {b}"),
            ScalarOp::Lt => format!("{a} < {b}"),
            ScalarOp::Le => format!("{a} <= {b}"),
            ScalarOp::Gt => format!("{a} > {b}"),
            ScalarOp::Ge => format!("{a} >= {b}"),
            ScalarOp::Fma
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::Select
            | ScalarOp::Convert(_)
            | ScalarOp::Bitcast(_)
            | ScalarOp::Call(_) => return None,
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

/// False < true.
fn bool_op(op: ScalarOp, [a, b, _]: [&str; 3]) -> Option<String> {
    Some(match op {
        ScalarOp::Not => format!("!{a}"),
        ScalarOp::And | ScalarOp::Min => format!("{a} & {b}"),
        ScalarOp::Or | ScalarOp::Max => format!("{a} | {b}"),
        ScalarOp::Xor | ScalarOp::Ne => format!("{a} != {b}"),
        ScalarOp::Eq => format!("{a} == {b}"),
        ScalarOp::Lt => format!("!{a} & {b}"),
        ScalarOp::Le => format!("!{a} | {b}"),
        ScalarOp::Gt => format!("{a} & !{b}"),
        ScalarOp::Ge => format!("{a} | !{b}"),
        ScalarOp::Add
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
