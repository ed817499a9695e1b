//! Steps of attention: scores, softmax and weighted means as one, over strided views.

use std::fmt;

use smallvec::SmallVec;

use super::BufferId;
use crate::array::{Array, Data};
use crate::dim::{Dim, DimError};
use crate::dtype::DType;
use crate::eval::{EvalCx, EvalError, walk};
use crate::ops::{Attention, AttentionGrad, Empty, Operation, Scores};
use crate::ty::{Shape, count};

/// An [`Attention`] or [`AttentionGrad`] over buffers. Results and row values are contiguous.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attend {
    /// f32 or f64.
    pub dtype: DType,
    /// What the scores are; `bias` and `mask` are there as they say.
    pub scores: Scores,
    /// The sizes of the leading dims.
    pub batch: Shape,
    /// Rows of queries.
    pub queries: Dim,
    /// Rows of keys and values.
    pub keys: Dim,
    /// Columns of queries and keys.
    pub d: Dim,
    /// Columns of values.
    pub e: Dim,
    /// `[batch, queries, d]`.
    pub q: Grid,
    /// `[batch, keys, d]`.
    pub k: Grid,
    /// `[batch, keys, e]`.
    pub v: Grid,
    /// `[batch, queries, keys]`.
    pub bias: Option<Grid>,
    /// `bool[batch, queries, keys]`.
    pub mask: Option<Grid>,
    /// What is computed.
    pub pass: AttendPass,
}

/// What a step of attention computes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttendPass {
    /// The result and its rows' `lse`.
    Forward {
        /// What a query gets that attends to nothing.
        empty: Empty,
        /// `[batch, queries, e]`.
        out: BufferId,
        /// `[batch, queries]`.
        lse: BufferId,
    },
    /// The cotangents of queries, keys and values.
    Backward {
        /// `[batch, queries]`.
        lse: BufferId,
        /// The result's cotangent, `[batch, queries, e]`.
        d_out: Grid,
        /// `[batch, queries]`.
        delta: BufferId,
        /// `[batch, queries, d]`.
        dq: BufferId,
        /// `[batch, keys, d]`.
        dk: BufferId,
        /// `[batch, keys, e]`.
        dv: BufferId,
    },
}

/// A strided view of a buffer as matrices under several leading dims; strides and offset in elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grid {
    /// The buffer.
    pub buffer: BufferId,
    /// The first element.
    pub offset: Dim,
    /// The stride of each leading dim; 0 repeats.
    pub batch: Shape,
    /// Row stride.
    pub row: Dim,
    /// Column stride.
    pub column: Dim,
}

impl Attend {
    /// The views it reads, with the sizes of their rows and columns.
    pub fn grids(&self) -> SmallVec<[(&Grid, &Dim, &Dim); 6]> {
        let mut all = SmallVec::from_iter([
            (&self.q, &self.queries, &self.d),
            (&self.k, &self.keys, &self.d),
            (&self.v, &self.keys, &self.e),
        ]);
        all.extend(self.bias.iter().chain(&self.mask).map(|g| (g, &self.queries, &self.keys)));
        if let AttendPass::Backward { d_out, .. } = &self.pass {
            all.push((d_out, &self.queries, &self.e));
        }
        all
    }

    /// The elements of `lse`, `delta` and the like: one for each query of each batch.
    pub fn rows(&self) -> Dim {
        &count(&self.batch) * &self.queries
    }

    pub(super) fn accesses(&self) -> (SmallVec<[BufferId; 6]>, SmallVec<[BufferId; 2]>) {
        let mut reads: SmallVec<[BufferId; 6]> = self.grids().iter().map(|(g, ..)| g.buffer).collect();
        match self.pass {
            AttendPass::Forward { out, lse, .. } => (reads, SmallVec::from_iter([out, lse])),
            AttendPass::Backward { lse, delta, dq, dk, dv, .. } => {
                reads.extend([lse, delta]);
                (reads, SmallVec::from_iter([dq, dk, dv]))
            }
        }
    }

    /// Whether the views are of the ranks and dtypes that the step says, and as many as its scores have.
    pub(super) fn check(&self, dtype: &dyn Fn(BufferId) -> Option<DType>) -> Result<(), String> {
        if self.bias.is_some() != self.scores.bias || self.mask.is_some() != self.scores.mask {
            return Err("an attention whose bias and mask are not those of its scores".to_owned());
        }
        let masked = |g: &Grid| self.mask.as_ref().is_some_and(|m| std::ptr::eq(m, g));
        for (grid, ..) in self.grids() {
            let want = if masked(grid) { DType::Bool } else { self.dtype };
            if grid.batch.len() != self.batch.len() || dtype(grid.buffer) != Some(want) {
                return Err(format!("an attention's view of {} has another rank or dtype", grid.buffer));
            }
        }
        let rows: SmallVec<[BufferId; 5]> = match self.pass {
            AttendPass::Forward { out, lse, .. } => SmallVec::from_iter([out, lse]),
            AttendPass::Backward { lse, delta, dq, dk, dv, .. } => SmallVec::from_iter([lse, delta, dq, dk, dv]),
        };
        match rows.iter().find(|&&b| dtype(b) != Some(self.dtype)) {
            Some(b) => Err(format!("{b} is no {} buffer of an attention", self.dtype)),
            None => Ok(()),
        }
    }

    /// The results on host data, by the operation's reference semantics, in the order of [`Attend::accesses`]' writes.
    pub(super) fn evaluate<E: From<EvalError> + From<DimError>>(
        &self,
        cx: &EvalCx<'_>,
        read: &dyn Fn(BufferId) -> Result<Data, E>,
    ) -> Result<Vec<(BufferId, Data)>, E> {
        let batch = cx.sizes(&self.batch)?;
        let gathered = |(grid, rows, columns): &(&Grid, &Dim, &Dim)| -> Result<Array, E> {
            let mut shape = batch.clone();
            shape.extend([cx.size(rows)?, cx.size(columns)?]);
            let all = grid.batch.iter().chain([&grid.row, &grid.column]);
            let strides: Vec<isize> = all.map(|d| Ok(cx.dim(d)? as isize)).collect::<Result<_, EvalError>>()?;
            let data = read(grid.buffer)?;
            let data = data.gather(walk::offsets(&shape, &strides, cx.dim(&grid.offset)? as isize));
            Ok(Array::from_data(&shape, data).map_err(EvalError::from)?)
        };
        let mut arrays = self.grids().iter().map(gathered).collect::<Result<Vec<Array>, E>>()?;
        let mut shape = batch.clone();
        shape.push(cx.size(&self.queries)?);
        let row =
            |b: BufferId| -> Result<Array, E> { Ok(Array::from_data(&shape, read(b)?).map_err(EvalError::from)?) };
        let scores = self.scores.clone();
        let done = match self.pass {
            AttendPass::Forward { empty, .. } => {
                let refs: Vec<&Array> = arrays.iter().collect();
                Attention { scores, empty }.eval(cx, &refs)?
            }
            AttendPass::Backward { lse, delta, .. } => {
                arrays.insert(scores.operands(), row(lse)?);
                arrays.push(row(delta)?);
                let refs: Vec<&Array> = arrays.iter().collect();
                AttentionGrad { scores }.eval(cx, &refs)?
            }
        };
        Ok(self.accesses().1.into_iter().zip(done.into_iter().map(Array::into_data)).collect())
    }
}

impl fmt::Display for Attend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.pass {
            AttendPass::Forward { .. } => "attend",
            AttendPass::Backward { .. } => "attend_grad",
        };
        let batch: Vec<String> = self.batch.iter().map(Dim::to_string).collect();
        write!(f, "{name} {} batch=({}) queries={} keys={}", self.dtype, batch.join(", "), self.queries, self.keys)?;
        write!(f, " d={} e={} scale={}", self.d, self.e, self.scores.scale())?;
        if self.scores.causal {
            f.write_str(" causal")?;
        }
        write!(f, " {}, {}, {}", self.q, self.k, self.v)?;
        if let Some(bias) = &self.bias {
            write!(f, ", bias {bias}")?;
        }
        if let Some(mask) = &self.mask {
            write!(f, ", mask {mask}")?;
        }
        match &self.pass {
            AttendPass::Forward { empty, out, lse } => write!(f, " -> {out}, {lse} (empty {})", empty.name()),
            AttendPass::Backward { lse, d_out, delta, dq, dk, dv } => {
                write!(f, ", {lse}, {d_out}, {delta} -> {dq}, {dk}, {dv}")
            }
        }
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.buffer)?;
        if !self.offset.is_zero() {
            write!(f, "+{}", self.offset)?;
        }
        let all: Vec<String> = self.batch.iter().chain([&self.row, &self.column]).map(Dim::to_string).collect();
        write!(f, "[{}]", all.join(", "))
    }
}
