//! Loops and branches: the host decides what is recorded, and reads back nothing but what it decides by.

use lehr_ir::DType;
use lehr_ir::array::Data;

use super::super::bound::{Branch, Loop, Rows, Spot, Turns};
use super::super::error::GpuError;
use super::{Frame, Locate, Run, Slice};

impl Run<'_> {
    pub(super) fn branch(&mut self, b: &mut Branch, here: &Locate<'_>) -> Result<(), GpuError> {
        let index = self.scalar(b.index, DType::I32, here)? as i64;
        let chosen = usize::try_from(index).unwrap_or(0).min(b.branches.len().saturating_sub(1));
        let params = self.all(&b.operands, here)?;
        let results = self.all(&b.results, here)?;
        match b.branches.get_mut(chosen) {
            Some(branch) => self.sequence(branch, Frame { params: &params, results: &results }),
            None => Ok(()),
        }
    }

    pub(super) fn repeat(&mut self, l: &mut Loop, here: &Locate<'_>) -> Result<(), GpuError> {
        let consts = self.all(&l.consts, here)?;
        let mut places = Vec::with_capacity(l.carries.len());
        for [init, result, spare] in &l.carries {
            places.push([self.locate(*init, here)?, self.locate(*result, here)?, self.locate(*spare, here)?]);
        }
        let count = match l.turns {
            Turns::Count(n) => n,
            Turns::While(..) => u64::MAX,
        };
        // The first iteration reads the initial values, and writes where the last one ends in the result.
        let first = if matches!(l.turns, Turns::Count(n) if n.is_multiple_of(2)) { 2 } else { 1 };
        let mut now: Vec<Slice> = places.iter().map(|p| p[0].clone()).collect();
        let mut turn = first;
        for i in 0..count {
            if let Turns::While(cond, flag) = &mut l.turns {
                let params: Vec<Slice> = consts.iter().chain(&now).cloned().collect();
                let result = [self.locate(*flag, here)?];
                self.sequence(cond, Frame { params: &params, results: &result })?;
                if self.scalar(*flag, DType::Bool, here)? == 0.0 {
                    break;
                }
            }
            let row = if l.reverse { count - 1 - i } else { i };
            let mut params: Vec<Slice> = consts.iter().chain(&now).cloned().collect();
            for rows in &l.rows_in {
                params.push(self.row(rows, row, true, here)?);
            }
            let next: Vec<Slice> = places.iter().map(|p| p[turn].clone()).collect();
            let mut results = next.clone();
            for rows in &l.rows_out {
                results.push(self.row(rows, row, false, here)?);
            }
            self.sequence(&mut l.body, Frame { params: &params, results: &results })?;
            for (rows, made) in l.rows_out.iter().zip(&results[next.len()..]) {
                self.keep_row(rows, row, made, here)?;
            }
            now = next;
            turn = 3 - turn;
        }
        for ((now, place), [_, result, _]) in now.iter().zip(&places).zip(&l.carries) {
            if now.memory.id != place[1].memory.id {
                self.recorder.copy(now, &place[1], result.bytes);
            }
        }
        Ok(())
    }

    /// A row, where shaders can bind it.
    fn row(&mut self, rows: &Rows, i: u64, is_read: bool, here: &Locate<'_>) -> Result<Slice, GpuError> {
        let all = self.locate(rows.all, here)?;
        let there = Slice { offset: all.offset + i * rows.stride, ..all };
        let Some(apart) = rows.apart else { return Ok(there) };
        let apart = self.locate(apart, here)?;
        if is_read {
            self.recorder.copy(&there, &apart, rows.stride);
        }
        Ok(apart)
    }

    /// Copies a row that was made apart to its place.
    fn keep_row(&mut self, rows: &Rows, i: u64, made: &Slice, here: &Locate<'_>) -> Result<(), GpuError> {
        if rows.apart.is_some() {
            let all = self.locate(rows.all, here)?;
            self.recorder.copy(made, &Slice { offset: all.offset + i * rows.stride, ..all }, rows.stride);
        }
        Ok(())
    }

    fn all(&mut self, spots: &[Spot], here: &Locate<'_>) -> Result<Vec<Slice>, GpuError> {
        spots.iter().map(|&s| self.locate(s, here)).collect()
    }

    /// The one element of a buffer.
    fn scalar(&mut self, spot: Spot, dtype: DType, here: &Locate<'_>) -> Result<f64, GpuError> {
        let mut data = Data::zeros(dtype, 1);
        let from = self.locate(spot, here)?;
        self.read(&mut [(from, &mut data)])?;
        Ok(data.get(0).map_or(0.0, |l| l.to_f64()))
    }
}
