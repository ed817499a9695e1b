//! The backward graph of a call's own reverse rule, over a batch.

use std::sync::Arc;

use lehr_ir::OpError;
use lehr_ir::graph::{Builder, Graph, Region};

/// A batched backward graph, for a call some of whose operands are shared by all examples.
///
/// The cotangent of a shared operand is the sum over the examples that it serves.
pub(super) fn for_shared_operands(body: &Graph, bwd: &Region, batched: &[bool]) -> Result<Region, OpError> {
    let inexact = body.param_types().zip(batched).filter(|(ty, _)| ty.dtype.is_inexact());
    let shared: Vec<bool> = inexact.map(|(_, batched)| !batched).collect();
    if !shared.contains(&true) {
        return Ok(Arc::clone(bwd));
    }
    let mut b = Builder::new(bwd.name.clone());
    b.set_facts(bwd.facts.clone());
    let mut args = Vec::with_capacity(bwd.params().len());
    for (p, ty) in bwd.params().iter().zip(bwd.param_types()) {
        b.loc = p.loc.clone();
        args.push(b.param(p.name.clone(), p.kind, ty.clone()));
    }
    let results = b.inline(bwd, &args);
    for ((o, v), shared) in bwd.outputs().iter().zip(results).zip(shared) {
        let v = if shared { b.sum(v, &[0])? } else { v };
        b.output(o.name.clone(), v);
    }
    Ok(b.into_region())
}
