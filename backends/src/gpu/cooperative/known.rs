//! A product whose result is known exactly, of matrices that show what may go wrong.
//!
//! Most elements are small integers without symmetry, so that rows taken for columns, and parts in other parts' places, show. Some rows
//! have one or a few elements of their own instead, which meet columns of their own: subnormals, sums that need all bits of an
//! `f32`, infinities and NaN, and where factors are rounded, numbers that show how.

use lehr_ir::dim::Dim;
use lehr_ir::plan::{BufferId, Contract, Digits, Matrix};
use lehr_ir::{DType, Data, Literal};

use crate::gpu::bench::{Bench, floats, halves};
use crate::gpu::error::GpuError;

/// Rows, columns and terms: more than a tile of each, and no multiple of any.
const SHAPE: [usize; 3] = [141, 150, 75];
/// The terms that the rows of their own meet, in different steps of any shape.
const TERMS: [usize; 4] = [3, 20, 40, 70];
/// Every so many-th row is one of its own.
const EVERY: usize = 9;

const LEFT: BufferId = BufferId(0);
const RIGHT: BufferId = BufferId(1);
const RESULT: BufferId = BufferId(2);

/// Factors and their product.
pub(super) struct Known {
    contract: Contract,
    left: Data,
    right: Data,
    result: Vec<f64>,
}

impl Known {
    /// The product in a dtype, `f16` or `f32`; the factors of the latter are to be rounded.
    pub(super) fn new(dtype: DType) -> Self {
        let [rows, columns, terms] = SHAPE;
        let table = |[rows, columns]: [usize; 2], of: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            (0..rows * columns).map(|i| of(i / columns, i % columns)).collect()
        };
        let left = table([rows, terms], &|row, term| left(dtype, row, term));
        let right = table([terms, columns], &right);
        let half = |x: &f64| Literal::from_f64(DType::F16, *x).to_f64();
        let (a, b): (Vec<f64>, Vec<f64>) = (left.iter().map(half).collect(), right.iter().map(half).collect());
        let sum = |row: usize, column: usize| {
            let sum: f64 = (0..terms).map(|k| a[row * terms + k] * b[k * columns + column]).sum();
            Literal::from_f64(dtype, sum).to_f64()
        };
        let result = table([rows, columns], &sum);
        let contract = contract(dtype);
        Self { contract, left: data(dtype, &left), right: data(dtype, &right), result }
    }

    /// The product as a step.
    pub(super) fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Lays the factors out.
    pub(super) fn place(&self, bench: &mut Bench<'_>) -> Result<(), GpuError> {
        let dtype = self.contract.dtype;
        bench.read(LEFT, dtype, self.left.len(), Some(&self.left))?;
        bench.read(RIGHT, dtype, self.right.len(), Some(&self.right))?;
        bench.write(RESULT, dtype, self.result.len())
    }

    /// Whether these are the bytes of the result.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        let same = |got: f64, want: f64| got == want || got.is_nan() && want.is_nan();
        let len = self.result.len() * self.contract.dtype.size();
        let Some(bytes) = bytes.get(..len) else { return false };
        match self.contract.dtype {
            DType::F32 => floats(bytes).zip(&self.result).all(|(got, want)| same(got, *want)),
            dtype => halves(dtype, bytes).zip(&self.result).all(|(got, want)| same(got, *want)),
        }
    }
}

#[cfg(test)]
impl Known {
    /// The bytes of the result.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let dtype = self.contract.dtype;
        let bits = |x: &f64| Literal::from_f64(dtype, *x).bits()[0].to_le_bytes().into_iter().take(dtype.size());
        self.result.iter().flat_map(bits).collect()
    }

    /// Whether an element of the result is a NaN.
    pub(super) fn is_nan(&self, at: usize) -> bool {
        self.result[at].is_nan()
    }
}

/// The elements of row `row` at [`TERMS`], if it is one of its own.
fn own(dtype: DType, row: usize) -> Option<[f64; 4]> {
    let tiny = 0.5f64.powi(24);
    let all = [
        // A subnormal.
        [tiny, 0.0, 0.0, 0.0],
        // Great numbers that cancel, around one that only sums in `f32` keep.
        [0.0, 1024.0, 0.125, -1024.0],
        // What is not finite, alone and together.
        [0.0, 0.0, f64::INFINITY, 0.0],
        [0.0, 0.0, f64::NAN, 0.0],
        [0.0, f64::INFINITY, 0.0, f64::NEG_INFINITY],
        [0.0, 0.0, 65504.0, 0.0],
    ];
    // Midway between two halves, to the even one below and above; hardly within the range and just beyond; around the least.
    let rounded = [
        1.0 + 0.5f64.powi(11),
        1.0 + 3.0 * 0.5f64.powi(11),
        65519.99,
        65520.0,
        -70000.0,
        0.5 * tiny,
        0.75 * tiny,
        1.0 / 3.0,
    ];
    let number = (row % EVERY == EVERY / 2).then_some(row / EVERY)?;
    match all.get(number) {
        Some(own) => Some(*own),
        None if dtype == DType::F32 => rounded.get(number - all.len()).map(|x| [0.0, 0.0, *x, 0.0]),
        None => None,
    }
}

fn left(dtype: DType, row: usize, term: usize) -> f64 {
    match (own(dtype, row), TERMS.iter().position(|t| *t == term)) {
        (Some(own), Some(i)) => own.get(i).copied().unwrap_or_default(),
        (Some(_), None) | (None, Some(_)) => 0.0,
        (None, None) => ((row * 7 + term * 3 + row * term) % 5) as f64 - 2.0,
    }
}

fn right(term: usize, column: usize) -> f64 {
    match TERMS.iter().position(|t| *t == term) {
        Some(0) => 1024.0 * (1 + column % 3) as f64,
        Some(2) => 1.0 - 2.0 * (column % 2) as f64,
        Some(_) => 1024.0,
        None => ((term * 5 + column * 2 + term * column) % 7) as f64 - 3.0,
    }
}

fn contract(dtype: DType) -> Contract {
    let [m, n, k] = SHAPE.map(|n| Dim::from(n as i64));
    let matrix = |buffer, rows: &Dim, columns: &Dim| Matrix {
        buffer,
        offset: Dim::ZERO,
        batch: Digits::default(),
        row: Digits::even(rows.clone(), columns.clone()),
        column: Digits::even(columns.clone(), Dim::ONE),
    };
    let (a, b, c) = (matrix(LEFT, &m, &k), matrix(RIGHT, &k, &n), matrix(RESULT, &m, &n));
    Contract { dtype, batch: Dim::ONE, m, n, k, a, b, c, epilogue: None }
}

fn data(dtype: DType, x: &[f64]) -> Data {
    let mut data = Data::zeros(dtype, x.len());
    for (i, x) in x.iter().enumerate() {
        data.set(i, Literal::from_f64(dtype, *x));
    }
    data
}
