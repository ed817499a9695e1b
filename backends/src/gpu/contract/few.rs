//! Products with few vectors on one side, as of a matrix by a vector: each element of the other side is read once.
//!
//! An invocation takes one vector of the many and every so many-th term, for all of the few at once.
//! Invocations that share a vector add their sums in workgroup memory, in a tree.

use lehr_ir::dim::Dim;
use lehr_ir::kernel::Access;

use super::address::{self, Index};
use super::element::Reader;
use super::output::{Output, counted, sum};
use super::{Product, Side};
use crate::gpu::dispatch::Dispatch;
use crate::gpu::wgsl::source::Source;
use crate::gpu::wgsl::{WgslError, WgslTarget};

/// The most vectors that are few.
pub(super) const MOST: i64 = 8;
/// Invocations of a workgroup.
const INVOCATIONS: i64 = 128;

/// How a product with few vectors on a side is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Form {
    /// Whether the few are those of the left operand.
    few_left: bool,
    /// How many there are.
    few: i64,
    /// Invocations along the sum; the others are along the many vectors.
    along_sum: i64,
    /// Whether neighbours are along the sum.
    close_terms: bool,
}

/// The form of a product that has one side of few vectors and more on the other.
pub(super) fn fits(product: &Product<'_>) -> Option<Form> {
    let few = |side: &Side<'_>| side.count.as_const().filter(|n| *n <= MOST);
    let (left, right) = (few(&product.left), few(&product.right));
    let few_left = match (left, right) {
        (Some(left), Some(right)) => left <= right,
        (left, _) => left.is_some(),
    };
    let count = if few_left { left } else { right }?;
    let many = if few_left { &product.right } else { &product.left };
    // Neighbours read neighbours.
    let close_terms = address::is_close(many.sum) || !address::is_close(many.vectors);
    Some(Form { few_left, few: count, along_sum: if close_terms { 32 } else { 4 }, close_terms })
}

impl Form {
    /// Invocations along the sum.
    pub(super) fn along_sum(self) -> i64 {
        self.along_sum
    }

    /// The same with so many invocations along the sum.
    pub(super) fn along(self, along_sum: i64) -> Self {
        Self { along_sum, ..self }
    }

    /// Vectors of the many that a workgroup takes.
    fn vectors(self) -> i64 {
        INVOCATIONS / self.along_sum
    }

    /// The workgroups of a product whose sums are whole.
    pub(super) fn groups(self, product: &Product<'_>) -> Dim {
        let (few, many) = self.sides(product);
        // No vectors at all make no result.
        let any = few.count.minimum(1);
        &(product.batch * &any) * &many.count.ceildiv(self.vectors())
    }

    fn sides<'p, 'c>(self, product: &'p Product<'c>) -> (&'p Side<'c>, &'p Side<'c>) {
        let (left, right) = (&product.left, &product.right);
        if self.few_left { (left, right) } else { (right, left) }
    }
}

/// The dispatch of a product with few vectors on a side.
pub(super) fn dispatch(
    product: &Product<'_>,
    form: &Form,
    output: &Output<'_, '_>,
    target: &WgslTarget,
) -> Result<Dispatch, WgslError> {
    let (few, many) = form.sides(product);
    let (ty, along, vectors) = (product.element.name, form.along_sum, form.vectors());
    let mut source = Source::new([
        product.title(),
        format!(
            "A workgroup of {INVOCATIONS} makes {vectors} {} of the result, with {along} invocations along each sum.",
            counted(many.name)
        ),
    ]);
    let whole = form.groups(product);
    let groups = output.parts.map_or_else(|| whole.clone(), |parts| &whole * parts.count);
    let read = |source: &mut Source, side: &Side<'_>| -> Result<(Reader, Index, Index, String), WgslError> {
        let buffer = source.bind(side.name, side.bound(), Access::Read, &product.element.array(false));
        let reader = product.element.reader(source, side.name, &buffer, false);
        let vectors = Index::new(source, &format!("{}_{}", side.name, side.vector), side.vectors)?;
        let term = Index::new(source, &format!("{}_term", side.name), side.sum)?;
        let base = address::base(source, side.name, side.matrix)?;
        Ok((reader, vectors, term, base))
    };
    let (few_reader, few_vectors, few_term, few_base) = read(&mut source, few)?;
    let (many_reader, many_vectors, many_term, many_base) = read(&mut source, many)?;
    let base = output.define(&mut source, false)?;
    source.share("partial_sums", ty, product.element.bytes, INVOCATIONS as u64);
    let number = source.number("groups", &groups)?;
    source.begin(&number);
    let across = source.number("groups_across", &many.count.ceildiv(vectors))?;
    let count = source.number(counted(many.name), many.count)?;
    let terms = source.number("terms", product.sum)?;
    let (inner, outer, within) = match form.close_terms {
        true => ("term", "vector", along),
        false => ("vector", "term", vectors),
    };
    source.line(format!("let {inner}_lane = lane % {within};"));
    source.line(format!("let {outer}_lane = lane / {within};"));
    source.line(format!("let vector = linear % {across} * {vectors} + vector_lane;"));
    let (from, to) = match output.parts {
        Some(parts) => {
            let (whole, batches) = (source.number("tiles", &whole)?, source.number("batches", product.batch)?);
            source.line(format!("let batch = linear / {across} % {batches};"));
            source.line(format!("let part = linear / {whole};"));
            source.line(format!("let end = min((part + 1) * {}, {terms});", parts.terms));
            (format!("part * {} + term_lane", parts.terms), "end".to_owned())
        }
        None => {
            source.line(format!("let batch = linear / {across};"));
            ("term_lane".to_owned(), terms)
        }
    };
    for i in 0..form.few {
        source.line(format!("var sum_{i} = {ty}(0);"));
    }
    source.open(format!("if (vector < {count}) {{"));
    source.line(format!("let many_at = {};", sum(&[many_base, many_vectors.at("vector")])));
    source.line(format!("let few_at = {few_base};"));
    source.open(format!("for (var k = {from}; k < {to}; k += {along}) {{"));
    source.line(format!("let x = {};", many_reader.at(&sum(&["many_at".to_owned(), many_term.at("k")]))));
    source.line(format!("let at = {};", sum(&["few_at".to_owned(), few_term.at("k")])));
    for i in 0..form.few {
        let at = sum(&["at".to_owned(), few_vectors.at(&i.to_string())]);
        source.line(format!("sum_{i} = fma({}, x, sum_{i});", few_reader.at(&at)));
    }
    source.close("}");
    source.close("}");
    base.iter().for_each(|line| source.line(line));
    for i in 0..form.few {
        if i > 0 {
            source.line("workgroupBarrier();");
        }
        source.line(format!("partial_sums[lane] = sum_{i};"));
        source.line("workgroupBarrier();");
        source.open(format!("for (var width = {}; width > 0; width >>= 1u) {{", along / 2));
        source.open("if (term_lane < width) {");
        let other = if form.close_terms { "width".to_owned() } else { format!("width * {vectors}") };
        source.line(format!("partial_sums[lane] += partial_sums[lane + {other}];"));
        source.close("}");
        source.line("workgroupBarrier();");
        source.close("}");
        source.open(format!("if (term_lane == 0 && vector < {count}) {{"));
        let (row, column) =
            if form.few_left { (i.to_string(), "vector".to_owned()) } else { ("vector".to_owned(), i.to_string()) };
        for line in output.element(&mut source, &row, &column, "partial_sums[lane]")? {
            source.line(line);
        }
        source.close("}");
    }
    source.dispatch(INVOCATIONS as u32, groups, target)
}
