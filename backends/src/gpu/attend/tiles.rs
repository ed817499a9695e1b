//! One dispatch of attention: a tile of rows against all tiles of columns.

use lehr_ir::dim::Dim;
use lehr_ir::kernel::Access;
use lehr_ir::plan::{Attend, AttendPass, BufferId, Grid, Matrix};

use super::super::contract::Side;
use super::super::contract::address::is_multiple;
use super::super::contract::element::Element;
use super::super::contract::fetch::Fetch;
use super::super::contract::panel::{Panel, plus, stride};
use super::super::dispatch::{Bound, Dispatch};
use super::super::wgsl::source::{Source, Text};
use super::super::wgsl::{WgslError, WgslTarget};
use super::{HIDDEN, Part, scores, view, weights};

/// Terms of a product that pass through workgroup memory at once.
const DEPTH: i64 = 16;
const F32: Element = Element::F32;

/// How rows and columns are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    /// Rows and columns of a tile.
    pub(super) size: i64,
    /// Groups of four features that an invocation sums up, for each of its four rows.
    pub(super) groups: i64,
}

impl Cut {
    /// Invocations along rows, and along columns.
    pub(super) fn across(self) -> i64 {
        self.size / 4
    }

    fn lanes(self) -> i64 {
        self.across() * self.across()
    }

    /// Features that a workgroup sums up.
    fn features(self) -> i64 {
        self.groups * self.size
    }

    /// Vectors of workgroup memory for what is fetched, for weights, and for values of rows.
    fn shared(self) -> [i64; 3] {
        let (pair, sums) = (2 * DEPTH * stride(self.size), DEPTH * stride(self.features()));
        [pair.max(sums), self.size * stride(self.size), self.lanes()]
    }

    /// Large tiles where there is memory for them and rows to fill them.
    fn of(rows: &Dim, features: &Dim, target: &WgslTarget) -> Self {
        let groups = |size: i64| if features.as_const().is_some_and(|f| f <= size) { 1 } else { 2 };
        let [small, large] = [32, 64].map(|size| Self { size, groups: groups(size) });
        let bytes = 16 * large.shared().iter().sum::<i64>();
        let fits = u64::try_from(bytes).is_ok_and(|b| b <= target.workgroup_bytes);
        if fits && rows.as_const().is_none_or(|rows| rows > small.size) { large } else { small }
    }
}

/// The matrices of a dispatch, and what is written.
struct Matrices {
    rows: Dim,
    columns: Dim,
    /// Rows and columns of the scores' product.
    scores: [Matrix; 2],
    /// Those of the slopes', the cotangents of weights.
    slopes: Option<[Matrix; 2]>,
    /// What is summed up with the weights, a row a column of the scores.
    summed: Matrix,
    /// How many columns that has.
    features: Dim,
    out: BufferId,
}

/// The dispatch that computes a part of a step; none if that has no elements.
pub(super) fn dispatch(attend: &Attend, part: Part, target: &WgslTarget) -> Result<Option<Dispatch>, WgslError> {
    let all = matrices(attend, part)?;
    let batches = lehr_ir::ty::count(&attend.batch);
    let cut = Cut::of(&all.rows, &all.features, target);
    let chunks = all.features.ceildiv(cut.features());
    // A row's `lse` is there even if it has no features.
    let chunks = if part == Part::Forward { chunks.maximum(1) } else { chunks };
    let groups = &(&batches * &all.rows.ceildiv(cut.size)) * &chunks;
    if groups.is_zero() {
        return Ok(None);
    }
    let mut source = Source::new([
        format!("{}: {} queries, {} keys, {} times.", part.title(), attend.queries, attend.keys, batches),
        format!(
            "A workgroup of {} owns {size} rows and {} features, and walks over tiles of {size} columns.",
            cut.lanes(),
            cut.features(),
            size = cut.size
        ),
    ]);
    let s = &mut source;
    define(s, attend, part, cut, &all, target)?;
    let counts = [&all.rows, &all.columns];
    let products = pair(s, attend, cut, names(part), &all.scores, counts, &attend.d)?;
    let slopes = match &all.slopes {
        Some(matrices) => {
            let names = if part.by_key() { ["value", "d_out"] } else { ["d_out", "value"] };
            Some(pair(s, attend, cut, names, matrices, counts, &attend.e)?)
        }
        None => None,
    };
    let wanted = Wanted {
        name: "summed",
        matrix: &all.summed,
        columns: true,
        vector: "feature",
        count: &all.features,
        terms: &all.columns,
        step: cut.size,
        size: cut.features(),
        first_lane: 0,
        start: 0,
    };
    let summed = panel(s, attend, cut, &wanted)?;

    let number = s.number("groups", &groups)?;
    s.begin(&number);
    let (chunk, down) = (s.number("chunks", &chunks)?, s.number("tiles_down", &all.rows.ceildiv(cut.size))?);
    s.line(format!("let first_feature = linear % {chunk} * {};", cut.features()));
    s.line(format!("let first_row = linear / {chunk} % {down} * {};", cut.size));
    s.line(format!("let batch = linear / ({chunk} * {down});"));
    s.line("// The four rows, and groups of four columns or features, that are this invocation's.");
    s.line(format!("let row_lane = lane / {};", cut.across()));
    s.line(format!("let column_lane = lane % {};", cut.across()));
    s.line("let row = first_row + row_lane * 4;");
    for (i, group) in sums(cut) {
        s.line(format!("var sum_{i}_{group} = vec4<f32>();"));
    }
    weights::begin(s, part)?;
    begin_range(s, attend, part, cut)?;
    products[0].begin(s, "first_row");
    if let Some([rows, _]) = &slopes {
        rows.begin(s, "first_row");
    }
    summed.begin(s, "first_feature");
    s.open(format!("for (var first_column = begin; first_column < end; first_column += {}) {{", cut.size));
    s.line("let column = first_column + column_lane * 4;");
    multiply(s, cut, &products, "score", &attend.d)?;
    if let Some(pair) = &slopes {
        multiply(s, cut, pair, "slope", &attend.e)?;
    }
    weights::compute(s, attend, part, cut)?;
    add_up(s, attend, part, cut, &summed, &all.columns)?;
    s.close("}");
    weights::finish(s, attend, part, cut)?;
    for (i, group) in sums(cut) {
        let value = weights::result(part, i, &format!("sum_{i}_{group}"));
        let feature = plus("first_feature + column_lane * 4", group * cut.size);
        s.line(format!("store_4(batch, {}, {feature}, {value});", plus("row", i)));
    }
    source.dispatch(cut.lanes() as u32, groups, target).map(Some)
}

/// What rows and columns are called.
fn names(part: Part) -> [&'static str; 2] {
    if part.by_key() { ["key", "query"] } else { ["query", "key"] }
}

fn matrices(attend: &Attend, part: Part) -> Result<Matrices, WgslError> {
    let view = |grid: &Grid, rows: &Dim, columns: &Dim| view::matrix(attend, grid, rows, columns);
    let q = view(&attend.q, &attend.queries, &attend.d)?;
    let k = view(&attend.k, &attend.keys, &attend.d)?;
    let v = view(&attend.v, &attend.keys, &attend.e)?;
    let (queries, keys) = (attend.queries.clone(), attend.keys.clone());
    let (d, e) = (attend.d.clone(), attend.e.clone());
    Ok(match &attend.pass {
        AttendPass::Forward { out, .. } => {
            Matrices { rows: queries, columns: keys, scores: [q, k], slopes: None, summed: v, features: e, out: *out }
        }
        AttendPass::Backward { d_out, dq, dk, dv, .. } => {
            let d_out = view(d_out, &attend.queries, &attend.e)?;
            match part {
                Part::Keys => Matrices {
                    rows: keys,
                    columns: queries,
                    scores: [k, q.clone()],
                    slopes: Some([v, d_out]),
                    summed: q,
                    features: d,
                    out: *dk,
                },
                Part::Values => Matrices {
                    rows: keys,
                    columns: queries,
                    scores: [k, q],
                    slopes: None,
                    summed: d_out,
                    features: e,
                    out: *dv,
                },
                Part::Queries | Part::Forward => Matrices {
                    rows: queries,
                    columns: keys,
                    scores: [q, k.clone()],
                    slopes: Some([d_out, v]),
                    summed: k,
                    features: d,
                    out: *dq,
                },
            }
        }
    })
}

/// Binds what is written, and defines the functions of pairs and queries.
fn define(
    source: &mut Source,
    attend: &Attend,
    part: Part,
    cut: Cut,
    all: &Matrices,
    target: &WgslTarget,
) -> Result<(), WgslError> {
    let [tile, weights, rows] = cut.shared();
    for (name, len) in [("tile", tile), ("weights", weights), ("of_rows", rows)] {
        if name != "of_rows" || part == Part::Forward {
            source.share(name, "vec4<f32>", 16, len as u64);
        }
    }
    scores::define_sees(source, attend, target)?;
    if let Some(bias) = &attend.bias {
        scores::define_bias(source, attend, bias)?;
    }
    match &attend.pass {
        AttendPass::Forward { lse, .. } => {
            source.bind("lse", Bound::Plan(*lse), Access::Write, "f32");
        }
        AttendPass::Backward { lse, delta, .. } => {
            scores::define_row(source, attend, "lse", *lse)?;
            if part.has_slopes() {
                scores::define_row(source, attend, "delta", *delta)?;
            }
        }
    }
    let wide = is_multiple(&all.features, 4);
    let buffer = source.bind("out", Bound::Plan(all.out), Access::Write, if wide { "vec4<f32>" } else { "f32" });
    let (rows, features) = (source.number("rows", &all.rows)?, source.number("features", &all.features)?);
    let mut text = Text::default();
    text.open("fn store_4(batch: i32, row: i32, feature: i32, values: vec4<f32>) {");
    text.line(format!("let at = (batch * {rows} + row) * {features} + feature;"));
    if wide {
        text.open(format!("if (row < {rows} && feature < {features}) {{"));
        text.line(format!("{buffer}[at >> 2u] = values;"));
        text.close("}");
    } else {
        for (i, component) in COMPONENTS.into_iter().enumerate() {
            text.open(format!("if (row < {rows} && {} < {features}) {{", plus("feature", i as i64)));
            text.line(format!("{buffer}[{}] = values.{component};", plus("at", i as i64)));
            text.close("}");
        }
    }
    text.close("}");
    source.function(text.join());
    Ok(())
}

/// What of a matrix is fetched at once, and by whom.
struct Wanted<'m> {
    name: &'static str,
    matrix: &'m Matrix,
    /// Whether vectors are the matrix's columns, and not its rows.
    columns: bool,
    vector: &'static str,
    count: &'m Dim,
    terms: &'m Dim,
    /// What sums of terms are rounded up to.
    step: i64,
    size: i64,
    first_lane: i64,
    start: i64,
}

fn panel<'m>(source: &mut Source, attend: &Attend, cut: Cut, w: &Wanted<'m>) -> Result<Panel<'m>, WgslError> {
    let (vectors, sum) = if w.columns { (&w.matrix.column, &w.matrix.row) } else { (&w.matrix.row, &w.matrix.column) };
    let side = Side { name: w.name, vector: w.vector, matrix: w.matrix, count: w.count, vectors, sum, out: vectors };
    let wide = view::is_wide(attend, w.matrix.buffer)?;
    let fetch = Fetch::new(source, F32, &side, w.terms, wide)?;
    let mut edge = |name: &str, dim: &Dim, step: i64| -> Result<Option<String>, WgslError> {
        if is_multiple(dim, step) { Ok(None) } else { source.number(name, dim).map(Some) }
    };
    let count = edge(&format!("{}_{}s", w.name, w.vector), w.count, w.size)?;
    let terms = edge(&format!("{}_terms", w.name), w.terms, w.step)?;
    fetch.block(source, &side, F32.name, count.as_deref(), terms.as_deref());
    Ok(Panel { side, fetch, size: w.size, depth: DEPTH, first_lane: w.first_lane, lanes: cut.lanes(), start: w.start })
}

/// Panels of the rows and columns of a product, which are fetched at the same time.
fn pair<'m>(
    source: &mut Source,
    attend: &Attend,
    cut: Cut,
    names: [&'static str; 2],
    matrices: &'m [Matrix; 2],
    counts: [&'m Dim; 2],
    terms: &'m Dim,
) -> Result<[Panel<'m>; 2], WgslError> {
    let (size, [rows, columns]) = (cut.size, matrices);
    let first = Wanted {
        name: names[0],
        matrix: rows,
        columns: false,
        vector: "row",
        count: counts[0],
        terms,
        step: DEPTH,
        size,
        first_lane: 0,
        start: 0,
    };
    let second = Wanted {
        name: names[1],
        matrix: columns,
        vector: "column",
        count: counts[1],
        first_lane: cut.lanes() - size * DEPTH / 16,
        start: DEPTH * stride(size),
        ..first
    };
    Ok([panel(source, attend, cut, &first)?, panel(source, attend, cut, &second)?])
}

/// Lines that find which tiles of columns there is anything to be seen in.
fn begin_range(source: &mut Source, attend: &Attend, part: Part, cut: Cut) -> Result<(), WgslError> {
    let (queries, keys) = (source.number("queries", &attend.queries)?, source.number("keys", &attend.keys)?);
    let size = cut.size;
    let (begin, end) = match (attend.scores.causal, part.by_key()) {
        (false, false) => ("0".to_owned(), keys),
        (false, true) => ("0".to_owned(), queries),
        (true, false) => {
            let last = format!("min(first_row + {size}, {queries}) + {keys} - {queries}");
            ("0".to_owned(), format!("clamp({last}, 0, {keys})"))
        }
        (true, true) => (format!("max(first_row + {queries} - {keys}, 0) / {size} * {size}"), queries),
    };
    source.line(format!("let begin = {begin};"));
    source.line(format!("let end = {end};"));
    Ok(())
}

/// Lines that define `<name>_0` to `<name>_3`: products of the invocation's four rows with its four columns.
fn multiply(
    source: &mut Source,
    cut: Cut,
    [rows, columns]: &[Panel<'_>; 2],
    name: &str,
    terms: &Dim,
) -> Result<(), WgslError> {
    let step = stride(cut.size);
    let terms = source.number("terms", terms)?;
    columns.begin(source, "first_column");
    for i in 0..4 {
        source.line(format!("var {name}_{i} = vec4<f32>();"));
    }
    source.open(format!("for (var term = 0; term < {terms}; term += {DEPTH}) {{"));
    for panel in [rows, columns] {
        panel.declare(source, F32.name);
        panel.fetch(source, "term");
        panel.keep(source);
    }
    source.line("workgroupBarrier();");
    source.open(format!("for (var k = 0; k < {DEPTH}; k++) {{"));
    source.line(format!("let of_row = tile[k * {step} + row_lane];"));
    source.line(format!("let of_column = tile[k * {step} + column_lane + {}];", columns.start));
    for (i, component) in COMPONENTS.into_iter().enumerate() {
        source.line(format!("{name}_{i} = fma(vec4<f32>(of_row.{component}), of_column, {name}_{i});"));
    }
    source.close("}");
    source.line("workgroupBarrier();");
    source.close("}");
    Ok(())
}

/// Lines that add to the sums what the weights of a tile give.
fn add_up(
    source: &mut Source,
    attend: &Attend,
    part: Part,
    cut: Cut,
    summed: &Panel<'_>,
    columns: &Dim,
) -> Result<(), WgslError> {
    let size = cut.size;
    if attend.mask.is_none() {
        let (queries, keys) = (source.number("queries", &attend.queries)?, source.number("keys", &attend.keys)?);
        let mut conditions = vec![format!("first_column + {size} <= {}", source.number("columns", columns)?)];
        if attend.scores.causal {
            let (query, key) = if part.by_key() {
                ("first_column".to_owned(), format!("first_row + {}", size - 1))
            } else {
                ("first_row".to_owned(), format!("first_column + {}", size - 1))
            };
            conditions.push(format!("{key} + {queries} <= {query} + {keys}"));
        }
        source.line(format!("let all_seen = {};", conditions.join(" && ")));
    }
    source.open(format!("for (var first = 0; first < {size}; first += {DEPTH}) {{"));
    summed.declare(source, F32.name);
    summed.fetch(source, "first_column + first");
    summed.keep(source);
    source.line("workgroupBarrier();");
    if attend.mask.is_none() {
        source.open("if (all_seen) {");
        add_terms(source, cut, false);
        source.turn("} else {");
        add_terms(source, cut, true);
        source.close("}");
    } else {
        add_terms(source, cut, true);
    }
    source.line("workgroupBarrier();");
    source.close("}");
    Ok(())
}

/// A loop over the columns of a step; with `some`, what is hidden is left out.
fn add_terms(source: &mut Source, cut: Cut, some: bool) {
    let (step, wide) = (stride(cut.size), stride(cut.features()));
    source.open(format!("for (var k = 0; k < {DEPTH}; k++) {{"));
    source.line(format!("let weight = weights[(first + k) * {step} + row_lane];"));
    for group in 0..cut.groups {
        source.line(format!(
            "let x_{group} = tile[{}];",
            plus(&format!("k * {wide} + column_lane"), group * cut.across())
        ));
    }
    if some {
        source.line(format!("let seen = bitcast<vec4<u32>>(weight) != vec4<u32>({});", HIDDEN[1]));
    }
    for (i, component) in COMPONENTS.into_iter().enumerate() {
        if some {
            source.open(format!("if (seen.{component}) {{"));
        }
        for group in 0..cut.groups {
            let sum = format!("sum_{i}_{group}");
            source.line(format!("{sum} = fma(vec4<f32>(weight.{component}), x_{group}, {sum});"));
        }
        if some {
            source.close("}");
        }
    }
    source.close("}");
}

pub(super) const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];

/// An invocation's sums: row, and group of four features.
pub(super) fn sums(cut: Cut) -> impl Iterator<Item = (i64, i64)> {
    (0..4).flat_map(move |row| (0..cut.groups).map(move |group| (row, group)))
}
