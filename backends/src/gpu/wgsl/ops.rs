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
        let ty = self.ty(dtype)?;
        if let ScalarOp::Call(function) = op {
            return match ty {
                "f32" => recipe::call(self, function, args).map(|text| self.narrow(dtype, text)),
                _ => Err(unsupported()),
            };
        }
        let arg = |i: usize| args.get(i).map_or("", String::as_str);
        let operands @ [a, b, c] = [arg(0), arg(1), arg(2)];
        let text = match (op, dtype.kind()) {
            (ScalarOp::Select, _) => Some(format!("select({c}, {b}, {a})")),
            (ScalarOp::Convert(to), _) => self.convert(dtype, to, a),
            (ScalarOp::Bitcast(to), _) => self.bitcast(dtype, to, a),
            (op, Kind::Float) => self.float_op(op, dtype, ty, operands),
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

    /// The helper of an f32, or that of an f64.
    fn by_width(&mut self, ty: &str, [narrow, wide]: [Helper; 2], text: String) -> Option<String> {
        self.helper(if ty == "f64" { wide } else { narrow }, text)
    }

    fn float_op(&mut self, op: ScalarOp, dtype: DType, ty: &str, [a, b, c]: [&str; 3]) -> Option<String> {
        let exact = match op {
            ScalarOp::Max => self.by_width(ty, [Helper::MaxF32, Helper::MaxF64], format!("max_{ty}({a}, {b})")),
            ScalarOp::Min => self.by_width(ty, [Helper::MinF32, Helper::MinF64], format!("min_{ty}({a}, {b})")),
            ScalarOp::Ne => self.by_width(ty, [Helper::NeF32, Helper::NeF64], format!("ne_{ty}({a}, {b})")),
            ScalarOp::Rem if ty == "f32" => self.helper(Helper::RemF32, format!("rem_f32({a}, {b})")),
            _ => float_text(op, [a, b, c]),
        };
        let rounds = matches!(
            op,
            ScalarOp::Add | ScalarOp::Sub | ScalarOp::Mul | ScalarOp::Div | ScalarOp::Fma | ScalarOp::Sqrt
        );
        exact.map(|text| if rounds { self.narrow(dtype, text) } else { text })
    }

    /// What a dtype of fewer bits than its variables have keeps of a value.
    fn narrow(&mut self, dtype: DType, text: String) -> String {
        match dtype {
            DType::F16 => {
                self.helpers.add(Helper::RoundF16);
                format!("round_f16({text})")
            }
            DType::BF16 => {
                self.helpers.add(Helper::RoundBf16);
                format!("round_bf16({text})")
            }
            DType::I8 => format!("extractBits({text}, 0u, 8u)"),
            DType::I16 => format!("extractBits({text}, 0u, 16u)"),
            DType::U8 => format!("(({text}) & 0xffu)"),
            DType::U16 => format!("(({text}) & 0xffffu)"),
            DType::Bool
            | DType::I32
            | DType::I64
            | DType::U32
            | DType::U64
            | DType::F32
            | DType::F64
            | DType::C64
            | DType::C128 => text,
        }
    }

    /// The function that recognises a NaN of a dtype, if it has any.
    pub(super) fn is_nan(&mut self, dtype: DType) -> Option<&'static str> {
        match self.ty(dtype).ok()? {
            "f32" => {
                self.helpers.add(Helper::IsNan);
                Some("is_nan")
            }
            "f64" => {
                self.helpers.add(Helper::IsNanF64);
                Some("is_nan_f64")
            }
            _ => None,
        }
    }

    fn int_op(&mut self, op: ScalarOp, dtype: DType, [a, b, _]: [&str; 3]) -> Option<String> {
        let signed = dtype.kind() == Kind::Signed;
        let ty = self.ty(dtype).ok()?;
        let zero = if ty == "i64" { "0li" } else { "0" };
        let bits = 8 * dtype.size();
        let exact = match op {
            ScalarOp::Add => format!("{a} + {b}"),
            ScalarOp::Sub => format!("{a} - {b}"),
            ScalarOp::Mul => format!("{a} * {b}"),
            ScalarOp::Div | ScalarOp::Rem => {
                let name = if op == ScalarOp::Div { "div" } else { "rem" };
                let [div, rem] = match ty {
                    "i32" => [Helper::DivI32, Helper::RemI32],
                    "u32" => [Helper::DivU32, Helper::RemU32],
                    "i64" => [Helper::DivI64, Helper::RemI64],
                    _ => [Helper::DivU64, Helper::RemU64],
                };
                self.helpers.add(if op == ScalarOp::Div { div } else { rem });
                format!("{name}_{ty}({a}, {b})")
            }
            ScalarOp::Neg if signed => format!("{zero} - {a}"),
            ScalarOp::Neg => format!("{ty}(0) - {a}"),
            ScalarOp::Abs if signed => format!("abs({a})"),
            ScalarOp::Not => format!("~{a}"),
            // The count of an i64 is taken modulo 64, which 32 bits cannot follow.
            ScalarOp::Shl | ScalarOp::Shr if dtype == DType::I64 && ty == "i32" => return None,
            ScalarOp::Shl | ScalarOp::Shr => {
                let symbol = if op == ScalarOp::Shl { "<<" } else { ">>" };
                let count = match ty {
                    "i32" => format!("bitcast<u32>({b})"),
                    "u32" => b.to_owned(),
                    "i64" => format!("u32(u64({b}))"),
                    _ => format!("u32({b})"),
                };
                format!("{a} {symbol} ({count} & {}u)", bits - 1)
            }
            _ => return int_text(op, [a, b]),
        };
        Some(self.narrow(dtype, exact))
    }

    fn convert(&mut self, from: DType, to: DType, a: &str) -> Option<String> {
        let (source, target) = (self.ty(from).ok()?, self.ty(to).ok()?);
        let half = matches!(to, DType::F16 | DType::BF16);
        let zero = |ty: &str, digit: u32| match ty {
            "f32" => format!("{digit}.0f"),
            "f64" => format!("{digit}.0lf"),
            "u32" => format!("{digit}u"),
            "i64" => format!("{digit}li"),
            "u64" => format!("{digit}lu"),
            _ => digit.to_string(),
        };
        let text = match (source, target) {
            _ if from == to => return Some(a.to_owned()),
            ("f32", "bool") => return self.helper(Helper::NeF32, format!("ne_f32({a}, 0.0f)")),
            ("f64", "bool") => return self.helper(Helper::NeF64, format!("ne_f64({a}, 0.0lf)")),
            (_, "bool") => return Some(format!("{a} != {}", zero(source, 0))),
            ("bool", _) => return Some(format!("select({}, {}, {a})", zero(target, 0), zero(target, 1))),
            ("f32", "f32") => a.to_owned(),
            ("f64", "f32") if half => self.helper(Helper::OddF64, format!("odd_f64({a})"))?,
            ("f64", "f32") | ("f32", "f64") => format!("{target}({a})"),
            ("f32" | "f64", _) => return self.saturated(source, to, a),
            ("u32", "f32") if half => self.helper(Helper::OddU32, format!("odd_u32({a})"))?,
            ("u64", "f32") if half => self.helper(Helper::OddU64, format!("odd_u64({a})"))?,
            ("i32", "f32") if half => {
                let odd = |x: &str| format!("odd_u32(bitcast<u32>({x}))");
                let both = format!("select({}, -{}, {a} < 0)", odd(a), odd(&format!("0 - {a}")));
                self.helper(Helper::OddU32, both)?
            }
            ("i64", "f32") if half => {
                let odd = |x: &str| format!("odd_u64(u64({x}))");
                let both = format!("select({}, -{}, {a} < 0li)", odd(a), odd(&format!("0li - {a}")));
                self.helper(Helper::OddU64, both)?
            }
            (_, "f32" | "f64") => format!("{target}({a})"),
            // Half of the values of u32 are no index value.
            ("u32", "i32") if to == DType::I64 => return None,
            (source, target) if source == target => a.to_owned(),
            ("i32", "u32") | ("u32", "i32") => format!("bitcast<{target}>({a})"),
            // Conversions that change width and sign at once extend by the sign of the result.
            ("u32", "i64") => format!("i64(u64({a}))"),
            ("i32", "u64") => format!("u64(i64({a}))"),
            // As for index values.
            ("i32", "i64") => format!("(i64({a}) ^ i64(params.zero))"),
            ("i64", "u32") => format!("u32(u64({a}))"),
            ("u64", "i32") => format!("i32(i64({a}))"),
            (_, target) => format!("{target}({a})"),
        };
        Some(self.narrow(to, text))
    }

    /// A float as an integer: truncated, and saturated to what the dtype has.
    fn saturated(&mut self, source: &str, to: DType, a: &str) -> Option<String> {
        let ty = self.ty(to).ok()?;
        let [from_f32, from_f64] = match ty {
            "i32" => [Helper::F32ToI32, Helper::F64ToI32],
            "u32" => [Helper::F32ToU32, Helper::F64ToU32],
            "i64" => [Helper::F32ToI64, Helper::F64ToI64],
            "u64" => [Helper::F32ToU64, Helper::F64ToU64],
            _ => return None,
        };
        let text = self.by_width(source, [from_f32, from_f64], format!("{source}_to_{ty}({a})"))?;
        Some(match to {
            DType::I8 => format!("clamp({text}, -128, 127)"),
            DType::I16 => format!("clamp({text}, -32768, 32767)"),
            DType::U8 => format!("min({text}, 255u)"),
            DType::U16 => format!("min({text}, 65535u)"),
            _ => text,
        })
    }

    fn bitcast(&mut self, from: DType, to: DType, a: &str) -> Option<String> {
        let (source, target) = (self.ty(from).ok()?, self.ty(to).ok()?);
        if from == to {
            return Some(a.to_owned());
        }
        if from.size() != to.size() {
            return None;
        }
        // An i64 that is an index value has no bits to give.
        if from.size() == 8 && !self.has_i64() {
            return None;
        }
        if from.size() >= 4 {
            return Some(format!("bitcast<{target}>({a})"));
        }
        let bits = match (from, source) {
            (DType::F16, _) => self.helper(Helper::F16Bits, format!("f16_bits({a})"))?,
            (DType::BF16, _) => format!("(bitcast<u32>({a}) >> 16u)"),
            (_, "i32") => format!("bitcast<u32>({a})"),
            _ => a.to_owned(),
        };
        match to {
            DType::F16 => self.helper(Helper::F16Value, format!("f16_value({bits} & 0xffffu)")),
            DType::BF16 => Some(format!("bitcast<f32>({bits} << 16u)")),
            _ if target == "i32" => Some(self.narrow(to, format!("bitcast<i32>({bits})"))),
            _ => Some(self.narrow(to, bits)),
        }
    }
}

/// Operations of floats that WGSL has.
fn float_text(op: ScalarOp, [a, b, c]: [&str; 3]) -> Option<String> {
    Some(match op {
        ScalarOp::Add => format!("{a} + {b}"),
        ScalarOp::Sub => format!("{a} - {b}"),
        ScalarOp::Mul => format!("{a} * {b}"),
        ScalarOp::Div => format!("{a} / {b}"),
        ScalarOp::Fma => format!("fma({a}, {b}, {c})"),
        ScalarOp::Neg => format!("-{a}"),
        ScalarOp::Abs => format!("abs({a})"),
        ScalarOp::Floor => format!("floor({a})"),
        ScalarOp::Ceil => format!("ceil({a})"),
        ScalarOp::Trunc => format!("trunc({a})"),
        ScalarOp::Round => format!("round({a})"),
        ScalarOp::Sqrt => format!("sqrt({a})"),
        // The orders of WGSL are false on NaN.
        ScalarOp::Eq => format!("{a} == {b}"),
        ScalarOp::Lt => format!("{a} < {b}"),
        ScalarOp::Le => format!("{a} <= {b}"),
        ScalarOp::Gt => format!("{a} > {b}"),
        ScalarOp::Ge => format!("{a} >= {b}"),
        ScalarOp::Rem
        | ScalarOp::Max
        | ScalarOp::Min
        | ScalarOp::Ne
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

/// Operations of integers that WGSL has for all of them.
fn int_text(op: ScalarOp, [a, b]: [&str; 2]) -> Option<String> {
    Some(match op {
        ScalarOp::Max => format!("max({a}, {b})"),
        ScalarOp::Min => format!("min({a}, {b})"),
        ScalarOp::Abs => a.to_owned(),
        ScalarOp::And => format!("{a} & {b}"),
        ScalarOp::Or => format!("{a} | {b}"),
        ScalarOp::Xor => format!("{a} ^ {b}"),
        ScalarOp::Eq => format!("{a} == {b}"),
        ScalarOp::Ne => format!("{a} != {b}"),
        ScalarOp::Lt => format!("{a} < {b}"),
        ScalarOp::Le => format!("{a} <= {b}"),
        ScalarOp::Gt => format!("{a} > {b}"),
        ScalarOp::Ge => format!("{a} >= {b}"),
        ScalarOp::Add
        | ScalarOp::Sub
        | ScalarOp::Mul
        | ScalarOp::Div
        | ScalarOp::Rem
        | ScalarOp::Neg
        | ScalarOp::Not
        | ScalarOp::Shl
        | ScalarOp::Shr
        | ScalarOp::Fma
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
