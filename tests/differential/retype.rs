//! A graph over another dtype: the same operations on it wherever they take it.

use std::sync::Arc;

use lehr::ir::graph::{Builder, Graph, Region, Value};
use lehr::ir::ops::convert::convert;
use lehr::ir::ops::{Constant, Convert, Iota, Op};
use lehr::ir::{Array, DType, Literal, Type};

/// The graph with one dtype in place of another; `None` where an operation does not take it.
pub(crate) fn graph(graph: &Graph, from: DType, to: DType) -> Option<Graph> {
    let other = |d: DType| if d == from { to } else { d };
    let mut b = Builder::new(graph.name.clone());
    b.set_facts(graph.facts.clone());
    let mut map: Vec<Value> = Vec::new();
    for (i, p) in graph.params().iter().enumerate() {
        let ty = graph.ty(graph.param_value(i));
        map.push(b.param(p.name.clone(), p.kind, Type { dtype: other(ty.dtype), shape: ty.shape.clone() }));
    }
    for (_, node) in graph.nodes() {
        let op = match &node.op {
            Op::Constant(c) if c.value.dtype() == from => Constant { value: array(&c.value, to) }.into(),
            Op::Iota(i) => Iota { dtype: other(i.dtype), ..i.clone() }.into(),
            Op::Convert(c) => Convert { dtype: other(c.dtype) }.into(),
            // What another crate computes with is its own affair.
            Op::Extern(_) if from != to => return None,
            op => regions(op, from, to)?,
        };
        let operands: Vec<Value> = node.operands.iter().map(|v| map[v.index()]).collect();
        let id = b.add_node(op, &operands).ok()?;
        map.extend(b.graph().node(id).results());
    }
    for o in graph.outputs() {
        b.output(o.name.clone(), map[o.value.index()]);
    }
    Some(b.finish())
}

/// Numbers in a dtype, converted as the operation does.
pub(crate) fn array(x: &Array, to: DType) -> Array {
    let mut y = Array::zeros(to, x.shape());
    let data = y.make_mut();
    for i in 0..x.len() {
        data.set(i, convert(x.data().get(i).unwrap_or(Literal::zero(x.dtype())), to));
    }
    y
}

fn regions(op: &Op, from: DType, to: DType) -> Option<Op> {
    let mut refused = false;
    let op = op.map_regions(|region: &Region| match graph(region, from, to) {
        Some(new) => Arc::new(new),
        None => {
            refused = true;
            Arc::clone(region)
        }
    });
    (!refused).then_some(op)
}
