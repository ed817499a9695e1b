//! The last steps of a reduction's tree within subgroups, where invocations pass values on without workgroup memory and barriers.
//!
//! The tree is the same, so are the bits. Which invocations form a subgroup is left to the device: each subgroup reads the partial
//! results by the numbers of its own invocations, and folds them all. So every subgroup comes to the same results, and all
//! invocations have them without another barrier. As many steps are taken as the smallest subgroup of the device allows, and none
//! where a workgroup may not be made of full subgroups.

use smallvec::SmallVec;

use super::WgslError;
use super::printer::Printer;
use super::reduce::Fold;

/// What is known of a device's subgroups.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subgroups {
    /// The least invocations that one has.
    pub least: u32,
    /// The most.
    pub most: u32,
    /// Whether a module has to name the extension: browsers ask for it, and naga refuses it.
    pub named: bool,
}

impl Printer<'_> {
    /// How many partial results of so many a subgroup can fold; `None` where it cannot.
    pub(super) fn foldable(&self, folds: &[Fold<'_>], lanes: u32) -> Option<u32> {
        let Subgroups { least, most, .. } = self.target.subgroups?;
        let full = most > 0 && self.target.workgroup_size.max(1).is_multiple_of(most);
        let passed = |ty: &str| matches!(ty, "f32" | "i32" | "u32");
        let mut dtypes = folds.iter().flat_map(|f| &f.dtypes);
        let many = least.min(lanes);
        let fits = full && many > 1 && least.is_power_of_two() && lanes.is_power_of_two();
        (fits && dtypes.all(|d| self.ty(*d).is_ok_and(passed))).then_some(many)
    }

    /// Lines that fold the first so many elements of each array, and define the results.
    pub(super) fn fold_in_subgroups(
        &mut self,
        folds: &[Fold<'_>],
        shared: &[Vec<String>],
        many: u32,
    ) -> Result<(), WgslError> {
        self.needs_subgroups = true;
        self.line("// The rest within each subgroup.");
        for (fold, arrays) in folds.iter().zip(shared) {
            let mine: SmallVec<[String; 2]> =
                fold.reduction.results.iter().map(|v| format!("folded_{}", v.0)).collect();
            for (name, array) in mine.iter().zip(arrays) {
                self.line(format!("var {name} = {array}[subgroup_lane & {}u];", many - 1));
            }
            let mut width = many / 2;
            while width > 0 {
                let passed: Vec<String> = mine.iter().map(|name| format!("{name}_{width}")).collect();
                for (name, other) in mine.iter().zip(&passed) {
                    self.line(format!("let {other} = subgroupShuffleDown({name}, {width}u);"));
                }
                self.combine(fold, &mine, &passed)?;
                width /= 2;
            }
            for (result, name) in fold.reduction.results.iter().zip(&mine) {
                self.define(*result, &format!("subgroupBroadcastFirst({name})"))?;
            }
            self.note_results(fold.reduction);
        }
        Ok(())
    }
}
