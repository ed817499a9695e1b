//! The text of a plan, for `explain` and snapshots.

use std::fmt;

use super::{BufferId, LoopStep, Matrix, Place, Plan, StepKind, Trip};
use crate::dim::Dim;
use crate::graph::ParamKind;
use crate::kernel::Kernel;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan @{} {{", self.name)?;
        for (i, b) in self.buffers.iter().enumerate() {
            write!(f, "  b{i} = {}[{}] ", b.dtype, b.len)?;
            match &b.place {
                Place::Param(p) => {
                    let param = &self.params[*p as usize];
                    let kind = match param.kind {
                        ParamKind::Input => "input",
                        ParamKind::Variable => "variable",
                        ParamKind::Data => "data",
                    };
                    writeln!(f, "{kind} {}", param.name)?;
                }
                Place::Constant(c) => writeln!(f, "constant {c}")?,
                Place::Output(o) => writeln!(f, "output {}", self.outputs[*o as usize].0)?,
                Place::NewVariable(u) => {
                    let how = if self.in_place.get(*u as usize) == Some(&true) { ", in place" } else { "" };
                    writeln!(f, "new {}{how}", self.params[self.updates[*u as usize] as usize].name)?;
                }
                Place::Temp(offset) => writeln!(f, "arena at {offset}")?,
                Place::Slot(slot) => writeln!(f, "slot {slot}")?,
            }
        }
        for step in &self.steps {
            f.write_str("  ")?;
            match &step.kind {
                StepKind::Launch(l) => {
                    write!(f, "launch k{}", l.kernel)?;
                    self.bound(f, &self.kernels[l.kernel as usize], &l.buffers, &l.sizes)?;
                    write!(f, " over {}", l.iterations)?;
                }
                StepKind::Contract(c) => {
                    write!(f, "contract {} batch={} m={} n={} k={} ", c.dtype, c.batch, c.m, c.n, c.k)?;
                    write!(f, "{} · {} -> {}", View(&c.a), View(&c.b), View(&c.c))?;
                    if let Some(e) = &c.epilogue {
                        write!(f, " then k{}", e.kernel)?;
                        self.bound(f, &self.kernels[e.kernel as usize], &e.buffers, &e.sizes)?;
                    }
                }
                StepKind::Attend(a) => write!(f, "{a}")?,
                StepKind::Copy { from, to } => write!(f, "copy {from} -> {to}")?,
                StepKind::Loop(l) => loop_step(f, l)?,
                StepKind::Branch(b) => {
                    write!(f, "case {}({}) -> {}", b.index, list(&b.operands), list(&b.results))?;
                    for (i, block) in b.branches.iter().enumerate() {
                        write!(f, "{}arena {i} {}", if i == 0 { ", " } else { " " }, block.arena)?;
                    }
                }
                StepKind::Host { op, operands, results } => {
                    write!(f, "host {op}(")?;
                    for (i, (b, ty)) in operands.iter().enumerate() {
                        write!(f, "{}{b}: {ty}", if i > 0 { ", " } else { "" })?;
                    }
                    f.write_str(") ->")?;
                    for (b, ty) in results {
                        write!(f, " {b}: {ty}")?;
                    }
                }
            }
            if !step.reason.is_empty() {
                write!(f, "  ; {}", step.reason)?;
            }
            let lines: Vec<String> = step.locs.iter().filter_map(crate::Loc::short).collect();
            if !lines.is_empty() {
                write!(f, "  ; {}", lines.join(", "))?;
            }
            f.write_str("\n")?;
            for block in step.blocks() {
                for line in block.plan.to_string().lines() {
                    writeln!(f, "    {line}")?;
                }
            }
        }
        if self.slots.is_empty() {
            writeln!(f, "  arena {} bytes", self.arena)?;
        }
        for (i, bytes) in self.slots.iter().enumerate() {
            writeln!(f, "  slot {i} {bytes} bytes")?;
        }
        f.write_str("}\n")
    }
}

impl Plan {
    /// A kernel's name with what its buffers and sizes are bound to.
    fn bound(&self, f: &mut fmt::Formatter<'_>, kernel: &Kernel, buffers: &[BufferId], sizes: &[Dim]) -> fmt::Result {
        write!(f, " @{}(", kernel.name)?;
        for (i, (b, p)) in buffers.iter().zip(&kernel.buffers).enumerate() {
            write!(f, "{}{}={b}", if i > 0 { ", " } else { "" }, p.name)?;
        }
        f.write_str(")")?;
        kernel.sizes.iter().zip(sizes).try_for_each(|(s, d)| write!(f, " {s}={d}"))
    }
}

fn loop_step(f: &mut fmt::Formatter<'_>, l: &LoopStep) -> fmt::Result {
    match &l.trip {
        Trip::Count(n) => write!(f, "loop {n} times{}", if l.reverse { ", from the last" } else { "" })?,
        Trip::While(cond) => write!(f, "loop while @{} (arena {})", cond.plan.name, cond.arena)?,
    }
    if !l.consts.is_empty() {
        write!(f, ", with {}", list(&l.consts))?;
    }
    for c in &l.carries {
        write!(f, ", carry {} from {} by {}", c.result, c.init, c.spare)?;
    }
    if !l.rows_in.is_empty() {
        write!(f, ", rows of {}", list(&l.rows_in))?;
    }
    if !l.rows_out.is_empty() {
        write!(f, " -> rows of {}", list(&l.rows_out))?;
    }
    write!(f, ", arena {}", l.body.arena)
}

fn list(buffers: &[BufferId]) -> String {
    buffers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

struct View<'a>(&'a Matrix);

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "{}", m.buffer)?;
        if !m.offset.is_zero() {
            write!(f, "+{}", m.offset)?;
        }
        write!(f, "[{}, {}, {}]", m.batch, m.row, m.column)
    }
}
