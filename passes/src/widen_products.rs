//! Products of half-precision numbers as products of `f32`, for a target that has these alone.
//!
//! A target may have the contractions of such a dtype itself, with sums in `f32`: then plain dots stay as they are, which saves
//! whole arrays that are converted.
//! Convolutions and attention are widened all the same: their simpler forms would round in between.
//!
//! `f16` and `bf16` products and their sums are exact or nearly so in `f32`, and the result is rounded once: what the reference
//! semantics say. The conversions join the kernels around the product, and that of the result its epilogue.
//!
//! Floating-point legality: fewer roundings than summing in the dtype itself.

use lehr_ir::DType;
use lehr_ir::graph::{Builder, Graph, Node, Value};
use lehr_ir::ops::Op;
use smallvec::SmallVec;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Operands, Regions, rewrite_nodes};

/// The pass, also inside regions.
#[derive(Clone, Debug, Default)]
pub struct WidenProducts {
    /// The dtypes whose products are made in `f32`.
    pub dtypes: SmallVec<[DType; 2]>,
    /// Those of them whose dots the target has.
    pub dots: SmallVec<[DType; 2]>,
}

impl Pass<Graph> for WidenProducts {
    fn name(&self) -> &'static str {
        "widen_products"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        if self.dtypes.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        let concerned =
            |op: &Op| matches!(op, Op::Dot(_) | Op::Convolution(_) | Op::Attention(_) | Op::AttentionGrad(_));
        rewrite_nodes(graph, cx, &mut Regions::default(), concerned, &mut |b, node, operands, cx| {
            self.rewrite(b, node, operands, cx)
        })
    }
}

impl WidenProducts {
    fn rewrite(
        &self,
        b: &mut Builder,
        node: &Node,
        operands: &[Value],
        cx: &mut PassCx,
    ) -> Result<Option<Operands>, PassError> {
        let dtype = b.ty(operands[0]).dtype;
        let kept = matches!(node.op, Op::Dot(_)) && self.dots.contains(&dtype);
        if kept || !self.dtypes.contains(&dtype) || !cx.fuel("widen_product") {
            return Ok(None);
        }
        let mut wide = Operands::new();
        for &v in operands {
            // A mask stays what it is.
            wide.push(if b.ty(v).dtype == dtype { b.convert(v, DType::F32)? } else { v });
        }
        let made = b.add_node(node.op.clone(), &wide)?;
        let results = b.graph().node(made).results();
        Ok(Some(results.map(|v| b.convert(v, dtype)).collect::<Result<_, _>>()?))
    }
}
