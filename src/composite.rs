//! Composites: operations that are calls of a named body of primitives, some with a derivative of their own.

use std::cell::RefCell;
use std::sync::Arc;

use lehr_ir::attrs::Attrs;
use lehr_ir::expr::{Expr, import};
use lehr_ir::graph::{Builder, Graph, ScopeId};
use lehr_ir::loc::Loc;
use lehr_ir::ops::Call;
use lehr_ir::{Facts, Type};
use rustc_hash::FxHashMap;

use crate::scope;
use crate::tensor::{Built, Tensor, facts_of, sound};

/// From operands and tangents to the result and its tangent.
type Derivative<'a> = dyn Fn(&[Tensor], &[Tensor]) -> [Tensor; 2] + 'a;

/// What a shared composite is known by.
type Key = (String, Attrs, Vec<Type>, Facts);

/// The most composites that a thread remembers.
const MOST_SHARED: usize = 256;

thread_local! {
    /// Composites made so far. They are the same whoever makes them; remembering them changes how often bodies are worked on, and
    /// nothing else.
    static SHARED: RefCell<FxHashMap<Key, Call>> = RefCell::default();
}

/// A composite on its way.
pub(crate) struct Composite<'a> {
    /// Its name in dumps.
    pub(crate) name: &'a str,
    /// What distinguishes composites of one name.
    pub(crate) attrs: Attrs,
    /// The operands.
    pub(crate) operands: &'a [&'a Tensor],
    /// The user's line.
    pub(crate) loc: &'a Loc,
}

impl Composite<'_> {
    /// The call of a body that `make` builds from parameters of the operands' types.
    pub(crate) fn call(&self, make: &dyn Fn(&[Tensor]) -> Tensor) -> Built {
        self.build(make, None)
    }

    /// The same with a derivative of its own: `jvp` gives the result and its tangent from operands, then tangents of the
    /// inexact operands, and must be linear in the tangents.
    pub(crate) fn call_with_jvp(&self, make: &dyn Fn(&[Tensor]) -> Tensor, jvp: &Derivative<'_>) -> Built {
        self.build(make, Some(jvp))
    }

    /// [`Composite::call_with_jvp`] of lehr's own functions, whose body is known by name, attributes and operand types: equal ones
    /// share their regions, so that whatever is done to a region is done once.
    pub(crate) fn shared_call_with_jvp(&self, make: &dyn Fn(&[Tensor]) -> Tensor, jvp: &Derivative<'_>) -> Built {
        sound(self.operands)?;
        let types = self.operands.iter().filter_map(|t| t.0.ty()).cloned().collect();
        let key: Key = (self.name.to_owned(), self.attrs.clone(), types, facts_of(self.operands));
        let known = SHARED.with(|shared| shared.borrow().get(&key).cloned());
        let call = match known {
            Some(call) => call,
            None => {
                let call = self.made(make, Some(jvp))?;
                SHARED.with(|shared| {
                    let mut shared = shared.borrow_mut();
                    if shared.len() >= MOST_SHARED {
                        shared.clear();
                    }
                    shared.insert(key, call.clone());
                });
                call
            }
        };
        Ok(Tensor::apply(call, self.operands, self.loc))
    }

    fn build(&self, make: &dyn Fn(&[Tensor]) -> Tensor, jvp: Option<&Derivative<'_>>) -> Built {
        sound(self.operands)?;
        Ok(Tensor::apply(self.made(make, jvp)?, self.operands, self.loc))
    }

    fn made(&self, make: &dyn Fn(&[Tensor]) -> Tensor, jvp: Option<&Derivative<'_>>) -> Result<Call, Tensor> {
        let params = self.params("p", |_| true);
        let body = self.region(self.name, &params, &[scope::outside(|| make(&params))])?;
        let mut call = Call { attrs: self.attrs.clone(), ..Call::new(self.name, Arc::new(body)) };
        if let Some(jvp) = jvp {
            let tangents = self.params("t", |t| t.dtype().is_some_and(lehr_ir::DType::is_inexact));
            let outs = scope::outside(|| jvp(&params, &tangents));
            let all: Vec<Tensor> = params.iter().chain(&tangents).cloned().collect();
            call.jvp = Some(Arc::new(self.region(&format!("{}.jvp", self.name), &all, &outs)?));
        }
        Ok(call)
    }

    /// Placeholders of the operands' types, with what is known of their sizes.
    fn params(&self, prefix: &str, keep: impl Fn(&Tensor) -> bool) -> Vec<Tensor> {
        let facts = facts_of(self.operands);
        let mut out = Vec::with_capacity(self.operands.len());
        for (i, operand) in self.operands.iter().enumerate().filter(|(_, t)| keep(t)) {
            let Some(ty) = operand.0.ty() else { continue };
            let mut e = Expr::input(&format!("{prefix}{i}"), ty.clone(), Loc::UNKNOWN);
            for fact in facts.facts() {
                e = e.assume(fact.clone(), Loc::UNKNOWN);
            }
            out.push(Tensor(e));
        }
        out
    }

    /// The closed graph from parameters to results.
    fn region(&self, name: &str, params: &[Tensor], outs: &[Tensor]) -> Result<Graph, Tensor> {
        let roots: Vec<Expr> = outs.iter().map(|t| t.0.clone()).collect();
        let first: Vec<Expr> = params.iter().map(|t| t.0.clone()).collect();
        let imported = import(name, &roots, &first).map_err(|e| Tensor(Expr::with_errors(e)))?;
        let mut b = Builder::with_graph(without_origins(&imported.graph));
        for (i, &root) in imported.roots.iter().enumerate() {
            b.output(if i == 0 { "out".to_owned() } else { format!("out_{i}") }, root);
        }
        Ok(b.finish())
    }
}

/// The graph with no locations and scopes: once in place, its nodes take those of the call.
fn without_origins(graph: &Graph) -> Graph {
    let mut b = Builder::new(graph.name.clone());
    b.set_facts(graph.facts.clone());
    for (param, ty) in graph.params().iter().zip(graph.param_types()) {
        b.param(param.name.clone(), param.kind, ty.clone());
    }
    (b.loc, b.scope) = (Loc::UNKNOWN, ScopeId::ROOT);
    for (_, node) in graph.nodes() {
        // Nodes keep their order, so that values keep their numbers.
        b.push(node.op.clone(), node.operands.clone(), node.results().map(|v| graph.ty(v).clone()).collect());
    }
    b.finish()
}
