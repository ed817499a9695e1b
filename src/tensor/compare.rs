//! Comparisons, logic and choice.

use lehr_ir::DType;
use lehr_ir::loc::Loc;
use lehr_ir::ops::{BinaryOp, CompareOp, Operation, Select};

use super::operand::{Arg, Operand, align, broadcast_all, common_dtype, to_dtype};
use super::{Built, Tensor, settle, sound};

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident = $Op:ident;)*) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// # Shapes
            /// Broadcast; the result is bool. Comparisons with NaN are false, but `ne` is true.
            /// # Gradient
            /// None.
            #[track_caller]
            #[must_use]
            pub fn $name(&self, other: impl Operand) -> Self {
                self.compare(CompareOp::$Op, &other.operand(), &Loc::caller())
            }
        )* }
    };
}

comparisons! {
    /// Whether elements are equal.
    eq = Eq;
    /// Whether elements differ.
    ne = Ne;
    /// Whether elements are less.
    lt = Lt;
    /// Whether elements are less or equal.
    le = Le;
    /// Whether elements are greater.
    gt = Gt;
    /// Whether elements are greater or equal.
    ge = Ge;
}

macro_rules! logic {
    ($($(#[$doc:meta])* $name:ident = $Op:ident;)*) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// # Shapes
            /// Broadcast; the result is bool. What is not bool counts as true where it is not 0.
            /// # Gradient
            /// None.
            #[track_caller]
            #[must_use]
            pub fn $name(&self, other: impl Operand) -> Self {
                let loc = Loc::caller();
                let x = Arg::Tensor(self.cast_at(DType::Bool, &loc));
                settle(Self::try_binary(BinaryOp::$Op, &x, &other.operand(), DType::Bool, &loc))
            }
        )* }
    };
}

logic! {
    /// Whether both hold.
    logical_and = And;
    /// Whether one or both hold.
    logical_or = Or;
    /// Whether exactly one holds.
    logical_xor = Xor;
}

impl Tensor {
    pub(crate) fn compare(&self, op: CompareOp, other: &Arg, loc: &Loc) -> Self {
        settle(self.try_compare(op, other, loc))
    }

    fn try_compare(&self, op: CompareOp, other: &Arg, loc: &Loc) -> Built {
        let x = Arg::Tensor(self.clone());
        let dtype = common_dtype(&[&x, other]);
        let both = align(op.name(), &[&x, other], dtype, loc)?;
        Ok(Self::apply(op, &[&both[0], &both[1]], loc))
    }

    /// Whether each element does not hold; what is not bool holds where it is not 0.
    #[track_caller]
    #[must_use]
    pub fn logical_not(&self) -> Self {
        self.cast(DType::Bool).bitwise_not()
    }

    /// `condition ? x : y`, element by element.
    ///
    /// # Shapes
    /// All three broadcast; `x` and `y` take their common dtype.
    /// # Gradient
    /// To `x` where the condition holds, to `y` elsewhere.
    /// # Errors
    /// A condition that is not bool; shapes that do not broadcast.
    /// ```
    /// use lehr::Tensor;
    /// let x = Tensor::from([-1.0f32, 2.0]);
    /// assert_eq!(Tensor::select(&x.gt(0), &x, 0).to_string(), "[0,2]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn select(condition: &Self, x: impl Operand, y: impl Operand) -> Self {
        settle(Self::try_select(condition, &x.operand(), &y.operand(), &Loc::caller()))
    }

    fn try_select(condition: &Self, x: &Arg, y: &Arg, loc: &Loc) -> Built {
        sound(&[condition])?;
        if condition.dtype() != Some(DType::Bool) {
            let rule = "the condition must be bool";
            return Err(Self::refuse("select", &[condition], rule, "compare it with something", loc.clone()));
        }
        let dtype = common_dtype(&[x, y]);
        let (x, y) = (to_dtype("select", x, dtype, loc)?, to_dtype("select", y, dtype, loc)?);
        let all = broadcast_all("select", &[condition.clone(), x, y], loc)?;
        Ok(Self::apply(Select, &[&all[0], &all[1], &all[2]], loc))
    }
}
