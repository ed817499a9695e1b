//! Derivatives of what an equation defines.
//!
//! A solution `x(θ)` of an equation varies with what the equation depends on, whatever way it was found: a tangent `θ'` changes
//! the equation at `x` by some `c = ∂f/∂θ θ'`, and `x'` is a linear function of `c` with the equation's Jacobian in it.
//! The solution is a call with this as its own derivative, so that nothing is differentiated through the search.
//! What is linear in `c` is made of operations that have a transpose, and so serves reverse mode.
//!
//! The derivative uses the solution again, and stands in the same call if second derivatives are to go on like this; graphs
//! being finite, there are two such calls inside each other, and a third derivative goes through the search, in forward mode.
//!
//! # Source
//! Griewank and Walther, "Evaluating Derivatives", 2nd ed., 2008, ch. 15; Blondel et al., "Efficient and Modular Implicit
//! Differentiation", 2022.

use lehr_ir::attrs::Attrs;
use lehr_ir::loc::Loc;

use super::closed::Closed;
use crate::composite::Composite;
use crate::tensor::{Tensor, settle};
use crate::transform::pushed;

/// How many derivatives follow the theorem.
const ORDERS: usize = 2;

/// A function of a vector.
pub(super) type Map<'a> = dyn Fn(&Tensor) -> Tensor + 'a;

/// An equation of a vector, and how it is solved.
pub(super) struct Implicit<'a> {
    /// The name of the call.
    pub(super) name: &'a str,
    /// The function in the equation.
    pub(super) f: &'a Closed<'a>,
    /// From the function and a first guess to the solution.
    pub(super) solve: &'a dyn Fn(&Map<'_>, &Tensor) -> Tensor,
    /// From the function, the solution and the change of the function to the change of the solution, linear in the last.
    pub(super) tangent: &'a dyn Fn(&Map<'_>, &Tensor, &Tensor) -> Tensor,
    /// The user's line.
    pub(super) loc: &'a Loc,
}

impl Implicit<'_> {
    /// The solution, from a first guess, which it does not vary with.
    pub(super) fn solution(&self, guess: &Tensor) -> Tensor {
        let mut operands = self.f.captured.clone();
        operands.push(guess.clone());
        self.call(ORDERS, &operands)
    }

    /// The solution for captured tensors and a guess, with so many orders of derivatives of its own.
    fn call(&self, orders: usize, operands: &[Tensor]) -> Tensor {
        let solve = |p: &[Tensor]| {
            let (captured, guess) = p.split_at(p.len() - 1);
            (self.solve)(&|x| self.f.at(captured, x), &guess[0])
        };
        if orders == 0 {
            return solve(operands);
        }
        let refs: Vec<&Tensor> = operands.iter().collect();
        let call = Composite { name: self.name, attrs: Attrs::new(), operands: &refs, loc: self.loc };
        settle(call.call_with_jvp(&solve, &|p, t| {
            let x = self.call(orders - 1, p);
            let captured = &p[..p.len() - 1];
            let varying: Vec<Tensor> =
                captured.iter().filter(|c| c.dtype().is_some_and(lehr_ir::DType::is_inexact)).cloned().collect();
            let y = self.f.at(captured, &x);
            // The guess is the last of the operands that vary.
            let given = &t[..varying.len()];
            let change = pushed(std::slice::from_ref(&y), &varying, given, std::slice::from_ref(&x), self.loc);
            let tangent = match change {
                Ok(change) => (self.tangent)(&|x| self.f.at(captured, x), &x, &change[0]),
                Err(bad) => bad,
            };
            [x, tangent]
        }))
    }
}
