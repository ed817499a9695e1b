//! Values of closed tensors, and printing them.

use std::fmt;

use lehr_ir::Array;
use lehr_ir::expr::import;
use lehr_ir::graph::ParamKind;

use super::Tensor;
use crate::error::Result;
use crate::outputs::FromArray;
use crate::runtime::Runtime;
use crate::state::State;

/// The most nodes and elements of a tensor whose values `Display` computes.
const CHEAP_NODES: usize = 1000;
const CHEAP_ELEMENTS: usize = 100_000;

impl Tensor {
    /// The value of a tensor that has no inputs; variables have their initial values.
    ///
    /// Captured arrays are arguments of the compiled program, which the default runtime keeps for equal expressions.
    /// # Errors
    /// The errors that it carries; inputs that are left open.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!((Tensor::from([1.0f32, 2.0]) * 2).eval()?.as_slice::<f32>(), Some(&[2.0, 4.0][..]));
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    pub fn eval(&self) -> Result<Array> {
        self.eval_in(&State::new())
    }

    /// The value where variables have the values of a state.
    ///
    /// # Errors
    /// As [`Tensor::eval`].
    #[track_caller]
    pub fn eval_in(&self, state: &State) -> Result<Array> {
        let mut all = Runtime::global().eval(&[self], state)?;
        all.pop().ok_or_else(|| crate::Error::internal("an evaluation gave no output"))
    }

    /// The value as a Rust value: a number, a `Vec`, or an `ndarray` array.
    ///
    /// # Errors
    /// As [`Tensor::eval`]; a value of another dtype or shape.
    /// ```
    /// use lehr::Tensor;
    /// let sum: f32 = Tensor::from([1.0f32, 2.0]).sum().to()?;
    /// assert_eq!(sum, 3.0);
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    pub fn to<T: FromArray>(&self) -> Result<T> {
        let array = self.eval()?;
        let got = Box::new(crate::inputs::type_of(&array));
        T::from_array(array).ok_or_else(|| {
            let fault = crate::outputs::OutputFault::Type { name: "out".to_owned(), got, asked: T::describe() };
            crate::outputs::OutputError { function: "eval".to_owned(), fault, loc: self.0.loc().clone() }.into()
        })
    }

    /// Whether the value is at hand without inputs and variables, and quickly.
    fn is_cheap(&self) -> bool {
        let Ok(imported) = import("display", std::slice::from_ref(&self.0), &[]) else { return false };
        let graph = &imported.graph;
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let sizes = (0..graph.value_count() as u32).map(|v| graph.ty(lehr_ir::graph::Value(v)).static_shape());
        graph.params().iter().all(|p| p.kind == ParamKind::Data)
            && graph.node_count() <= CHEAP_NODES
            && sizes.into_iter().all(|s| s.is_some_and(|s| count(&s) <= CHEAP_ELEMENTS))
    }
}

/// The values, as `[[1,2],[3,4]]`, where they are at hand quickly; else the type, as `f32[batch, 64]`; else the errors.
impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.ty(), self.0.errors()) {
            (None, Some(e)) => write!(f, "{e}"),
            (None, None) => f.write_str("?"),
            (Some(ty), _) => match self.is_cheap().then(|| self.eval()) {
                Some(Ok(array)) => f.pad(&array.to_string().replace(", ", ",")),
                Some(Err(_)) | None => write!(f, "{ty}"),
            },
        }
    }
}
