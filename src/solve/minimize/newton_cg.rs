//! Newton's direction, by conjugate gradients that end early where that is good enough.

use lehr_ir::loc::Loc;

use super::Objective;
use crate::control::while_loop;
use crate::tensor::Tensor;
use crate::transform::pushed;
use crate::tree::Tree;

/// Where the conjugate gradients stand.
#[derive(Tree)]
struct Cg {
    /// The solution so far.
    solution: Tensor,
    /// The gradient of the quadratic model there.
    residual: Tensor,
    /// Where to go next.
    towards: Tensor,
    products: Tensor,
    /// Whether the Hessian has been positive along all directions.
    convex: Tensor,
}

/// The solution `d` of `H d = -gradient`, to a precision that grows towards the minimum.
///
/// Where the Hessian is not positive along a direction, what has been found before it is taken; at first, the negative gradient.
pub(super) fn direction(objective: &Objective<'_>, x: &Tensor, gradient: &Tensor, most: u32, loc: &Loc) -> Tensor {
    let slope = objective(x).1;
    let times_hessian = |v: &Tensor| {
        // The gradient's own directional derivative: forward mode over reverse.
        let product = pushed(std::slice::from_ref(&slope), std::slice::from_ref(x), std::slice::from_ref(v), &[], loc);
        product.map_or_else(|bad| bad, |mut p| p.swap_remove(0))
    };
    let norm = gradient.norm();
    let enough = (norm.sqrt().minimum(0.5) * norm).square();
    let init = Cg {
        solution: gradient.zeros_like(),
        residual: gradient.clone(),
        towards: -gradient,
        products: Tensor::constant(0i64),
        convex: Tensor::constant(true),
    };
    let goes = |s: &Cg| &s.convex & s.residual.square().sum().gt(&enough) & s.products.lt(most);
    while_loop(&init, goes, |s| {
        let product = times_hessian(&s.towards);
        let curvature = s.towards.matmul(&product);
        let convex = curvature.gt(0);
        let before = s.residual.square().sum();
        let part = &before / &curvature;
        let solution = &s.solution + &part * &s.towards;
        let residual = &s.residual + &part * &product;
        let again = residual.square().sum() / &before;
        let until_here = Tensor::select(&s.products.eq(0), &s.towards, &s.solution);
        Cg {
            solution: Tensor::select(&convex, solution, until_here),
            towards: again * &s.towards - &residual,
            residual,
            products: &s.products + 1,
            convex,
        }
    })
    .solution
}
