//! A fork-join thread pool for kernels that last microseconds.
//!
//! One call, [`Pool::for_each`], splits a range into chunks that the threads claim from one atomic counter. Another,
//! [`Pool::for_each_apart`], gives each thread a part of the range with a counter of its own, and help with the others' when that is done:
//! memory is fetched ahead of each thread, and what is fetched in vain or by two costs as much as what is needed.
//! The caller takes part, so a job never waits for a thread to wake: a worker that comes too late finds the job closed.
//! Idle workers spin for a short time, so that the next kernel of a plan starts within a microsecond, and then park.
//!
//! The pool has one job at a time.
//! Whoever finds it taken (another user thread, or a call from inside a job) runs the whole range alone and never waits.
//!
//! # Protocol
//! `state` packs the number of threads inside a job, an open bit, a shutdown bit and an epoch.
//! The caller writes the job, then opens it with one addition that also advances the epoch.
//! A worker enters by adding one to the count, and stays only if the value before the addition was open.
//! The caller closes the job by clearing the open bit and waits until the count is zero.
//! So the job's fields are written only while no thread can be reading them.

use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::patience::{self, Patience};

/// The work of a job: called with the worker's index (below [`Pool::threads`]) and a range of items.
type Work<'a> = dyn Fn(usize, Range<usize>) + Sync + 'a;

/// How long an idle worker spins before it parks.
const SPIN: Duration = Duration::from_micros(100);

/// Chunks for each thread at most, which bounds the traffic on the counter when `grain` is tiny.
const CHUNKS_PER_THREAD: usize = 256;

/// A fixed set of threads that run one fork-join job at a time.
///
/// ```
/// # use lehr_backends::cpu::pool::Pool;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// let pool = Pool::new(2);
/// let sum = AtomicUsize::new(0);
/// pool.for_each(1000, 10, &|_, items| {
///     sum.fetch_add(items.sum::<usize>(), Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 499_500);
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::for_each`] among them; 0 counts as 1.
    ///
    /// `Pool::new(1)` starts no thread.
    /// If the system refuses a thread, the pool goes on with those it got: see [`Pool::threads`].
    pub fn new(threads: usize) -> Pool {
        let extra = threads.saturating_sub(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            state: Line(AtomicU64::new(0)),
            next: (0..=extra).map(|_| Line(AtomicUsize::new(0))).collect(),
            taken: Line(AtomicBool::new(false)),
            job: UnsafeCell::new(Job { work: None, items: 0, chunk: 1, parts: 1 }),
            parked: (0..extra).map(|_| Line(AtomicBool::new(false))).collect(),
            panic: Mutex::new(None),
            keeps: if threads <= cores { patience::LONG } else { patience::SHORT },
        });
        let mut workers = Vec::with_capacity(extra);
        for slot in 0..extra {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("lehr-{}", slot + 1));
            match thread.spawn(move || shared.serve(slot)) {
                Ok(handle) => workers.push(handle),
                Err(_) => break,
            }
        }
        Pool { shared, workers }
    }

    /// The number of threads that can work on a job, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f` on disjoint ranges that cover `0..items`, on several threads, and returns when all are done.
    ///
    /// A range has at least `grain` items (0 counts as 1) unless it is the last one.
    /// Ranges are claimed in ascending order, and a thread finishes a range before it claims another:
    /// so an item may wait for items of lower index.
    /// The first argument of `f` is the worker's index; no two calls with the same index run at the same time.
    /// The caller is worker 0.
    ///
    /// With `items <= grain`, and where the pool is in use already, `f(0, 0..items)` runs on the calling thread.
    /// No call allocates, unless `f` panics.
    ///
    /// # Panics
    /// A panic of `f` reaches the caller after every thread has left the job.
    /// Ranges that nobody had claimed by then are skipped.
    pub fn for_each(&self, items: usize, grain: usize, f: &Work<'_>) {
        self.run(items, grain, 1, f);
    }

    /// As [`Pool::for_each`], but in no certain order: each thread starts with a part of the range for itself, the first with the
    /// first and so on, and goes on with what the others have left.
    pub fn for_each_apart(&self, items: usize, grain: usize, f: &Work<'_>) {
        self.run(items, grain, self.threads(), f);
    }

    fn run(&self, items: usize, grain: usize, parts: usize, f: &Work<'_>) {
        if items == 0 {
            return;
        }
        let grain = grain.max(1);
        if items <= grain || self.workers.is_empty() || !self.shared.take() {
            f(0, 0..items);
            return;
        }
        let chunk = grain.max(items / (CHUNKS_PER_THREAD * self.threads()));
        // SAFETY: only the lifetime changes.
        // The reference is dropped from `job` before this function returns, and no thread is inside the job by then.
        let work = unsafe { std::mem::transmute::<&Work<'_>, &'static Work<'static>>(f) };
        // SAFETY: `take` gave this thread the job, and `close` of the job before saw the count at zero.
        unsafe { *self.shared.job.get() = Job { work: Some(work), items, chunk, parts } };
        self.shared.next.iter().for_each(|next| next.0.store(0, Ordering::Relaxed));
        self.shared.state.0.fetch_add(EPOCH | OPEN, Ordering::SeqCst);
        self.wake(items.div_ceil(chunk) - 1);

        let own = catch_unwind(AssertUnwindSafe(|| self.shared.claim(f, 0, &Job { work: None, items, chunk, parts })));
        if own.is_err() {
            self.shared.cancel();
        }
        self.shared.close();
        // SAFETY: the job is closed and nobody is inside.
        unsafe { (*self.shared.job.get()).work = None };
        let theirs = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.taken.0.store(false, Ordering::Release);
        if let Some(payload) = own.err().or(theirs) {
            resume_unwind(payload);
        }
    }

    /// Unparks as many parked workers as there is work for.
    fn wake(&self, mut wanted: usize) {
        for (worker, parked) in self.workers.iter().zip(&self.shared.parked) {
            if wanted == 0 {
                return;
            }
            // A worker sets its flag and then looks at the state; this thread changed the state and now looks at the flag.
            // Both are sequentially consistent, so one of the two sees the other.
            if parked.0.load(Ordering::SeqCst) && parked.0.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
            wanted -= 1;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.0.fetch_or(SHUTDOWN, Ordering::SeqCst);
        self.wake(usize::MAX);
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its work, so there is no error to report.
            drop(worker.join());
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

/// Bits of `state`: how many threads are inside the job, or are about to find it closed.
const COUNT: u64 = (1 << 16) - 1;
const OPEN: u64 = 1 << 16;
const SHUTDOWN: u64 = 1 << 17;
/// One step of the epoch, which fills the bits above; it tells a worker whether it has served this job.
const EPOCH: u64 = 1 << 18;

/// A value on its own pair of cache lines (neighbouring lines are fetched together).
#[repr(align(128))]
struct Line<T>(T);

struct Job {
    work: Option<&'static Work<'static>>,
    items: usize,
    chunk: usize,
    /// How many counters there are to claim from.
    parts: usize,
}

struct Shared {
    state: Line<AtomicU64>,
    /// For each part, the next of its chunks that nobody has claimed.
    next: Box<[Line<AtomicUsize>]>,
    /// Whether some thread owns the pool.
    taken: Line<AtomicBool>,
    job: UnsafeCell<Job>,
    /// For each worker, whether it is parked or about to park.
    parked: Box<[Line<AtomicBool>]>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// How long the caller keeps its core while it waits for the last chunks.
    keeps: Duration,
}

// SAFETY: `job` is the only field that is not `Sync`.
// It is written by the owner of `taken` while no thread is inside a job, and read by threads inside an open job.
// The opening addition and the worker's entering addition order the two.
unsafe impl Sync for Shared {}

impl Shared {
    fn take(&self) -> bool {
        !self.taken.0.load(Ordering::Relaxed)
            && self.taken.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Runs chunks until none is left, those of the worker's own part first.
    fn claim(&self, work: &Work<'_>, worker: usize, job: &Job) {
        let &Job { items, chunk, parts, .. } = job;
        let chunks = items.div_ceil(chunk);
        for part in (worker..worker + parts).map(|p| p % parts) {
            let (first, end) = (chunks * part / parts, chunks * (part + 1) / parts);
            loop {
                // The counter holds chunks, not items, so that it cannot overflow.
                let index = first.saturating_add(self.next[part].0.fetch_add(1, Ordering::Relaxed));
                if index >= end {
                    break;
                }
                let start = index * chunk;
                work(worker, start..start.saturating_add(chunk).min(items));
            }
        }
    }

    /// Makes every later claim of this job fail.
    fn cancel(&self) {
        self.next.iter().for_each(|next| next.0.store(usize::MAX / 2, Ordering::Relaxed));
    }

    /// Closes the job and waits until every worker has left it.
    fn close(&self) {
        let mut state = self.state.0.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        if state & COUNT == 0 {
            return;
        }
        let mut patience = Patience::new(self.keeps);
        while state & COUNT != 0 {
            patience.pause();
            state = self.state.0.load(Ordering::Acquire);
        }
    }

    /// The life of worker `slot`.
    fn serve(&self, slot: usize) {
        let mut served = 0;
        while let Some(epoch) = self.await_job(slot, served) {
            served = epoch;
            let before = self.state.0.fetch_add(1, Ordering::AcqRel);
            if before & OPEN != 0 {
                served = before / EPOCH;
                // SAFETY: this thread is counted in an open job, whose fields stay unchanged until the count is zero.
                let job = unsafe { &*self.job.get() };
                if let Some(work) = job.work {
                    let run = AssertUnwindSafe(|| self.claim(work, slot + 1, job));
                    if let Err(payload) = catch_unwind(run) {
                        self.cancel();
                        self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
                    }
                }
            }
            self.state.0.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Spins, then parks, until there is an open job other than `served` and gives its epoch; `None` at shutdown.
    fn await_job(&self, slot: usize, served: u64) -> Option<u64> {
        let news = |state: u64| state & SHUTDOWN != 0 || (state & OPEN != 0 && state / EPOCH != served);
        let mut state = self.state.0.load(Ordering::Acquire);
        let started = Instant::now();
        while !news(state) && started.elapsed() < SPIN {
            for _ in 0..32 {
                std::hint::spin_loop();
                state = self.state.0.load(Ordering::Acquire);
                if news(state) {
                    break;
                }
            }
        }
        while !news(state) {
            let parked = &self.parked[slot].0;
            parked.store(true, Ordering::SeqCst);
            state = self.state.0.load(Ordering::SeqCst);
            if !news(state) {
                std::thread::park();
                state = self.state.0.load(Ordering::SeqCst);
            }
            parked.store(false, Ordering::SeqCst);
        }
        (state & SHUTDOWN == 0).then_some(state / EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn pools() -> [Pool; 3] {
        [Pool::new(1), Pool::new(2), Pool::new(4)]
    }

    /// Every item exactly once, ranges no smaller than the grain, worker indices in bounds.
    fn check_cover(pool: &Pool, items: usize, grain: usize) {
        for apart in [false, true] {
            check_cover_by(pool, items, grain, apart);
        }
    }

    fn check_cover_by(pool: &Pool, items: usize, grain: usize, apart: bool) {
        let hits: Vec<AtomicU32> = (0..items).map(|_| AtomicU32::new(0)).collect();
        let hit = |worker: usize, range: Range<usize>| {
            assert!(worker < pool.threads());
            assert!(range.len() >= grain || range.end == items, "{range:?} of {items} at grain {grain}");
            for item in range {
                hits[item].fetch_add(1, Ordering::Relaxed);
            }
        };
        if apart {
            pool.for_each_apart(items, grain, &hit);
        } else {
            pool.for_each(items, grain, &hit);
        }
        assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1), "{items} items, grain {grain}");
    }

    #[test]
    fn covers_every_item_once() {
        for pool in pools() {
            for items in [0, 1, 2, 3, 7, 64, 1000, 4097] {
                for grain in [0, 1, 2, 5, 63, 64, 65, 5000] {
                    check_cover(&pool, items, grain);
                }
            }
        }
    }

    #[test]
    fn many_short_jobs() {
        for pool in pools() {
            let sum = AtomicUsize::new(0);
            for _ in 0..20_000 {
                pool.for_each(8, 1, &|_, range| {
                    sum.fetch_add(range.len(), Ordering::Relaxed);
                });
            }
            assert_eq!(sum.into_inner(), 160_000);
        }
    }

    #[test]
    fn wakes_after_parking() {
        for pool in pools() {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(1));
                check_cover(&pool, 64, 1);
            }
        }
    }

    #[test]
    fn all_threads_take_part() {
        for pool in pools() {
            // Each range waits until every thread is inside one, which is possible only if all of them take part.
            let inside = AtomicUsize::new(0);
            pool.for_each(pool.threads(), 1, &|_, _| {
                inside.fetch_add(1, Ordering::SeqCst);
                while inside.load(Ordering::SeqCst) < pool.threads() {
                    std::thread::yield_now();
                }
            });
            assert_eq!(inside.into_inner(), pool.threads());
        }
    }

    #[test]
    fn one_thread_and_short_ranges_run_inline() {
        let me = std::thread::current().id();
        for (pool, items, grain) in [(Pool::new(1), 1000, 1), (Pool::new(4), 64, 64)] {
            let calls = AtomicUsize::new(0);
            pool.for_each(items, grain, &|worker, range| {
                assert_eq!((worker, range, std::thread::current().id()), (0, 0..items, me));
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.into_inner(), 1);
        }
    }

    #[test]
    fn ranges_are_claimed_in_ascending_order() {
        for pool in pools() {
            let done: Vec<AtomicBool> = (0..300).map(|_| AtomicBool::new(false)).collect();
            pool.for_each(300, 1, &|_, range| {
                for item in range {
                    // Waiting for the item before must not deadlock.
                    while item > 0 && !done[item - 1].load(Ordering::Acquire) {
                        std::thread::yield_now();
                    }
                    done[item].store(true, Ordering::Release);
                }
            });
        }
    }

    #[test]
    fn panics_reach_the_caller_and_leave_the_pool_usable() {
        for pool in pools() {
            for bad in [0, 17, 99] {
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    pool.for_each(100, 1, &|_, range| assert!(!range.contains(&bad), "item {bad}"));
                }));
                let message = *caught.unwrap_err().downcast::<String>().unwrap();
                assert_eq!(message, format!("item {bad}"));
                check_cover(&pool, 500, 3);
            }
            let caught = catch_unwind(AssertUnwindSafe(|| pool.for_each(100, 1, &|_, _| panic!("all"))));
            assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "all");
            check_cover(&pool, 500, 3);
        }
    }

    #[test]
    fn nested_calls_run_inline() {
        for pool in pools() {
            let sum = AtomicUsize::new(0);
            pool.for_each(16, 1, &|_, outer| {
                let me = std::thread::current().id();
                for _ in outer {
                    pool.for_each(100, 1, &|worker, inner| {
                        assert_eq!((worker, std::thread::current().id()), (0, me));
                        sum.fetch_add(inner.len(), Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(sum.into_inner(), 1600);
        }
    }

    #[test]
    fn concurrent_callers_do_not_wait() {
        for pool in pools() {
            let sum = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            pool.for_each(50, 1, &|_, range| {
                                sum.fetch_add(range.len(), Ordering::Relaxed);
                            });
                        }
                    });
                }
            });
            assert_eq!(sum.into_inner(), 100_000);
        }
    }

    #[test]
    fn a_caller_inside_a_held_pool_makes_progress() {
        // The first caller stays in its job until the second caller, which finds the pool taken, has finished.
        for pool in pools() {
            let second_done = AtomicBool::new(false);
            let started = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !started.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    pool.for_each(10, 1, &|_, _| {});
                    second_done.store(true, Ordering::SeqCst);
                });
                pool.for_each(4, 1, &|_, _| {
                    started.store(true, Ordering::SeqCst);
                    while !second_done.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                });
            });
        }
    }

    #[test]
    fn drop_joins_idle_and_parked_workers() {
        for wait in [0, 1] {
            for threads in [1, 2, 4] {
                let pool = Pool::new(threads);
                check_cover(&pool, 100, 1);
                std::thread::sleep(Duration::from_millis(wait));
                let shared = Arc::downgrade(&pool.shared);
                drop(pool);
                assert!(shared.upgrade().is_none(), "a worker outlived the pool");
            }
        }
    }
}
