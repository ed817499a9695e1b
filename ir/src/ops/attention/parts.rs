//! Derivatives of an operation through primitives that compute it.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::graph::{Builder, NodeId, Value};
use crate::ops::{At, Partials, RuleError};

/// The tangents of the results of primitives that `emit` makes from operands: each primitive's own linearisation in turn.
///
/// The primitives are computed again for the sake of the tangents, and simplification drops those that are not used.
pub(in crate::ops) fn linearize_by_parts(
    b: &mut Builder,
    operands: &[Value],
    tangents: &[Option<Value>],
    emit: impl FnOnce(&mut Builder, &[Value]) -> Result<Partials, RuleError>,
) -> Result<Partials, RuleError> {
    let first = b.graph().node_count();
    let results = emit(b, operands)?;
    let last = b.graph().node_count();
    let mut known: FxHashMap<Value, Value> = FxHashMap::default();
    // An operand that comes twice has one tangent.
    known.extend(operands.iter().zip(tangents).filter_map(|(&v, t)| Some((v, (*t)?))));
    for i in first..last {
        let node = b.graph().node(NodeId(i as u32)).clone();
        let of: Partials = node.operands.iter().map(|v| known.get(v).copied()).collect();
        if of.iter().all(Option::is_none) {
            continue;
        }
        let own: SmallVec<[Value; 1]> = node.results().collect();
        let at = At { operands: &node.operands, results: &own };
        let found = node.op.story().linearize(b, at, &of)?;
        known.extend(own.iter().zip(found).filter_map(|(&v, t)| Some((v, t?))));
    }
    Ok(results.into_iter().map(|v| v.and_then(|v| known.get(&v).copied())).collect())
}
