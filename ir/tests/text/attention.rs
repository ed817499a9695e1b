//! Attention in text and JSON, and what is said of operands that do not fit.

use lehr_ir::graph::Graph;

const TEXT: &str = r#"graph @f(
  %q: f32[b, t, 8],
  %k: f32[b, s, 8],
  %v: f32[b, s, 4],
  %bias: f32[b, t, s],
  %mask: bool[b, t, s],
) -> (f32[b, t, 4], f32[b, t], f32[b, t, 4], f32[b, t], f32[b, t, 8], f32[b, s, 8], f32[b, s, 4]) {
  %0, %1 = attention %q, %k, %v, %bias, %mask {scale = 0.25 : f64, causal = yes, bias = yes, mask = yes, empty = nan} : f32[b, t, 4], f32[b, t]
  %2, %3 = attention_tangent %q, %k, %v, %0, %1, %k, %v {scale = 0.25 : f64, causal = no, bias = no, mask = no, of = [1, 2]} : f32[b, t, 4], f32[b, t]
  %4, %5, %6 = attention_grad %q, %k, %v, %1, %0, %3 {scale = 0.25 : f64, causal = no, bias = no, mask = no} : f32[b, t, 8], f32[b, s, 8], f32[b, s, 4]
  return %0 "out", %1 "lse", %2 "dout", %3 "dlse", %4 "dq", %5 "dk", %6 "dv"
}
"#;

#[test]
fn text_and_json_read_back() {
    let graph = Graph::parse(TEXT).expect("parses");
    assert_eq!(graph.to_string(), TEXT);
    let json = serde_json::to_string(&graph).expect("serialises");
    assert_eq!(serde_json::from_str::<Graph>(&json).expect("deserialises"), graph);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let check = |from: &str, to: &str, want: &str| {
        let text = TEXT.replacen(from, to, 1);
        assert_ne!(text, TEXT);
        let shown = Graph::parse(&text).expect_err(want).to_string();
        assert!(shown.contains(want), "got\n{shown}\nwant\n{want}");
    };
    check("%k: f32[b, s, 8]", "%k: f32[b, s, 9]", "the features of queries and keys, 8 and 9 must be equal");
    check("%k: f32[b, s, 8]", "%k: f32[c, s, 8]", "leading dims of queries and keys, b and c must be equal");
    check("%k: f32[b, s, 8]", "%k: f64[b, s, 8]", "queries, keys and values are floats of one dtype");
    check("%k: f32[b, s, 8]", "%k: f32[s, 8]", "queries have 1 leading dims and keys 0");
    check("%k: f32[b, s, 8]", "%k: f32[8]", "keys have a dim of positions and one of features, and these are f32[8]");
    check("%v: f32[b, s, 4]", "%v: f32[b, r, 4]", "the numbers of keys and values, s and r must be equal");
    check("%bias: f32[b, t, s]", "%bias: f64[b, t, s]", "the bias must be f32, and is f64");
    check("%bias: f32[b, t, s]", "%bias: f32[b, s, s]", "the queries and the rows of the bias, t and s must be equal");
    check("%mask: bool[b, t, s]", "%mask: f32[b, t, s]", "the mask must be bool, and is f32");
    check(
        "%mask: bool[b, t, s]",
        "%mask: bool[b, t, t]",
        "the keys and the columns of the mask, s and t must be equal",
    );
    check("of = [1, 2]", "of = [2, 1]", "`of` names operands with a tangent, in ascending order");
    check("%1, %0, %3 {", "%1, %0, %0 {", "operand 5 must be f32[b, t], and is f32[b, t, 4]");
    check("empty = nan", "empty = one", "attribute `empty` must be one of the operation's choices");
    check("scale = 0.25 : f64, causal = yes", "scale = 2, causal = yes", "attribute `scale` must be a float");
    check("%q, %k, %v, %bias, %mask {", "%q, %k, %v, %bias {", "it takes 5 operands, not 4");
}
