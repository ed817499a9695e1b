//! JSON, DOT, petgraph, compaction and fingerprints.

use lehr_ir::DType;
use lehr_ir::graph::print::{Locations, PrintOptions};
use lehr_ir::graph::verify::verify;
use lehr_ir::graph::visit::NodeView;
use lehr_ir::graph::{Builder, Graph, ParamKind};
use lehr_ir::ops::UnaryOp;
use petgraph::visit::{EdgeRef, IntoEdgeReferences};

use super::{sample, ty};

#[test]
fn json_reads_back_and_is_legible() {
    let g = sample();
    let json = serde_json::to_string(&g).expect("serialises");
    assert_eq!(serde_json::from_str::<Graph>(&json).expect("deserialises"), g);
    let value = serde_json::to_value(&g).expect("serialises");
    assert_eq!(serde_json::from_value::<Graph>(value.clone()).expect("deserialises"), g);
    insta::assert_snapshot!(value["nodes"][3], @r#"{"attrs":{"lhs_batch":{"ints":[]},"lhs_contract":{"ints":[1]},"rhs_batch":{"ints":[]},"rhs_contract":{"ints":[0]}},"loc":"src/nn.rs:11:26","op":"dot","operands":[6,1],"scope":["model","hidden"],"types":[{"dtype":"f32","shape":["batch",10]}]}"#);
    for (bad, message) in [
        (json.replacen("\"operands\":[0,", "\"operands\":[99,", 1), "value 99 is not defined above"),
        (json.replacen("\"kind\":\"variable\"", "\"kind\":\"input\"", 1), "parameter 1 is no variable"),
        (json.replacen("\"op\":\"div\"", "\"op\":\"divide\"", 1), "there is no operation `divide`"),
        (json.replacen("\"shape\":[64,10]", "\"shape\":[64,11]", 1), "the operation gives f32[batch, 11]"),
    ] {
        assert_ne!(bad, json, "{message}");
        let e = serde_json::from_str::<Graph>(&bad).expect_err("is refused").to_string();
        assert!(e.contains(message), "{e}");
    }
}

#[test]
fn dot_and_petgraph_see_the_same_edges() {
    let g = sample();
    let view = NodeView::new(&g);
    let order = petgraph::algo::toposort(&view, None).expect("no cycle");
    assert_eq!(order.len(), g.node_count());
    // The relu's product feeds the call, the select and the arg_reduce; the new weight is a component of its own.
    assert_eq!(petgraph::algo::connected_components(&view), 2);
    let first = g.nodes().next().expect("a node").0;
    let dominators = petgraph::algo::dominators::simple_fast(&view, first);
    let call = g.nodes().find(|(_, n)| !n.op.regions().is_empty()).expect("the call").0;
    assert_eq!(
        dominators.immediate_dominator(call),
        g.def_node(g.node(call).operands[0])
            .and_then(|n| { g.nodes().find(|(_, m)| m.result() == n.result()).map(|(id, _)| id) })
    );
    assert!(
        view.edge_references()
            .all(|e| e.source() < e.target() && g.node(e.target).operands[e.operand as usize] == e.value)
    );
    let drawn = petgraph::dot::Dot::new(&view).to_string();
    assert_eq!(drawn.matches("->").count(), view.edge_references().count());
    insta::assert_snapshot!(g.to_dot(), @r#"
    digraph "digits" {
      node [shape=box, fontname="monospace"]
      edge [fontname="monospace"]
      param0 [shape=ellipse, style=solid, label="x\nf32[batch, 64]"]
      param1 [shape=ellipse, style=bold, label="hidden weight\nf32[64, 10]"]
      param2 [shape=ellipse, style=dashed, label="rate\nf32[]"]
      param3 [shape=ellipse, style=solid, label="mask\nbool[batch, 10]"]
      node0 [label="const\n16\nf32[]"]
      node1 [label="broadcast\nshape = [batch, 64]\naxes = []\nf32[batch, 64]"]
      node2 [label="div\nf32[batch, 64]"]
      node8 [label="arg_reduce\nop = arg_max\naxis = 1\nf32[batch]\ni64[batch]"]
      node9 [label="broadcast\nshape = [64, 10]\naxes = []\nf32[64, 10]"]
      node10 [label="sub\nf32[64, 10]"]
      subgraph cluster1 {
        label="model"
        subgraph cluster2 {
          label="hidden"
          node3 [label="dot\nlhs_batch = []\nrhs_batch = []\nlhs_contract = [1]\nrhs_contract = [0]\nf32[batch, 10]"]
          node4 [label="call\nname = relu\nf32[batch, 10]"]
          node7 [label="select\nf32[batch, 10]"]
        }
        subgraph cluster3 {
          label="out"
          node5 [label="const\n0\nf32[]"]
          node6 [label="broadcast\nshape = [batch, 10]\naxes = []\nf32[batch, 10]"]
        }
      }
      node0 -> node1 [label="f32[]"]
      node1 -> node2 [label="1: f32[batch, 64]"]
      node2 -> node3 [label="0: f32[batch, 64]"]
      node3 -> node4 [label="f32[batch, 10]"]
      node5 -> node6 [label="f32[]"]
      node4 -> node7 [label="1: f32[batch, 10]"]
      node6 -> node7 [label="2: f32[batch, 10]"]
      node7 -> node8 [label="f32[batch, 10]"]
      node9 -> node10 [label="1: f32[64, 10]"]
      param0 -> node2 [label="0: f32[batch, 64]"]
      param1 -> node3 [label="1: f32[64, 10]"]
      param3 -> node7 [label="0: bool[batch, 10]"]
      param2 -> node9 [label="f32[]"]
      param1 -> node10 [label="0: f32[64, 10]"]
      output0 [shape=ellipse, label="score\nf32[batch]"]
      node8 -> output0
      output1 [shape=ellipse, label="class\ni64[batch]"]
      node8 -> output1
      node10 -> param1 [style=dashed, constraint=false]
    }
    "#);
}

#[test]
fn compacting_leaves_out_what_nothing_needs() {
    let mut b = Builder::new("f");
    let x = b.param("x", ParamKind::Input, ty(DType::F32, &["n"]));
    b.param("unused", ParamKind::Input, ty(DType::F32, &["n"]));
    b.scope = b.scope_of_path("dead");
    b.tag = 7;
    b.neg(x).expect("neg");
    b.scope = b.scope_of_path("live/inner");
    b.tag = 9;
    let y = b.unary(UnaryOp::Exp, x).expect("exp");
    b.output("y", y);
    let g = b.finish();
    insta::assert_snapshot!(g.compact(), @r#"
    graph @f(%x: f32[n], %unused: f32[n]) -> (f32[n]) {
      live/inner {
        %0 = exp %x : f32[n] tag 1
      }
      return %0 "y"
    }
    "#);
    verify(&g.compact()).expect("verifies");
    assert_eq!(g.compact().compact(), g.compact());
    assert_eq!(sample().compact(), sample());
}

#[test]
fn fingerprints_follow_structure_and_nothing_else() {
    let print = |text: &str| Graph::parse(text).expect("parses").fingerprint();
    let text = sample().to_string();
    assert_eq!(print(&text), sample().fingerprint());
    // Locations and the graphs' names do not count.
    let hidden = sample().display(PrintOptions { locations: Locations::Hidden, blobs: true }).to_string();
    assert_eq!(print(&hidden), print(&text));
    assert_eq!(print(&text.replace("graph @digits", "graph @other").replace("graph @relu", "graph @f")), print(&text));
    // Everything else does, inside regions too.
    for (from, to) in [
        ("tag 1", "tag 2"),
        ("batch >= 1", "batch >= 2"),
        ("\"score\"", "\"value\""),
        ("= max ", "= min "),
        ("%x, %1", "%x, %x"),
        ("mode = plain", "mode = other"),
        ("model {", "net {"),
        ("16.0", "-16.0"),
        ("update %hidden_weight = %11", "update %hidden_weight = %hidden_weight"),
    ] {
        let changed = text.replace(from, to);
        if changed == text {
            panic!("`{from}` is not in\n{text}");
        }
        assert_ne!(print(&changed), print(&text), "{from} -> {to}");
    }
    // The same in every process.
    assert_eq!(print("graph @f(%x: f32[]) -> (f32[]) {\n  return %x \"x\"\n}"), 9_423_831_139_685_180_296);
}
