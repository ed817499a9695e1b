//! Graphs of each shape that lowering knows.

use lehr_ir::Array;

use super::{check, f32s};

fn launches(plan: &str) -> usize {
    plan.lines().filter(|l| l.trim_start().starts_with("launch ")).count()
}

#[test]
fn an_elementwise_chain_is_one_flat_kernel() {
    let text = check(
        "graph @g(%x: f32[n, 7]) -> (f32[n, 7]) {
  %0 = tanh %x : f32[n, 7]
  %1 = logistic %x : f32[n, 7]
  %2 = mul %0, %1 : f32[n, 7]
  return %2
}",
        &[f32s(&[5, 7])],
    );
    assert_eq!(launches(&text), 1, "{text}");
}

#[test]
fn softmax_is_one_kernel_with_three_phases() {
    let text = check(
        "graph @g(%x: f32[n, 9]) -> (f32[n, 9]) {
  %0 = reduce %x {op = max, axes = [1]} : f32[n]
  %1 = broadcast %0 {shape = (n, 9), axes = [0]} : f32[n, 9]
  %2 = sub %x, %1 : f32[n, 9]
  %3 = exp %2 : f32[n, 9]
  %4 = reduce %3 {op = sum, axes = [1]} : f32[n]
  %5 = broadcast %4 {shape = (n, 9), axes = [0]} : f32[n, 9]
  %6 = div %3, %5 : f32[n, 9]
  return %6
}",
        &[f32s(&[4, 9])],
    );
    assert_eq!(launches(&text), 1, "{text}");
}

#[test]
fn a_column_sum_with_its_producer_and_consumer_is_one_kernel() {
    let text = check(
        "graph @g(%x: f32[6, 130], %y: f32[6, 130]) -> (f32[6, 130], f32[130]) {
  %0 = mul %x, %y : f32[6, 130]
  %1 = reduce %0 {op = sum, axes = [0]} : f32[130]
  %2 = exp %1 : f32[130]
  return %0 \"o0\", %2 \"o1\"
}",
        &[f32s(&[6, 130]), f32s(&[6, 130])],
    );
    assert_eq!(launches(&text), 1, "{text}");
}

#[test]
fn a_sum_of_everything_is_split_for_threads() {
    let text = check(
        "graph @g(%x: f32[300, 301]) -> (f32[]) {
  %0 = mul %x, %x : f32[300, 301]
  %1 = reduce %0 {op = sum, axes = [0, 1]} : f32[]
  %2 = sqrt %1 : f32[]
  return %2
}",
        &[f32s(&[300, 301])],
    );
    assert_eq!(launches(&text), 2, "{text}");
}

#[test]
fn arg_reductions_along_rows_and_columns() {
    for axis in [0, 1] {
        check(
            &format!(
                "graph @g(%x: f32[6, 70]) -> (f32[{0}], i64[{0}]) {{
  %0, %1 = arg_reduce %x {{op = arg_max, axis = {axis}}} : f32[{0}], i64[{0}]
  return %0 \"o0\", %1 \"o1\"
}}",
                if axis == 0 { 70 } else { 6 }
            ),
            &[f32s(&[6, 70])],
        );
    }
}

#[test]
fn contractions_read_transposes_by_strides() {
    let text = check(
        "graph @g(%x: f32[b, 5], %w: f32[3, 5], %c: f32[3]) -> (f32[b, 3]) {
  %0 = transpose %w {perm = [1, 0]} : f32[5, 3]
  %1 = dot %x, %0 {lhs_batch = [], rhs_batch = [], lhs_contract = [1], rhs_contract = [0]} : f32[b, 3]
  %2 = broadcast %c {shape = (b, 3), axes = [1]} : f32[b, 3]
  %3 = add %1, %2 : f32[b, 3]
  return %3
}",
        &[f32s(&[4, 5]), f32s(&[3, 5]), f32s(&[3])],
    );
    // The bias is added inside the product.
    assert_eq!((launches(&text), text.matches(" then k0 @add(").count()), (0, 1), "{text}");
}

#[test]
fn the_gradient_of_a_kernel_goes_through_memory_in_order() {
    let plan = check(
        "graph @g(%x: f32[2, 6, 8, 16], %y: f32[2, 4, 6, 3]) -> (f32[16, 3, 3, 3]) {
  %0 = transpose %x {perm = [3, 1, 2, 0]} : f32[16, 6, 8, 2]
  %1 = transpose %y {perm = [1, 2, 0, 3]} : f32[4, 6, 2, 3]
  %2 = convolution %0, %1 {batch = 0, stride = [1, 1]} : f32[16, 3, 3, 3]
  return %2 \"o0\"
}",
        &[f32s(&[2, 6, 8, 16]), f32s(&[2, 4, 6, 3])],
    );
    assert!(plan.contains("(3x128 48x1)"), "rows are places, then places and channels side by side:\n{plan}");
    assert!(plan.contains("(2x768 4x128 6x16)"), "the sum is over examples, then places:\n{plan}");
    assert!(plan.contains("(9x3 16x27)"), "the result's rows follow:\n{plan}");
    // Rows that a kernel takes as they come stay in the result's order.
    let plan = check(
        "graph @g(%x: f32[2, 6, 8, 16], %y: f32[2, 4, 6, 3]) -> (f32[16, 3, 3, 3]) {
  %0 = transpose %x {perm = [3, 1, 2, 0]} : f32[16, 6, 8, 2]
  %1 = transpose %y {perm = [1, 2, 0, 3]} : f32[4, 6, 2, 3]
  %2 = convolution %0, %1 {batch = 0, stride = [1, 1]} : f32[16, 3, 3, 3]
  %3 = tanh %2 : f32[16, 3, 3, 3]
  return %3 \"o0\"
}",
        &[f32s(&[2, 6, 8, 16]), f32s(&[2, 4, 6, 3])],
    );
    assert!(plan.contains("(16x1 3x128 3x16)"), "rows in order:\n{plan}");
}

#[test]
fn views_pads_and_joins() {
    check(
        "graph @g(%x: f32[4, 6]) -> (f32[2, 12], f32[6, 9], f32[4, 9]) {
  %0 = reverse %x {axes = [1]} : f32[4, 6]
  %1 = reshape %0 {shape = (2, 12)} : f32[2, 12]
  %2 = exp %1 : f32[2, 12]
  %3 = const 1.5 : f32[]
  %4 = pad %x, %3 {low = (1, 2), high = (1, 1), interior = [0, 0]} : f32[6, 9]
  %5 = slice %x {start = (0, 1), limit = (4, 6), stride = [1, 2]} : f32[4, 3]
  %6 = concat %x, %5 {axis = 1} : f32[4, 9]
  return %2 \"o0\", %4 \"o1\", %6 \"o2\"
}",
        &[f32s(&[4, 6])],
    );
}

#[test]
fn folds_of_windows_are_written_out() {
    let text = check(
        "graph @g(%x: f32[n, 6, 3]) -> (f32[n, 3, 3], f32[n, 6, 3], f32[n, 7, 3]) {
  %0 = reduce_window %x {op = max, size = [1, 2, 1], stride = [1, 2, 1]} : f32[n, 3, 3]
  %1 = reduce_window %x {op = sum, size = [1, 3, 1], stride = [1, 1, 1], low = (0, 1, 0), high = (0, 1, 0)} : f32[n, 6, 3]
  %2 = reduce_window %x {op = prod, size = [1, 2, 1], stride = [1, 2, 1], low = (0, 1, 0), high = (0, 1, 0), base_dilation = [1, 2, 1]} : f32[n, 6, 3]
  %3 = reduce_window %x {op = min, size = [1, 2, 1], stride = [1, 1, 1], low = (0, 2, 0), high = (0, 1, 0), window_dilation = [1, 2, 1]} : f32[n, 7, 3]
  %4 = add %1, %2 : f32[n, 6, 3]
  return %0 \"o0\", %4 \"o1\", %3 \"o2\"
}",
        &[f32s(&[2, 6, 3])],
    );
    assert_eq!(launches(&text), 3, "{text}");
}

#[test]
fn a_row_kernel_over_two_reduced_axes_apart() {
    check(
        "graph @g(%x: f32[3, 4, 5]) -> (f32[4], f32[3, 4, 5]) {
  %0 = reduce %x {op = sum, axes = [0, 2]} : f32[4]
  %1 = broadcast %0 {shape = (3, 4, 5), axes = [1]} : f32[3, 4, 5]
  %2 = sub %x, %1 : f32[3, 4, 5]
  return %0 \"o0\", %2 \"o1\"
}",
        &[f32s(&[3, 4, 5])],
    );
}

#[test]
fn empty_and_scalar_arrays() {
    check(
        "graph @g(%x: f32[n, 3], %s: f32[]) -> (f32[3], f32[n, 3], f32[]) {
  %0 = reduce %x {op = sum, axes = [0]} : f32[3]
  %1 = exp %x : f32[n, 3]
  %2 = exp %s : f32[]
  return %0 \"o0\", %1 \"o1\", %2 \"o2\"
}",
        &[f32s(&[0, 3]), Array::scalar(0.5f32)],
    );
}

#[test]
fn outputs_that_are_parameters_views_or_repeated() {
    check(
        "graph @g(%x: f32[2, 3]) -> (f32[2, 3], f32[3, 2], f32[3, 2], f32[2, 3], f32[2, 3]) {
  %0 = transpose %x {perm = [1, 0]} : f32[3, 2]
  %1 = exp %x : f32[2, 3]
  return %x \"o0\", %0 \"o1\", %0 \"o2\", %1 \"o3\", %1 \"o4\"
}",
        &[f32s(&[2, 3])],
    );
}

#[test]
fn attention_reads_its_operands_through_views() {
    // Heads after positions, two heads of queries to one of keys, and a mask for each batch entry.
    let text = check(
        "graph @g(%q: f32[2, 5, 3, 4], %k: f32[2, 7, 4], %v: f32[2, 7, 6], %m: bool[2, 7]) -> (f32[2, 3, 5, 6], f32[2, 3, 5]) {
  %0 = transpose %q {perm = [0, 2, 1, 3]} : f32[2, 3, 5, 4]
  %1 = broadcast %k {shape = (2, 3, 7, 4), axes = [0, 2, 3]} : f32[2, 3, 7, 4]
  %2 = broadcast %v {shape = (2, 3, 7, 6), axes = [0, 2, 3]} : f32[2, 3, 7, 6]
  %3 = broadcast %m {shape = (2, 3, 5, 7), axes = [0, 3]} : bool[2, 3, 5, 7]
  %4, %5 = attention %0, %1, %2, %3 {scale = 0.5 : f64, causal = yes, bias = no, mask = yes, empty = zero} : f32[2, 3, 5, 6], f32[2, 3, 5]
  return %4 \"out\", %5 \"lse\"
}",
        &[f32s(&[2, 5, 3, 4]), f32s(&[2, 7, 4]), f32s(&[2, 7, 6]), bools(&[2, 7])],
    );
    assert_eq!(launches(&text), 0, "{text}");
    let step = "attend f32 batch=(2, 3) queries=5 keys=7 d=4 e=6 scale=0.5 causal b0[60, 4, 12, 1], b1[28, 0, 4, 1], \
                b2[42, 0, 6, 1], mask b3[7, 0, 0, 1] -> b4, b5 (empty zero)";
    assert!(text.contains(step), "{text}");
}

#[test]
fn the_gradient_of_attention_is_one_step() {
    let text = check(
        "graph @g(%q: f32[3, n, 4], %k: f32[3, 4, 7], %v: f32[3, 7, 6], %lse: f32[3, n], %ct: f32[3, n, 6]) -> (f32[3, n, 4], f32[3, 7, 4], f32[3, 7, 6]) {
  %0 = transpose %k {perm = [0, 2, 1]} : f32[3, 7, 4]
  %1 = neg %lse : f32[3, n]
  %2, %3, %4 = attention_grad %q, %0, %v, %lse, %ct, %1 {scale = 0.5 : f64, causal = no, bias = no, mask = no} : f32[3, n, 4], f32[3, 7, 4], f32[3, 7, 6]
  return %2 \"dq\", %3 \"dk\", %4 \"dv\"
}",
        &[f32s(&[3, 5, 4]), f32s(&[3, 4, 7]), f32s(&[3, 7, 6]), f32s(&[3, 5]), f32s(&[3, 5, 6])],
    );
    assert_eq!(launches(&text), 1, "{text}");
    assert!(
        text.contains("attend_grad f32 batch=(3) queries=n keys=7 d=4 e=6 scale=0.5 b0[4*n, 4, 1], b1[28, 1, 7]"),
        "{text}"
    );
}

fn bools(shape: &[usize]) -> Array {
    let n = shape.iter().product();
    Array::new(shape, (0..n).map(|i| i % 3 != 1).collect::<Vec<bool>>()).unwrap()
}
