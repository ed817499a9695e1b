//! How arrays print: nested brackets in the manner of NumPy, long ones with their middle left out.

use std::fmt;

use super::Array;

/// An array with more elements than this prints its edges only.
const SUMMARY: usize = 1000;
const EDGE: usize = 3;

impl fmt::Display for Array {
    /// ```
    /// # use lehr_ir::Array;
    /// assert_eq!(Array::from([[1.5f32, 2.0], [3.0, 4.0]]).to_string(), "[[1.5, 2], [3, 4]]");
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_dim(self, 0, 0, self.len() > SUMMARY, f)
    }
}

fn write_dim(a: &Array, dim: usize, offset: usize, summarise: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(&n) = a.shape().get(dim) else {
        let Some(l) = a.data().get(offset) else { return Ok(()) };
        // Which NaN it is matters to no reader of values; the text of graphs says it.
        if l.dtype().is_float() && l.to_f64().is_nan() {
            return f.write_str("nan");
        }
        let text = l.to_string();
        return f.write_str(text.strip_suffix(".0").unwrap_or(&text));
    };
    let stride: usize = a.shape()[dim + 1..].iter().product();
    f.write_str("[")?;
    let mut i = 0;
    while i < n {
        if i > 0 {
            f.write_str(", ")?;
        }
        if summarise && n > 2 * EDGE && i == EDGE {
            f.write_str("..., ")?;
            i = n - EDGE;
        }
        write_dim(a, dim + 1, offset + i * stride, summarise, f)?;
        i += 1;
    }
    f.write_str("]")
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?} {self}", self.dtype(), self.shape())
    }
}
