//! The rows of attention and its derivatives.

use lehr_ir::array::Array;
use lehr_ir::ops::{Attention, AttentionGrad, AttentionTangent, Empty, Scores};

use super::Case;
use super::build::random;

/// Every combination of what scores may have, with more keys than queries, fewer, and as many.
fn variants() -> Vec<(String, Scores, [usize; 2])> {
    let mut all = Vec::new();
    for (causal, bias, mask, sizes) in [
        (false, false, false, [3, 4]),
        (true, false, false, [3, 3]),
        (true, false, false, [2, 4]),
        // The first query sees no key.
        (true, false, false, [4, 3]),
        (false, true, false, [3, 2]),
        (false, false, true, [3, 3]),
        (true, true, true, [3, 4]),
    ] {
        let scores = Scores { causal, bias, mask, ..Scores::new(0.7) };
        all.push((format!("causal_{causal}_bias_{bias}_mask_{mask}_{}x{}", sizes[0], sizes[1]), scores, sizes));
    }
    all
}

/// Operands of a batch of two, with three features and values of two.
fn operands(scores: &Scores, [queries, keys]: [usize; 2]) -> Vec<Array> {
    let mut args = vec![
        random(&[2, queries, 3], -1., 1., 21),
        random(&[2, keys, 3], -1., 1., 22),
        random(&[2, keys, 2], -1., 1., 23),
    ];
    if scores.bias {
        args.push(random(&[2, queries, keys], -1., 1., 24));
    }
    if scores.mask {
        // The second query of the second batch attends to nothing.
        let allowed = |i: usize| i / keys != queries + 1 && i % 3 != 1;
        let mask: Vec<bool> = (0..2 * queries * keys).map(allowed).collect();
        args.push(Array::new(&[2, queries, keys], mask).unwrap());
    }
    args
}

pub(crate) fn attentions() -> Vec<Case> {
    let case = |(name, scores, sizes): (String, Scores, [usize; 2])| {
        let args = operands(&scores, sizes);
        // The `lse` of an empty row is -inf, of which no difference can be taken.
        let empty = scores.mask || sizes[0] > sizes[1];
        Case::new(format!("attention_{name}"), args, |b, v| {
            let id = b.add_node(Attention { scores, empty: Empty::Zero }.into(), v).unwrap();
            b.graph().node(id).results().take(if empty { 1 } else { 2 }).collect()
        })
    };
    let mut all: Vec<Case> = variants().into_iter().map(case).collect();
    let scores = Scores::new(1.0);
    let args = operands(&scores, [2, 3]);
    all.push(Case::op("attention_empty_nan", Attention { scores, empty: Empty::Nan }, args));
    all
}

/// Something of the type of the result, and of its `lse`; any numbers do.
fn results(queries: usize) -> [Array; 2] {
    [random(&[2, queries, 2], -1., 1., 25), random(&[2, queries], 0.5, 1.5, 26)]
}

pub(crate) fn tangents() -> Vec<Case> {
    let case = |(name, scores, sizes): (String, Scores, [usize; 2]), of: &[usize]| {
        let mut args = operands(&scores, sizes);
        let given: Vec<Array> = of.iter().map(|&i| random(args[i].shape(), -1., 1., 30 + i as u64)).collect();
        args.extend(results(sizes[0]).into_iter().chain(given));
        Case::op(format!("attention_tangent_{of:?}_{name}"), AttentionTangent { scores, of: of.into() }, args)
    };
    let mut all = Vec::new();
    for variant in variants() {
        let bias = variant.1.bias;
        all.push(case(variant.clone(), if bias { &[0, 1, 2, 3] } else { &[0, 1, 2] }));
        all.push(case(variant, &[1]));
    }
    all
}

pub(crate) fn gradients() -> Vec<Case> {
    let case = |(name, scores, sizes): (String, Scores, [usize; 2])| {
        let mut args = operands(&scores, sizes);
        let [out, lse] = results(sizes[0]);
        args.extend([lse, out, random(&[2, sizes[0]], -1., 1., 27)]);
        Case::op(format!("attention_grad_{name}"), AttentionGrad { scores }, args)
    };
    variants().into_iter().map(case).collect()
}
