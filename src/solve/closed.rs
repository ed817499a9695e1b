//! A function of a vector whose captured tensors are parameters as well.

use std::sync::Arc;

use lehr_ir::graph::Region;
use lehr_ir::loc::Loc;
use lehr_ir::ops::Call;

use crate::control::trace::Trace;
use crate::tensor::{Tensor, sound};

/// A closure over one vector, as a graph from the tensors that it captures and the vector.
pub(super) struct Closed<'a> {
    name: String,
    region: Region,
    loc: &'a Loc,
    /// What it captures: what a derivative of the solution may be asked by.
    pub(super) captured: Vec<Tensor>,
}

impl<'a> Closed<'a> {
    /// Traces a closure for vectors of the type of `x`.
    pub(super) fn new(
        op: &str,
        x: &Tensor,
        f: impl FnOnce(&Tensor) -> Result<Tensor, Tensor>,
        loc: &'a Loc,
    ) -> Result<Self, Tensor> {
        sound(&[x])?;
        let Some(ty) = x.0.ty() else { return Err(x.clone()) };
        let mut trace = Trace::new(op, loc);
        let param = trace.param("x", ty.clone(), x.facts());
        let y = trace.run(|| f(&param))?;
        let traced = trace.gave(vec![y]);
        // What does not depend on the vector is computed once, around all solving.
        let captured = traced.captures(true);
        let region = traced.region(&captured)?;
        Ok(Self { name: format!("{op}.f"), region, loc, captured: captured.into_iter().map(Tensor).collect() })
    }

    /// Its value for some captured tensors and a vector.
    pub(super) fn at(&self, captured: &[Tensor], x: &Tensor) -> Tensor {
        let operands: Vec<&Tensor> = captured.iter().chain([x]).collect();
        Tensor::apply(Call::new(self.name.clone(), Arc::clone(&self.region)), &operands, self.loc)
    }
}
