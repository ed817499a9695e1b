//! The regions of an operation, run once more one after the other, for whoever looks for something in them.

use super::{EvalCx, EvalError, evaluate_bound};
use crate::array::Array;
use crate::bindings::Bindings;
use crate::graph::Graph;
use crate::literal::Literal;
use crate::ops::Op;
use crate::ops::region::row;

/// One run of a region.
pub(super) struct Turn<'a> {
    /// Which of the operation's regions it is: for a call 0, whatever rules it has besides.
    pub(super) which: usize,
    pub(super) region: &'a Graph,
    pub(super) args: &'a [Array],
    /// What it gives, of a region of a loop.
    pub(super) outputs: Option<&'a [Array]>,
}

/// Runs the regions as the operation does on these operands, until `look` finds something; `None` for operations without any.
///
/// # Errors
/// As the evaluation of the regions, and those of `look`.
pub(super) fn find_in_regions<T>(
    op: &Op,
    operands: &[Array],
    bindings: &Bindings,
    mut look: impl FnMut(Turn<'_>) -> Result<Option<T>, EvalError>,
) -> Result<Option<T>, EvalError> {
    match op {
        Op::Call(call) => look(Turn { which: 0, region: &call.body, args: operands, outputs: None }),
        Op::Case(case) => {
            let index = operands.first().and_then(Array::item).map_or(0, |l| l.to_f64() as i64);
            let which = case.clamp(index);
            look(Turn { which, region: &case.branches[which], args: &operands[1..], outputs: None })
        }
        Op::Scan(scan) => {
            let n = EvalCx { bindings }.size(&scan.length)?;
            let fixed = scan.consts + scan.carries;
            let mut args = operands[..fixed].to_vec();
            for step in 0..n {
                let i = if scan.reverse { n - 1 - step } else { step };
                args.truncate(fixed);
                for xs in &operands[fixed..] {
                    args.push(row(xs, i)?);
                }
                let out = evaluate_bound(&scan.body, &args, bindings)?.outputs;
                let found = look(Turn { which: 0, region: &scan.body, args: &args, outputs: Some(&out) })?;
                if found.is_some() {
                    return Ok(found);
                }
                args.splice(scan.consts..fixed, out.into_iter().take(scan.carries));
            }
            Ok(None)
        }
        Op::While(l) => {
            let mut args = operands.to_vec();
            loop {
                let out = evaluate_bound(&l.cond, &args, bindings)?.outputs;
                let found = look(Turn { which: 0, region: &l.cond, args: &args, outputs: Some(&out) })?;
                if found.is_some() || out.first().and_then(Array::item) != Some(Literal::from(true)) {
                    return Ok(found);
                }
                let out = evaluate_bound(&l.body, &args, bindings)?.outputs;
                let found = look(Turn { which: 1, region: &l.body, args: &args, outputs: Some(&out) })?;
                if found.is_some() {
                    return Ok(found);
                }
                args.truncate(l.consts);
                args.extend(out);
            }
        }
        _ => Ok(None),
    }
}
