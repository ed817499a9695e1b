//! How an operand is read: element by element or in vectors, four vectors by four terms at once.

use super::address::{self, Index, all, below};
use super::element::Element;
use super::epilogue::Finish;
use super::{Product, Side};
use crate::gpu::wgsl::WgslError;
use crate::gpu::wgsl::source::{Source, Text};
use lehr_ir::dim::Dim;
use lehr_ir::kernel::Access;

/// What reads of an operand are made of.
pub(in crate::gpu) struct Fetch {
    /// Which neighbours are close in memory.
    pub(in crate::gpu) along_sum: bool,
    /// Whether a read is of four elements, which are an aligned vector.
    pub(in crate::gpu) wide: bool,
    /// The index of vectors.
    pub(in crate::gpu) vectors: Index,
    /// The index of the sum.
    pub(in crate::gpu) sum: Index,
    /// The first element of a matrix of the batch.
    pub(in crate::gpu) base: String,
}

/// Which operands are read in vectors; a buffer that is bound with elements for something else is not.
pub(super) fn wide(product: &Product<'_>, finish: Option<&Finish<'_>>) -> [bool; 2] {
    let wide = |side: &Side<'_>| {
        if product.element.bytes != 4 || finish.is_some_and(|f| f.touches(side.matrix.buffer)) {
            return false;
        }
        let (matrix, vectors, sum) = (side.matrix, side.vectors, side.sum);
        address::has_vectors(matrix, sum, product.sum, vectors)
            || address::has_vectors(matrix, vectors, side.count, sum)
    };
    let each = [wide(&product.left), wide(&product.right)];
    if product.left.matrix.buffer == product.right.matrix.buffer { [each[0] && each[1]; 2] } else { each }
}

impl Fetch {
    /// Binds an operand and defines `<name>_at(at, inside)`: what lies there, or 0.
    pub(in crate::gpu) fn new(
        source: &mut Source,
        element: Element,
        side: &Side<'_>,
        terms: &Dim,
        wide: bool,
    ) -> Result<Self, WgslError> {
        let name = side.name;
        let along_sum = if wide {
            address::has_vectors(side.matrix, side.sum, terms, side.vectors)
        } else {
            address::is_close(side.sum) || !address::is_close(side.vectors)
        };
        let buffer = source.bind(name, side.bound(), Access::Read, &element.array(wide));
        let ty = element.name;
        let (ty, zero) =
            if wide { (format!("vec4<{ty}>"), format!("vec4<{ty}>()")) } else { (ty.to_owned(), format!("{ty}(0)")) };
        let value = element.reader(source, name, &buffer, wide).at("select(0, at, inside)");
        source.function(format!(
            "fn {name}_at(at: i32, inside: bool) -> {ty} {{\n  return select({zero}, {value}, inside);\n}}"
        ));
        Ok(Self {
            along_sum,
            wide,
            vectors: Index::new(source, &format!("{name}_{}", side.vector), side.vectors)?,
            sum: Index::new(source, &format!("{name}_term"), side.sum)?,
            base: address::base(source, name, side.matrix)?,
        })
    }

    /// Defines `<name>_block(at, first, term)`: four vectors from `first` on, whose places are `at`, by four terms from `term` on.
    /// A column of the matrix is a term. `count` and `sum` are the sizes as text, where tiles may go beyond them.
    pub(in crate::gpu) fn block(
        &self,
        source: &mut Source,
        side: &Side<'_>,
        element: &str,
        count: Option<&str>,
        sum: Option<&str>,
    ) {
        let name = side.name;
        let inside = |vector: usize, term: usize| {
            let plus = |base: &str, i: usize| if i == 0 { base.to_owned() } else { format!("{base} + {i}") };
            all([
                below(&plus("first", vector), count.unwrap_or_default(), count.is_none()),
                below(&plus("term", term), sum.unwrap_or_default(), sum.is_none()),
            ])
        };
        let component = |i: usize| ["x", "y", "z", "w"].get(i).copied().unwrap_or_default();
        let add = |a: String, b: &str| if b == "0" { a } else { format!("{a} + {b}") };
        let mut text = Text::default();
        text.open(format!("fn {name}_block(at: vec4<i32>, first: i32, term: i32) -> mat4x4<{element}> {{"));
        if self.wide && self.along_sum {
            text.line(format!("let to = {};", self.sum.at("term")));
            text.open(format!("return transpose(mat4x4<{element}>("));
            for i in 0..4 {
                text.line(format!("{name}_at(at.{} + to, {}),", component(i), inside(i, 0)));
            }
            text.close("));");
        } else if self.wide {
            text.open(format!("return mat4x4<{element}>("));
            for i in 0..4 {
                let term = if i == 0 { "term".to_owned() } else { format!("term + {i}") };
                text.line(format!("{name}_at({}, {}),", add("at.x".to_owned(), &self.sum.at(&term)), inside(0, i)));
            }
            text.close(");");
        } else {
            for i in 0..4 {
                let term = if i == 0 { "term".to_owned() } else { format!("term + {i}") };
                text.line(format!("let to_{i} = {};", self.sum.at(&term)));
            }
            text.open(format!("return mat4x4<{element}>("));
            for term in 0..4 {
                let one = |i: usize| format!("{name}_at(at.{} + to_{term}, {})", component(i), inside(i, term));
                text.line(format!("{}, {}, {}, {},", one(0), one(1), one(2), one(3)));
            }
            text.close(");");
        }
        text.close("}");
        source.function(text.join());
    }
}
