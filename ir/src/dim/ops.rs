//! Conversions and operators, on values, references and integers alike.

use std::iter::{Product, Sum};
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use super::{Dim, Factor, Fault, Repr, Symbol};

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        Self(Repr::Const(value))
    }
}

impl From<i32> for Dim {
    fn from(value: i32) -> Self {
        Self(Repr::Const(value.into()))
    }
}

impl From<u32> for Dim {
    fn from(value: u32) -> Self {
        Self(Repr::Const(value.into()))
    }
}

/// A value above `i64::MAX` gives a [`Fault::Overflow`].
impl From<usize> for Dim {
    fn from(value: usize) -> Self {
        i64::try_from(value).map_or(Fault::Overflow.into(), Self::from)
    }
}

impl From<Symbol> for Dim {
    fn from(symbol: Symbol) -> Self {
        Factor::Symbol(symbol).into()
    }
}

impl From<&Symbol> for Dim {
    fn from(symbol: &Symbol) -> Self {
        symbol.clone().into()
    }
}

impl From<&Dim> for Dim {
    fn from(dim: &Dim) -> Self {
        dim.clone()
    }
}

impl PartialEq<i64> for Dim {
    fn eq(&self, other: &i64) -> bool {
        self.as_const() == Some(*other)
    }
}

fn add(a: &Dim, b: &Dim) -> Dim {
    a.add_scaled(b, 1)
}

fn sub(a: &Dim, b: &Dim) -> Dim {
    a.add_scaled(b, -1)
}

fn mul(a: &Dim, b: &Dim) -> Dim {
    a.times(b)
}

// `i64` is the one integer operand, since with several types a literal's type could not be inferred.
macro_rules! operators {
    ($($trait:ident $method:ident $assign_trait:ident $assign:ident;)*) => {$(
        impl $trait<&Dim> for &Dim {
            type Output = Dim;
            fn $method(self, other: &Dim) -> Dim { $method(self, other) }
        }
        impl $trait<Dim> for &Dim {
            type Output = Dim;
            fn $method(self, other: Dim) -> Dim { $method(self, &other) }
        }
        impl $trait<&Dim> for Dim {
            type Output = Dim;
            fn $method(self, other: &Dim) -> Dim { $method(&self, other) }
        }
        impl $trait<Dim> for Dim {
            type Output = Dim;
            fn $method(self, other: Dim) -> Dim { $method(&self, &other) }
        }
        impl<T: Into<Dim>> $assign_trait<T> for Dim {
            fn $assign(&mut self, other: T) { *self = $method(self, &other.into()); }
        }
        impl $trait<i64> for Dim {
            type Output = Dim;
            fn $method(self, other: i64) -> Dim { $method(&self, &other.into()) }
        }
        impl $trait<i64> for &Dim {
            type Output = Dim;
            fn $method(self, other: i64) -> Dim { $method(self, &other.into()) }
        }
        impl $trait<Dim> for i64 {
            type Output = Dim;
            fn $method(self, other: Dim) -> Dim { $method(&self.into(), &other) }
        }
        impl $trait<&Dim> for i64 {
            type Output = Dim;
            fn $method(self, other: &Dim) -> Dim { $method(&self.into(), other) }
        }
    )*};
}

operators! {
    Add add AddAssign add_assign;
    Sub sub SubAssign sub_assign;
    Mul mul MulAssign mul_assign;
}

impl Neg for &Dim {
    type Output = Dim;

    fn neg(self) -> Dim {
        Dim::ZERO.add_scaled(self, -1)
    }
}

impl Neg for Dim {
    type Output = Dim;

    fn neg(self) -> Dim {
        -&self
    }
}

impl<T: Into<Dim>> Sum<T> for Dim {
    fn sum<I: Iterator<Item = T>>(dims: I) -> Self {
        dims.fold(Self::ZERO, |sum, dim| sum + dim.into())
    }
}

impl<T: Into<Dim>> Product<T> for Dim {
    fn product<I: Iterator<Item = T>>(dims: I) -> Self {
        dims.fold(Self::ONE, |product, dim| product * dim.into())
    }
}
