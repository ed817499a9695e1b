//! Random graphs in every form, and random edits of their text.

use std::collections::BTreeSet;

use lehr_ir::attrs::{Attr, Attrs};
use lehr_ir::facts::Fact;
use lehr_ir::graph::verify::verify;
use lehr_ir::graph::visit::NodeView;
use lehr_ir::graph::{Builder, Graph, ParamKind, Value};
use lehr_ir::ops::{
    ArgReduce, BinaryOp, Call, CompareOp, Concat, Convolution, DotDims, OpKind, ReduceOp, ReduceWindow, Reverse, Slice,
    UnaryOp, Window,
};
use lehr_ir::{Array, DType, Dim, Facts, Literal, Loc, Type};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{dim, ty};

/// One step of a random graph: what to do, and with what. A step that the shape rules refuse does nothing.
type Step = (u8, u16, u16, u32);

/// A graph from random steps, well-typed by construction.
fn random_graph(steps: &[Step]) -> Graph {
    let mut b = Builder::new("random graph");
    let mut facts = Facts::default();
    facts.assume(Fact::ge(dim("n"), 2)).expect("no contradiction");
    facts.assume(Fact::divides(4, dim("m"))).expect("no contradiction");
    b.set_facts(facts);
    let mut values = vec![
        b.param("x", ParamKind::Input, ty(DType::F32, &["n", "4"])),
        b.param("layer 0/w", ParamKind::Variable, ty(DType::F32, &["4", "m"])),
        b.param("0", ParamKind::Data, ty(DType::I64, &["n"])),
        b.param("_0", ParamKind::Input, ty(DType::F64, &["2*m + 1", "3"])),
        b.param("é\n\"quoted\"", ParamKind::Input, Type::scalar(DType::Bool)),
        b.param("é\n\"quoted?\"", ParamKind::Input, ty(DType::F32, &["n", "4"])),
    ];
    for &step in steps {
        apply(&mut b, &mut values, step, 2);
    }
    let last = values[values.len() - 1];
    b.output("last", last);
    for (i, &(_, a, _, _)) in steps.iter().take(3).enumerate() {
        b.output(format!("out {i}"), values[usize::from(a) % values.len()]);
    }
    let same = values.iter().rev().find(|&&v| b.ty(v) == b.ty(values[1])).copied();
    b.update(1, same.unwrap_or(values[1]));
    b.finish()
}

fn apply(b: &mut Builder, values: &mut Vec<Value>, (what, i, j, k): Step, depth: usize) {
    let x = values[usize::from(i) % values.len()];
    let y = values[usize::from(j) % values.len()];
    let shape = b.ty(x).shape.clone();
    let k = k as usize;
    let dims = ["n", "3", "m", "2*m + 1", "floordiv(n, 3)", "0", "n*m"].map(dim);
    let axis = k % shape.len().max(1);
    let dtype = DType::ALL[k % DType::ALL.len()];
    let windows = |n: usize| {
        let padding = (dims[k / 5 % dims.len()].clone(), Dim::from(k % 4) - 2);
        let w = Window { stride: 1 + k % 3, padding, base_dilation: 1 + k / 2 % 2, window_dilation: 1 + k / 3 % 2 };
        (0..n).map(|d| if (k >> d).is_multiple_of(2) { w.clone() } else { Window::default() }).collect()
    };
    let made = match what % 22 {
        0 => b.unary(UnaryOp::ALL[k % UnaryOp::ALL.len()], x),
        1 => b.binary(BinaryOp::ALL[k % BinaryOp::ALL.len()], x, y),
        2 => b.binary(BinaryOp::ALL[k % BinaryOp::ALL.len()], x, x),
        3 => b.compare(CompareOp::ALL[k % CompareOp::ALL.len()], x, x),
        4 => {
            let Ok(c) = b.compare(CompareOp::Lt, x, x) else { return };
            b.select(c, x, x)
        }
        5 => b.convert(x, dtype),
        6 => {
            let new: Vec<Dim> = std::iter::once(dims[k % dims.len()].clone()).chain(shape.iter().cloned()).collect();
            let axes: Vec<usize> = (1..=shape.len()).collect();
            if new.len() > 6 { return } else { b.broadcast(x, &new, &axes) }
        }
        7 => b.reshape(x, &[lehr_ir::ty::count(&shape)]),
        8 => b.transpose(x, &(0..shape.len()).rev().collect::<Vec<_>>()),
        9 => b.reduce(ReduceOp::ALL[k % ReduceOp::ALL.len()], x, &[axis]),
        10 => {
            let (x_rank, y_rank) = (shape.len(), b.ty(y).rank());
            let dims = DotDims {
                lhs_contract: [k % x_rank.max(1)].as_slice().into(),
                rhs_contract: [k / 7 % y_rank.max(1)].as_slice().into(),
                ..DotDims::default()
            };
            b.dot(x, y, dims)
        }
        11 => {
            let word = (k as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let special = [word, 0, u64::MAX, 0x8000_0000_8000_8000, 0x7fc0_0001_7fc0_7e01, 0x7ff8_0000_0000_0001];
            let bits = [special[usize::from(i) % special.len()], special[usize::from(j) % special.len()]];
            Ok(b.scalar(Literal::from_bits(dtype, bits)))
        }
        12 => {
            let sizes = [[0, 5], [2, 3], [1, 64], [13, 5]][k % 4];
            let mut data = lehr_ir::Data::zeros(dtype, sizes[0] * sizes[1]);
            for e in 0..data.len() {
                let word = (e as u64 + u64::from(i)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                data.set(e, Literal::from_bits(dtype, [word, word.rotate_left(13)]));
            }
            Ok(b.constant(Array::from_data(&sizes, data).expect("the sizes fit")))
        }
        13 => b.iota(dtype, &[dims[k % dims.len()].clone(), dims[usize::from(j) % dims.len()].clone()], k / 11 % 2),
        14 => b.op(Concat { axis }.into(), &[x, x, y]),
        15 => b.op(Reverse { axes: [axis].as_slice().into() }.into(), &[x]),
        16 => {
            let (start, limit) = (shape.iter().map(|_| Dim::from(0)).collect(), shape.clone());
            b.op(Slice { start, limit, stride: shape.iter().map(|_| 1 + k % 3).collect() }.into(), &[x])
        }
        17 => {
            let Ok(id) = b.add_node(ArgReduce::new(k.is_multiple_of(2), axis).into(), &[x]) else { return };
            values.extend(b.graph().node(id).results());
            return;
        }
        19 => {
            let op = ReduceOp::ALL[k % ReduceOp::ALL.len()];
            let sizes = (0..shape.len()).map(|d| (k >> d) % 5).collect();
            b.op(ReduceWindow { op, sizes, windows: windows(shape.len()) }.into(), &[x])
        }
        20 => {
            let [rest @ .., _, channels] = shape.as_slice() else { return };
            let batch = usize::from(j) % (rest.len() + 1);
            let spatial = rest.len() - batch;
            let mut kernel: Vec<Dim> = shape[..batch].to_vec();
            kernel.extend((0..spatial).map(|d| Dim::from((k >> d) % 4)));
            kernel.extend([channels.clone(), dims[k % dims.len()].clone()]);
            let Ok(y) = b.full(Literal::one(b.ty(x).dtype), &kernel) else { return };
            b.op(Convolution { batch, windows: windows(spatial) }.into(), &[x, y])
        }
        18 => {
            if depth == 0 {
                return;
            }
            let mut body = Builder::new(["inner", "a b", ""][k % 3]);
            let mut inner: Vec<Value> = [x, y]
                .iter()
                .zip(["p", "p q"])
                .map(|(&v, name)| body.param(name, ParamKind::Input, b.ty(v).clone()))
                .collect();
            for n in 0..k % 5 {
                let seed = (k as u32).wrapping_mul(0x9e37_79b9).rotate_left(n as u32 * 7);
                apply(
                    &mut body,
                    &mut inner,
                    (seed as u8, (seed >> 8) as u16, (seed >> 16) as u16, seed / 3),
                    depth - 1,
                );
            }
            let results: Vec<Value> = inner.iter().rev().take(k % 3).copied().collect();
            results.iter().enumerate().for_each(|(n, &v)| body.output(n.to_string(), v));
            let mut call = Call::new(["f", "soft\"max"][k % 2], body.into_region());
            if k.is_multiple_of(4) {
                call.attrs = Attrs::new()
                    .with("axis", Attr::Int(-(axis as i64)))
                    .with("an other", Attr::Str("; \"x\"\\".to_owned()))
                    .with(
                        "nested",
                        Attr::Map(
                            Attrs::new().with_dims("dims", &shape).with("eps", Attr::Float(Literal::zero(dtype))),
                        ),
                    )
                    .with("values", Attr::Array(Array::zeros(dtype, &[2, k % 40])))
                    .with("axes", Attr::Ints(vec![1, -2]));
            }
            let Ok(id) = b.add_node(call.into(), &[x, y]) else { return };
            values.extend(b.graph().node(id).results());
            return;
        }
        _ => {
            let paths = ["", "a", "a/b", "a/b/c", "d", "update", "x y/z"];
            b.scope = b.scope_of_path(paths[k % paths.len()]);
            b.tag = if k.is_multiple_of(3) { k as u32 } else { 0 };
            b.loc = if k.is_multiple_of(2) {
                Loc::new("some dir/file.rs", u32::from(i), u32::from(j))
            } else {
                Loc::UNKNOWN
            };
            return;
        }
    };
    values.extend(made);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 0..40)
}

#[test]
fn random_graphs_hold_all_that_they_try() {
    let mut runner = TestRunner::deterministic();
    let mut kinds = BTreeSet::new();
    for _ in 0..300 {
        let steps = steps().new_tree(&mut runner).expect("a value").current();
        kinds.extend(random_graph(&steps).nodes().map(|(_, n)| n.op.kind()));
    }
    let untried = [
        OpKind::Pad,
        OpKind::Attention,
        OpKind::AttentionTangent,
        OpKind::AttentionGrad,
        OpKind::Gather,
        OpKind::Scatter,
        OpKind::RandomBits,
        OpKind::Case,
        OpKind::While,
        OpKind::Scan,
        OpKind::Extern,
    ];
    let missing: Vec<&OpKind> = OpKind::ALL.iter().filter(|k| !kinds.contains(k) && !untried.contains(k)).collect();
    assert_eq!(missing, Vec::<&OpKind>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_graph_reads_back(steps in steps()) {
        let g = random_graph(&steps);
        if let Err(e) = verify(&g) {
            panic!("{e}");
        }
        let text = g.to_string();
        let parsed = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        prop_assert_eq!(&parsed, &g, "{}", text);
        prop_assert_eq!(parsed.to_string(), text.as_str());
        let json = serde_json::to_string(&g).expect("serialises");
        let read: Graph = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}\n{text}"));
        prop_assert_eq!(&read, &g);
        prop_assert_eq!(read.fingerprint(), g.fingerprint());
        let compact = g.compact();
        prop_assert!(verify(&compact).is_ok());
        prop_assert_eq!(compact.compact(), compact.clone());
        prop_assert_eq!(Graph::parse(&compact.to_string()).expect("parses"), compact);
        prop_assert_eq!(petgraph::algo::toposort(&NodeView::new(&g), None).map(|o| o.len()), Ok(g.node_count()));
        prop_assert_eq!(g.to_dot().matches('{').count(), g.to_dot().matches('}').count());
    }

    #[test]
    fn edited_text_never_panics(steps in steps(), edits in prop::collection::vec((any::<u32>(), any::<u32>(), 0..5_u8, any::<u8>()), 1..8)) {
        let mut bytes = random_graph(&steps).to_string().into_bytes();
        for (at, from, how, byte) in edits {
            let at = at as usize % (bytes.len() + 1);
            let from = from as usize % (bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                2 => drop(bytes.drain(at..(at + usize::from(byte % 16)).min(bytes.len()))),
                // A piece of the text somewhere else keeps its words whole.
                3 => {
                    let piece = bytes[from..(from + usize::from(byte)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.insert(at, b"%{}[](),:;=\"\\/-0123456789"[usize::from(byte) % 25]),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match Graph::parse(&text) {
            // What is accepted is sound.
            Ok(g) => {
                if let Err(e) = verify(&g) {
                    panic!("{e}");
                }
                prop_assert_eq!(Graph::parse(&g.to_string()).expect("parses"), g);
            }
            Err(e) => prop_assert!(!e.to_string().is_empty()),
        }
    }

    #[test]
    fn edited_json_never_panics(steps in steps(), at in any::<u32>(), byte in b' '..b'~') {
        let mut json = serde_json::to_vec(&random_graph(&steps)).expect("serialises");
        // Half of the edits fall on digits, which name values, parameters and sizes.
        let digits: Vec<usize> = (0..json.len()).filter(|&i| json[i].is_ascii_digit()).collect();
        if byte.is_ascii_digit() || digits.is_empty() || at.is_multiple_of(2) {
            let at = at as usize % json.len();
            json[at] = byte;
        } else {
            json[digits[at as usize % digits.len()]] = b'0' + byte % 10;
        }
        if let Ok(g) = serde_json::from_slice::<Graph>(&json) {
            prop_assert!(verify(&g).is_ok());
        }
    }

    #[test]
    fn any_bytes_never_panic(text in "\\PC*") {
        prop_assert!(Graph::parse(&text).is_err());
        let inside = format!("graph @f() -> () {{ {text}");
        // A brace alone ends an empty graph.
        if let Ok(g) = Graph::parse(&inside) {
            prop_assert!(verify(&g).is_ok());
        }
    }
}
