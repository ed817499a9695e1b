//! Attention: strides of its operands, straight from the graph's views.

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Node, Value};
use lehr_ir::ops::{Op, Scores};
use lehr_ir::plan::{Attend, AttendPass, Grid, StepKind};

use super::Lowerer;
use super::body::Surroundings;
use crate::views::strided;

impl Lowerer<'_> {
    /// Adds a step of attention or of its gradient.
    pub(super) fn attend(&mut self, node: &Node) {
        let (scores, reason) = match &node.op {
            Op::Attention(a) => (&a.scores, "attention, a tile of scores at a time: they are never stored"),
            Op::AttentionGrad(g) => (&g.scores, "the gradient of attention, whose scores are made again"),
            op => return self.refuse(op.name()),
        };
        let Some(pass) = self.attend_pass(node, scores) else { return self.refuse(node.op.name()) };
        let mut grid = |at: usize| self.grid(node.operands[at]);
        let views = [0, 1, 2].map(&mut grid);
        let [Some(q), Some(k), Some(v)] = views else { return self.refuse(node.op.name()) };
        let (bias, mask) = (scores.bias_at().and_then(&mut grid), scores.mask_at().and_then(&mut grid));
        let shape = |at: usize| &self.graph.ty(node.operands[at]).shape;
        let n = shape(0).len() - 2;
        let attend = Attend {
            dtype: self.graph.ty(node.operands[0]).dtype,
            scores: scores.clone(),
            batch: shape(0)[..n].into(),
            queries: shape(0)[n].clone(),
            keys: shape(1)[n].clone(),
            d: shape(0)[n + 1].clone(),
            e: shape(2)[n + 1].clone(),
            q,
            k,
            v,
            bias,
            mask,
            pass,
        };
        self.step(StepKind::Attend(Box::new(attend)), [node.loc.clone()], reason.to_owned());
    }

    fn attend_pass(&mut self, node: &Node, scores: &Scores) -> Option<AttendPass> {
        let results: Vec<Value> = node.results().collect();
        let m = scores.operands();
        Some(match &node.op {
            Op::Attention(a) => {
                AttendPass::Forward { empty: a.empty, out: self.buffer(results[0]), lse: self.buffer(results[1]) }
            }
            _ => AttendPass::Backward {
                lse: self.buffer(node.operands[m]),
                d_out: self.grid(node.operands[m + 1])?,
                delta: self.buffer(node.operands[m + 2]),
                dq: self.buffer(results[0]),
                dk: self.buffer(results[1]),
                dv: self.buffer(results[2]),
            },
        })
    }

    /// An operand as matrices under leading dims. Those that do not lie evenly have been forced into memory by `fuse`.
    fn grid(&mut self, v: Value) -> Option<Grid> {
        let view = strided(self.graph, &self.axes, &self.steps, v)?;
        let n = view.strides.len() - 2;
        let [row, column]: [Dim; 2] = [view.strides[n].clone(), view.strides[n + 1].clone()];
        let buffer = self.buffer(view.root);
        Some(Grid { buffer, offset: view.offset, batch: view.strides[..n].into(), row, column })
    }
}
