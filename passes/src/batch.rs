//! Batching: a graph over one example becomes a graph over a batch of them.
//!
//! One sweep applies [`Operation::batch`](lehr_ir::ops::Operation::batch) to the nodes that depend on a batched parameter; the
//! rest is computed once. The batch dim stands first inside the graph. A call's body is batched as a body, once for all calls that
//! share it, and so is its own derivative. Loops and branches have rules of their own in `control`.

use std::sync::Arc;

use lehr_ir::graph::{Builder, Graph, NodeId, Region, Value};
use lehr_ir::ops::{Call, Op, RuleError, Vjp};
use lehr_ir::{Dim, Loc, OpError, Type};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::inline_calls::merge_facts;
use crate::rebuild::Operands;

mod control;
mod reverse_rule;

/// Why a graph cannot be batched.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// An operation has no batching rule.
    #[error("vmap: {reason}{}", at(loc))]
    Missing {
        /// The operation.
        op: String,
        /// What it lacks, and the remedy.
        reason: String,
        /// The user's line.
        loc: Loc,
    },
    /// There is not an axis for each parameter.
    #[error("vmap: `{graph}` has {want} parameters, and axes are given for {got}; give one, or none, for each")]
    Count {
        /// The graph.
        graph: String,
        /// Its parameters.
        want: usize,
        /// The axes given.
        got: usize,
    },
    /// A parameter would have its batch dim outside its rank.
    #[error("vmap: parameter `{name}` is {ty} for one example, so its batch axis is at most {}, not {axis}", ty.rank())]
    Axis {
        /// The parameter.
        name: String,
        /// Its type for one example.
        ty: Box<Type>,
        /// The axis given.
        axis: usize,
    },
    /// A variable would get a new value for each example.
    #[error(
        "vmap: the new value of variable `{name}` differs from example to example; reduce it over the batch outside vmap"
    )]
    Update {
        /// The variable.
        name: String,
    },
    /// An operation cannot be built for a batch.
    #[error(transparent)]
    Op(#[from] OpError),
}

fn at(loc: &Loc) -> String {
    if loc.is_known() { format!("\n  --> {loc}") } else { String::new() }
}

/// The graph over a batch of `size` examples.
///
/// Parameter `i` gets a dim of this size at `in_axes[i]`, or stays as it is if that is `None`, and then serves all examples.
/// Every output has the batch as its first dim. Updates stay, for variables that do not depend on the example.
///
/// # Errors
/// [`BatchError::Count`], [`BatchError::Axis`]; [`BatchError::Missing`] for an operation without a rule; [`BatchError::Update`].
pub fn vmap(graph: &Graph, in_axes: &[Option<usize>], size: &Dim) -> Result<Graph, BatchError> {
    let count = graph.params().len();
    if in_axes.len() != count {
        return Err(BatchError::Count { graph: graph.name.clone(), want: count, got: in_axes.len() });
    }
    let mut sweep = Sweep::start(graph, in_axes, size)?;
    for (p, axis) in in_axes.iter().enumerate() {
        // The batch dim comes to the front.
        let Some(axis) = axis.filter(|&a| a > 0) else { continue };
        let rank = sweep.b.ty(graph.param_value(p)).rank();
        let perm: Vec<usize> = std::iter::once(axis).chain((0..rank).filter(|&d| d != axis)).collect();
        sweep.map[p] = sweep.b.transpose(sweep.map[p], &perm)?;
    }
    sweep.nodes(size, &mut Bodies::default())?;
    sweep.outputs(size, &vec![true; graph.outputs().len()])?;
    for u in graph.updates() {
        if sweep.batched[u.value.index()] {
            return Err(BatchError::Update { name: graph.params()[u.param as usize].name.clone() });
        }
        sweep.b.update(u.param, sweep.map[u.value.index()]);
    }
    Ok(sweep.b.finish())
}

/// A graph on the way into its batched form.
struct Sweep<'g> {
    graph: &'g Graph,
    b: Builder,
    /// For each old value, the new one, and whether it has a batch dim.
    map: Vec<Value>,
    batched: Vec<bool>,
}

impl<'g> Sweep<'g> {
    fn start(graph: &'g Graph, in_axes: &[Option<usize>], size: &Dim) -> Result<Self, BatchError> {
        let mut b = Builder::new(graph.name.clone());
        b.set_facts(graph.facts.clone());
        for ((p, ty), axis) in graph.params().iter().zip(graph.param_types()).zip(in_axes) {
            let mut ty = ty.clone();
            if let Some(axis) = *axis {
                if axis > ty.rank() {
                    return Err(BatchError::Axis { name: p.name.clone(), ty: Box::new(ty), axis });
                }
                ty.shape.insert(axis, size.clone());
            }
            b.loc = p.loc.clone();
            b.param(p.name.clone(), p.kind, ty);
        }
        b.loc = Loc::UNKNOWN;
        let map = (0..graph.value_count() as u32).map(Value).collect();
        let mut batched = vec![false; graph.value_count()];
        for (flag, axis) in batched.iter_mut().zip(in_axes) {
            *flag = axis.is_some();
        }
        Ok(Self { graph, b, map, batched })
    }

    fn nodes(&mut self, size: &Dim, bodies: &mut Bodies) -> Result<(), BatchError> {
        let mut scopes = FxHashMap::default();
        for (id, node) in self.graph.nodes() {
            let b = &mut self.b;
            b.loc = node.loc.clone();
            b.tag = node.tag;
            let root = lehr_ir::graph::ScopeId::ROOT;
            b.scope = crate::inline_calls::map_scope(b, self.graph, node.scope, root, &mut scopes);
            let operands: Operands = node.operands.iter().map(|v| self.map[v.index()]).collect();
            let flags: SmallVec<[bool; 3]> = node.operands.iter().map(|v| self.batched[v.index()]).collect();
            let is_batched = flags.contains(&true);
            let control = if is_batched { bodies.control(b, &node.op, &operands, &flags, size)? } else { None };
            if let Some((results, batched)) = control {
                for ((old, new), batched) in node.results().zip(results).zip(batched) {
                    self.map[old.index()] = new;
                    self.batched[old.index()] = batched;
                }
                continue;
            }
            let results: SmallVec<[Value; 1]> = if !is_batched {
                let types = node.results().map(|v| self.graph.ty(v).clone()).collect();
                let new = b.push(node.op.clone(), operands, types);
                b.graph().node(new).results().collect()
            } else if let Op::Call(call) = &node.op {
                let op = bodies.call(call, &flags, size, b)?;
                let new = b.add_node(op.into(), &operands)?;
                b.graph().node(new).results().collect()
            } else {
                let rule = node.op.story().batch(b, &operands, &flags, size);
                rule.map_err(|e| missing(self.graph, id, e))?
            };
            for (old, new) in node.results().zip(results) {
                self.map[old.index()] = new;
                self.batched[old.index()] = is_batched;
            }
        }
        Ok(())
    }

    /// Adds the outputs, those that must have the batch dim and do not depend on the example repeated; says which have it.
    fn outputs(&mut self, size: &Dim, must: &[bool]) -> Result<SmallVec<[bool; 4]>, BatchError> {
        let mut batched = SmallVec::new();
        self.b.loc = Loc::UNKNOWN;
        (self.b.scope, self.b.tag) = (lehr_ir::graph::ScopeId::ROOT, 0);
        for (o, &must) in self.graph.outputs().iter().zip(must) {
            let mut v = self.map[o.value.index()];
            batched.push(must || self.batched[o.value.index()]);
            if must && !self.batched[o.value.index()] {
                let ty = self.b.ty(v).clone();
                let shape: Vec<Dim> = std::iter::once(size.clone()).chain(ty.shape.iter().cloned()).collect();
                let axes: Vec<usize> = (1..=ty.rank()).collect();
                v = self.b.broadcast(v, &shape, &axes)?;
            }
            self.b.output(o.name.clone(), v);
        }
        Ok(batched)
    }
}

fn missing(graph: &Graph, id: NodeId, e: RuleError) -> BatchError {
    let node = graph.node(id);
    match e {
        RuleError::Op(e) => BatchError::Op(e),
        RuleError::Missing(reason) => {
            BatchError::Missing { op: node.op.name().to_owned(), reason, loc: node.loc.clone() }
        }
        other => {
            BatchError::Missing { op: node.op.name().to_owned(), reason: other.to_string(), loc: node.loc.clone() }
        }
    }
}

/// Bodies batched so far, by address and by which parameters are batched.
#[derive(Default)]
struct Bodies {
    done: FxHashMap<(*const Graph, SmallVec<[bool; 8]>), Region>,
    /// An address is only a key while its region lives.
    kept: Vec<Region>,
}

impl Bodies {
    /// A call over a batch; all its results have the batch dim.
    fn call(&mut self, call: &Call, flags: &[bool], size: &Dim, outer: &Builder) -> Result<Call, BatchError> {
        let body = self.region(&call.body, flags, size, outer)?;
        let jvp = match &call.jvp {
            None => None,
            Some(jvp) => {
                // Its tangents are batched where the operands are.
                let inexact = call.body.param_types().zip(flags).filter(|(ty, _)| ty.dtype.is_inexact());
                let all: Vec<bool> = flags.iter().copied().chain(inexact.map(|(_, f)| *f)).collect();
                Some(self.region(jvp, &all, size, outer)?)
            }
        };
        let vjp = match &call.vjp {
            None => None,
            Some(Vjp { fwd, bwd }) => {
                let fwd = match fwd {
                    Some(fwd) => Some(self.region(fwd, flags, size, outer)?),
                    None => None,
                };
                // What it starts from are results of the forward graph, which all have the batch dim, and cotangents of such.
                let batched = self.region(bwd, &vec![true; bwd.params().len()], size, outer)?;
                Some(Vjp { fwd, bwd: reverse_rule::for_shared_operands(&call.body, &batched, flags)? })
            }
        };
        // The attributes speak of the body for one example, so the name says that this is another.
        Ok(Call { name: format!("{}.vmap", call.name), attrs: call.attrs.clone(), body, jvp, vjp })
    }

    /// A region over a batch; all its outputs have the batch dim.
    fn region(&mut self, body: &Region, flags: &[bool], size: &Dim, outer: &Builder) -> Result<Region, BatchError> {
        let key = (Arc::as_ptr(body), flags.into());
        if let Some(done) = self.done.get(&key) {
            return Ok(Arc::clone(done));
        }
        let all = vec![true; body.outputs().len()];
        let (done, _) = self.region_with(body, flags, &all, size, outer)?;
        self.kept.push(Arc::clone(body));
        self.done.insert(key, Arc::clone(&done));
        Ok(done)
    }

    /// A region over a batch, whose outputs have the batch dim where they must or where they depend on the batch; and where
    /// that is.
    fn region_with(
        &mut self,
        body: &Region,
        flags: &[bool],
        must: &[bool],
        size: &Dim,
        outer: &Builder,
    ) -> Result<(Region, SmallVec<[bool; 4]>), BatchError> {
        let axes: Vec<Option<usize>> = flags.iter().map(|f| f.then_some(0)).collect();
        let mut sweep = Sweep::start(body, &axes, size)?;
        merge_facts(&mut sweep.b, outer.facts());
        sweep.nodes(size, self)?;
        let batched = sweep.outputs(size, must)?;
        let name = format!("{}.vmap", body.name);
        Ok((Arc::new(sweep.b.finish().named(name)), batched))
    }
}
