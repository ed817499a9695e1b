//! Where elements lie: indices of several digits as text, and what is known of alignment.

use lehr_ir::dim::Dim;
use lehr_ir::plan::{Digits, Matrix};

use crate::gpu::wgsl::WgslError;
use crate::gpu::wgsl::source::{Source, Text};

/// How to write the offset of an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::gpu) enum Index {
    /// Every index is at the same place.
    Still,
    /// A multiple of the stride.
    Even(String),
    /// A function of the module.
    Function(String),
}

impl Index {
    /// Defines what the index needs; `name` is that of its function and of its strides.
    pub(in crate::gpu) fn new(source: &mut Source, name: &str, digits: &Digits) -> Result<Self, WgslError> {
        let digits = match digits.digits() {
            _ if digits.is_still() => return Ok(Self::Still),
            [one] => return Ok(Self::Even(source.number(&format!("{name}_stride"), &one.stride)?)),
            all => all,
        };
        let mut text = Text::default();
        text.line(format!("// The elements from the first of {name} to number `i`: {} digits.", digits.len()));
        text.open(format!("fn {name}(i: i32) -> i32 {{"));
        text.line("var rest = i;");
        text.line("var at = 0;");
        for (place, digit) in digits.iter().enumerate().rev() {
            let stride = source.number(&format!("{name}_stride_{place}"), &digit.stride)?;
            let by = |digit: &str| if stride == "1" { digit.to_owned() } else { format!("{digit} * {stride}") };
            if place == 0 {
                text.line(format!("at += {};", by("rest")));
            } else {
                // A size of 0 is that of an index that nobody has, but no text divides by it.
                let size = if digit.size.is_zero() { &Dim::ONE } else { &digit.size };
                let size = source.number(&format!("{name}_size_{place}"), size)?;
                text.line(format!("at += {};", by(&format!("(rest % {size})"))));
                text.line(format!("rest = rest / {size};"));
            }
        }
        text.line("return at;");
        text.close("}");
        source.function(text.join());
        Ok(Self::Function(name.to_owned()))
    }

    /// The elements from index 0 to `i`.
    pub(in crate::gpu) fn at(&self, i: &str) -> String {
        let simple = i.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        match self {
            Self::Still => "0".to_owned(),
            Self::Even(stride) if stride == "1" => i.to_owned(),
            Self::Even(stride) if simple => format!("{i} * {stride}"),
            Self::Even(stride) => format!("({i}) * {stride}"),
            Self::Function(name) => format!("{name}({i})"),
        }
    }
}

/// The first element of a matrix of the batch.
pub(in crate::gpu) fn base(source: &mut Source, name: &str, matrix: &Matrix) -> Result<String, WgslError> {
    let batch = Index::new(source, &format!("{name}_batch"), &matrix.batch)?.at("batch");
    if matrix.offset.is_zero() {
        return Ok(batch);
    }
    let offset = source.word(&format!("{name}_offset"), &matrix.offset)?;
    Ok(if batch == "0" { offset } else { format!("{offset} + {batch}") })
}

/// Whether neighbours along an index are neighbours in memory.
pub(in crate::gpu) fn is_close(digits: &Digits) -> bool {
    digits.digits().last().is_some_and(|d| d.stride.is_one())
}

/// Whether four neighbours along `along`, from each fourth on, are an aligned vector of a matrix, wherever the other index is.
pub(in crate::gpu) fn has_vectors(matrix: &Matrix, along: &Digits, count: &Dim, across: &Digits) -> bool {
    let Some((last, others)) = along.digits().split_last() else { return false };
    let even = |digits: &Digits| digits.digits().iter().all(|d| is_multiple(&d.stride, 4));
    last.stride.is_one()
        && is_multiple(&last.size, 4)
        && is_multiple(count, 4)
        && others.iter().all(|d| is_multiple(&d.stride, 4))
        && even(across)
        && even(&matrix.batch)
        && is_multiple(&matrix.offset, 4)
}

/// Whether a number is a multiple of another whatever its symbols are.
pub(in crate::gpu) fn is_multiple(dim: &Dim, of: i64) -> bool {
    dim.fault().is_none()
        && dim.constant_part() % of == 0
        && dim.terms().iter().all(|term| term.coefficient() % of == 0)
}

/// A condition, which is dropped where it always holds.
pub(in crate::gpu) fn below(index: &str, limit: &str, always: bool) -> Option<String> {
    (!always).then(|| format!("{index} < {limit}"))
}

/// All of some conditions.
pub(in crate::gpu) fn all(conditions: impl IntoIterator<Item = Option<String>>) -> String {
    let kept: Vec<String> = conditions.into_iter().flatten().collect();
    if kept.is_empty() { "true".to_owned() } else { kept.join(" && ") }
}
