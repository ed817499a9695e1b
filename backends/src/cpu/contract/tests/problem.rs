//! A contraction to check: operands in any layout, the exact result, and the bound of the error.

use std::sync::atomic::{AtomicU8, Ordering};

use super::super::*;
use crate::cpu::pool::Pool;

/// The operations of a test on an element type.
pub(super) trait Sample: Element {
    const EPSILON: f64;
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    fn bits(self) -> u64;
}

impl Sample for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Sample for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn from_f64(value: f64) -> f64 {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// A small linear congruential generator (constants of Knuth's MMIX).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % end
    }

    fn value<T: Sample>(&mut self) -> T {
        T::from_f64(self.below(2_000_001) as f64 / 1e6 - 1.0)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// How a batch of matrices lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    RowMajor,
    ColMajor,
    PaddedRows,
    PaddedCols,
    Strided,
    NegativeRows,
    NegativeCols,
    Negative,
    NegativeColMajor,
    SameRow,
    SameCol,
    SameElement,
    /// Rows and columns of two digits each, as of overlapping windows, with a row's innermost elements side by side.
    Windows,
    /// The same the other way round: a column's innermost elements side by side.
    WindowsColMajor,
    /// Digits that move backwards and repeat.
    Folded,
    /// Rows of two digits, the inner of which has the greater stride.
    Turned,
}

use Layout::*;

pub(super) const WRITABLE: [Layout; 10] = [
    RowMajor,
    ColMajor,
    PaddedRows,
    PaddedCols,
    Strided,
    NegativeRows,
    NegativeCols,
    Negative,
    NegativeColMajor,
    Turned,
];
pub(super) const READABLE: [Layout; 16] = [
    RowMajor,
    ColMajor,
    PaddedRows,
    PaddedCols,
    Strided,
    NegativeRows,
    NegativeCols,
    Negative,
    NegativeColMajor,
    SameRow,
    SameCol,
    SameElement,
    Windows,
    WindowsColMajor,
    Folded,
    Turned,
];

/// A batch of matrices in a buffer with room to spare at both ends.
#[derive(Clone)]
pub(super) struct Matrices<T> {
    pub(super) data: Vec<T>,
    pub(super) origin: usize,
    pub(super) batch_stride: isize,
    pub(super) row: Axis,
    pub(super) col: Axis,
}

/// The digits of an index: its size as a product of two, as far as that goes.
fn two_digits(size: usize, outer: isize, inner: isize) -> Axis {
    let low = inner_size(size);
    Axis::of_digits([(size / low, outer), (low, inner)]).unwrap()
}

/// The size of the inner one of two digits.
fn inner_size(size: usize) -> usize {
    (2..size).rev().find(|d| size.is_multiple_of(*d)).unwrap_or(size).max(1)
}

impl<T: Sample> Matrices<T> {
    pub(super) fn new(
        random: &mut Random,
        layout: Layout,
        batch: usize,
        rows: usize,
        cols: usize,
        shared: bool,
    ) -> Self {
        let (r, c) = (rows as isize, cols as isize);
        let (row, col) = match layout {
            Windows => (two_digits(rows, 3 * c + 1, 2), two_digits(cols, c + 4, 1)),
            WindowsColMajor => (two_digits(rows, r + 2, 1), two_digits(cols, 2 * r + 3, 3)),
            Folded => (two_digits(rows, 0, -2), two_digits(cols, -c, 1)),
            Turned => (two_digits(rows, c, c * (rows / inner_size(rows)) as isize), Axis::even(1)),
            RowMajor => (Axis::even(c), Axis::even(1)),
            ColMajor => (Axis::even(1), Axis::even(r)),
            PaddedRows => (Axis::even(c + 5), Axis::even(1)),
            PaddedCols => (Axis::even(1), Axis::even(r + 3)),
            Strided => (Axis::even(3 * c + 2), Axis::even(3)),
            NegativeRows => (Axis::even(-c), Axis::even(1)),
            NegativeCols => (Axis::even(c), Axis::even(-1)),
            Negative => (Axis::even(-c - 1), Axis::even(-1)),
            NegativeColMajor => (Axis::even(-1), Axis::even(-r)),
            SameRow => (Axis::even(0), Axis::even(1)),
            SameCol => (Axis::even(1), Axis::even(0)),
            SameElement => (Axis::even(0), Axis::even(0)),
        };
        // The least and the greatest offset of an index.
        let ends = |axis: Axis, count: usize| {
            let offsets = (0..count.max(1)).map(|i| axis.offset(i));
            (offsets.clone().min().unwrap_or(0), offsets.max().unwrap_or(0))
        };
        let (across, down) = (ends(col, cols), ends(row, rows));
        let matrix = across.1 - across.0 + down.1 - down.0 + 1;
        let batch_stride = if shared { 0 } else { matrix };
        let margin = 40;
        let size = margin * 2 + matrix as usize * batch.max(1);
        let origin = (margin as isize - across.0 - down.0) as usize;
        let data = (0..size).map(|_| random.value()).collect();
        Matrices { data, origin, batch_stride, row, col }
    }

    pub(super) fn at(&self, batch: usize, row: usize, col: usize) -> usize {
        let offset = batch as isize * self.batch_stride + self.row.offset(row) + self.col.offset(col);
        (self.origin as isize + offset) as usize
    }

    pub(super) fn get(&self, batch: usize, row: usize, col: usize) -> T {
        self.data[self.at(batch, row, col)]
    }

    pub(super) fn view(&self) -> View<T> {
        let batch = Axis::even(self.batch_stride);
        View { ptr: self.data[self.origin..].as_ptr(), batch, row: self.row, col: self.col }
    }

    pub(super) fn view_mut(&mut self) -> ViewMut<T> {
        // SAFETY: the origin lies in the buffer; the pointer keeps the whole buffer in reach.
        let ptr = unsafe { self.data.as_mut_ptr().add(self.origin) };
        ViewMut { ptr, batch_stride: self.batch_stride, row: self.row, col_stride: self.col.stride() }
    }
}

/// A contraction to check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) batch: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: Layout,
    pub(super) b: Layout,
    pub(super) c: Layout,
    /// The whole batch reads one A, or one B.
    pub(super) shared: (bool, bool),
    pub(super) accumulate: bool,
    pub(super) epilogue: bool,
}

impl Case {
    pub(super) fn plain(m: usize, k: usize, n: usize) -> Case {
        Case {
            batch: 1,
            m,
            n,
            k,
            a: RowMajor,
            b: RowMajor,
            c: RowMajor,
            shared: (false, false),
            accumulate: false,
            epilogue: false,
        }
    }

    pub(super) fn with(self, a: Layout, b: Layout, c: Layout) -> Case {
        Case { a, b, c, ..self }
    }
}

/// What the test's epilogue knows: it maps each element x to 2 x + 1 and counts its visits.
struct Visits<T> {
    c: ViewMut<T>,
    shape: (usize, usize, usize),
    counts: Vec<AtomicU8>,
}

unsafe extern "C" fn visit<T: Sample>(
    ctx: *const u8,
    batch: usize,
    row: usize,
    row_end: usize,
    col: usize,
    col_end: usize,
) {
    // SAFETY: the context is a `Visits<T>` that outlives the contraction.
    let visits = unsafe { &*ctx.cast::<Visits<T>>() };
    let (batches, rows, cols) = visits.shape;
    let (c, counts) = (visits.c, &visits.counts);
    // A panic must not cross this frame, so a block out of bounds is left uncounted.
    if batch >= batches || row_end > rows || col_end > cols {
        return;
    }
    for i in row..row_end {
        for j in col..col_end {
            let offset = batch as isize * c.batch_stride + c.row.offset(i) + j as isize * c.col_stride;
            // SAFETY: the element exists, and the driver gives each to one call.
            unsafe {
                let at = c.ptr.offset(offset);
                *at = *at * T::from_f64(2.0) + T::from_f64(1.0);
            }
            counts[(batch * rows + i) * cols + j].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The operands of a case, and the value and the bound of the error of each element of C.
pub(super) struct Problem<T> {
    pub(super) case: Case,
    pub(super) a: Matrices<T>,
    pub(super) b: Matrices<T>,
    pub(super) c: Matrices<T>,
    pub(super) exact: Vec<(f64, f64)>,
}

impl<T: Sample> Problem<T> {
    pub(super) fn new(random: &mut Random, case: Case) -> Problem<T> {
        let a = Matrices::new(random, case.a, case.batch, case.m, case.k, case.shared.0);
        let b = Matrices::new(random, case.b, case.batch, case.k, case.n, case.shared.1);
        let c = Matrices::new(random, case.c, case.batch, case.m, case.n, false);
        let mut problem = Problem { case, a, b, c, exact: Vec::new() };
        problem.exact = problem.solve();
        problem
    }

    /// A compensated inner product (Ogita, Rump and Oishi 2005, algorithm Dot2), as good as twice the precision of f64.
    pub(super) fn solve(&self) -> Vec<(f64, f64)> {
        let Case { batch, m, n, k, accumulate, epilogue, .. } = self.case;
        let mut exact = Vec::with_capacity(batch * m * n);
        for (g, i, j) in indices(batch, m, n) {
            let old = if accumulate { self.c.get(g, i, j).to_f64() } else { 0.0 };
            let (mut sum, mut low, mut size) = (old, 0.0, old.abs());
            for p in 0..k {
                let (x, y) = (self.a.get(g, i, p).to_f64(), self.b.get(g, p, j).to_f64());
                let product = x * y;
                let next = sum + product;
                let part = next - sum;
                low += x.mul_add(y, -product) + ((sum - (next - part)) + (product - part));
                sum = next;
                size += product.abs();
            }
            let mut value = sum + low;
            let terms = k + usize::from(accumulate);
            let mut bound = terms as f64 * T::EPSILON * size;
            if epilogue {
                value = 2.0 * value + 1.0;
                bound = 2.0 * bound + 2.0 * T::EPSILON * (1.0 + value.abs());
            }
            exact.push((value, bound));
        }
        exact
    }

    /// C after the product. Panics if an element is wrong, or one that is not in C has changed.
    pub(super) fn run(&self, pool: &Pool, workspace: &mut Workspace, packed: bool) -> Vec<T> {
        let Case { batch, m, n, k, accumulate, epilogue, .. } = self.case;
        let mut c = self.c.clone();
        let visits = Visits {
            c: c.view_mut(),
            shape: (batch, m, n),
            counts: (0..batch * m * n).map(|_| AtomicU8::new(0)).collect(),
        };
        let call = Epilogue { run: visit::<T>, ctx: (&raw const visits).cast() };
        let job = Contraction {
            batch,
            m,
            n,
            k,
            a: self.a.view(),
            b: self.b.view(),
            c: visits.c,
            accumulate,
            epilogue: epilogue.then_some(call),
        };
        // SAFETY: the views lie in their buffers, and C is a buffer of its own.
        unsafe {
            if packed {
                let b = PackedB::new(&job.b, batch, k, n, pool, workspace);
                contract_packed(&job, &b, pool, workspace);
            } else {
                contract(&job, pool, workspace);
            }
        }
        let what = || format!("{:?} {:?} {} threads packed {packed}", self.case, workspace.isa(), pool.threads());
        let mut inside = vec![false; c.data.len()];
        let mut result = Vec::with_capacity(batch * m * n);
        for ((g, i, j), &(value, bound)) in indices(batch, m, n).zip(&self.exact) {
            let got = c.get(g, i, j);
            let error = (got.to_f64() - value).abs();
            assert!(error <= bound, "{}: ({g}, {i}, {j}) is {got:?}, not {value}, bound {bound:e}", what());
            inside[c.at(g, i, j)] = true;
            result.push(got);
        }
        for (at, inside) in inside.iter().enumerate() {
            let same = c.data[at].bits() == self.c.data[at].bits();
            assert!(*inside || same, "{}: wrote outside of C at {at}", what());
        }
        let once = visits.counts.iter().all(|count| count.load(Ordering::Relaxed) == u8::from(epilogue));
        assert!(once, "{}: the epilogue missed or repeated an element", what());
        result
    }
}

pub(super) fn indices(batch: usize, m: usize, n: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..batch).flat_map(move |g| (0..m).flat_map(move |i| (0..n).map(move |j| (g, i, j))))
}
