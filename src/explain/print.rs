//! The text of an explanation.

use std::fmt;

use lehr_ir::Dim;
use lehr_ir::graph::print::PrintOptions;
use lehr_ir::kernel::Cost;
use lehr_ir::loc::Loc;
use lehr_passes::fuse::GroupKind;

use super::{
    Change, DeviceExplanation, DeviceForm, DeviceStep, Explanation, GroupExplanation, KernelExplanation,
    MemoryExplanation, PassExplanation,
};

/// The column at which a member's source line stands, where it is not longer.
const LOCATION_COLUMN: usize = 64;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = &self.options;
        write!(f, "explain @{} on {}", self.name, self.backend)?;
        writeln!(f, "{}", if self.sizes.is_empty() { String::new() } else { format!(" at {}", self.sizes) })?;
        if show.source {
            writeln!(f, "\n== graph as built: {} nodes", self.source.node_count())?;
            let options = PrintOptions { blobs: false, ..PrintOptions::default() };
            write!(f, "{}", self.source.display_numbered(options, &self.source_numbers))?;
        }
        if show.passes {
            writeln!(f, "\n== passes")?;
            self.passes.iter().try_for_each(|p| pass(f, p))?;
        }
        if show.groups && !self.groups.is_empty() {
            writeln!(f, "\n== fusion groups: {}", self.groups.len())?;
            self.groups.iter().enumerate().try_for_each(|(i, g)| group(f, i, g))?;
        }
        if !self.kernels.is_empty() && (show.kernels || show.clif || show.asm) {
            writeln!(f, "\n== kernels: {}", self.kernels.len())?;
            self.kernels.iter().enumerate().try_for_each(|(i, k)| self.kernel(f, i, k))?;
        }
        if let (true, Some(plan)) = (show.plan, &self.plan) {
            writeln!(f, "\n== plan: {} steps", plan.steps.len())?;
            write!(f, "{plan}")?;
        }
        if let (true, Some(d)) = (show.plan, &self.device) {
            self.device(f, d)?;
        }
        if let (true, Some(d)) = (show.wgsl, &self.device) {
            for (i, text) in d.shaders.iter().enumerate() {
                writeln!(f, "\n== shader s{i}\n{text}")?;
            }
        }
        if let (true, Some(m)) = (show.memory, &self.memory) {
            self.memory(f, m)?;
        }
        if let (true, Some(total)) = (show.memory, &self.total) {
            writeln!(f, "\n== one call")?;
            self.cost(f, total)?;
        }
        if show.timings {
            writeln!(f, "\n== timings")?;
            self.passes.iter().try_for_each(|p| writeln!(f, "{:>12.1?}  {}", p.duration, p.name))?;
            if let Some(counts) = &self.kernel_counts {
                writeln!(f, "kernels compiled: {}, from the cache: {}", counts.compiled, counts.cached)?;
                counts.refused.iter().try_for_each(|why| writeln!(f, "no cache: {why}"))?;
            }
        }
        match &self.failure {
            None => Ok(()),
            Some(failure) => writeln!(f, "\n== failed\nerror: {failure}"),
        }
    }
}

fn pass(f: &mut fmt::Formatter<'_>, p: &PassExplanation) -> fmt::Result {
    if !p.changed {
        return writeln!(f, "{}: unchanged", p.name);
    }
    write!(f, "{}: {} -> {} nodes", p.name, p.nodes_before, p.nodes_after)?;
    for (i, (rule, times)) in p.rules.iter().enumerate() {
        write!(f, "{}{rule}", if i == 0 { "; " } else { ", " })?;
        if *times > 1 {
            write!(f, " ×{times}")?;
        }
    }
    writeln!(f)?;
    for change in &p.diff {
        match change {
            Change::Removed(line) => writeln!(f, "- {line}")?,
            Change::Added(line) => writeln!(f, "+ {line}")?,
        }
    }
    Ok(())
}

fn group(f: &mut fmt::Formatter<'_>, i: usize, g: &GroupExplanation) -> fmt::Result {
    let kind = match g.kind {
        GroupKind::Kernel => "kernel",
        GroupKind::Contract => "matrix product",
        GroupKind::Attend => "attention",
        GroupKind::Scatter => "scatter",
        GroupKind::Control => "control flow",
        GroupKind::Host => "host",
    };
    let dims: Vec<String> = g.domain.iter().map(Dim::to_string).collect();
    write!(f, "group {i}: {kind} over [{}]", dims.join(", "))?;
    if !g.reduced.is_empty() {
        write!(f, ", reduces axes {:?}", g.reduced)?;
    }
    writeln!(f)?;
    for m in &g.members {
        let line = format!("  {} = {} : {}", m.value, m.op, m.ty);
        match m.loc.short() {
            Some(loc) => {
                let fill = LOCATION_COLUMN.saturating_sub(line.chars().count()).max(2);
                writeln!(f, "{line}{:fill$}; {loc}", "")?;
            }
            None => writeln!(f, "{line}")?,
        }
    }
    writeln!(f, "  fused: {}", g.fused)?;
    g.ended.iter().try_for_each(|reason| writeln!(f, "  {reason}"))
}

impl Explanation {
    fn kernel(&self, f: &mut fmt::Formatter<'_>, i: usize, k: &KernelExplanation) -> fmt::Result {
        let times = if k.launches == 1 { "launch" } else { "launches" };
        write!(f, "k{i} @{}: {} {times}", k.name, k.launches)?;
        let lines: Vec<String> = k.locs.iter().filter_map(Loc::short).collect();
        writeln!(f, "{}{}", if lines.is_empty() { "" } else { "  ; " }, lines.join(", "))?;
        self.cost(f, &k.cost)?;
        if !k.emitter.is_empty() {
            writeln!(f, "  code by {}", k.emitter)?;
        }
        let texts = [
            (self.options.kernels, Some(&k.text)),
            (self.options.clif, k.clif.as_ref()),
            (self.options.asm, k.asm.as_ref()),
        ];
        for (_, text) in texts.into_iter().filter(|(show, _)| *show) {
            for line in text.into_iter().flat_map(|t| t.lines()) {
                writeln!(f, "  {}", line.trim_end())?;
            }
        }
        Ok(())
    }

    /// The time of a step that was measured, and what it makes of the device.
    fn rates(&self, f: &mut fmt::Formatter<'_>, step: &DeviceStep) -> fmt::Result {
        let Some(time) = step.time() else { return Ok(()) };
        let seconds = time.as_secs_f64();
        let moved = &step.cost.bytes_read + &step.cost.bytes_written;
        write!(f, "    {:.4} ms for {} bytes", seconds * 1e3, self.amount(&moved))?;
        write!(f, " and {} flops", self.amount(&step.cost.flops))?;
        if let (Ok(bytes), Ok(flops), true) =
            (self.sizes.eval(&moved), self.sizes.eval(&step.cost.flops), seconds > 0.0)
        {
            let giga = |n: i64| n as f64 / seconds * 1e-9;
            write!(f, ": {:.2} GB/s, {:.2} GFLOP/s", giga(bytes), giga(flops))?;
        }
        writeln!(f)
    }

    fn cost(&self, f: &mut fmt::Formatter<'_>, c: &Cost) -> fmt::Result {
        write!(f, "  flops {}", self.amount(&c.flops))?;
        if !c.transcendental.is_zero() {
            write!(f, ", of them elementary functions {}", self.amount(&c.transcendental))?;
        }
        writeln!(f)?;
        let bytes = |least: &Dim, all: &Dim| {
            let once = self.amount(least);
            if least == all {
                format!("{once} bytes")
            } else {
                format!("{once} bytes, without a cache {}", self.amount(all))
            }
        };
        writeln!(f, "  reads {}", bytes(&c.bytes_read, &c.bytes_loaded))?;
        writeln!(f, "  writes {}", bytes(&c.bytes_written, &c.bytes_stored))?;
        let moved = &c.bytes_read + &c.bytes_written;
        match self.intensity(&c.flops, &moved) {
            Some(ratio) => writeln!(f, "  {ratio:.3} flops a byte"),
            None if moved.is_zero() => Ok(()),
            None => writeln!(f, "  ({})/({moved}) flops a byte", c.flops),
        }
    }

    fn device(&self, f: &mut fmt::Formatter<'_>, d: &DeviceExplanation) -> fmt::Result {
        let (dispatches, hosts) = (d.dispatches(), d.on_host().count());
        write!(f, "\n== device {}: {dispatches} dispatches of {} shaders", d.name, d.shaders.len())?;
        writeln!(f, "{}", if hosts == 0 { String::new() } else { format!(", {hosts} steps on the host") })?;
        for step in &d.steps {
            let lines: Vec<String> = step.locs.iter().filter_map(Loc::short).collect();
            let at = if lines.is_empty() { String::new() } else { format!("  ; {}", lines.join(", ")) };
            writeln!(f, "  @{}: {}{at}", step.plan, step.title)?;
            match &step.how {
                DeviceForm::Copy => writeln!(f, "    copied on the device")?,
                DeviceForm::Control => writeln!(f, "    put in order by the host")?,
                DeviceForm::Host { reason, reads, writes } => {
                    let (reads, writes) = (self.amount(reads), self.amount(writes));
                    writeln!(f, "    on the host: {reason}; reads back {reads} bytes, sends {writes} bytes")?;
                }
                DeviceForm::Dispatches(all) => {
                    if let Some(measured) = &step.measured {
                        writeln!(f, "    fastest by measurement: {measured}")?;
                    }
                    for one in all {
                        let groups = self.amount(&one.groups);
                        write!(f, "    s{} in {groups} workgroups on {}", one.shader, one.operands.join(", "))?;
                        match one.time.and_then(|(runs, total)| Some((runs, total.checked_div(runs)?))) {
                            Some((runs, mean)) => writeln!(f, ": {:.4} ms, mean of {runs}", mean.as_secs_f64() * 1e3)?,
                            None => writeln!(f)?,
                        }
                    }
                    self.rates(f, step)?;
                }
            }
        }
        let list = [("sent in each call", &d.uploads), ("stays there", &d.stays), ("read back", &d.downloads)];
        for (what, all) in list.into_iter().filter(|(_, all)| !all.is_empty()) {
            let each = all.iter().map(|(name, bytes)| format!("{name} ({})", self.amount(bytes)));
            writeln!(f, "  {what}, in bytes: {}", each.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>, m: &MemoryExplanation) -> fmt::Result {
        writeln!(f, "\n== memory in bytes")?;
        let rows = [
            (if self.device.is_some() { "slots" } else { "arena" }, &m.arena),
            ("temporaries, alive at once", &m.alive),
            ("temporaries, unshared", &m.unshared),
            ("inputs and variables", &m.arguments),
            ("outputs and new values", &m.results),
            ("constants", &m.constants),
            ("peak", &m.peak),
        ];
        for (name, dim) in rows {
            writeln!(f, "  {name}: {}", self.amount(dim))?;
        }
        for b in &m.blocks {
            let (arena, alive) = (self.amount(&b.arena), self.amount(&b.alive));
            writeln!(f, "  arena of the block @{}: {arena}; alive at once: {alive}", b.name)?;
        }
        if let Some((count, before)) = &m.rematerialized {
            writeln!(
                f,
                "  computed again to save memory: {count} values; the arena was {} before",
                self.amount(before)
            )?;
        }
        writeln!(f, "  computed in place: temporaries {}, new values {}", m.in_place, m.updates_in_place)
    }

    /// A polynomial, with its value where the sizes are given.
    fn amount(&self, dim: &Dim) -> String {
        match (dim.as_const(), self.sizes.eval(dim)) {
            (None, Ok(value)) => format!("{dim} = {value}"),
            _ => dim.to_string(),
        }
    }

    /// The quotient of two polynomials, if it is one number for all sizes or the sizes are given.
    fn intensity(&self, flops: &Dim, bytes: &Dim) -> Option<f64> {
        let ratio = |a: i64, b: i64| (b != 0).then(|| a as f64 / b as f64);
        if let (Ok(a), Ok(b)) = (self.sizes.eval(flops), self.sizes.eval(bytes)) {
            return ratio(a, b);
        }
        // `p/q` is constant if it is the quotient of two coefficients and `p·b = q·a` holds as polynomials.
        let (a, b) = (flops.terms().first()?.coefficient(), bytes.terms().first()?.coefficient());
        (flops * b == bytes * a).then(|| ratio(a, b)).flatten()
    }
}
