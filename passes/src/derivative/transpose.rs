//! The backward sweep: the linear part in reverse, each operation replaced by its transpose.

use lehr_ir::graph::{Builder, NodeId, ScopeId, Value};
use lehr_ir::ops::{At, Op, Partials, RuleError};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::DiffError;
use super::calls::Bodies;
use super::error::{Cause, locate};
use super::linearize::{Request, Sweep};

/// What is said of reverse mode through a loop on a condition.
const NO_REVERSE: &str = "`while` has no reverse mode, since the number of its iterations is not known beforehand; use scan, or \
                          fori_loop with a known number of iterations";

/// What went wrong at a node of the sweep.
pub(super) struct Fault {
    pub(super) at: NodeId,
    pub(super) cause: Cause,
}

impl Fault {
    /// The error, at the node of the original graph.
    pub(super) fn locate(self, sweep: &Sweep, request: &Request<'_>, tangents: &[Option<Value>]) -> DiffError {
        let varies: Vec<bool> = tangents.iter().map(Option::is_some).collect();
        locate(request.graph, sweep.origin[self.at.index()], self.cause, &varies, request.outputs)
    }
}

/// The cotangent of each linear value, from those of some (`seeds`, pairs of a linear value and its cotangent).
///
/// New nodes stand in `scope`, inside which they have the scope of the node they come from.
pub(super) fn transpose(
    sweep: &mut Sweep,
    seeds: &[(Value, Value)],
    scope: Option<&str>,
    bodies: &mut Bodies,
) -> Result<Vec<Option<Value>>, Fault> {
    let Sweep { b, linear, origin } = sweep;
    let mut cotangents: Vec<Option<Value>> = vec![None; linear.len()];
    for &(v, ct) in seeds {
        let at = b.graph().node_count().saturating_sub(1) as u32;
        accumulate(b, &mut cotangents, v, ct).map_err(|cause| Fault { at: NodeId(at), cause })?;
    }
    let mut scopes = Scopes { prefix: scope, known: FxHashMap::default() };
    for i in (0..origin.len() as u32).rev() {
        let at = NodeId(i);
        let node = b.graph().node(at);
        let cts: Partials = node.results().map(|v| cotangents.get(v.index()).copied().flatten()).collect();
        if cts.iter().all(Option::is_none) {
            continue;
        }
        let (op, operands, loc, inner, tag) =
            (node.op.clone(), node.operands.clone(), node.loc.clone(), node.scope, node.tag);
        let flags: SmallVec<[bool; 3]> = operands.iter().map(|v| linear[v.index()]).collect();
        (b.loc, b.tag) = (loc, tag);
        b.scope = scopes.under(b, inner);
        let partials = match &op {
            Op::Call(call) => bodies.transpose(b, call, &operands, &flags, &cts),
            Op::Scan(scan) => bodies.transpose_scan(b, scan, &operands, &flags, &cts),
            Op::Case(case) => bodies.transpose_case(b, case, &operands, &flags, &cts),
            Op::While(_) => Err(RuleError::Missing(NO_REVERSE.to_owned()).into()),
            op => {
                let rule = op.story().transpose(b, At { operands: &operands, results: &[] }, &flags, &cts);
                rule.map_err(Cause::from)
            }
        };
        let partials = partials.map_err(|cause| Fault { at, cause })?;
        for ((v, ct), _) in operands.iter().zip(partials).zip(&flags).filter(|(_, linear)| **linear) {
            if let Some(ct) = ct {
                accumulate(b, &mut cotangents, *v, ct).map_err(|cause| Fault { at, cause })?;
            }
        }
    }
    Ok(cotangents)
}

fn accumulate(b: &mut Builder, cotangents: &mut [Option<Value>], v: Value, ct: Value) -> Result<(), Cause> {
    let sum = match cotangents[v.index()] {
        Some(sum) => b.add(sum, ct)?,
        None => ct,
    };
    cotangents[v.index()] = Some(sum);
    Ok(())
}

/// Scopes put under a prefix.
struct Scopes<'a> {
    prefix: Option<&'a str>,
    known: FxHashMap<ScopeId, ScopeId>,
}

impl Scopes<'_> {
    fn under(&mut self, b: &mut Builder, scope: ScopeId) -> ScopeId {
        let Some(prefix) = self.prefix else { return scope };
        if let Some(&new) = self.known.get(&scope) {
            return new;
        }
        let mut path = Vec::new();
        let mut at = scope;
        while at != ScopeId::ROOT {
            let s = b.graph().scope(at);
            path.push(s.name.clone());
            at = s.parent;
        }
        let mut new = b.subscope(ScopeId::ROOT, prefix);
        for name in path.iter().rev() {
            new = b.subscope(new, name);
        }
        self.known.insert(scope, new);
        new
    }
}
