//! Elementary functions: the reference in `f64`, and the recipes that emitters use for `f32`.

use half::{bf16, f16};

use super::Functions;
use super::scalar::{Bits, Float, Value};
use crate::dtype::DType;
use crate::kernel::recipes::{Function, host};

/// A call of an elementary function on bits; the second operand of a function of one argument is ignored.
pub(super) type Call = fn(Function, u64, u64) -> u64;

/// How to call functions on one dtype; `None` where it is no float.
pub(super) fn call(functions: Functions, dtype: DType) -> Option<Call> {
    Some(match (dtype, functions) {
        (DType::F64, Functions::Reference | Functions::Recipe) => by_reference::<f64>,
        (DType::F32, Functions::Reference) => by_reference::<f32>,
        (DType::F16, Functions::Reference) => by_reference::<f16>,
        (DType::BF16, Functions::Reference) => by_reference::<bf16>,
        (DType::F32, Functions::Recipe) => by_recipe::<f32>,
        (DType::F16, Functions::Recipe) => by_recipe::<f16>,
        (DType::BF16, Functions::Recipe) => by_recipe::<bf16>,
        (
            DType::Bool
            | DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64
            | DType::C64
            | DType::C128,
            _,
        ) => return None,
    })
}

fn by_reference<T: Bits>(f: Function, a: u64, b: u64) -> u64 {
    let wide = |bits| T::of(bits).value().to_f64();
    T::from_value(Value::Float(reference(f, wide(a), wide(b)))).bits()
}

fn by_recipe<T: Float<Wide = f32>>(f: Function, a: u64, b: u64) -> u64 {
    let args = [T::of(a).wide(), T::of(b).wide()];
    T::narrow(host::evaluate(f, &args[..f.arity().min(2)])).bits()
}

/// The value of a function in `f64`, by libm; `b` is ignored by functions of one argument.
pub fn reference(f: Function, a: f64, b: f64) -> f64 {
    match f {
        Function::Exp | Function::ExpBounded => libm::exp(a),
        Function::Exp2 => libm::exp2(a),
        Function::Expm1 => libm::expm1(a),
        Function::Log => libm::log(a),
        Function::Log2 => libm::log2(a),
        Function::Log1p => libm::log1p(a),
        Function::Sin | Function::SinBounded => libm::sin(a),
        Function::Cos | Function::CosBounded => libm::cos(a),
        Function::Tan | Function::TanBounded => libm::tan(a),
        Function::Tanh => libm::tanh(a),
        // exp(-|a|) does not overflow, and neither branch cancels.
        Function::Logistic if a < 0.0 => libm::exp(a) / (1.0 + libm::exp(a)),
        Function::Logistic => 1.0 / (1.0 + libm::exp(-a)),
        Function::Erf => libm::erf(a),
        Function::Erfc => libm::erfc(a),
        Function::Sqrt => libm::sqrt(a),
        Function::Rsqrt => 1.0 / libm::sqrt(a),
        Function::Cbrt => libm::cbrt(a),
        Function::Sinh => libm::sinh(a),
        Function::Cosh => libm::cosh(a),
        Function::Asin => libm::asin(a),
        Function::Acos => libm::acos(a),
        Function::Atan => libm::atan(a),
        Function::Asinh => libm::asinh(a),
        Function::Acosh => libm::acosh(a),
        Function::Atanh => libm::atanh(a),
        Function::Pow => libm::pow(a, b),
        Function::Atan2 => libm::atan2(a, b),
    }
}
