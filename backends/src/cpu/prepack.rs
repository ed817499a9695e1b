//! Weights that are packed once for all calls.
//!
//! A product of few rows reads its right operand in panels of a few columns, where each row of a panel lies in a page of its own
//! or nearly so. From a cache that is as good as any other order; from memory it is four times slower than reading on and on. So a
//! large weight that a program only reads is copied into the order in which it is read, panel after panel.
//!
//! This happens in the second call that finds the same array, so that the first call does not wait for it, and an array that is
//! another each time is not copied at all. The copy holds the array, which therefore nobody can change in place: whoever writes to
//! it makes a new one, and the next call sees that it is another. Executables of one program share copies.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use lehr_ir::graph::ParamKind;
use lehr_ir::plan::Plan;
use lehr_ir::{Array, DType};

use super::contract::{self, PackedB};
use super::program::{Command, Factor, Product, Sequence, Source};

/// Bytes from which an operand is worth a copy: smaller ones stay in a cache between calls.
const LEAST_BYTES: usize = 512 << 10;

/// Which part of which parameter is read as what matrix.
#[derive(Clone, PartialEq, Debug)]
struct Key {
    param: u32,
    factor: Factor,
    k: usize,
    n: usize,
}

/// A packed operand, and the array that it is a copy of.
#[derive(Debug)]
pub(super) struct Kept {
    array: Array,
    pub(super) packed: PackedB<f32>,
}

/// The copies of all instances of a program.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Vec<(Key, Weak<Kept>)>>);

/// The weights of one instance.
#[derive(Debug, Default)]
pub(super) struct Weights(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    key: Key,
    /// Where the array of the last call was; a hint and not its identity.
    seen: usize,
    kept: Option<Arc<Kept>>,
}

impl Weights {
    /// Finds the products of a sequence that read large weights, and notes where the copies of these are to be.
    pub(super) fn find(&mut self, plan: &Plan, sequence: &mut Sequence) {
        for command in &mut sequence.commands {
            let Command::Contract(p) = command else { continue };
            let Some(key) = key(plan, p) else { continue };
            let slot = self.0.iter().position(|s| s.key == key).unwrap_or_else(|| {
                self.0.push(Slot { key, seen: 0, kept: None });
                self.0.len() - 1
            });
            p.weights = Some(slot as u32);
        }
    }

    /// The copy for one of the arguments, if it is there or `pack` makes it now.
    pub(super) fn get(
        &mut self,
        slot: u32,
        args: &[Array],
        shelf: &Shelf,
        pack: impl FnOnce() -> PackedB<f32>,
    ) -> Option<&Arc<Kept>> {
        let slot = self.0.get_mut(slot as usize)?;
        let array = args.get(slot.key.param as usize)?;
        if slot.kept.as_ref().is_none_or(|kept| !kept.array.shares(array)) {
            let at = array.data().as_ptr().addr();
            let again = std::mem::replace(&mut slot.seen, at) == at;
            slot.kept = again.then(|| shelf.get(&slot.key, array, pack));
        }
        slot.kept.as_ref()
    }
}

impl Shelf {
    fn get(&self, key: &Key, array: &Array, pack: impl FnOnce() -> PackedB<f32>) -> Arc<Kept> {
        // What is on the shelf is whole at any time, so a thread that panicked has left nothing half done.
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|(_, kept)| kept.strong_count() > 0);
        let there = shelf
            .iter()
            .filter(|(k, _)| k == key)
            .find_map(|(_, kept)| kept.upgrade().filter(|kept| kept.array.shares(array)));
        there.unwrap_or_else(|| {
            let kept = Arc::new(Kept { array: array.clone(), packed: pack() });
            shelf.push((key.clone(), Arc::downgrade(&kept)));
            kept
        })
    }
}

/// The right operand of a product as a weight, where a copy pays.
fn key(plan: &Plan, p: &Product) -> Option<Key> {
    let Source::Param(param) = p.operands[1] else { return None };
    let kept = plan.params[param as usize].kind != ParamKind::Input && !plan.updates.contains(&param);
    let bytes = p.k.saturating_mul(p.n).saturating_mul(size_of::<f32>());
    let large = p.dtype == DType::F32 && p.batch == 1 && bytes >= LEAST_BYTES;
    let pays =
        kept && large && contract::packing_pays::<f32>(p.m, p.n, p.k, &p.factors[1].view(), p.result.column.stride());
    pays.then(|| Key { param, factor: p.factors[1], k: p.k, n: p.n })
}
