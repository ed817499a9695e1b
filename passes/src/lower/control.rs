//! Loops and branches: each region becomes a plan of its own, which a step runs.

use std::sync::Arc;

use lehr_ir::graph::{Graph, Node, Region, Value};
use lehr_ir::ops::{Case, Lowering, Scan, While};
use lehr_ir::plan::{Block, BranchStep, BufferId, Carry, LoopStep, Plan, StepKind, Trip};
use lehr_ir::{DType, OpError};
use smallvec::SmallVec;

use super::body::Surroundings;
use super::{Lowerer, lower};
use crate::fuse::fuse;
use crate::inline_calls::with_outer_facts;
use crate::plan_memory::plan_memory;

impl Lowerer<'_> {
    pub(super) fn control(&mut self, node: &Node) -> Result<(), OpError> {
        let (kind, reason) = match node.op.story().lowering() {
            Lowering::Scan(scan) => (self.scan(node, scan)?, "a loop over rows"),
            Lowering::While(l) => (self.while_loop(node, l)?, "a loop on a condition"),
            Lowering::Case(case) => (self.case(node, case)?, "a choice"),
            Lowering::Map { .. }
            | Lowering::Reduce { .. }
            | Lowering::Contract(_)
            | Lowering::Convolve(_)
            | Lowering::Attend
            | Lowering::Scatter(_)
            | Lowering::Inline(_)
            | Lowering::Host => {
                self.refuse(node.op.name());
                return Ok(());
            }
        };
        self.step(kind, [node.loc.clone()], reason.to_owned());
        Ok(())
    }

    fn scan(&mut self, node: &Node, scan: &Scan) -> Result<StepKind, OpError> {
        let results: Vec<Value> = node.results().collect();
        let (consts, rest) = node.operands.split_at(scan.consts);
        let (inits, rows_in) = rest.split_at(scan.carries);
        let step = LoopStep {
            trip: Trip::Count(scan.length.clone()),
            reverse: scan.reverse,
            consts: self.buffers(consts),
            carries: self.carries(inits, &results),
            rows_in: self.buffers(rows_in),
            rows_out: self.buffers(&results[scan.carries..]),
            body: self.block(&scan.body)?,
        };
        Ok(StepKind::Loop(Box::new(step)))
    }

    fn while_loop(&mut self, node: &Node, l: &While) -> Result<StepKind, OpError> {
        let results: Vec<Value> = node.results().collect();
        let (consts, inits) = node.operands.split_at(l.consts);
        let step = LoopStep {
            trip: Trip::While(self.block(&l.cond)?),
            reverse: false,
            consts: self.buffers(consts),
            carries: self.carries(inits, &results),
            rows_in: SmallVec::new(),
            rows_out: SmallVec::new(),
            body: self.block(&l.body)?,
        };
        Ok(StepKind::Loop(Box::new(step)))
    }

    fn case(&mut self, node: &Node, case: &Case) -> Result<StepKind, OpError> {
        let results: Vec<Value> = node.results().collect();
        let step = BranchStep {
            index: self.buffer(node.operands[0]),
            operands: self.buffers(&node.operands[1..]),
            results: self.buffers(&results),
            branches: case.branches.iter().map(|b| self.block(b)).collect::<Result<_, _>>()?,
        };
        Ok(StepKind::Branch(Box::new(step)))
    }

    fn carries(&mut self, inits: &[Value], results: &[Value]) -> SmallVec<[Carry; 4]> {
        let mut out = SmallVec::new();
        for (&init, &result) in inits.iter().zip(results) {
            let ty = self.graph.ty(result);
            let (dtype, count) = (ty.dtype, ty.count());
            out.push(Carry { init: self.buffer(init), result: self.buffer(result), spare: self.temp(dtype, count) });
        }
        out
    }

    fn buffers<A: smallvec::Array<Item = BufferId>>(&mut self, values: &[Value]) -> SmallVec<A> {
        values.iter().map(|&v| self.buffer(v)).collect()
    }

    fn block(&mut self, region: &Region) -> Result<Block, OpError> {
        let plan = self.region_plan(region)?;
        let arena = self.temp(DType::U8, plan.arena.clone());
        Ok(Block { plan, arena })
    }

    fn region_plan(&mut self, region: &Region) -> Result<Arc<Plan>, OpError> {
        let key: *const Graph = Arc::as_ptr(region);
        if let Some(plan) = self.regions.get(&key) {
            return Ok(Arc::clone(plan));
        }
        let graph = with_outer_facts(region, self.graph);
        let mut plan = lower(&graph, &fuse(&graph, self.target), self.target)?;
        plan_memory(&mut plan, self.target.memory);
        let plan = Arc::new(plan);
        self.regions.insert(key, Arc::clone(&plan));
        Ok(plan)
    }
}
