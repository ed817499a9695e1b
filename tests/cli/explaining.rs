//! `lehr explain`.

use super::{Folder, GRAPH, check};

#[test]
fn text_has_all_sections() {
    let folder = Folder::new("explain-text");
    let file = folder.write("step.lehr", GRAPH);
    let (out, _) = check(&folder.lehr(&["explain", &file, "--backend", "interp"]), 0);
    assert!(out.starts_with("explain @step on interp\n") && out.contains("== passes"), "{out}");
    assert!(!out.contains("== plan"), "{out}");
    let (out, _) = check(&folder.lehr(&["explain", &file, "--backend", "cpu", "--at", "batch=10"]), 0);
    for part in ["== passes", "== fusion groups", "== plan", "== memory", "== one call", "4*batch = 40"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn code_on_request() {
    let folder = Folder::new("explain-code");
    let text = "graph @a(%x: f32[n]) -> (f32[n]) {\n  %0 = tanh %x : f32[n]\n  return %0\n}\n";
    let file = folder.write("a.lehr", text);
    let (plain, _) = check(&folder.lehr(&["explain", &file]), 0);
    let (clif, _) = check(&folder.lehr(&["explain", &file, "--clif", "--vectors", "portable"]), 0);
    let (asm, _) = check(&folder.lehr(&["explain", &file, "--asm"]), 0);
    assert!(!plain.contains("block0") && clif.contains("block0") && asm.contains("ret"), "{plain}{clif}{asm}");
}

#[test]
fn the_graph_after_a_pass() {
    let folder = Folder::new("explain-after");
    let text = "graph @a(%x: f32[n]) -> (f32[n]) {\n  %0 = tanh %x : f32[n]\n  %1 = neg %x : f32[n]\n  return %0\n}\n";
    let file = folder.write("a.lehr", text);
    let (out, _) = check(&folder.lehr(&["explain", &file, "--after", "eliminate_dead"]), 0);
    assert_eq!(out, text.replace("  %1 = neg %x : f32[n]\n", ""));
    let (_, err) = check(&folder.lehr(&["explain", &file, "--after", "simplfy"]), 2);
    assert!(err.contains("there is no pass `simplfy`") && err.contains("simplify"), "{err}");
}

#[test]
fn other_formats_are_of_the_graph() {
    let folder = Folder::new("explain-formats");
    let file = folder.write("step.lehr", GRAPH);
    let (dot, _) = check(&folder.lehr(&["explain", &file, "--format", "dot"]), 0);
    assert!(dot.starts_with("digraph"), "{dot}");
    let (json, _) = check(&folder.lehr(&["explain", &file, "--format", "json"]), 0);
    assert!(json.starts_with("{\n") && json.contains("\"step\""), "{json}");
}

#[test]
fn one_of_several_graphs() {
    let folder = Folder::new("explain-several");
    let file = folder.write("two.lehr", format!("{GRAPH}{}", GRAPH.replace("@step", "@other")));
    let (_, err) = check(&folder.lehr(&["explain", &file]), 1);
    assert!(err.contains("the file has 2 graphs") && err.contains("`step`, `other`"), "{err}");
    let (out, _) = check(&folder.lehr(&["explain", &file, "--graph", "other"]), 0);
    assert!(out.starts_with("explain @other"), "{out}");
    check(&folder.lehr(&["explain", &file, "--graph", "none"]), 1);
}

#[test]
fn wrong_usage() {
    let folder = Folder::new("explain-usage");
    let file = folder.write("step.lehr", GRAPH);
    for args in [
        vec![],
        vec!["explain"],
        vec!["explain", &file, "--format", "html"],
        vec!["explain", &file, "--backend", "tpu"],
        vec!["explain", &file, "--at", "batch"],
        vec!["run", &file],
        vec!["run", &file, "--inputs", "a", "--outputs", "b", "--threads", "0"],
        vec!["frobnicate"],
    ] {
        check(&folder.lehr(&args), 2);
    }
    let (_, err) = check(&folder.lehr(&["explain", &file, "--at", "bach=3"]), 1);
    assert!(err.contains("did you mean `batch`?"), "{err}");
}
