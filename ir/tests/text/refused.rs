//! Text that is no graph: what is said about it, and that it costs little.

use std::time::Instant;

use lehr_ir::graph::Graph;
use lehr_ir::graph::parse::ParseErrorKind;

#[test]
fn mistakes_are_shown_where_they_are() {
    let check = |body: &str, want: &str| {
        let text = format!("graph @f(%x: f32[n, 4], %c: bool[n]) var(%w: f32[4]) -> (f32[n, 4]) {{\n{body}\n}}\n");
        let shown = Graph::parse(&text).expect_err(want).to_string();
        assert!(shown.starts_with(want), "got\n{shown}\nwant\n{want}");
    };
    check("  %0 - neg %x : f32[n, 4]", "line 2, column 6: expected `=`\n  2 |   %0 - neg %x : f32[n, 4]\n    |      ^");
    check("  %0 = neg %y : f32[n, 4]", "line 2, column 12: `%y` is not defined above");
    check("  %x = neg %x : f32[n, 4]", "line 2, column 3: `%x` is defined twice");
    check("  %0 = nag %x : f32[n, 4]", "line 2, column 8: there is no operation `nag`");
    check("  %0 = neg %x {a = 1} : f32[n, 4]", "line 2, column 8: attribute `a` is not one of this operation's");
    check("  %0 = neg %x : f32[n, 5]", "line 2, column 17: the text says f32[n, 5], but the operation gives f32[n, 4]");
    check("  %0 = neg %c : bool[n]", "line 2, column 8: neg: operand 0 is bool[n]; it takes integers and real floats");
    check("  %0 = neg %x, %x : f32[n, 4]", "line 2, column 8: neg: ");
    check("  %0 = neg %x : f32[n, 4 +]", "line 2, column 27: ");
    check("  %0 = neg %x : f33[n, 4]", "line 2, column 17: `f33` is not a dtype");
    check("  %0 = const 1e : f32[]", "line 2, column 14: `1e` is no literal of f32");
    check("  %0 = const [1.0, 2.0] : f32[3]", "line 2, column 23: expected elements in nested brackets");
    check("  return %x \"y\", %x \"y\"", "line 2, column 18: output \"y\" is defined twice");
    check("  return %c \"y\"", "line 1, column 57: the text says f32[n, 4], but the operation gives bool[n]");
    check("  return %x \"y\"\n  update %c = %c", "line 1, column 1: graph @f: parameter 1 is no variable");
    check("  return %x \"y\"\n  update %w = %x", "line 1, column 1: graph @f: variable \"w\" is f32[4]");
    check("  return %x \"y", "line 2, column 13: expected a closing quote on the same line");
    check("  a { %0 = neg %x : f32[n, 4]\n  return %x", "line 3, column 10: expected `{`");
    check(
        "  %0 = iota {dtype = i32, shape = (m), axis = 0} : i32[m]\n  return %x",
        "line 1, column 1: graph @f: symbol `m`",
    );
    let empty = Graph::parse(" ; nothing\n").expect_err("no graph");
    assert_eq!((empty.line, empty.column), (2, 1));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let mut text = String::new();
        for _ in 0..depth {
            text += "graph @f() -> () {\n _ = call {name = \"f\", body = ";
        }
        text += "graph @f() -> () {\n}";
        text += &"} : ()\n}".repeat(depth);
        text
    };
    let deepest = Graph::parse(&nested(32)).expect("parses");
    assert_eq!(Graph::parse(&deepest.to_string()).expect("parses"), deepest);
    for depth in [33, 5_000] {
        let e = Graph::parse(&nested(depth)).expect_err("too deep");
        assert_eq!(*e.kind, ParseErrorKind::TooDeep("regions"));
    }
    for (open, kind) in
        [("a {", "blocks"), ("%0 = neg {a = ", ""), ("a/", ""), ("%0 = const [", ""), ("%0 = const f32[(", "")]
    {
        let e = Graph::parse(&format!("graph @f() -> () {{ {}", open.repeat(20_000))).expect_err("too deep or broken");
        if !kind.is_empty() {
            assert_eq!(*e.kind, ParseErrorKind::TooDeep(kind));
        }
    }
    let maps = format!("graph @f() -> () {{ %0 = neg {}", "{a = ".repeat(20_000));
    assert_eq!(Graph::parse(&maps).expect_err("too deep").kind.as_ref(), &ParseErrorKind::TooDeep("attributes"));
}

#[test]
fn hostile_text_is_refused() {
    let facts: Vec<String> =
        (0..300).map(|i| format!("floordiv(a{i}*b{}, 3) >= c{}*a{}", i / 2, i / 3, i % 7)).collect();
    let dims = "(a+b+c+d+e+f+g+h)^5, ".repeat(40);
    for text in [
        format!("graph @f() assume({}) -> () {{}}", facts.join(", ")),
        format!("graph @f(%x: f32[{dims}1]) -> () {{ {} }}", "%0 = neg %x : f32[n]\n".repeat(1000)),
        format!("graph @f() -> () {{ {}", "a/".repeat(100_000)),
        format!("graph @f() -> () {{ %0 = const {}", "[".repeat(1_000_000)),
        format!("graph @f() -> () {{ %0 = const [] : f32[{}", "9, ".repeat(100_000)),
        format!("graph @f() -> () {{ %0 = const [1.0] : f32[{}9999999] }}", "1000000, ".repeat(3)),
        format!("graph @f() -> () {{ %0 = iota {{shape = ({}1)}}", "1, ".repeat(100_000)),
        format!("graph @f({}) -> () {{}}", "%x: f32[], ".repeat(10_000)),
        format!("graph @f(%x: f32[]) -> () {{ {}", "; a comment\n".repeat(100_000)),
        "graph @f(".repeat(100_000),
    ] {
        // The time is reported, not asserted; work that grew faster than the text would not come to an end.
        let start = Instant::now();
        Graph::parse(&text).expect_err("is no graph");
        eprintln!("{:?}: {}", start.elapsed(), text[..40].trim_end());
    }
}

#[test]
fn json_that_names_what_does_not_exist_is_refused() {
    let body = |output: u32, update: &str| {
        format!(
            r#"{{"name": "g", "params": [{{"name": "p", "kind": "input", "type": {{"dtype": "f32", "shape": []}}}}],
                "nodes": [], "outputs": [{{"name": "y", "value": {output}}}], "updates": [{update}]}}"#
        )
    };
    let caller = |body: &str| {
        format!(
            r#"{{"name": "f", "params": [{{"name": "x", "kind": "input", "type": {{"dtype": "f32", "shape": []}}}}],
                "nodes": [{{"op": "call", "operands": [0], "types": [{{"dtype": "f32", "shape": []}}],
                           "attrs": {{"name": {{"str": "g"}}, "body": {{"region": {body}}}}}}}],
                "outputs": [{{"name": "y", "value": 1}}]}}"#
        )
    };
    let read = |json: &str| serde_json::from_str::<Graph>(json);
    read(&caller(&body(0, ""))).expect("is a graph");
    for (bad, want) in [
        (body(9, ""), "output `y`: value 9 is not defined above"),
        (body(0, r#"{"param": 7, "value": 0}"#), "an update names parameter 7"),
        (body(0, r#"{"param": 0, "value": 7}"#), "the update of parameter 0: value 7 is not defined above"),
    ] {
        for json in [bad.clone(), caller(&bad)] {
            let message = read(&json).expect_err(want).to_string();
            assert!(message.contains(want), "got {message}\nwant {want}");
        }
    }
}
