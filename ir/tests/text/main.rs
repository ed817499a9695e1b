//! The text of graphs: what it looks like, and that it reads back.

mod attention;
mod random;
mod refused;
mod verify;
mod views;

use std::sync::Arc;
use std::time::Instant;

use lehr_ir::attrs::{Attr, Attrs};
use lehr_ir::eval::{EvalCx, EvalError};
use lehr_ir::facts::Fact;
use lehr_ir::graph::parse::{ParseErrorKind, parse_file};
use lehr_ir::graph::print::{Locations, PrintOptions};
use lehr_ir::graph::verify::verify;
use lehr_ir::graph::visit::NodeView;
use lehr_ir::graph::{Builder, Graph, ParamKind, ScopeId, Value};
use lehr_ir::ops::{ArgReduce, Arity, Arrays, BinaryOp, Call, DotDims, ExternOp, Types};
use lehr_ir::{Array, DType, Dim, Facts, Literal, Loc, Rule, Type};

fn dim(text: &str) -> Dim {
    text.parse().expect("a dim")
}

fn ty(dtype: DType, shape: &[&str]) -> Type {
    Type::new(dtype, shape.iter().map(|s| dim(s)))
}

/// `max(x, 0)` of a type.
fn relu(of: &Type) -> Arc<Graph> {
    let mut b = Builder::new("relu");
    b.loc = Loc::new("src/nn.rs", 7, 9);
    let x = b.param("x", ParamKind::Input, of.clone());
    let zero = b.zeros(of).expect("zeros");
    let y = b.binary(BinaryOp::Max, x, zero).expect("max");
    b.output("y", y);
    b.into_region()
}

/// A graph with symbols, facts, each kind of parameter, scopes, a tag, a call, several results and an update.
fn sample() -> Graph {
    let mut b = Builder::new("digits");
    let mut facts = Facts::default();
    facts.assume(Fact::ge(dim("batch"), 1)).expect("no contradiction");
    b.set_facts(facts);
    b.loc = Loc::new("src/main.rs", 3, 5);
    let x = b.param("x", ParamKind::Input, ty(DType::F32, &["batch", "64"]));
    let w = b.param("hidden weight", ParamKind::Variable, ty(DType::F32, &["64", "10"]));
    let d = b.param("rate", ParamKind::Data, Type::scalar(DType::F32));
    let mask = b.param("mask", ParamKind::Input, ty(DType::Bool, &["batch", "10"]));

    let scale = b.full(Literal::from(16.0_f32), &[dim("batch"), dim("64")]).expect("full");
    b.loc = Loc::new("src/main.rs", 23, 32);
    let scaled = b.div(x, scale).expect("div");
    b.scope = b.scope_of_path("model/hidden");
    b.loc = Loc::new("src/nn.rs", 11, 26);
    let h = b.dot(scaled, w, DotDims::matmul(0)).expect("dot");
    let h_ty = b.ty(h).clone();
    let mut call = Call::new("relu", relu(&h_ty));
    call.attrs = Attrs::new().with("slope", Attr::Float(Literal::from(-0.0_f32))).with_name("mode", "plain");
    let h = b.op(call.into(), &[h]).expect("call");
    b.scope = b.scope_of_path("model/out");
    let zero = b.zeros(&h_ty).expect("zeros");
    b.scope = b.scope_of_path("model/hidden");
    let h = b.select(mask, h, zero).expect("select");
    b.scope = ScopeId::ROOT;
    b.tag = b.fresh_tag();
    b.loc = Loc::UNKNOWN;
    let best = b.add_node(ArgReduce::new(true, 1).into(), &[h]).expect("arg_reduce");
    let best: Vec<Value> = b.graph().node(best).results().collect();
    b.tag = 0;
    let rate = b.broadcast(d, &[dim("64"), dim("10")], &[]).expect("broadcast");
    let new = b.sub(w, rate).expect("sub");
    b.output("score", best[0]);
    b.output("class", best[1]);
    b.update(1, new);
    b.finish()
}

#[test]
fn a_graph_prints_and_reads_back() {
    let g = sample();
    verify(&g).expect("verifies");
    let text = g.to_string();
    insta::assert_snapshot!(text, @r#"
    graph @digits(
      %x: f32[batch, 64],                                           ; main.rs:3:5
    ) var(
      %hidden_weight: f32[64, 10] "hidden weight",                  ; main.rs:3:5
    ) data(
      %rate: f32[],                                                 ; main.rs:3:5
    ) input(
      %mask: bool[batch, 10],                                       ; main.rs:3:5
    ) assume(batch >= 1) -> (f32[batch], i64[batch]) {
      %0 = const 16.0 : f32[]                                       ; main.rs:3:5
      %1 = broadcast %0 {shape = (batch, 64), axes = []} : f32[batch, 64]  ; main.rs:3:5
      %2 = div %x, %1 : f32[batch, 64]                              ; main.rs:23:32
      model {
        hidden {
          %3 = dot %2, %hidden_weight {lhs_batch = [], rhs_batch = [], lhs_contract = [1], rhs_contract = [0]} : f32[batch, 10]  ; nn.rs:11:26
          %4 = call %3 {name = "relu", attrs = {slope = -0.0 : f32, mode = plain}, body = graph @relu(
            %x: f32[batch, 10],                                     ; nn.rs:7:9
          ) -> (f32[batch, 10]) {
            %0 = const 0.0 : f32[]                                  ; nn.rs:7:9
            %1 = broadcast %0 {shape = (batch, 10), axes = []} : f32[batch, 10]  ; nn.rs:7:9
            %2 = max %x, %1 : f32[batch, 10]                        ; nn.rs:7:9
            return %2 "y"
          }} : f32[batch, 10]                                       ; nn.rs:11:26
        }
        out {
          %5 = const 0.0 : f32[]                                    ; nn.rs:11:26
          %6 = broadcast %5 {shape = (batch, 10), axes = []} : f32[batch, 10]  ; nn.rs:11:26
        }
        %7 = select %mask, %4, %6 : f32[batch, 10] in hidden        ; nn.rs:11:26
      }
      %8, %9 = arg_reduce %7 {op = arg_max, axis = 1} : f32[batch], i64[batch] tag 1
      %10 = broadcast %rate {shape = (64, 10), axes = []} : f32[64, 10]
      %11 = sub %hidden_weight, %10 : f32[64, 10]
      return %8 "score", %9 "class"
      update %hidden_weight = %11
    }
    "#);
    assert_eq!(Graph::parse(&text).expect("parses"), g);
    // Locations come back too: the whole text is the same, with paths short or in full.
    assert_eq!(Graph::parse(&text).expect("parses").to_string(), text);
    let full = format!("{g:#}");
    assert!(full.contains("; src/main.rs:23:32"), "{full}");
    assert_eq!(format!("{:#}", Graph::parse(&full).expect("parses")), full);
    let bare = g.display(PrintOptions { locations: Locations::Hidden, blobs: true }).to_string();
    assert!(!bare.contains(".rs"), "{bare}");
    assert_eq!(Graph::parse(&bare).expect("parses"), g);
}

#[test]
fn files_have_headers_and_several_graphs() {
    let text = "; pass: simplify\n; rules: a, b\n; just words\n\ngraph @a(%x: f32[]) -> () {\n}\n; no: header\n\ngraph @b() -> () {\n  return\n}\n";
    let file = parse_file(text).expect("parses");
    assert_eq!(file.header("pass"), Some("simplify"));
    assert_eq!(file.header("rules"), Some("a, b"));
    assert_eq!(file.headers.len(), 2);
    let names: Vec<&str> = file.graphs.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(parse_file("; only: comments\n").expect("parses").graphs, []);
}

#[test]
fn text_is_read_in_any_layout() {
    let spread = "graph\n@f ( %a:f32[ n ,2*n ] ) ->(f32[n, 2*n])\n{ one/two { %first=neg %a:f32[n,n+n] } %b = exp %first : f32[n,2*n] in one tag 4 ; x.rs:1:2\n return %b}";
    let g = Graph::parse(spread).expect("parses");
    insta::assert_snapshot!(g, @r#"
    graph @f(%a: f32[n, 2*n]) -> (f32[n, 2*n]) {
      one {
        two {
          %0 = neg %a : f32[n, 2*n]
        }
        %1 = exp %0 : f32[n, 2*n] tag 4                             ; x.rs:1:2
      }
      return %1
    }
    "#);
    assert_eq!(g.nodes().nth(1).and_then(|(_, n)| n.loc.short()), Some("x.rs:1:2".to_owned()));
    assert_eq!(Graph::parse(&g.to_string()).expect("parses"), g);
}

#[test]
fn scopes_print_as_blocks_where_they_are_contiguous() {
    let mut b = Builder::new("f");
    let x = b.param("x", ParamKind::Input, Type::scalar(DType::F32));
    for path in ["a/b", "a/b", "a/c", "d", "a/b", "return", "e f/_", "e f/g", "", "d", "d"] {
        b.scope = b.scope_of_path(path);
        b.neg(x).expect("neg");
    }
    let g = b.finish();
    insta::assert_snapshot!(g, @r#"
    graph @f(%x: f32[]) -> () {
      a {
        b {
          %0 = neg %x : f32[]
          %1 = neg %x : f32[]
        }
        c {
          %2 = neg %x : f32[]
        }
      }
      %3 = neg %x : f32[] in d
      %4 = neg %x : f32[] in a/b
      "return" {
        %5 = neg %x : f32[]
      }
      "e f" {
        "_" {
          %6 = neg %x : f32[]
        }
        g {
          %7 = neg %x : f32[]
        }
      }
      %8 = neg %x : f32[]
      d {
        %9 = neg %x : f32[]
        %10 = neg %x : f32[]
      }
      return
    }
    "#);
    assert_eq!(Graph::parse(&g.to_string()).expect("parses"), g);
}

#[test]
fn constants_are_exact_and_large_ones_stand_in_a_table() {
    let mut b = Builder::new("constants");
    let floats = [0.0, -0.0, 1.0e-45, 0.1, f32::INFINITY, f32::NAN, f32::from_bits(0xffc0_0001)];
    b.constant(Array::from(floats));
    b.constant(Array::from([[1_i64, i64::MIN], [3, i64::MAX]]));
    b.constant(Array::zeros(DType::F32, &[3, 0, 1 << 40]));
    b.constant(Array::from([num_complex::Complex32::new(-0.0, f32::NAN)]));
    b.constant(Array::from(true));
    let large = Array::from((0..65).map(|i| i as f32 / 7.0).collect::<Vec<_>>());
    b.constant(large.clone());
    b.constant(large.clone());
    let g = b.finish();
    let text = g.to_string();
    insta::assert_snapshot!(text, @r#"
    graph @constants() -> () {
      %0 = const [0.0, -0.0, 1e-45, 0.1, inf, nan, nan(0xffc00001)] : f32[7]
      %1 = const [[1, -9223372036854775808], [3, 9223372036854775807]] : i64[2, 2]
      %2 = const [] : f32[3, 0, 1099511627776]
      %3 = const [(-0.0, nan)] : c64[1]
      %4 = const true : bool[]
      %5 = const blob(93b77af306c7fe23) : f32[65]
      %6 = const blob(93b77af306c7fe23) : f32[65]
      return
    }
    blob 93b77af306c7fe23 : f32[65] = "AAAAACVJEj4lSZI+t23bPiVJEj9u2zY/t21bPwAAgD8lSZI/SZKkP27btj+SJMk/t23bP9u27T8AAABAkiQJQCVJEkC3bRtASZIkQNu2LUBu2zZAAABAQJIkSUAlSVJAt21bQEmSZEDbtm1Abtt2QAAAgEBJkoRAkiSJQNu2jUAlSZJAbtuWQLdtm0AAAKBASZKkQJIkqUDbtq1AJUmyQG7btkC3bbtAAADAQEmSxECSJMlA27bNQCVJ0kBu29ZAt23bQAAA4EBJkuRAkiTpQNu27UAlSfJAbtv2QLdt+0AAAABBJUkCQUmSBEFu2wZBkiQJQbdtC0Hbtg1BAAAQQSVJEkE="
    "#);
    assert_eq!(Graph::parse(&text).expect("parses"), g);
    assert_eq!(serde_json::from_str::<Graph>(&serde_json::to_string(&g).expect("serialises")).expect("reads"), g);
    let without = g.display(PrintOptions { blobs: false, ..PrintOptions::default() }).to_string();
    let e = Graph::parse(&without).expect_err("the data is not there");
    assert!(matches!(*e.kind, ParseErrorKind::UnknownBlob(_)), "{e}");
}

#[test]
fn a_long_chain_is_no_problem() {
    const NODES: usize = 100_000;
    // Times are reported, not asserted; a walk that is not linear would not come to an end.
    let time = |what: &str, start: Instant| eprintln!("{what}: {:?}", start.elapsed());
    let mut b = Builder::new("chain");
    let mut v = b.param("x", ParamKind::Input, ty(DType::F32, &["batch", "64"]));
    for i in 0..NODES {
        b.loc = Loc::new("main.rs", i as u32, 1);
        if i % 100 == 0 {
            b.scope = b.scope_of_path(&format!("block{}", i / 5000));
        }
        v = if i % 2 == 0 { b.neg(v) } else { b.add(v, v) }.expect("infers");
    }
    b.output("y", v);
    let g = b.finish();
    let start = Instant::now();
    let text = g.to_string();
    time("print", start);
    let start = Instant::now();
    let parsed = Graph::parse(&text).expect("parses");
    time("parse", start);
    assert_eq!(parsed, g);
    let start = Instant::now();
    verify(&g).expect("verifies");
    time("verify", start);
    let start = Instant::now();
    assert_eq!(g.compact().fingerprint(), g.fingerprint());
    time("compact, fingerprint", start);
    let start = Instant::now();
    let view = NodeView::new(&g);
    assert_eq!(petgraph::algo::toposort(&view, None).map(|o| o.len()), Ok(NODES));
    time("toposort", start);
    let start = Instant::now();
    let json = serde_json::to_string(&g).expect("serialises");
    assert_eq!(serde_json::from_str::<Graph>(&json).expect("deserialises"), g);
    time("json", start);
    assert_eq!(g.to_dot().matches("->").count(), NODES + NODES / 2 + 1);
}

/// `x * x`, from another crate.
#[derive(Debug)]
struct Square;

impl ExternOp for Square {
    fn name(&self) -> &str {
        "test.square"
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        Ok(Types::from_iter([operands[0].clone()]))
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        Ok(Arrays::from_iter([operands[0].clone()]))
    }
}

#[test]
fn operations_of_other_crates_read_back_with_their_reader() {
    let text = "graph @f(%x: f32[n]) -> (f32[n]) {\n  %0 = test.square %x : f32[n]\n  %1 = neg %0 : f32[n]\n  return %1 \"y\"\n}\n";
    let reader = |name: &str, _: &Attrs| (name == "test.square").then(|| Arc::new(Square) as Arc<dyn ExternOp>);
    let g = Graph::parse_with(text, &reader).expect("parses");
    assert_eq!(g.to_string(), text);
    let e = Graph::parse(text).expect_err("the operation is unknown");
    assert!(e.to_string().contains("there is no operation `test.square`"), "{e}");
}
