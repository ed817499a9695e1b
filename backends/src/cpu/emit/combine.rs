//! How two partial results of a reduction combine, on scalars and on lanes alike.

use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Combiner, ScalarOp};
use smallvec::{SmallVec, smallvec};

use super::value::Val;
use super::{EmitError, Emitter};

/// The values of one reduction: one, or a value and its index.
pub(super) type Accumulator = SmallVec<[Val; 2]>;

impl Emitter<'_, '_> {
    /// The accumulator `a` after it takes `b`.
    pub(super) fn combine(
        &mut self,
        combiner: Combiner,
        dtypes: &[DType],
        a: &[Val],
        b: &[Val],
    ) -> Result<Accumulator, EmitError> {
        let op = match combiner {
            Combiner::Sum => ScalarOp::Add,
            Combiner::Prod => ScalarOp::Mul,
            Combiner::Max => ScalarOp::Max,
            Combiner::Min => ScalarOp::Min,
            Combiner::Any => ScalarOp::Or,
            Combiner::All => ScalarOp::And,
            Combiner::ArgMax => return self.first_extreme(ScalarOp::Gt, dtypes, a, b),
            Combiner::ArgMin => return self.first_extreme(ScalarOp::Lt, dtypes, a, b),
        };
        Ok(smallvec![self.two(op, dtypes[0], &a[0], &b[0])?])
    }

    /// Takes `b` where it is NaN and `a` is not, where it is better, or where it is as good and its index is less.
    fn first_extreme(
        &mut self,
        better: ScalarOp,
        dtypes: &[DType],
        a: &[Val],
        b: &[Val],
    ) -> Result<Accumulator, EmitError> {
        let (d, index) = (dtypes[0], DType::I64);
        let earlier = self.two(ScalarOp::Lt, index, &b[1], &a[1])?;
        let mut wins = self.two(better, d, &b[0], &a[0])?;
        let mut ties = self.two(ScalarOp::Eq, d, &a[0], &b[0])?;
        if d.is_float() {
            let (a_nan, b_nan) = (self.two(ScalarOp::Ne, d, &a[0], &a[0])?, self.two(ScalarOp::Ne, d, &b[0], &b[0])?);
            let only_b = self.two(ScalarOp::Gt, DType::Bool, &b_nan, &a_nan)?;
            let both = self.two(ScalarOp::And, DType::Bool, &a_nan, &b_nan)?;
            wins = self.two(ScalarOp::Or, DType::Bool, &wins, &only_b)?;
            ties = self.two(ScalarOp::Or, DType::Bool, &ties, &both)?;
        }
        let ties = self.two(ScalarOp::And, DType::Bool, &ties, &earlier)?;
        let wins = self.two(ScalarOp::Or, DType::Bool, &wins, &ties)?;
        let mut pick = |dtype, a: &Val, b: &Val| {
            self.apply(ScalarOp::Select, &[DType::Bool, dtype, dtype], &[wins.clone(), b.clone(), a.clone()])
        };
        Ok(smallvec![pick(d, &a[0], &b[0])?, pick(index, &a[1], &b[1])?])
    }

    fn two(&mut self, op: ScalarOp, dtype: DType, a: &Val, b: &Val) -> Result<Val, EmitError> {
        self.apply(op, &[dtype, dtype], &[a.clone(), b.clone()])
    }
}
