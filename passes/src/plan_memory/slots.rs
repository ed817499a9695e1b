//! Slots for temporaries: as few, and as small, as a walk over the steps finds.
//!
//! A slot is free from the step after its holder's last use on, so that no step has it twice. Sizes that are multiples of one
//! polynomial share slots, which grow to the largest of their holders; other sizes share with their own kind only.

use std::collections::BTreeMap;

use lehr_ir::dim::Dim;

use super::{Life, multiple};

/// A slot for each life, and the bytes of each slot.
pub(super) fn assign(lives: &[Life]) -> (Vec<u32>, Vec<Dim>) {
    let mut families: BTreeMap<Family, Vec<usize>> = BTreeMap::new();
    let mut slots: Vec<Slot> = Vec::new();
    // Lives come in the order of their first steps.
    let of = lives.iter().map(|life| {
        let (family, n) = family(&life.size);
        let members = families.entry(family).or_default();
        let free = members.iter().copied().filter(|&s| slots[s].last < life.first);
        // The smallest that is large enough, else the largest of those that have to grow.
        let best = free.min_by_key(|&s| (slots[s].multiple < n, (slots[s].multiple - n).abs(), s));
        let slot = best.unwrap_or_else(|| {
            members.push(slots.len());
            slots.push(Slot { last: 0, multiple: n, size: life.size.clone() });
            slots.len() - 1
        });
        slots[slot].last = life.last;
        if n > slots[slot].multiple {
            slots[slot].multiple = n;
            slots[slot].size = life.size.clone();
        }
        slot as u32
    });
    let of = of.collect();
    (of, slots.into_iter().map(|s| s.size).collect())
}

/// What sizes have in common that share slots: the polynomial that they are multiples of, or the whole size.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Multiples(Option<Dim>),
    Equal(Dim),
}

fn family(size: &Dim) -> (Family, i64) {
    match multiple(size) {
        Some((of, n)) => (Family::Multiples(of), n),
        None => (Family::Equal(size.clone()), 1),
    }
}

struct Slot {
    /// The last step of its holder.
    last: usize,
    /// The size of its largest holder so far, as a multiple, and as it is.
    multiple: i64,
    size: Dim,
}
