//! Calls with a derivative of their own that reverse mode alone can use.
//!
//! Reverse mode linearises and then transposes, so the linear part of such a call is a node that can be transposed, by the
//! rule's backward graph, and not run: a call whose [`Vjp`] has no forward graph. It lives between the two sweeps only.

use lehr_ir::attrs::Attrs;
use lehr_ir::graph::{Builder, Graph, ParamKind, Region, Value};
use lehr_ir::ops::{Call, Partials, RuleError, Vjp};
use lehr_ir::{Literal, OpError, Type};
use smallvec::SmallVec;
use std::sync::Arc;

use super::error::Cause;

/// Refuses a tangent of an operand that a call's own rule knows nothing of.
pub(super) fn check_captured(call: &Call, tangents: &[Option<Value>]) -> Result<(), Cause> {
    let own = call.jvp.is_some() || call.vjp.is_some();
    if own && tangents.iter().rev().take(call.captured()).any(Option::is_some) {
        return Err(missing(format!(
            "`{}` captures a tensor that varies, of which its own derivative knows nothing; pass it as an input, or through stop_gradient",
            call.name
        )));
    }
    Ok(())
}

/// Emits the forward graph of the rule and the linear part: the results and their tangents.
pub(super) fn linearize(
    b: &mut Builder,
    call: &Call,
    vjp: &Vjp,
    operands: &[Value],
    tangents: &[Option<Value>],
    reverse: bool,
) -> Result<(SmallVec<[Value; 2]>, Partials), Cause> {
    let name = &call.name;
    let Some(fwd) = vjp.fwd.as_ref().filter(|_| reverse) else {
        return Err(missing(format!(
            "`{name}` has a derivative in reverse mode only, by custom_vjp; give it one by custom_jvp, which serves forward mode too"
        )));
    };
    let n = call.body.outputs().len();
    let forward = Call { attrs: call.attrs.clone(), ..Call::new(format!("{name}.fwd"), Arc::clone(fwd)) };
    let forward = b.add_node(forward.into(), operands)?;
    let all: SmallVec<[Value; 4]> = b.graph().node(forward).results().collect();
    let mut args: SmallVec<[Value; 4]> = all[n..].into();
    for (ty, t) in call.body.param_types().zip(tangents).filter(|(ty, _)| ty.dtype.is_inexact()) {
        args.push(match t {
            Some(t) => *t,
            None => b.zeros(ty)?,
        });
    }
    let linear = Call {
        attrs: Attrs::new(),
        vjp: Some(Vjp { fwd: None, bwd: Arc::clone(&vjp.bwd) }),
        ..Call::new(format!("{name}.lin"), never_run(call, fwd)?)
    };
    let id = b.add_node(linear.into(), &args)?;
    let mut lin = b.graph().node(id).results();
    let tangents = call.body.output_types().map(|ty| if ty.dtype.is_inexact() { lin.next() } else { None });
    Ok((all[..n].into(), tangents.collect()))
}

/// Emits the backward graph of the rule: the cotangents of the linear part's operands.
pub(super) fn transpose(
    b: &mut Builder,
    call: &Call,
    vjp: &Vjp,
    operands: &[Value],
    linear: &[bool],
    cotangents: &[Option<Value>],
) -> Result<Partials, Cause> {
    let residuals = operands.len() - vjp.bwd.outputs().len();
    let mut args: SmallVec<[Value; 4]> = operands[..residuals].into();
    for (ct, ty) in cotangents.iter().zip(call.body.output_types()) {
        args.push(match ct {
            Some(ct) => *ct,
            None => b.zeros(ty)?,
        });
    }
    let name = call.name.strip_suffix(".lin").unwrap_or(&call.name);
    let id = b.add_node(Call::new(format!("{name}.bwd"), Arc::clone(&vjp.bwd)).into(), &args)?;
    let found = b.graph().node(id).results().map(Some);
    let all = std::iter::repeat_n(None, residuals).chain(found);
    Ok(all.zip(linear).map(|(ct, linear)| ct.filter(|_| *linear)).collect())
}

/// The body of a linear part: of the right type, and NaN wherever it were run.
///
/// Each result depends on every tangent, which is what dependency analysis must see.
fn never_run(call: &Call, fwd: &Graph) -> Result<Region, OpError> {
    let mut b = Builder::new(format!("{}.lin", call.body.name));
    b.set_facts(fwd.facts.clone());
    let residuals = fwd.output_types().skip(call.body.outputs().len());
    let tangents: Vec<Type> = call.body.param_types().filter(|ty| ty.dtype.is_inexact()).cloned().collect();
    for (i, ty) in residuals.enumerate() {
        b.param(format!("r{i}"), ParamKind::Input, ty.clone());
    }
    let mut args = Vec::with_capacity(tangents.len());
    for (i, ty) in tangents.iter().enumerate() {
        args.push(b.param(format!("t{i}"), ParamKind::Input, ty.clone()));
    }
    let results: Vec<Type> = call.body.output_types().filter(|ty| ty.dtype.is_inexact()).cloned().collect();
    for (i, ty) in results.iter().enumerate() {
        let mut sum = b.scalar(Literal::from_f64(ty.dtype, f64::NAN));
        for (&t, from) in args.iter().zip(&tangents) {
            if from.dtype.is_float() != ty.dtype.is_float() {
                // Complex numbers are not converted to real ones.
                continue;
            }
            let axes: Vec<usize> = (0..from.rank()).collect();
            let one = b.sum(t, &axes)?;
            let one = b.convert(one, ty.dtype)?;
            sum = b.add(sum, one)?;
        }
        let v = b.broadcast(sum, &ty.shape, &[])?;
        b.output(format!("y{i}.tangent"), v);
    }
    Ok(b.into_region())
}

fn missing(reason: String) -> Cause {
    RuleError::Missing(reason).into()
}
