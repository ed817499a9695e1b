//! Which panels are packed: each is packed once, by the thread that needs it first.
//!
//! So packing waits for nobody, is spread over the whole product, and leaves a panel in the cache of the thread that uses it.
//! A thread waits only while another packs the very panel that it needs.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cpu::patience::{self, Patience};

const UNTOUCHED: u32 = 0;
const CLAIMED: u32 = 1;
const PACKED: u32 = 2;

/// A state for each panel, or part of one, in memory of the workspace.
#[derive(Clone, Copy)]
pub(super) struct Ready<'a>(&'a [AtomicU32]);

impl<'a> Ready<'a> {
    /// # Safety
    /// `memory` has room for `count` states, is aligned for them and is used for nothing else.
    pub(super) unsafe fn new(memory: *mut AtomicU32, count: usize) -> Ready<'a> {
        for i in 0..count {
            // SAFETY: passed on to the caller.
            unsafe { memory.add(i).write(AtomicU32::new(UNTOUCHED)) };
        }
        // SAFETY: as above; the states have just been written.
        Ready(unsafe { std::slice::from_raw_parts(memory, count) })
    }

    /// Sees to it that all of `parts` are packed: packs those that nobody has begun, then waits for the others.
    #[inline]
    pub(super) fn ensure(self, parts: Range<usize>, pack: impl Fn(usize)) {
        let mut missing = false;
        for part in parts.clone() {
            let state = &self.0[part];
            let claim = |old| state.compare_exchange(old, CLAIMED, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if state.load(Ordering::Acquire) == UNTOUCHED && claim(UNTOUCHED) {
                let _done = Done(state);
                pack(part);
            } else if state.load(Ordering::Acquire) != PACKED {
                missing = true;
            }
        }
        if missing {
            self.0[parts].iter().for_each(wait);
        }
    }
}

/// Marks a part as packed when its packing ends, however it ends, so that nobody waits for ever.
struct Done<'a>(&'a AtomicU32);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(PACKED, Ordering::Release);
    }
}

fn wait(state: &AtomicU32) {
    if state.load(Ordering::Acquire) == PACKED {
        return;
    }
    let mut patience = Patience::new(patience::LONG);
    while state.load(Ordering::Acquire) != PACKED {
        patience.pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn each_part_is_packed_once_before_anybody_goes_on() {
        const PARTS: usize = 500;
        let mut states: Vec<AtomicU32> = (0..PARTS).map(|_| AtomicU32::new(7)).collect();
        // SAFETY: the states are borrowed by nothing else.
        let ready = unsafe { Ready::new(states.as_mut_ptr(), PARTS) };
        let packed: Vec<AtomicUsize> = (0..PARTS).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for first in (0..PARTS).step_by(5) {
                        ready.ensure(first..first + 5, |part| {
                            packed[part].fetch_add(1, Ordering::Relaxed);
                        });
                        assert!(packed[first..first + 5].iter().all(|p| p.load(Ordering::Relaxed) == 1));
                    }
                });
            }
        });
    }
}
