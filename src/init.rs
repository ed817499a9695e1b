//! Initial values of weights, as host arrays: the same numbers as the operations of [`random`](crate::random), made quickly.
//!
//! Fans are those of a dense layer's weight `[in, out]`; of a convolution's, `[…window, in, out]`, window sizes multiply both.

use lehr_ir::{Array, DType};

use crate::random::Key;

/// Zeros, `f32`.
pub fn zeros(shape: &[usize]) -> Array {
    Array::zeros(DType::F32, shape)
}

/// Ones, `f32`.
pub fn ones(shape: &[usize]) -> Array {
    Array::full(shape, 1.0f32.into())
}

/// `f32` numbers in `[low, high)`: `low + u (high - low)` with `u` of [`random::uniform`](crate::random::uniform).
///
/// ```
/// use lehr::prelude::*;
/// let host = init::uniform(Key::new(7), &[3, 2], 0.0, 1.0);
/// assert_eq!(host, random::uniform(Key::new(7), F32, (3, 2)).eval()?);
/// # Ok::<(), lehr::Error>(())
/// ```
pub fn uniform(key: Key, shape: &[usize], low: f32, high: f32) -> Array {
    let span = high - low;
    fill(shape, key, |a, _| low + unit(a) * span)
}

/// `f32` numbers of the normal distribution: `mean + n · std` with `n` of [`random::normal`](crate::random::normal), whose
/// functions are taken in `f64` and rounded here as on the reference backend.
pub fn normal(key: Key, shape: &[usize], mean: f32, std: f32) -> Array {
    fill(shape, key, |a, b| mean + standard_normal(a, b) * std)
}

/// Uniform with the variance `2 / (in + out)`, for layers before tanh or sigmoid.
///
/// # Source
/// Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
pub fn glorot_uniform(key: Key, shape: &[usize]) -> Array {
    let (fan_in, fan_out) = fans(shape);
    let bound = (6.0 / (fan_in + fan_out)).sqrt() as f32;
    uniform(key, shape, -bound, bound)
}

/// Normal with the variance `2 / (in + out)`.
///
/// # Source
/// As [`glorot_uniform`].
pub fn glorot_normal(key: Key, shape: &[usize]) -> Array {
    let (fan_in, fan_out) = fans(shape);
    normal(key, shape, 0.0, (2.0 / (fan_in + fan_out)).sqrt() as f32)
}

/// Uniform with the variance `2 / in`, for layers before relu.
///
/// # Source
/// He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015.
pub fn he_uniform(key: Key, shape: &[usize]) -> Array {
    let bound = (6.0 / fans(shape).0).sqrt() as f32;
    uniform(key, shape, -bound, bound)
}

/// Normal with the variance `2 / in`.
///
/// # Source
/// As [`he_uniform`].
pub fn he_normal(key: Key, shape: &[usize]) -> Array {
    normal(key, shape, 0.0, (2.0 / fans(shape).0).sqrt() as f32)
}

/// A matrix `f32[rows, columns]` whose rows are orthonormal, or whose columns are if there are more rows: uniformly distributed
/// among those. Further dims in front count as rows.
///
/// # Numerics
/// Gram and Schmidt's process in `f64`, twice over, on rows of the normal distribution.
/// # Source
/// Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014.
/// ```
/// use lehr::prelude::*;
/// let q = Tensor::from(init::orthogonal(Key::new(1), &[2, 3]));
/// let product: Vec<f32> = q.matmul(&q.transpose()).to()?;
/// assert!(product.iter().zip([1.0, 0.0, 0.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6));
/// # Ok::<(), lehr::Error>(())
/// ```
pub fn orthogonal(key: Key, shape: &[usize]) -> Array {
    let columns = shape.last().copied().unwrap_or(1);
    let rows = shape[..shape.len().saturating_sub(1)].iter().product::<usize>();
    let (count, len) = (rows.min(columns), rows.max(columns));
    let numbers = key.draw(count * len, |a, b| f64::from(standard_normal(a, b)));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    for row in numbers.chunks_exact(len.max(1)).take(count) {
        let mut v = row.to_vec();
        // What rounding leaves of the others after one round is gone after the second.
        for _ in 0..2 {
            for q in &basis {
                let along: f64 = q.iter().zip(&v).map(|(a, b)| a * b).sum();
                v.iter_mut().zip(q).for_each(|(v, q)| *v -= along * q);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.iter_mut().for_each(|x| *x /= norm);
        basis.push(v);
    }
    let at = |r: usize, c: usize| if rows <= columns { basis[r][c] } else { basis[c][r] };
    let elements: Vec<f32> = (0..rows * columns).map(|i| at(i / columns, i % columns) as f32).collect();
    // The count is the shape's, so the shape fits.
    Array::new(shape, elements).unwrap_or_else(|_| Array::zeros(DType::F32, shape))
}

/// 24 bits of a word as a multiple of 2⁻²⁴ in `[0, 1)`.
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * 0.5f32.powi(24)
}

/// Box and Muller's transform, each step rounded to `f32`.
fn standard_normal(a: u32, b: u32) -> f32 {
    let u = ((a >> 8) + 1) as f32 * 0.5f32.powi(24);
    let log = f64::from(u).ln() as f32;
    let angle = unit(b) * std::f32::consts::TAU;
    (log * -2.0).sqrt() * f64::from(angle).cos() as f32
}

fn fill(shape: &[usize], key: Key, number: impl Fn(u32, u32) -> f32 + Sync) -> Array {
    let elements = key.draw(shape.iter().product(), number);
    // The count is the shape's, so the shape fits.
    Array::new(shape, elements).unwrap_or_else(|_| Array::zeros(DType::F32, shape))
}

/// What flows into and out of a unit.
fn fans(shape: &[usize]) -> (f64, f64) {
    let window: usize = shape[..shape.len().saturating_sub(2)].iter().product();
    let at = |from_end: usize| shape.len().checked_sub(from_end).map_or(1, |i| shape[i]);
    ((window * at(2)).max(1) as f64, (window * at(1)).max(1) as f64)
}
