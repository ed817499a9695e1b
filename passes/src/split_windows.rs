//! Puts folds over large windows together of what a target has code for.
//!
//! - A window that takes in all of a dim is a `reduce`.
//! - What has more taps than one kernel may write out becomes windows of runs of taps, one after another.
//!
//! Floating-point legality: only the order of a sum or product changes, which its meaning leaves open.

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Builder, Graph, Value};
use lehr_ir::ops::reduce_window::{MOST_TAPS, Smaller};
use lehr_ir::ops::{Op, ReduceWindow, Window};
use smallvec::SmallVec;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Operands, Regions, rewrite_nodes};

/// The pass, also inside regions.
#[derive(Clone, Copy, Debug)]
pub struct SplitWindows {
    /// Whether it does anything.
    pub active: bool,
}

impl Pass<Graph> for SplitWindows {
    fn name(&self) -> &'static str {
        "split_windows"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        if !self.active {
            return Ok(Outcome::Unchanged);
        }
        let concerned = |op: &Op| matches!(op, Op::ReduceWindow(_));
        rewrite_nodes(graph, cx, &mut Regions::default(), concerned, &mut |b, node, operands, cx| {
            let Op::ReduceWindow(op) = &node.op else { return Ok(None) };
            Ok(rewrite(b, op, operands[0], cx)?.map(|v| Operands::from_iter([v])))
        })
    }
}

fn emit(b: &mut Builder, op: &ReduceWindow, x: Value, cx: &mut PassCx) -> Result<Value, PassError> {
    match rewrite(b, op, x, cx)? {
        Some(value) => Ok(value),
        None => Ok(b.op(op.clone().into(), &[x])?),
    }
}

/// What stands for a fold of windows; `None` if it stays.
fn rewrite(b: &mut Builder, op: &ReduceWindow, x: Value, cx: &mut PassCx) -> Result<Option<Value>, PassError> {
    let whole = whole_dims(b, op, x);
    let rest = (0..op.sizes.len()).any(|d| op.sizes[d] != 1 && !whole.contains(&d));
    if !whole.is_empty() && (!rest || op.taps() > MOST_TAPS) && cx.fuel("reduce_whole_dims") {
        let mut shape = b.ty(x).shape.clone();
        let folded = b.reduce(op.op, x, &whole)?;
        let mut left = op.clone();
        for &d in &whole {
            shape[d] = Dim::ONE;
            (left.sizes[d], left.windows[d]) = (1, Window::default());
        }
        let folded = b.reshape(folded, &shape)?;
        let done = left.sizes.iter().all(|&k| k == 1) && left.windows.iter().all(|w| *w == Window::default());
        return if done { Ok(Some(folded)) } else { emit(b, &left, folded, cx).map(Some) };
    }
    let Some(smaller) = op.smaller().filter(|_| cx.fuel("split_large_windows")) else { return Ok(None) };
    Ok(Some(match smaller {
        Smaller::Then(first, second) => {
            let x = emit(b, &first, x, cx)?;
            emit(b, &second, x, cx)?
        }
        Smaller::Both(head, tail) => {
            let (head, tail) = (emit(b, &head, x, cx)?, emit(b, &tail, x, cx)?);
            b.binary(op.binary(), head, tail)?
        }
    }))
}

/// The dims of which the one window takes in everything.
fn whole_dims(b: &Builder, op: &ReduceWindow, x: Value) -> SmallVec<[usize; 4]> {
    let shape = &b.ty(x).shape;
    let counts = op.counts(shape, b.facts());
    let whole = |d: &usize| {
        let (w, k) = (&op.windows[*d], op.sizes[*d]);
        k > 1 && w.is_plain() && w.window_dilation == 1 && counts[*d].is_one() && shape[*d] == Dim::from(k)
    };
    (0..shape.len()).filter(whole).collect()
}
