//! The passes over graphs, in order, each with the reason for its place.

use lehr_ir::ops::Call;
use lehr_ir::{DType, Graph, Target};

use crate::driver::{Observer, check_names, run_passes};
use crate::eliminate_common::EliminateCommon;
use crate::eliminate_dead::EliminateDead;
use crate::expand_attention::ExpandAttention;
use crate::find_attention::FindAttention;
use crate::fold_constants::FoldConstants;
use crate::inline_calls::InlineCalls;
use crate::legalize_convolution::LegalizeConvolution;
use crate::pass::{Pass, PassCx, PassError};
use crate::prune_regions::PruneRegions;
use crate::simplify::Simplify;
use crate::split_windows::SplitWindows;
use crate::widen_products::WidenProducts;

/// The list of passes that turn a user's graph into one that is ready for fusion.
#[derive(Clone, Debug)]
pub struct GraphPasses {
    simplify: Simplify,
    inline: InlineCalls,
    widen: WidenProducts,
    legalize: LegalizeConvolution,
    split: SplitWindows,
    views: Simplify,
}

impl GraphPasses {
    /// The list, for a target that has kernels of its own for the calls that `keep` holds for.
    pub fn new(keep: fn(&Call) -> bool) -> Self {
        Self {
            simplify: Simplify::new(),
            inline: InlineCalls { keep },
            widen: WidenProducts::default(),
            legalize: LegalizeConvolution { active: false },
            split: SplitWindows { active: false },
            // Reading some taps of a window around the padding that all of them share would cut their sum into several kernels.
            views: Simplify::with(|rule| rule.name != "slice_of_pad"),
        }
    }

    /// The list for what a target has code for; without one, operations stay as they are.
    #[must_use]
    pub fn for_target(mut self, target: Option<&Target>) -> Self {
        let active = target.is_some_and(|t| t.legalize_windows);
        (self.legalize.active, self.split.active) = (active, active);
        let products = target.map_or(&[][..], |t| &t.contractions);
        let narrow = [DType::F16, DType::BF16].into_iter();
        self.widen.dots = narrow.clone().filter(|d| products.contains(d)).collect();
        self.widen.dtypes = narrow.filter(|_| products.contains(&DType::F32)).collect();
        self
    }

    /// The passes in order.
    pub fn list(&self) -> Vec<&dyn Pass<Graph>> {
        vec![
            // Dead code goes first, so that nothing below spends time on what a derivative left behind.
            &EliminateDead,
            // Loops and branches lose what nobody needs of them while calls still are one node each.
            &PruneRegions,
            // Constants first: many rules start from a constant operand, and folding is what makes it one.
            &FoldConstants,
            &self.simplify,
            // Bodies are simplified by now, once for all calls that share them. In place, they meet their arguments.
            &self.inline,
            // No backend has tiles for attention's forward derivative; its primitives meet the rules below.
            &ExpandAttention,
            // So folding and the rules run again, on constants and layouts that came in through a call's operands.
            &FoldConstants,
            &self.simplify,
            // Merging comes after the rules, which bring different spellings of one thing to one form,
            &EliminateCommon,
            // and before the last round of them: operands that have become one value make `x - x`, `c ? x : x` and the like.
            &self.simplify,
            // What folding leaves are constants that rules made new, such as a negated factor.
            &FoldConstants,
            &EliminateCommon,
            // The rules show that a carry does not change, or that a choice is none; a branch that is chosen now comes in as a call.
            &PruneRegions,
            &self.inline,
            // Products of half precision become those of `f32` before anything looks at what a product is made of.
            &self.widen,
            // Legalisation wants shapes that are as simple as they get, and calls in place.
            &self.legalize,
            &self.split,
            // The views that it makes meet those around it, and cancel.
            &self.views,
            // What it makes repeats itself, such as the padding of an operand that several convolutions read.
            &EliminateCommon,
            // Attention is looked for last: all rules have brought its parts to one form by then, and what else uses them is known
            // once what is dead is gone.
            &EliminateDead,
            &FindAttention,
            // All of the above leave dead nodes behind, which fusion must not see: they would count as users.
            &EliminateDead,
        ]
    }

    /// Runs the passes.
    ///
    /// # Errors
    /// As [`run_passes`]; names in the options are checked by [`check_names`], which the whole pipeline's caller does.
    pub fn run(&self, graph: Graph, cx: &mut PassCx, observe: &mut Observer<'_, Graph>) -> Result<Graph, PassError> {
        run_passes(&self.list(), graph, cx, observe)
    }
}

impl Default for GraphPasses {
    fn default() -> Self {
        Self::new(|_| false)
    }
}

/// Runs the graph passes alone, with all calls put in place, and no regard to any target.
///
/// # Errors
/// As [`run_passes`], and an option that names no pass of the list.
pub fn optimize(graph: Graph, cx: &mut PassCx) -> Result<Graph, PassError> {
    optimize_observed(graph, None, cx, &mut |_, _| {})
}

/// As [`optimize`], for a target.
///
/// # Errors
/// As [`optimize`].
pub fn optimize_for(graph: Graph, target: Option<&Target>, cx: &mut PassCx) -> Result<Graph, PassError> {
    optimize_observed(graph, target, cx, &mut |_, _| {})
}

/// As [`optimize_for`]; `observe` is called after each pass.
///
/// # Errors
/// As [`optimize`].
pub fn optimize_observed(
    graph: Graph,
    target: Option<&Target>,
    cx: &mut PassCx,
    observe: &mut Observer<'_, Graph>,
) -> Result<Graph, PassError> {
    let passes = GraphPasses::default().for_target(target);
    let names: Vec<&'static str> = passes.list().iter().map(|p| p.name()).collect();
    check_names(cx, &names)?;
    passes.run(graph, cx, observe)
}
