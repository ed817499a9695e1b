//! Loops.

use iced_x86::{Code, Register};
use lehr_ir::dim::Dim;
use lehr_ir::kernel::{AxisKind, Loop};

use super::WideError;
use super::assembler::frame;
use super::emitter::{Emitter, Lane};
use super::flow::choose;
use super::scan;
use super::stream::is_straight;

impl<'k> Emitter<'k> {
    /// The iterations between two places of the frame of the outermost loop.
    pub(super) fn root(&mut self, lo: i32, hi: i32) -> Result<(), WideError> {
        let l = &self.kernel.body;
        let width = self.lanes();
        match scan::vectorizable(self.kernel, l) {
            Some(varying) => self.vector_loop(l, lo, hi, width, varying, |_| Ok(())),
            None => self.counted(l, lo, hi, |_| Ok(())),
        }
    }

    pub(super) fn inner_loop(&mut self, l: &'k Loop) -> Result<(), WideError> {
        self.flush()?;
        let varying = if self.lane.is_none() { scan::vectorizable(self.kernel, l) } else { None };
        match (l.kind, varying) {
            (AxisKind::Parallel, _) => Err(WideError::Invalid("a parallel loop inside of another loop")),
            (AxisKind::Lane, Some(varying)) => {
                let (from, to) = self.range(&l.extent)?;
                self.vector_loop(l, from, to, self.lanes(), varying, |_| Ok(()))
            }
            (AxisKind::Serial | AxisKind::Lane, _) => {
                let (from, to) = self.range(&l.extent)?;
                self.counted(l, from, to, |_| Ok(()))
            }
            (AxisKind::Reduce(lanes), Some(varying)) => self.vector_reduce(l, lanes as usize, varying),
            (AxisKind::Reduce(lanes), None) => self.sequential_reduce(l, lanes as usize),
        }
    }

    /// Places of the frame that hold 0 and an extent.
    pub(super) fn range(&mut self, extent: &Dim) -> Result<(i32, i32), WideError> {
        let (from, to) = (self.frame.words(1), self.frame.words(1));
        self.index(extent)?;
        self.asm.mr(Code::Mov_rm64_r64, frame(to), Register::RAX);
        self.asm.mi(Code::Mov_rm64_imm32, frame(from), 0);
        Ok((from, to))
    }

    /// One iteration after another, counting in `from`; `end` adds what belongs to the end of an iteration.
    pub(super) fn counted(
        &mut self,
        l: &'k Loop,
        from: i32,
        to: i32,
        end: impl FnOnce(&mut Self) -> Result<(), WideError>,
    ) -> Result<(), WideError> {
        self.axes.push((&l.axis, from));
        self.repeat(from, to, 1, |e| {
            e.block(&l.body)?;
            // The number of the loop's end.
            e.number += 1;
            end(e)
        })?;
        self.axes.pop();
        Ok(())
    }

    /// Groups of at most `group` iterations, one in each lane.
    pub(super) fn vector_loop(
        &mut self,
        l: &'k Loop,
        from: i32,
        to: i32,
        group: usize,
        varying: Vec<bool>,
        end: impl FnOnce(&mut Self) -> Result<(), WideError>,
    ) -> Result<(), WideError> {
        let current = self.frame.words(1);
        self.axes.push((&l.axis, from));
        self.lane = Some(Lane { axis: &l.axis, base: from, current, varying });
        if is_straight(l) {
            // All of the body is one segment, so it can be looked at before anything is emitted.
            self.block(&l.body)?;
            self.number += 1;
            end(self)?;
            let nodes = choose(self.take_segment());
            if self.is_stream(&nodes, group) {
                self.stream(l, &nodes, from, to)?;
            } else if self.guarded_stream(l, &nodes, [from, to], group)? {
                // It was two.
            } else {
                self.not_a_stream(l, &nodes)?;
                self.repeat(from, to, group as i32, |e| {
                    e.activate_group(from, to, group);
                    e.emit_nodes(&nodes)
                })?;
            }
        } else {
            self.repeat(from, to, group as i32, |e| {
                e.activate_group(from, to, group);
                e.block(&l.body)?;
                e.number += 1;
                end(e)
            })?;
        }
        self.lane = None;
        self.axes.pop();
        Ok(())
    }

    /// Makes what is left of a loop the active lanes, but at most a group.
    fn activate_group(&mut self, from: i32, to: i32, group: usize) {
        self.asm.rm(Code::Mov_r64_rm64, Register::R14, frame(to));
        self.asm.rm(Code::Sub_r64_rm64, Register::R14, frame(from));
        self.asm.constant(Register::RAX, group as i64);
        self.asm.rr(Code::Cmp_r64_rm64, Register::RAX, Register::R14);
        self.asm.rr(Code::Cmovl_r64_rm64, Register::R14, Register::RAX);
        self.v_activate();
    }

    /// Runs `body` while one place of the frame is below another, adding `step` after each time.
    pub(super) fn repeat(
        &mut self,
        counter: i32,
        to: i32,
        step: i32,
        body: impl FnOnce(&mut Self) -> Result<(), WideError>,
    ) -> Result<(), WideError> {
        let (again, done) = (self.asm.label(), self.asm.label());
        self.asm.bind(again);
        self.asm.rm(Code::Mov_r64_rm64, Register::RAX, frame(counter));
        self.asm.rm(Code::Cmp_r64_rm64, Register::RAX, frame(to));
        self.asm.jump(Code::Jge_rel32_64, done);
        body(self)?;
        self.flush()?;
        self.asm.mi(Code::Add_rm64_imm32, frame(counter), step);
        self.asm.jump(Code::Jmp_rel32_64, again);
        self.asm.bind(done);
        Ok(())
    }
}
