//! The text of a plan, for `explain` and snapshots.

use std::fmt;

use super::{Matrix, Place, Plan, StepKind};
use crate::graph::ParamKind;

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
                    writeln!(f, "new {}", self.params[self.updates[*u as usize] as usize].name)?;
                }
                Place::Temp(offset) => writeln!(f, "arena at {offset}")?,
            }
        }
        for step in &self.steps {
            f.write_str("  ")?;
            match &step.kind {
                StepKind::Launch(l) => {
                    let kernel = &self.kernels[l.kernel as usize];
                    write!(f, "launch k{} @{}(", l.kernel, kernel.name)?;
                    for (i, (b, p)) in l.buffers.iter().zip(&kernel.buffers).enumerate() {
                        write!(f, "{}{}={b}", if i > 0 { ", " } else { "" }, p.name)?;
                    }
                    f.write_str(")")?;
                    for (s, d) in kernel.sizes.iter().zip(&l.sizes) {
                        write!(f, " {s}={d}")?;
                    }
                    write!(f, " over {}", l.iterations)?;
                }
                StepKind::Contract(c) => {
                    write!(f, "contract {} batch={} m={} n={} k={} ", c.dtype, c.batch, c.m, c.n, c.k)?;
                    write!(f, "{} · {} -> {}", View(&c.a), View(&c.b), View(&c.c))?;
                }
                StepKind::Copy { from, to } => write!(f, "copy {from} -> {to}")?,
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
        }
        writeln!(f, "  arena {} bytes", self.arena)?;
        f.write_str("}\n")
    }
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
