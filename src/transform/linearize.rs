//! A function at a point, and its derivative there as a linear function.

use lehr_ir::expr::{Expr, export};
use lehr_ir::graph::Graph;
use lehr_ir::loc::Loc;
use lehr_passes::derivative::{self, Keep, Residual, Side, Split};

use super::product::{among, unnamed};
use super::{Over, carry, floats, same_types};
use crate::scope;
use crate::tensor::Tensor;
use crate::tree::{self, Tree};

/// The values of `outputs`, and their derivative by `wrt` as a linear function that can be applied any number of times.
///
/// The function is linearised once: what applications have in common, which is all that does not depend on a tangent, is
/// computed once.
/// # Errors
/// As [`jvp`](super::jvp): values carry the error, and so does what the linear function gives.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f32, 2.0]);
/// let (y, slope) = linearize(&(&x * &x), &x);
/// assert_eq!(y.to_string(), "[1,4]");
/// assert_eq!(slope.apply(&Tensor::from([1.0f32, 0.0])).to_string(), "[2,0]");
/// assert_eq!(slope.transpose(&Tensor::from([1.0f32, 10.0])).to_string(), "[2,40]");
/// ```
#[track_caller]
pub fn linearize<O: Tree + ?Sized, T: Tree + ?Sized>(outputs: &O, wrt: &T) -> (O::Mapped, Linear<O::Mapped, T::Mapped>)
where
    O::Mapped: Tree<Mapped = O::Mapped>,
    T::Mapped: Tree<Mapped = T::Mapped>,
{
    let loc = Loc::caller();
    let (outs, leaves) = (tree::leaves(outputs), tree::named_leaves(wrt));
    let given = tree::with_leaves(wrt, unnamed(leaves.clone()));
    let made = floats("linearize", "input", &leaves, &loc).and_then(|()| Parts::new(&outs, &unnamed(leaves), &loc));
    let (values, parts) = match made {
        Ok((values, parts)) => (tree::with_leaves(outputs, values), Ok(parts)),
        Err(bad) => (tree::with_leaves(outputs, vec![bad.clone(); outs.len()]), Err(bad)),
    };
    let outputs = tree::with_leaves(outputs, outs);
    (values, Linear { outputs, wrt: given, parts })
}

/// A derivative at a point: from tangents of inputs to tangents of outputs, and back.
#[derive(Clone, Debug)]
pub struct Linear<O, T> {
    outputs: O,
    wrt: T,
    parts: Result<Parts, Tensor>,
}

/// The linear part of a graph, and what it starts from.
#[derive(Clone, Debug)]
struct Parts {
    /// From residuals and tangents to the tangents that are not zero.
    graph: Graph,
    residuals: Vec<Expr>,
    over: Over,
    /// For each float output, the result that is its tangent.
    places: Vec<Option<usize>>,
}

impl Parts {
    fn new(outputs: &[Tensor], leaves: &[Tensor], loc: &Loc) -> Result<(Vec<Tensor>, Self), Tensor> {
        let over = Over::new("linearize", outputs, leaves)?;
        let graph = derivative::jvp(&over.graph, &over.wrt()).map_err(|e| carry(&e, loc))?;
        let known: Vec<bool> = (0..graph.params().len()).map(|i| i < over.args.len()).collect();
        let split = derivative::split(&graph, &known, Keep::Used).map_err(|e| carry(&e, loc))?;
        let Split { known, unknown, residuals, outputs: sides } = split;
        let forward = export(&known, &over.args, &scope::region());
        let value = |side: &Side| match *side {
            Side::Known(i) => forward.get(i).cloned(),
            Side::Unknown(_) => None,
        };
        let values =
            sides.iter().take(outputs.len()).zip(outputs).map(|(s, o)| value(s).unwrap_or_else(|| o.0.clone()));
        let place = |side: &Side| match *side {
            Side::Known(_) => None,
            Side::Unknown(i) => Some(i),
        };
        let places = sides[outputs.len()..].iter().map(place).collect();
        let residuals = residuals.iter().map(|r| match *r {
            Residual::Param(i) => over.args[i].clone(),
            Residual::Output(i) => forward[i].clone(),
        });
        let (values, residuals) = (values.map(Tensor).collect(), residuals.collect());
        Ok((values, Self { graph: unknown, residuals, over, places }))
    }
}

impl<O: Tree<Mapped = O>, T: Tree<Mapped = T>> Linear<O, T> {
    /// The outputs' tangents from the inputs'.
    ///
    /// # Errors
    /// Another number of tangents than inputs, or tangents of other types.
    #[track_caller]
    pub fn apply<V: Tree + ?Sized>(&self, tangents: &V) -> O {
        let loc = Loc::caller();
        let outs = tree::leaves(&self.outputs);
        match self.try_apply(&outs, &tree::leaves(tangents), &loc) {
            Ok(all) => tree::with_leaves(&self.outputs, all),
            Err(bad) => tree::with_leaves(&self.outputs, vec![bad; outs.len()]),
        }
    }

    fn try_apply(&self, outs: &[Tensor], given: &[Tensor], loc: &Loc) -> Result<Vec<Tensor>, Tensor> {
        let parts = self.parts.as_ref().map_err(Clone::clone)?;
        same_types("linearize", "tangent", &tree::leaves(&self.wrt), given, loc)?;
        let mut args = parts.residuals.clone();
        args.extend(parts.over.sums(given).into_iter().map(|t| t.0));
        let found = export(&parts.graph, &args, &scope::region());
        let floats = outs.iter().filter(|o| o.dtype().is_some_and(lehr_ir::DType::is_inexact));
        let tangents = floats.zip(&parts.places).map(|(o, place)| match place {
            Some(i) => Tensor(found[*i].clone()),
            None => o.zeros_like(),
        });
        Ok(among(outs, tangents.collect::<Vec<_>>().into_iter()))
    }

    /// The inputs' cotangents from the outputs': the transpose. A cotangent of an output that is no float is not looked at.
    ///
    /// # Errors
    /// Another number of cotangents than outputs, or cotangents of other types.
    #[track_caller]
    pub fn transpose<C: Tree + ?Sized>(&self, cotangents: &C) -> T {
        let loc = Loc::caller();
        let leaves = tree::leaves(&self.wrt);
        match self.try_transpose(&leaves, &tree::leaves(cotangents), &loc) {
            Ok(all) => tree::with_leaves(&self.wrt, all),
            Err(bad) => tree::with_leaves(&self.wrt, vec![bad; leaves.len()]),
        }
    }

    fn try_transpose(&self, leaves: &[Tensor], given: &[Tensor], loc: &Loc) -> Result<Vec<Tensor>, Tensor> {
        let parts = self.parts.as_ref().map_err(Clone::clone)?;
        let outs = tree::leaves(&self.outputs);
        same_types("linearize", "cotangent", &outs, given, loc)?;
        let count = parts.graph.outputs().len();
        let first = parts.residuals.len();
        let wrt: Vec<usize> = (first..parts.graph.params().len()).collect();
        let all: Vec<usize> = (0..count).collect();
        let graph = derivative::vjp(&parts.graph, &all, &wrt).map_err(|e| carry(&e, loc))?;
        let mut args = parts.residuals.clone();
        // A linear function has one transpose, wherever its argument is.
        let zeros = parts.over.args.iter().take(wrt.len()).map(|e| Tensor(e.clone()).zeros_like().0);
        args.extend(zeros);
        let floats = outs.iter().zip(given).filter(|(o, _)| o.dtype().is_some_and(lehr_ir::DType::is_inexact));
        let placed = floats.zip(&parts.places).filter(|(_, place)| place.is_some());
        args.extend(placed.map(|((_, ct), _)| ct.0.clone()));
        let found: Vec<Tensor> = export(&graph, &args, &scope::region()).into_iter().skip(count).map(Tensor).collect();
        let spread = parts.over.spread(found);
        Ok(leaves.iter().zip(spread).map(|(_, t)| t).collect())
    }
}
