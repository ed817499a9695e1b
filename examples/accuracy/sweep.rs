//! A sweep over the arguments of a function: compiled code against f64.

#[path = "../../ir/tests/reference/mod.rs"]
mod reference;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lehr::ir::graph::Graph;
use lehr::ir::kernel::ScalarOp;
use lehr::ir::kernel::recipes::host::ulp_error;
use lehr::ir::kernel::recipes::{Function, TABLE};
use lehr::ir::ops::UnaryOp;
use lehr::prelude::*;
use lehr::{Program, Vectors};
use reference::reference;

/// Arguments that one call computes.
const BLOCK: u64 = 1 << 16;

/// An operation that is an elementary function of one `f32`.
pub struct Elementary {
    pub name: &'static str,
    function: Function,
    /// The documented bound on its error in units of the last place.
    pub bound: f64,
}

/// The worst error found, and where.
#[derive(Clone, Copy, Default, Debug)]
pub struct Worst {
    pub ulp: f64,
    pub at: f32,
}

/// Every operation on one number that a recipe computes.
pub fn functions() -> Vec<Elementary> {
    let of = |op: &UnaryOp| {
        let ScalarOp::Call(function) = op.row().scalar else { return None };
        let row = TABLE.iter().find(|row| row.function == function)?;
        Some(Elementary { name: op.row().name, function, bound: row.max_ulp })
    };
    UnaryOp::ALL.iter().filter_map(of).collect()
}

/// The worst error over every `every`-th bit pattern, on two threads.
pub fn worst(f: &Elementary, every: u64, vectors: Vectors) -> lehr::Result<Worst> {
    let text = format!("graph @f(%x: f32[n]) -> (f32[n]) {{\n  %0 = {} %x : f32[n]\n  return %0 \"y\"\n}}\n", f.name);
    let graph = Graph::parse(&text).unwrap_or_else(|e| unreachable!("{e}"));
    let options = Options::default().backend(Backend::Cpu).threads(1).vectors(vectors);
    let program = Program::from_graph(graph, Vec::<(String, Array)>::new(), &options)?;
    let count = (1u64 << 32).div_ceil(every);
    let next = AtomicU64::new(0);
    let found = Mutex::new(Worst::default());
    let work = || -> lehr::Result<()> {
        let mut exe = Executable::new(program.clone(), State::new());
        let mut out = [Array::zeros(F32, &[BLOCK as usize])];
        let mut worst = Worst::default();
        loop {
            let from = next.fetch_add(BLOCK, Ordering::Relaxed);
            if from >= count {
                break;
            }
            let argument = |i: u64| f32::from_bits((i.min(count - 1) * every) as u32);
            let x: Vec<f32> = (from..from + BLOCK).map(argument).collect();
            let x = Array::new(&[BLOCK as usize], x).unwrap_or_else(|e| unreachable!("{e}"));
            exe.run_into([("x", &x)], &mut out)?;
            let pairs = x.as_slice::<f32>().into_iter().flatten().zip(out[0].as_slice::<f32>().into_iter().flatten());
            for (&x, &y) in pairs {
                let ulp = ulp_error(y, reference(f.function, f64::from(x), 0.0));
                if ulp > worst.ulp {
                    worst = Worst { ulp, at: x };
                }
            }
        }
        let mut all = found.lock().unwrap_or_else(|e| e.into_inner());
        if worst.ulp > all.ulp {
            *all = worst;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let done = work();
        other.join().unwrap_or(Ok(())).and(done)
    })?;
    Ok(found.into_inner().unwrap_or_else(|e| e.into_inner()))
}
