//! Waiting for another thread that is about to finish.

use std::time::{Duration, Instant};

/// How long a thread that waits keeps its core, where there is one for each thread.
pub(super) const LONG: Duration = Duration::from_micros(500);
/// The same where threads share cores: the one that is waited for may be the one that has none.
pub(super) const SHORT: Duration = Duration::from_micros(20);

/// A wait of one thread for another: it spins, and after a while gives its core to whoever wants it.
///
/// Giving it up early is dear on a busy machine: others then have the core for milliseconds, where the wait would have lasted
/// microseconds.
pub(super) struct Patience {
    until: Instant,
    rounds: u32,
}

impl Patience {
    /// A wait that begins now.
    pub(super) fn new(keeps: Duration) -> Self {
        Self { until: Instant::now() + keeps, rounds: 0 }
    }

    /// Lets a moment pass.
    pub(super) fn pause(&mut self) {
        self.rounds = self.rounds.wrapping_add(1);
        // Looking at the clock takes about as long as a few rounds.
        if !self.rounds.is_multiple_of(32) || Instant::now() < self.until {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
