//! Runs steps of attention.

use lehr_ir::DType;
use smallvec::SmallVec;

use super::Cx;
use crate::cpu::attend::{self, Attended, Attention, Cotangents, Grid, Results};
use crate::cpu::program::Source;

/// An attention or its gradient with its numbers.
#[derive(Debug)]
pub(in crate::cpu) struct Attend {
    pub(in crate::cpu) dtype: DType,
    pub(in crate::cpu) batch: SmallVec<[usize; 4]>,
    /// Queries, keys, columns of these, columns of values.
    pub(in crate::cpu) sizes: [usize; 4],
    pub(in crate::cpu) scale: f64,
    pub(in crate::cpu) causal: bool,
    /// Queries, keys, values.
    pub(in crate::cpu) operands: [View; 3],
    pub(in crate::cpu) bias: Option<View>,
    pub(in crate::cpu) mask: Option<View>,
    pub(in crate::cpu) pass: Pass,
}

/// What is computed, and where it goes.
#[derive(Debug)]
pub(in crate::cpu) enum Pass {
    Forward { empty: (f64, f64), out: Source, lse: Source },
    Backward { lse: Source, d_out: View, delta: Source, results: [Source; 3] },
}

/// A view with its numbers; offset and strides in elements.
#[derive(Debug)]
pub(in crate::cpu) struct View {
    pub(in crate::cpu) source: Source,
    pub(in crate::cpu) offset: isize,
    pub(in crate::cpu) batch: SmallVec<[isize; 4]>,
    pub(in crate::cpu) row: isize,
    pub(in crate::cpu) col: isize,
}

impl View {
    fn grid<T>(&self, locate: &dyn Fn(Source) -> *mut u8) -> Grid<'_, T> {
        let start = locate(self.source).cast::<T>().cast_const();
        // The offset is that of an element, or, where there is none, not used.
        Grid { ptr: start.wrapping_offset(self.offset), batch: &self.batch, row: self.row, col: self.col }
    }
}

impl Cx<'_> {
    pub(super) fn attend(&mut self, call: &Attend, locate: &dyn Fn(Source) -> *mut u8) {
        match call.dtype {
            DType::F64 => self.attend_in::<f64>(call, locate),
            _ => self.attend_in::<f32>(call, locate),
        }
    }

    fn attend_in<T: Attended>(&mut self, call: &Attend, locate: &dyn Fn(Source) -> *mut u8) {
        let [queries, keys, d, e] = call.sizes;
        let [q, k, v] = call.operands.each_ref().map(|view| view.grid::<T>(locate));
        let attention = Attention {
            batch: &call.batch,
            queries,
            keys,
            d,
            e,
            scale: call.scale,
            causal: call.causal,
            q,
            k,
            v,
            bias: call.bias.as_ref().map(|view| view.grid::<T>(locate)),
            mask: call.mask.as_ref().map(|view| view.grid::<u8>(locate)),
        };
        let at = |s: Source| locate(s).cast::<T>();
        match &call.pass {
            Pass::Forward { empty, out, lse } => {
                let results = Results { out: at(*out), lse: at(*lse), empty: *empty };
                // SAFETY: the strides address elements of the buffers only, and the results overlap no operand.
                unsafe { attend::attend(&attention, &results, self.pool, self.workspace) }
            }
            Pass::Backward { lse, d_out, delta, results: [dq, dk, dv] } => {
                let cotangents = Cotangents {
                    lse: at(*lse).cast_const(),
                    d_out: d_out.grid(locate),
                    delta: at(*delta).cast_const(),
                    dq: at(*dq),
                    dk: at(*dk),
                    dv: at(*dv),
                };
                // SAFETY: as above.
                unsafe { attend::attend_backward(&attention, &cotangents, self.pool, self.workspace) }
            }
        }
    }
}
