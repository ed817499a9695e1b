//! What a call looks for when it is asked to, before variables change.

use lehr_ir::Array;
use lehr_ir::bindings::Bindings;
use lehr_ir::eval::indices::IndexWatch;
use lehr_ir::eval::trap::{first_nan, has_nan};
use lehr_ir::graph::Graph;

use crate::error::Result;
use crate::indices::IndexError;
use crate::nan::NanError;
use crate::program::Signature;

/// What looks at the arguments and results of a call before variables change.
pub(crate) struct Trap<'a> {
    /// The graph before any pass, whose nodes are the user's.
    pub(crate) graph: &'a Graph,
    /// What the function gives.
    pub(crate) signature: &'a Signature,
    /// Whether results with a NaN are refused.
    pub(crate) nan: bool,
    /// What indices depend on, if those that are out of range are refused.
    pub(crate) indices: Option<&'a IndexWatch>,
}

impl Trap<'_> {
    /// Refuses what it looks for.
    pub(crate) fn check(
        &self,
        args: &[Array],
        bindings: &Bindings,
        outputs: &[Array],
        updates: &[Array],
    ) -> Result<()> {
        if let Some(watch) = self.indices
            && let Some(fault) = watch.first(self.graph, args, bindings)?
        {
            return Err(IndexError { function: self.signature.name.clone(), fault }.into());
        }
        if !self.nan {
            return Ok(());
        }
        let named =
            self.signature.outputs.iter().zip(outputs).map(|((name, _), a)| (format!("the output `{name}`"), a));
        let variable = |param: u32| &self.graph.params()[param as usize].name;
        let new = self.graph.updates().iter().zip(updates);
        let new = new.map(|(u, a)| (format!("the new value of the variable `{}`", variable(u.param)), a));
        let Some((result, _)) = named.chain(new).find(|(_, a)| has_nan(a)) else { return Ok(()) };
        let origin = first_nan(self.graph, args, bindings)?;
        Err(NanError { function: self.signature.name.clone(), result, origin }.into())
    }
}
