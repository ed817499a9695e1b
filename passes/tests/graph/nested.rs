//! Every operation inside a loop and inside a branch: the same values, derivatives and batches as outside.

use lehr_ir::array::Array;
use lehr_ir::graph::{Builder, Graph, ParamKind};
use lehr_ir::ops::{self, Scan};
use lehr_ir::{DType, Dim, Type};
use lehr_passes::batch::vmap;

use crate::derivatives::check_modes;
use crate::support::{assert_close, random, run, type_of};
use crate::table::{Case, all_cases};

/// The case's graph as the body of a scan over two sets of its operands, those that vary with another value the second time.
fn in_scan(case: &Case) -> (Graph, Vec<Array>) {
    let rows: Vec<[Array; 2]> = case
        .args
        .iter()
        .enumerate()
        .map(|(i, a)| {
            let second = case.wrt.contains(&i).then(|| crate::support::plus(a, &random(a.shape(), 0., 0.01, 77), 1.0));
            [a.clone(), second.unwrap_or_else(|| a.clone())]
        })
        .collect();
    let mut b = Builder::new("looped");
    let mut operands = Vec::new();
    let mut args = Vec::new();
    for (i, [first, second]) in rows.iter().enumerate() {
        let mut shape = vec![2];
        shape.extend(first.shape());
        operands.push(b.param(format!("x{i}"), ParamKind::Input, Type::new(first.dtype(), shape.iter().copied())));
        let mut both = Array::zeros(first.dtype(), &shape);
        both.make_mut().copy_into(0, first.data()).unwrap();
        both.make_mut().copy_into(first.len(), second.data()).unwrap();
        args.push(both);
    }
    let op = Scan { body: case.graph.clone().into(), consts: 0, carries: 0, length: Dim::from(2), reverse: true };
    let id = b.add_node(op.into(), &operands).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let results: Vec<_> = b.graph().node(id).results().collect();
    for (i, v) in results.into_iter().enumerate() {
        b.output(format!("y{i}"), v);
    }
    (b.finish(), args)
}

/// The case's graph as one of two branches, with the index that chooses it.
fn in_branch(case: &Case) -> (Graph, Vec<Array>) {
    let mut other = Builder::new("other");
    for (i, a) in case.args.iter().enumerate() {
        other.param(format!("x{i}"), ParamKind::Input, type_of(a));
    }
    let zeros: Vec<_> = case.graph.output_types().map(|ty| other.zeros(ty).unwrap()).collect();
    for (o, v) in case.graph.outputs().iter().zip(zeros) {
        other.output(o.name.clone(), v);
    }
    let mut b = Builder::new("branched");
    let mut operands = vec![b.param("index", ParamKind::Input, Type::new(DType::I32, Vec::<Dim>::new()))];
    for (i, a) in case.args.iter().enumerate() {
        operands.push(b.param(format!("x{i}"), ParamKind::Input, type_of(a)));
    }
    let branches = [other.into_region(), case.graph.clone().into()].into_iter().collect();
    let id = b.add_node(ops::Case { branches }.into(), &operands).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let results: Vec<_> = b.graph().node(id).results().collect();
    for (i, v) in results.into_iter().enumerate() {
        b.output(format!("y{i}"), v);
    }
    let args = std::iter::once(Array::from(1i32)).chain(case.args.iter().cloned()).collect();
    (b.finish(), args)
}

#[test]
fn every_operation_is_differentiated_under_scan() {
    for case in all_cases() {
        let (graph, args) = in_scan(&case);
        let plain = run(&case.graph, &case.args);
        for (i, (y, want)) in run(&graph, &args).iter().zip(&plain).enumerate() {
            let first = Array::from_data(want.shape(), y.data().gather(0..want.len())).unwrap();
            assert_close(&format!("{} in a scan, output {i}", case.name), &first, want, 0.0);
        }
        check_modes(&format!("{} in a scan", case.name), &graph, &args, &case.wrt, case.reverse);
    }
}

#[test]
fn every_operation_is_differentiated_under_cond() {
    for case in all_cases() {
        let (graph, args) = in_branch(&case);
        let plain = run(&case.graph, &case.args);
        for (i, (y, want)) in run(&graph, &args).iter().zip(&plain).enumerate() {
            assert_close(&format!("{} in a branch, output {i}", case.name), y, want, 0.0);
        }
        let wrt: Vec<usize> = case.wrt.iter().map(|i| i + 1).collect();
        check_modes(&format!("{} in a branch", case.name), &graph, &args, &wrt, case.reverse);
        // A batch of which half takes the other branch.
        let batched = vmap(&graph, &[vec![Some(0)], vec![None; case.args.len()]].concat(), &Dim::from(2));
        let batched = batched.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let mut both = args.clone();
        both[0] = Array::from([1i32, 0]);
        for (y, want) in run(&batched, &both).iter().zip(&plain) {
            let first = Array::from_data(want.shape(), y.data().gather(0..want.len())).unwrap();
            let second = Array::from_data(want.shape(), y.data().gather(want.len()..2 * want.len())).unwrap();
            assert_close(&format!("{}: the example that takes it", case.name), &first, want, 0.0);
            assert_close(
                &format!("{}: the other example", case.name),
                &second,
                &Array::zeros(want.dtype(), want.shape()),
                0.0,
            );
        }
    }
}
