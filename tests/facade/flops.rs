//! What a gradient costs, by the count that `explain` gives.

use lehr::prelude::*;

const BATCH: usize = 48;
const SIZES: [usize; 5] = [64, 128, 96, 160, 10];

/// A network with three hidden layers, and its loss.
fn network() -> (Vec<Dense>, Tensor) {
    let mut keys = Keys::new(0);
    let model: Vec<Dense> = SIZES.windows(2).map(|w| Dense::new(w[0], w[1], &mut keys)).collect();
    let mut h = Tensor::input("x", F32, (BATCH, SIZES[0]));
    for (i, layer) in model.iter().enumerate() {
        h = layer.forward(&h, &mut Context::eval());
        if i + 1 < model.len() {
            h = h.relu();
        }
    }
    (model, h.square().mean())
}

fn flops(f: &Function) -> i64 {
    let f = f.compile(Options::default()).unwrap();
    f.explain().total.unwrap().flops.as_const().unwrap()
}

#[test]
fn the_count_of_a_forward_pass_is_the_one_made_by_hand() {
    let (_, loss) = network();
    let (mut products, mut units) = (0, 0);
    for w in SIZES.windows(2) {
        products += 2 * BATCH * w[0] * w[1];
        units += BATCH * w[1];
    }
    let (hidden, outputs) = (units - BATCH * SIZES[4], BATCH * SIZES[4]);
    // A bias for each unit, a relu for each hidden one; for each output a square and an addition; one division by the count.
    // The sum is taken in two steps, and the second one adds a partial sum for each example.
    let want = products + units + hidden + 2 * outputs + BATCH + 1;
    assert_eq!(flops(&Function::new("forward").output("loss", &loss)), want as i64);
}

#[test]
fn reverse_mode_costs_at_most_three_times_the_forward_pass() {
    let (model, loss) = network();
    let forward = flops(&Function::new("forward").output("loss", &loss));
    let grads = lehr::tree::leaves(&grad(&loss, &model));
    let mut f = Function::new("gradient").output("loss", &loss);
    for (i, g) in grads.iter().enumerate() {
        f = f.output(&format!("g{i}"), g);
    }
    let all = flops(&f);
    let ratio = all as f64 / forward as f64;
    eprintln!("forward {forward} flops, with gradients {all}: {ratio:.3} times");
    // The backward pass has two products for each of the forward pass but the first, which has one.
    let products: usize = SIZES.windows(2).map(|w| 2 * BATCH * w[0] * w[1]).sum();
    let want = 3 * products - 2 * BATCH * SIZES[0] * SIZES[1];
    assert!(all >= want as i64, "{all} is less than the {want} of the products alone");
    assert!(ratio <= 3.0, "{ratio}");
}

#[test]
fn forward_mode_costs_at_most_three_times_the_forward_pass() {
    let (model, loss) = network();
    let forward = flops(&Function::new("forward").output("loss", &loss));
    let slope = jvp(&loss, &model, &model);
    let all = flops(&Function::new("tangent").output("loss", &loss).output("slope", &slope));
    assert!(all as f64 <= 3.0 * forward as f64, "{all} of {forward}");
}

#[test]
fn attention_counts_its_products() {
    let [q, k, v] = [16, 16, 8].map(|d| Tensor::zeros(F32, (2, 3, 64, d)));
    let count =
        |options: &nn::AttentionOptions| flops(&Function::new("f").output("y", &nn::attention(&q, &k, &v, options)));
    let all = 2 * (2 * 3 * 64 * 64) * (16 + 8);
    assert_eq!(count(&nn::AttentionOptions::new()), all);
    assert_eq!(count(&nn::AttentionOptions::new().causal()), all / 2);
}
