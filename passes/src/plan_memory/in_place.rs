//! Which results may be computed where an operand lies.
//!
//! A backend may move a load, but not past a store that needs what it loads. So every load of the memory that is overwritten has to be
//! of the element that the same iteration stores, and to go into what is stored there.

use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::kernel::{Expr, Kernel, Loop, Memory, Stmt, Var};
use lehr_ir::plan::{BufferId, Place, Plan, Step, StepKind};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

/// Which updates may be computed where their variables lie: the step that writes the new value is the last to read the old one. None
/// if a step on the host could fail when some variables are new and others old.
pub(super) fn updates(plan: &Plan) -> Vec<bool> {
    let mut all = vec![false; plan.updates.len()];
    let fails = |p: &Plan| p.steps.iter().any(|s| matches!(s.kind, StepKind::Host { .. }));
    if all.is_empty() || plan.with_nested().into_iter().any(fails) {
        return all;
    }
    let accesses: Vec<_> = plan.steps.iter().map(|s| s.accesses(&plan.kernels)).collect();
    // For each buffer, the steps that read it last and write it first.
    let mut read = vec![None; plan.buffers.len()];
    let mut written = vec![None; plan.buffers.len()];
    for (i, (reads, writes)) in accesses.iter().enumerate() {
        reads.iter().for_each(|b| read[b.index()] = Some(i));
        writes.iter().for_each(|b| written[b.index()] = written[b.index()].or(Some(i)));
    }
    // By parameter, its buffers: one at most, as long as lowering makes one.
    let mut old: Vec<SmallVec<[usize; 1]>> = vec![SmallVec::new(); plan.params.len()];
    for (b, decl) in plan.buffers.iter().enumerate() {
        if let Place::Param(p) = decl.place {
            old[p as usize].push(b);
        }
    }
    for (b, decl) in plan.buffers.iter().enumerate() {
        let (Place::NewVariable(u), Some(step)) = (&decl.place, written[b]) else { continue };
        let olds = &old[plan.updates[*u as usize] as usize];
        all[*u as usize] = olds.iter().all(|&o| match read[o] {
            Some(last) if last == step => {
                is_in_place(&plan.steps[step], &plan.kernels, BufferId(o as u32), BufferId(b as u32))
            }
            last => last < Some(step),
        }) && matches!(plan.steps[step].kind, StepKind::Launch(_) | StepKind::Contract(_));
    }
    all
}

/// Whether a step may write `to` over `from`: each element is stored after every load of it, by the same iteration.
pub(super) fn is_in_place(step: &Step, kernels: &[Arc<Kernel>], from: BufferId, to: BufferId) -> bool {
    let (kernel, buffers) = match &step.kind {
        StepKind::Launch(l) => (l.kernel, &l.buffers),
        // The product reads its operands and writes its sums as it likes; what finishes a sum sees each element once.
        StepKind::Contract(c) if ![c.a.buffer, c.b.buffer, c.c.buffer].iter().any(|&b| b == from || b == to) => {
            let Some(e) = &c.epilogue else { return false };
            (e.kernel, &e.buffers)
        }
        _ => return false,
    };
    let kernel = &kernels[kernel as usize];
    let position = |b: BufferId| buffers.iter().position(|x| *x == b).map(|i| Memory::Buffer(i as u32));
    let (Some(from), Some(to)) = (position(from), position(to)) else { return false };
    let (loads, stores) = (Vec::new(), Vec::new());
    let mut accesses = Accesses { from, to, loads, stores, others: false, made_of: FxHashMap::default() };
    accesses.walk(&kernel.body, 0);
    let [store] = accesses.stores.as_slice() else { return false };
    if accesses.loads.is_empty() || accesses.loads.iter().any(|l| l.at != store.at) {
        return false;
    }
    // Where nothing else is stored, loads are for this store or for nothing.
    !accesses.others || (store.always && accesses.feed(store.var))
}

/// The places at which a kernel loads one buffer and stores another.
#[derive(Debug)]
struct Accesses<'k> {
    from: Memory,
    to: Memory,
    loads: Vec<Access<'k>>,
    stores: Vec<Access<'k>>,
    /// Whether it stores anything else.
    others: bool,
    /// What each variable is made of.
    made_of: FxHashMap<Var, &'k Expr>,
}

/// A load or a store.
#[derive(Debug)]
struct Access<'k> {
    /// The loop that holds it, counted in order of entry, and the index.
    at: (usize, &'k Dim),
    /// What is loaded or stored.
    var: Var,
    /// Whether each iteration of the loop does it.
    always: bool,
}

impl<'k> Accesses<'k> {
    fn walk(&mut self, l: &'k Loop, id: usize) -> usize {
        self.block(&l.body, id, id + 1, true)
    }

    fn block(&mut self, block: &'k [Stmt], id: usize, mut next: usize, always: bool) -> usize {
        for stmt in block {
            match stmt {
                Stmt::Let { var, expr } => {
                    self.made_of.insert(*var, expr);
                    if let Expr::Load { memory, index, .. } = expr
                        && *memory == self.from
                    {
                        self.loads.push(Access { at: (id, index), var: *var, always });
                    }
                }
                Stmt::Store { memory, index, value, guard } => {
                    if *memory == self.to {
                        let always = always && guard.0.is_empty();
                        self.stores.push(Access { at: (id, index), var: *value, always });
                    } else {
                        self.others = true;
                    }
                }
                Stmt::Loop(l) => next = self.walk(l, next),
                Stmt::If { body, .. } => next = self.block(body, id, next, false),
            }
        }
        next
    }

    /// Whether all loads go into a variable.
    fn feed(&self, var: Var) -> bool {
        let mut open = vec![var];
        let mut seen: FxHashSet<Var> = FxHashSet::default();
        while let Some(var) = open.pop() {
            if !seen.insert(var) {
                continue;
            }
            match self.made_of.get(&var) {
                Some(Expr::Apply(_, operands)) => open.extend(operands),
                Some(Expr::Load { other, .. }) => open.extend(other),
                Some(Expr::Const(_) | Expr::Index(_)) | None => {}
            }
        }
        self.loads.iter().all(|l| seen.contains(&l.var))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `y` may lie where `x` does, for the body of a loop over `i` and a kernel of three arrays.
    fn check(body: &str) -> bool {
        let text = format!(
            "kernel @k(read x: f32[8], write y: f32[8], write z: f32[8]) {{ parallel i in 0..8 {{ {body} }} }}"
        );
        let kernel = Kernel::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let buffers = [0, 1, 2].map(BufferId);
        let launch = lehr_ir::plan::Launch {
            kernel: 0,
            buffers: buffers.into_iter().collect(),
            sizes: SmallVec::new(),
            iterations: 8.into(),
            work: 1.into(),
        };
        let step = Step { kind: StepKind::Launch(launch), locs: SmallVec::new(), reason: String::new() };
        is_in_place(&step, &[Arc::new(kernel)], buffers[0], buffers[1])
    }

    #[test]
    fn an_element_is_stored_after_all_its_loads() {
        let twice = "%0 = load x[i]\n %1 = add %0, %0\n store y[i], %1\n";
        assert!(check(twice));
        assert!(!check("%0 = load x[7 - i]\n store y[i], %0\n"), "another iteration has stored it");
        assert!(!check("%0 = const 1 : f32\n store y[i], %0\n"), "nothing is loaded");
        assert!(check(&format!("{twice} store z[i], %0\n")), "what is stored elsewhere is known before");
        let (first, then) = ("%0 = load x[i]\n store z[i], %0\n", "%1 = load x[i]\n store y[i], %1\n");
        assert!(!check(&format!("{first}{then}")), "a load may be made later");
        assert!(!check(&format!("{twice} %2 = load x[i]\n store z[i], %2\n")), "a load comes late");
        assert!(
            check("%0 = load x[i]\n %1 = load x[i]\n %2 = mul %0, %1\n store y[i], %2\n store z[i], %2\n"),
            "both loads go into what is stored"
        );
        assert!(
            !check("%0 = load x[i]\n store y[i], %0 if (i - 3)\n store z[i], %0\n"),
            "a store that is skipped orders nothing"
        );
        assert!(check("%0 = load x[i]\n store y[i], %0 if (i - 3)\n"), "nothing else needs what is loaded");
    }
}
