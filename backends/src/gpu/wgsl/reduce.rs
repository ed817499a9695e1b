//! Reduce loops, in the kernel's order: virtual lane `l` folds iterations `l, l + L, …`, then the lanes fold in a tree.

use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Combiner, Loop, Reduction, ScalarOp, Var};
use smallvec::SmallVec;

use super::WgslError;
use super::printer::{Printer, var_name};

/// A reduction while its loop is printed.
pub(super) struct Fold<'k> {
    pub(super) reduction: &'k Reduction,
    /// The dtypes of its values.
    pub(super) dtypes: SmallVec<[DType; 2]>,
    /// The names of its partial results.
    partials: Vec<String>,
}

impl<'k> Printer<'k> {
    /// A reduction by a workgroup: invocation `i` takes virtual lanes `i`, `i + workgroup size`, …, and the tree stands in workgroup memory.
    pub(super) fn reduce_together(&mut self, l: &'k Loop, lanes: u32) -> Result<(), WgslError> {
        let size = self.target.workgroup_size.max(1);
        let folds = self.folds(l)?;
        let shared = self.shared_arrays(&folds, lanes)?;
        self.open(format!("for (var chain = lane; chain < {lanes}; chain += {size}) {{"));
        for fold in &folds {
            self.begin_partials(fold, None)?;
        }
        self.begin_for(l, "chain", lanes)?;
        self.alone(|p| {
            p.block(&l.body)?;
            folds.iter().try_for_each(|fold| p.combine(fold, &fold.partials, &values(fold)))
        })?;
        self.end_for();
        for (fold, arrays) in folds.iter().zip(&shared) {
            for (partial, array) in fold.partials.iter().zip(arrays) {
                self.line(format!("{array}[chain] = {partial};"));
            }
        }
        self.close("}");
        self.line("workgroupBarrier();");
        // How many are left to subgroups, if any are.
        let many = self.foldable(&folds, lanes);
        if lanes > many.unwrap_or(1) {
            let end = many.map_or("> 0".to_owned(), |many| format!(">= {many}"));
            self.open(format!("for (var width = {}; width {end}; width >>= 1u) {{", lanes / 2));
            self.open(format!("for (var chain = lane; chain < width; chain += {size}) {{"));
            for (fold, arrays) in folds.iter().zip(&shared) {
                let at = |index: &str| arrays.iter().map(|a| format!("{a}[{index}]")).collect::<Vec<_>>();
                self.combine(fold, &at("chain"), &at("chain + width"))?;
            }
            self.close("}");
            self.line("workgroupBarrier();");
            self.close("}");
        }
        if let Some(many) = many {
            self.fold_in_subgroups(&folds, &shared, many)?;
        } else {
            for (fold, arrays) in folds.iter().zip(&shared) {
                for (result, array) in fold.reduction.results.iter().zip(arrays) {
                    self.define(*result, &format!("{array}[0]"))?;
                }
                self.note_results(fold.reduction);
            }
        }
        // The arrays serve the next reduction too.
        self.line("workgroupBarrier();");
        Ok(())
    }

    /// A reduction by one invocation, which keeps all virtual lanes itself.
    pub(super) fn reduce_alone(&mut self, l: &'k Loop, lanes: u32) -> Result<(), WgslError> {
        let folds = self.folds(l)?;
        let many = (lanes > 1).then_some(lanes);
        for fold in &folds {
            self.begin_partials(fold, many)?;
        }
        self.begin_for(l, "0", 1)?;
        self.block(&l.body)?;
        let chain = many.map(|lanes| format!("[{} & {}]", self.innermost_axis(), lanes - 1));
        for fold in &folds {
            let partials: Vec<String> =
                fold.partials.iter().map(|p| format!("{p}{}", chain.as_deref().unwrap_or_default())).collect();
            self.combine(fold, &partials, &values(fold))?;
        }
        self.end_for();
        if let Some(lanes) = many {
            self.open(format!("for (var width = {}; width > 0; width >>= 1u) {{", lanes / 2));
            self.open("for (var chain = 0; chain < width; chain++) {");
            for fold in &folds {
                let at = |index: &str| fold.partials.iter().map(|p| format!("{p}[{index}]")).collect::<Vec<_>>();
                self.combine(fold, &at("chain"), &at("chain + width"))?;
            }
            self.close("}");
            self.close("}");
        }
        for fold in &folds {
            for (result, partial) in fold.reduction.results.iter().zip(&fold.partials) {
                let first = if many.is_some() { "[0]" } else { "" };
                self.define(*result, &format!("{partial}{first}"))?;
            }
            self.note_results(fold.reduction);
        }
        Ok(())
    }

    fn folds(&mut self, l: &'k Loop) -> Result<Vec<Fold<'k>>, WgslError> {
        let mut folds = Vec::new();
        for reduction in &l.reductions {
            let dtypes: SmallVec<[DType; 2]> =
                reduction.results.iter().map(|v| self.dtype(*v)).collect::<Result<_, _>>()?;
            let arity = reduction.combiner.arity();
            if dtypes.len() != arity || reduction.values.len() != arity {
                return Err(WgslError::Invalid("a reduction with the wrong number of values"));
            }
            // A result's name is its own, so these are too.
            let partials = reduction.results.iter().map(|v| format!("partial_{}", v.0)).collect();
            folds.push(Fold { reduction, dtypes, partials });
        }
        Ok(folds)
    }

    /// Declares partial results at their identities: one of each, or an array.
    fn begin_partials(&mut self, fold: &Fold<'_>, lanes: Option<u32>) -> Result<(), WgslError> {
        let first = *fold.dtypes.first().ok_or(WgslError::Invalid("a reduction without values"))?;
        for ((identity, dtype), partial) in
            fold.reduction.combiner.identity(first).iter().zip(&fold.dtypes).zip(&fold.partials)
        {
            let ty = self.ty(*dtype)?;
            let narrow = *dtype == DType::I64 && !self.has_i64();
            let identity = match identity.to_i64() {
                Some(i64::MIN) if narrow => "i32(-2147483648)".to_owned(),
                Some(i64::MAX) if narrow => "2147483647".to_owned(),
                Some(_) | None => self.literal(identity)?,
            };
            match lanes {
                None => self.line(format!("var {partial}: {ty} = {identity};")),
                Some(lanes) => {
                    self.line(format!("var {partial}: array<{ty}, {lanes}>;"));
                    self.open(format!("for (var chain = 0; chain < {lanes}; chain++) {{"));
                    self.line(format!("{partial}[chain] = {identity};"));
                    self.close("}");
                }
            }
        }
        Ok(())
    }

    /// Folds values into partial results.
    pub(super) fn combine(&mut self, fold: &Fold<'_>, partials: &[String], values: &[String]) -> Result<(), WgslError> {
        let dtype = *fold.dtypes.first().ok_or(WgslError::Invalid("a reduction without values"))?;
        let combiner = fold.reduction.combiner;
        let op = match combiner {
            Combiner::Sum => ScalarOp::Add,
            Combiner::Prod => ScalarOp::Mul,
            Combiner::Max => ScalarOp::Max,
            Combiner::Min => ScalarOp::Min,
            Combiner::Any => ScalarOp::Or,
            Combiner::All => ScalarOp::And,
            Combiner::ArgMax | Combiner::ArgMin => return self.combine_arguments(combiner, dtype, partials, values),
        };
        let (Some(partial), Some(value)) = (partials.first(), values.first()) else {
            return Err(WgslError::Invalid("a reduction without values"));
        };
        let text = self.apply(op, &[dtype, dtype], &[partial.clone(), value.clone()])?;
        self.line(format!("{partial} = {text};"));
        Ok(())
    }

    fn combine_arguments(
        &mut self,
        combiner: Combiner,
        dtype: DType,
        partials: &[String],
        values: &[String],
    ) -> Result<(), WgslError> {
        let ([x, i], [y, j]) = (partials, values) else {
            return Err(WgslError::Invalid("an argument reduction without two values"));
        };
        let (x, i, y, j) = (x.as_str(), i.as_str(), y.as_str(), j.as_str());
        let better = match (combiner == Combiner::ArgMax, dtype) {
            (true, DType::Bool) => format!("{x} & !{y}"),
            (false, DType::Bool) => format!("!{x} & {y}"),
            (true, _) => format!("{x} > {y}"),
            (false, _) => format!("{x} < {y}"),
        };
        let stays = format!("({better}) | (({x} == {y}) & ({i} <= {j}))");
        let stays = match self.is_nan(dtype) {
            // A NaN comes before any number, the first one before others.
            Some(is_nan) => {
                format!(
                    "select({stays}, {is_nan}({x}) & (!{is_nan}({y}) | ({i} <= {j})), {is_nan}({x}) | {is_nan}({y}))"
                )
            }
            None => stays,
        };
        self.open(format!("if (!({stays})) {{"));
        self.line(format!("{x} = {y};"));
        self.line(format!("{i} = {j};"));
        self.close("}");
        Ok(())
    }

    /// Arrays of workgroup memory for the partial results of one loop.
    fn shared_arrays(&mut self, folds: &[Fold<'_>], lanes: u32) -> Result<Vec<Vec<String>>, WgslError> {
        let mut used: Vec<&'static str> = Vec::new();
        let mut all = Vec::new();
        for fold in folds {
            let mut arrays = Vec::new();
            for dtype in &fold.dtypes {
                let ty = self.ty(*dtype)?;
                let number = used.iter().filter(|u| **u == ty).count();
                used.push(ty);
                let len = self.shared.entry((ty, number)).or_default();
                *len = lanes.max(*len);
                arrays.push(format!("shared_{ty}_{number}"));
            }
            all.push(arrays);
        }
        Ok(all)
    }

    pub(super) fn note_results(&mut self, reduction: &Reduction) {
        for result in &reduction.results {
            if let Some(slot) = self.from_memory.get_mut(result.0 as usize) {
                *slot = true;
            }
        }
    }

    fn innermost_axis(&self) -> String {
        self.axes.last().map(|(_, name)| name.clone()).unwrap_or_default()
    }
}

fn values(fold: &Fold<'_>) -> Vec<String> {
    fold.reduction.values.iter().map(|v: &Var| var_name(*v)).collect()
}
