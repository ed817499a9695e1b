//! Rust's operators, between tensors and with numbers on either side.

use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Rem, Shl, Shr, Sub};

use lehr_ir::loc::Loc;
use lehr_ir::ops::BinaryOp;

use super::Tensor;
use super::operand::{Arg, Operand};

macro_rules! operators {
    ($($(#[$doc:meta])* $Trait:ident $method:ident => $build:ident $Op:ident;)*) => { $(
        $(#[$doc])*
        impl<R: Operand> $Trait<R> for &Tensor {
            type Output = Tensor;

            #[track_caller]
            fn $method(self, rhs: R) -> Tensor {
                Tensor::$build(BinaryOp::$Op, &Arg::Tensor(self.clone()), &rhs.operand(), &Loc::caller())
            }
        }

        $(#[$doc])*
        impl<R: Operand> $Trait<R> for Tensor {
            type Output = Tensor;

            #[track_caller]
            fn $method(self, rhs: R) -> Tensor {
                Tensor::$build(BinaryOp::$Op, &Arg::Tensor(self), &rhs.operand(), &Loc::caller())
            }
        }

        // One type for each kind of number: so `1.5 * &x` needs no annotation, and the literal is weak whatever its type.
        operators!(@scalars $Trait $method $build $Op: bool i64 f64);
    )* };
    (@scalars $Trait:ident $method:ident $build:ident $Op:ident: $($ty:ty)*) => { $(
        impl $Trait<&Tensor> for $ty {
            type Output = Tensor;

            #[track_caller]
            fn $method(self, rhs: &Tensor) -> Tensor {
                Tensor::$build(BinaryOp::$Op, &self.operand(), &Arg::Tensor(rhs.clone()), &Loc::caller())
            }
        }

        impl $Trait<Tensor> for $ty {
            type Output = Tensor;

            #[track_caller]
            fn $method(self, rhs: Tensor) -> Tensor {
                Tensor::$build(BinaryOp::$Op, &self.operand(), &Arg::Tensor(rhs), &Loc::caller())
            }
        }
    )* };
}

operators! {
    /// The sum.
    Add add => binary Add;
    /// The difference.
    Sub sub => binary Sub;
    /// The product, element by element.
    Mul mul => binary Mul;
    /// The true quotient: integers and bool are converted to `f32` first.
    Div div => true_divide Div;
    /// The remainder with the sign of the dividend, as for Rust's numbers; [`Tensor::remainder`] has NumPy's.
    Rem rem => binary Rem;
    /// Bitwise and; logical for bool.
    BitAnd bitand => binary And;
    /// Bitwise or; logical for bool.
    BitOr bitor => binary Or;
    /// Bitwise exclusive or; logical for bool.
    BitXor bitxor => binary Xor;
    /// Shift to the left, the count taken modulo the width.
    Shl shl => binary Shl;
    /// Shift to the right, the count taken modulo the width; arithmetic for signed integers.
    Shr shr => binary Shr;
}

impl Neg for &Tensor {
    type Output = Tensor;

    #[track_caller]
    fn neg(self) -> Tensor {
        self.negative()
    }
}

impl Neg for Tensor {
    type Output = Tensor;

    #[track_caller]
    fn neg(self) -> Tensor {
        self.negative()
    }
}

impl Not for &Tensor {
    type Output = Tensor;

    #[track_caller]
    fn not(self) -> Tensor {
        self.bitwise_not()
    }
}

impl Not for Tensor {
    type Output = Tensor;

    #[track_caller]
    fn not(self) -> Tensor {
        self.bitwise_not()
    }
}
