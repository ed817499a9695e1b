//! Weights from scores: those of a softmax that is not finished, and those of the gradient.

use lehr_ir::kernel::recipes::Function;
use lehr_ir::ops::Empty;
use lehr_ir::plan::{Attend, AttendPass};

use super::super::contract::panel::{plus, stride};
use super::super::wgsl::WgslError;
use super::super::wgsl::recipe;
use super::super::wgsl::source::{Source, Text};
use super::tiles::{COMPONENTS, Cut, sums};
use super::{HIDDEN, Part};

/// The least `f32`, from which the greatest score starts.
const LOWEST: &str = "-3.4028235e38f";

/// Lines before the first tile: what is kept of rows.
pub(super) fn begin(source: &mut Source, part: Part) -> Result<(), WgslError> {
    let exp = recipe::define(source, Function::Exp)?;
    let each = COMPONENTS.map(|c| format!("{exp}(x.{c})")).join(", ");
    source.function(format!("fn exp_4(x: vec4<f32>) -> vec4<f32> {{\n  return vec4<f32>({each});\n}}"));
    match part {
        Part::Forward => {
            source.line("// Of rows: the greatest score, the sum of weights in this invocation's columns, and whether a score is no number.");
            source.line(format!("var top = vec4<f32>({LOWEST});"));
            source.line("var total = vec4<f32>();");
            source.line("var wrong = vec4<bool>();");
        }
        Part::Queries => {
            of_queries(source, "lse", "row");
            of_queries(source, "delta", "row");
        }
        Part::Keys | Part::Values => {}
    }
    Ok(())
}

/// Lines that make the weights of a tile from `score_0` to `score_3`, and put them where the workgroup finds them.
pub(super) fn compute(source: &mut Source, attend: &Attend, part: Part, cut: Cut) -> Result<(), WgslError> {
    let scale = source.f32(attend.scores.scale() as f32);
    for i in 0..4 {
        let pair = |c: i64| {
            let (row, column) = (plus("row", i), plus("column", c));
            if part.by_key() { format!("batch, {column}, {row}") } else { format!("batch, {row}, {column}") }
        };
        let all = |function: &str| [0, 1, 2, 3].map(|c| format!("{function}({})", pair(c))).join(", ");
        source.line(format!("let seen_{i} = vec4<bool>({});", all("sees")));
        let bias = if attend.bias.is_some() { format!(" + vec4<f32>({})", all("bias_at")) } else { String::new() };
        source.line(format!("score_{i} = score_{i} * {scale}{bias};"));
    }
    if part == Part::Forward {
        soften(source, cut);
    } else {
        again(source, part, &scale);
    }
    source.line("// Transposed, so that an invocation's rows are side by side.");
    let step = stride(cut.size);
    for (c, component) in COMPONENTS.into_iter().enumerate() {
        let each = [0, 1, 2, 3].map(|i| format!("weight_{i}.{component}")).join(", ");
        let at = plus("column_lane * 4", c as i64);
        source.line(format!("weights[({at}) * {step} + row_lane] = vec4<f32>({each});"));
    }
    Ok(())
}

/// Weights relative to the greatest score so far, to which older sums are brought.
fn soften(source: &mut Source, cut: Cut) {
    let across = cut.across();
    for (i, component) in COMPONENTS.into_iter().enumerate() {
        source.line(format!("let size_{i} = bitcast<vec4<u32>>(score_{i}) & vec4<u32>(0x7fffffffu);"));
        source.line(format!("let finite_{i} = seen_{i} & (size_{i} < vec4<u32>(0x7f800000u));"));
        let nan = format!("(size_{i} > vec4<u32>(0x7f800000u))");
        let endless = format!("(bitcast<vec4<u32>>(score_{i}) == vec4<u32>(0x7f800000u))");
        source.line(format!("wrong.{component} = wrong.{component} || any(seen_{i} & ({nan} | {endless}));"));
        source.line(format!("let known_{i} = select(vec4<f32>({LOWEST}), score_{i}, finite_{i});"));
    }
    let most = |i: usize| format!("max(max(known_{i}.x, known_{i}.y), max(known_{i}.z, known_{i}.w))");
    source.line(format!("of_rows[lane] = vec4<f32>({});", [0, 1, 2, 3].map(most).join(", ")));
    source.line("workgroupBarrier();");
    source.line("var peak = top;");
    source.open(format!("for (var i = 0; i < {across}; i++) {{"));
    source.line(format!("peak = max(peak, of_rows[row_lane * {across} + i]);"));
    source.close("}");
    source.line("let shrink = exp_4(top - peak);");
    source.line("top = peak;");
    for (i, component) in COMPONENTS.into_iter().enumerate() {
        source.line(format!(
            "let power_{i} = select(vec4<f32>(), exp_4(score_{i} - vec4<f32>(top.{component})), finite_{i});"
        ));
        source.line(format!("let weight_{i} = select(vec4<f32>({}), power_{i}, seen_{i});", HIDDEN[0]));
    }
    let sum = |i: usize| format!("dot(power_{i}, vec4<f32>(1.0f))");
    source.line(format!("total = total * shrink + vec4<f32>({});", [0, 1, 2, 3].map(sum).join(", ")));
    for (i, group) in sums(cut) {
        let component = COMPONENTS.get(i as usize).copied().unwrap_or_default();
        source.line(format!("sum_{i}_{group} *= shrink.{component};"));
    }
}

/// The weights of the finished softmax again, or what the gradient has for them.
fn again(source: &mut Source, part: Part, scale: &str) {
    if part.by_key() {
        of_queries(source, "lse", "column");
        if part.has_slopes() {
            of_queries(source, "delta", "column");
        }
    }
    for (i, component) in COMPONENTS.into_iter().enumerate() {
        let of = |name: &str| match part.by_key() {
            true => name.to_owned(),
            false => format!("vec4<f32>({name}.{component})"),
        };
        let power = format!("exp_4(score_{i} - {})", of("lse_of"));
        let value =
            if part.has_slopes() { format!("{power} * (slope_{i} - {}) * {scale}", of("delta_of")) } else { power };
        source.line(format!("let exact_{i} = {value};"));
        source.line(format!("let taken_{i} = bitcast<vec4<u32>>(exact_{i}) == vec4<u32>({});", HIDDEN[1]));
        source.line(format!("let free_{i} = select(exact_{i}, vec4<f32>(3.4028233e38f), taken_{i});"));
        source.line(format!("let weight_{i} = select(vec4<f32>({}), free_{i}, seen_{i});", HIDDEN[0]));
    }
}

/// A line that takes a value of four queries.
fn of_queries(source: &mut Source, name: &str, first: &str) {
    let each = [0, 1, 2, 3].map(|i| format!("{name}_at(batch, {})", plus(first, i))).join(", ");
    source.line(format!("let {name}_of = vec4<f32>({each});"));
}

/// Lines after the last tile: what rows become.
pub(super) fn finish(source: &mut Source, attend: &Attend, part: Part, cut: Cut) -> Result<(), WgslError> {
    let AttendPass::Forward { empty, .. } = attend.pass else { return Ok(()) };
    if part != Part::Forward {
        return Ok(());
    }
    define_rows(source, attend, empty)?;
    let across = cut.across();
    let mut gather = |name: &str, value: &str| {
        source.line(format!("of_rows[lane] = {value};"));
        source.line("workgroupBarrier();");
        source.line(format!("var {name} = vec4<f32>();"));
        source.open(format!("for (var i = 0; i < {across}; i++) {{"));
        source.line(format!("{name} += of_rows[row_lane * {across} + i];"));
        source.close("}");
        source.line("workgroupBarrier();");
    };
    gather("totals", "total");
    gather("wrongs", "select(vec4<f32>(), vec4<f32>(1.0f), wrong)");
    let queries = source.number("queries", &attend.queries)?;
    source.open("if (column_lane == 0 && first_feature == 0) {");
    for (i, c) in COMPONENTS.into_iter().enumerate() {
        let row = plus("row", i as i64);
        source.open(format!("if ({row} < {queries}) {{"));
        source.line(format!("lse[batch * {queries} + {row}] = lse_of(top.{c}, totals.{c}, wrongs.{c});"));
        source.close("}");
    }
    source.close("}");
    Ok(())
}

/// Defines `mean_of(sum, total, wrong)` and `lse_of(top, total, wrong)`.
fn define_rows(source: &mut Source, attend: &Attend, empty: Empty) -> Result<(), WgslError> {
    let log = recipe::define(source, Function::Log)?;
    let (nan, none) = (source.f32(f32::NAN), source.f32(f32::NEG_INFINITY));
    let keys = source.number("keys", &attend.keys)?;
    let (mean, lse) = match empty {
        Empty::Zero => ("0.0f".to_owned(), none),
        Empty::Nan => (format!("select(0.0f, {nan}, {keys} > 0)"), format!("select({none}, {nan}, {keys} > 0)")),
    };
    let mut text = Text::default();
    for (name, first, ty, of_empty, value) in [
        ("mean_of", "sum: vec4<f32>", "vec4<f32>", mean, "sum / total".to_owned()),
        ("lse_of", "top: f32", "f32", lse, format!("top + {log}(total)")),
    ] {
        text.open(format!("fn {name}({first}, total: f32, wrong: f32) -> {ty} {{"));
        text.open("if (wrong > 0.0f) {");
        text.line(format!("return {ty}({nan});"));
        text.close("}");
        text.line("// A row without weights: of those there are, the greatest is 1.");
        text.open("if (total == 0.0f) {");
        text.line(format!("return {ty}({of_empty});"));
        text.close("}");
        text.line(format!("return {value};"));
        text.close("}");
    }
    source.function(text.join());
    Ok(())
}

/// What a sum of row `i` becomes.
pub(super) fn result(part: Part, i: i64, sum: &str) -> String {
    let c = COMPONENTS.get(i as usize).copied().unwrap_or_default();
    if part == Part::Forward { format!("mean_of({sum}, totals.{c}, wrongs.{c})") } else { sum.to_owned() }
}
