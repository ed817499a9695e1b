//! The true values, in f64: std where it is accurate enough, libm for erf and erfc.

use lehr_ir::kernel::recipes::Function;

/// `function` in f64; the second argument is read by the functions of two only.
pub fn reference(function: Function, x: f64, y: f64) -> f64 {
    // Beyond these arguments f32 overflows or vanishes, and f64 would take its slow path.
    let near = x.clamp(-700.0, 700.0);
    match function {
        Function::Log | Function::Log2 | Function::Sqrt | Function::Rsqrt if x < 0.0 => f64::NAN,
        Function::Log1p if x < -1.0 => f64::NAN,
        Function::Asin | Function::Acos | Function::Atanh if x.abs() > 1.0 => f64::NAN,
        Function::Erf if x.abs() > 6.0 => 1f64.copysign(x),
        Function::Erfc if x.abs() > 20.0 => 1.0 - 1f64.copysign(x),
        Function::Tanh if x.abs() > 20.0 => 1f64.copysign(x),
        Function::Exp | Function::ExpBounded => near.exp(),
        Function::Exp2 => near.exp2(),
        Function::Expm1 => near.exp_m1(),
        Function::Log => x.ln(),
        Function::Log2 => x.log2(),
        Function::Log1p => x.ln_1p(),
        Function::Sin | Function::SinBounded => x.sin(),
        Function::Cos | Function::CosBounded => x.cos(),
        Function::Tan | Function::TanBounded => x.tan(),
        Function::Tanh => x.tanh(),
        Function::Logistic => {
            let t = (-near.abs()).exp();
            (if x < 0.0 { t } else { 1.0 }) / (1.0 + t)
        }
        Function::Erf => libm::erf(x),
        Function::Erfc => libm::erfc(x),
        Function::Sqrt => x.sqrt(),
        Function::Rsqrt => 1.0 / x.sqrt(),
        Function::Cbrt => x.cbrt(),
        Function::Sinh => near.sinh(),
        Function::Cosh => near.cosh(),
        Function::Asin => x.asin(),
        Function::Acos => x.acos(),
        Function::Atan => x.atan(),
        Function::Asinh => x.asinh(),
        Function::Acosh => x.acosh(),
        Function::Atanh => x.atanh(),
        Function::Pow => x.powf(y),
        Function::Atan2 => x.atan2(y),
        _ => unreachable!("a function without reference: {function:?}"),
    }
}
