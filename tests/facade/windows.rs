//! Convolutions and pooling: shapes, values, and what is said of bad input.

use lehr::ir::ops::ReduceOp;
use lehr::prelude::*;
use lehr::reduce_window;

use crate::{backends, broken, check, check_type};

fn options() -> ConvOptions {
    ConvOptions::new()
}

fn pools() -> PoolOptions {
    PoolOptions::new()
}

/// Whole numbers, which every order of a sum adds exactly.
fn whole(shape: &[usize]) -> Array {
    let n: usize = shape.iter().product();
    Array::new(shape, (0..n).map(|i| (i * 7 % 11) as f32 - 5.0).collect()).unwrap()
}

#[test]
fn shapes_follow_the_options() {
    let x = Tensor::input("x", F32, ("n", 9, 8, 4));
    let k = |shape: &[usize]| Tensor::zeros(F32, shape);
    check_type(&conv(&x, &k(&[3, 3, 4, 6]), options()), "f32[n, 7, 6, 6]");
    check_type(&conv(&x, &k(&[3, 2, 4, 6]), options().padding(Padding::Same).stride(2)), "f32[n, 5, 4, 6]");
    check_type(&conv(&x, &k(&[3, 3, 4, 6]), options().padding([(1, 0), (0, 2)]).dilation([1, 2])), "f32[n, 8, 6, 6]");
    check_type(&conv(&x, &k(&[3, 3, 2, 6]), options().groups(2).padding(1)), "f32[n, 9, 8, 6]");
    let first = options().layout(Layout::ChannelsFirst);
    check_type(&conv(&x, &k(&[6, 9, 3, 3]), first.clone()), "f32[n, 6, 6, 2]");
    check_type(&conv(&Tensor::zeros(F32, (2, 3)), &k(&[3, 5]), options()), "f32[2, 5]");

    check_type(&conv_transpose(&x, &k(&[3, 3, 6, 4]), options().stride(2)), "f32[n, 19, 17, 6]");
    check_type(&conv_transpose(&x, &k(&[2, 2, 6, 4]), options().stride(3)), "f32[n, 27, 24, 6]");
    check_type(&conv_transpose(&x, &k(&[3, 5, 6, 4]), options().stride(2).padding(Padding::Same)), "f32[n, 18, 16, 6]");
    let explicit = options().stride(2).padding(1).output_padding([1, 0]);
    check_type(&conv_transpose(&x, &k(&[3, 3, 6, 4]), explicit), "f32[n, 18, 15, 6]");
    check_type(&conv_transpose(&x, &k(&[9, 3, 2, 2]), first.groups(3)), "f32[n, 9, 9, 5]");

    check_type(&max_pool(&x, 2, pools()), "f32[n, 4, 4, 4]");
    check_type(&avg_pool(&x, [3, 2], pools().stride(1).padding(Padding::Same)), "f32[n, 9, 8, 4]");
    check_type(&max_pool(&x, 3, pools().layout(Layout::ChannelsFirst)), "f32[n, 9, 2, 1]");
    check_type(&avg_pool(&Tensor::zeros(I32, (1, 4, 1)), 2, pools()), "f32[1, 2, 1]");
    check_type(&max_pool(&Tensor::zeros(Bool, (1, 4, 1)), 2, pools()), "bool[1, 2, 1]");
    check_type(&reduce_window(&Tensor::zeros(F32, (9, 8, 4)), ReduceOp::Sum, [9, 2, 1], pools()), "f32[1, 4, 4]");

    // Window dims of a named size.
    let x = Tensor::input("x", F32, ("n", "m", 4));
    let same = conv(&x, &k(&[3, 4, 2]), options().padding(Padding::Same));
    check_type(&same, "f32[n, m, 2]");
    check_type(&conv(&x.assume("m >= 3"), &k(&[3, 4, 2]), options()), "f32[n, m - 2, 2]");
    check_type(&max_pool(&x, 2, pools()), "f32[n, floordiv(m, 2), 4]");
}

#[test]
fn values_are_those_of_other_frameworks() {
    let x = Tensor::from(vec![1.0f32, 2.0, 3.0, 4.0]).reshape((1, 4, 1));
    let k = Tensor::from(vec![1.0f32, 10.0]).reshape((2, 1, 1));
    check(&conv(&x, &k, options()).flatten(), "[21,32,43]");
    check(&conv(&x, &k, options().padding(Padding::Same)).flatten(), "[21,32,43,4]");
    check(&conv_transpose(&x, &k, options().stride(2)).flatten(), "[1,10,2,20,3,30,4,40]");
    check(&conv_transpose(&x, &k, options()).flatten(), "[1,12,23,34,40]");
    check(&conv_transpose(&x, &k, options().padding([(1, 0)])).flatten(), "[12,23,34,40]");
    check(&max_pool(&x, 2, pools().stride(1)).flatten(), "[2,3,4]");
    check(&max_pool(&-&x, 3, pools().stride(2).padding(1)).flatten(), "[-1,-2]");
    check(&avg_pool(&x, 3, pools().stride(1).padding(1)).flatten(), "[1.5,2,3,3.5]");
    check(&avg_pool(&x, 3, pools().stride(1).padding(1).count_include_pad(true)).flatten(), "[1,2,3,2.3333333]");
    check(&reduce_window(&x.flatten(), ReduceOp::Prod, 2, pools().stride(1)), "[2,6,12]");
    // The first of equals takes the gradient.
    let y = Tensor::from(vec![3.0f32, 3.0, 1.0, 2.0, 2.0]).reshape((1, 5, 1));
    check(&grad(&max_pool(&y, 2, pools()).sum(), &y).flatten(), "[1,0,0,1,0]");
    check(&grad(&max_pool(&y, 3, pools().stride(1)).sum(), &y).flatten(), "[1,1,0,1,0]");
    check(&grad(&avg_pool(&y, 2, pools()).sum(), &y).flatten(), "[0.5,0.5,0.5,0.5,0]");
    let integers = Tensor::from(vec![1, 2, 3]).reshape((1, 3, 1));
    check(&conv(&integers, &Tensor::from(vec![1, -1]).reshape((2, 1, 1)), options()).flatten(), "[-1,-1]");
}

/// Convolutions of all forms, with their gradients, on whole numbers: all backends agree to the bit.
#[test]
fn backends_agree() {
    type Case = (&'static [usize], &'static [usize], ConvOptions, bool);
    let cases: Vec<Case> = vec![
        (&[2, 9, 8, 4], &[3, 3, 4, 6], options().padding(Padding::Same), false),
        (&[2, 9, 8, 4], &[3, 3, 4, 6], options().stride(2), false),
        (&[2, 9, 8, 4], &[3, 2, 4, 3], options().stride([1, 2]).dilation([2, 1]).padding(2), false),
        (&[2, 9, 8, 4], &[1, 1, 4, 6], options().stride(2), false),
        // Channels enough that the kernel's gradient goes through them first.
        (&[2, 9, 8, 20], &[3, 3, 20, 6], options(), false),
        (&[2, 9, 8, 20], &[3, 2, 20, 6], options().stride(2).padding(1).dilation([1, 2]), false),
        (&[2, 9, 8, 40], &[3, 3, 20, 6], options().groups(2), false),
        (&[2, 9, 8, 4], &[9, 8, 4, 3], options(), false),
        (&[2, 9, 8, 4], &[3, 3, 1, 4], options().groups(4).padding(1), false),
        (&[2, 9, 8, 4], &[3, 3, 1, 8], options().groups(4).stride(2), false),
        (&[2, 9, 8, 4], &[3, 3, 2, 6], options().groups(2).stride(2), false),
        (&[2, 4, 9, 8], &[6, 4, 3, 3], options().layout(Layout::ChannelsFirst).padding(1), false),
        (&[2, 4, 9, 8], &[4, 1, 3, 3], options().layout(Layout::ChannelsFirst).groups(4), false),
        (&[2, 5, 4, 3], &[3, 3, 2, 3], options().stride(2).padding(Padding::Same), true),
        (&[2, 5, 4, 3], &[2, 2, 2, 3], options().stride(3), true),
        (&[2, 5, 4, 4], &[4, 3, 1, 4], options().stride(2).padding(1).groups(4), true),
    ];
    for (xs, ks, options, transposed) in cases {
        let (x, k) = (Tensor::input("x", F32, xs), Tensor::input("k", F32, ks));
        let y = if transposed { conv_transpose(&x, &k, options.clone()) } else { conv(&x, &k, options.clone()) };
        let grads = grad(&(&y * y.abs()).sum(), &[&x, &k]);
        let f = Function::new("f").output("y", &y).output("dx", &grads[0]).output("dk", &grads[1]);
        agree(&f, &[("x", whole(xs)), ("k", whole(ks))], &format!("{xs:?} {ks:?} {options:?}"));
    }
}

#[test]
fn pools_agree_on_all_backends() {
    let xs: &[usize] = &[2, 9, 8, 4];
    let x = Tensor::input("x", F32, xs);
    let cases = [
        max_pool(&x, 2, pools()),
        max_pool(&x, 3, pools().stride(2).padding(Padding::Same)),
        max_pool(&x, 2, pools().padding(1)),
        max_pool(&x, [9, 8], pools()),
        max_pool(&x, 9, pools().stride(1).padding(4)),
        max_pool(&x, 2, pools().layout(Layout::ChannelsFirst)),
        reduce_window(&x, ReduceOp::Sum, [1, 3, 2, 1], pools()),
        reduce_window(&x, ReduceOp::Sum, [2, 3, 2, 1], pools().stride(1).padding([1, 1, 0, 0])),
        reduce_window(&x, ReduceOp::Min, [1, 2, 3, 2], pools().stride([1, 3, 1, 1])),
    ];
    for (i, y) in cases.into_iter().enumerate() {
        let f = Function::new("f").output("y", &y).output("dx", &grad(&y.square().sum(), &x));
        agree(&f, &[("x", whole(xs))], &format!("case {i}"));
    }
}

/// Checks that a function gives the same bits on all backends.
fn agree(f: &Function, args: &[(&str, Array)], what: &str) {
    let mut first: Option<Vec<Array>> = None;
    for backend in backends() {
        let mut run = f.compile(Options::default().backend(backend)).unwrap_or_else(|e| panic!("{what}: {e}"));
        let args: Vec<(&str, &Array)> = args.iter().map(|(n, a)| (*n, a)).collect();
        let out = run.run(args).unwrap_or_else(|e| panic!("{what}: {e}"));
        let out: Vec<Array> = out.iter().map(|(_, a)| a.clone()).collect();
        match &first {
            None => first = Some(out),
            Some(first) => assert_eq!(first, &out, "{what} on {backend}"),
        }
    }
}

#[test]
fn bad_convolutions_are_refused() {
    let x = Tensor::zeros(F32, (2, 5, 4));
    let k = |shape: &[usize]| Tensor::zeros(F32, shape);
    let said = |k: &Tensor, options: ConvOptions| {
        let text = conv(&x, k, options).check().unwrap_err().to_string();
        let mut lines = text.lines();
        let rule = lines.next().unwrap().rsplit("; ").next().unwrap().to_owned();
        assert!(lines.next().unwrap().contains("windows.rs"), "{text}");
        format!("{rule} | {}", lines.next().unwrap().trim_start_matches("  = help: "))
    };
    let fits = k(&[3, 4, 6]);
    let last = "move the channels last, or give the layout as Layout::ChannelsFirst";
    let cases = [
        (said(&k(&[3, 3, 4]), options()), format!("4 channels ask for a kernel of as many, and it has 3 channels in | {last}")),
        (
            said(&k(&[3, 4, 6]), options().groups(2)),
            format!("4 channels in 2 groups ask for a kernel of 2, and it has 4 channels in | {last}"),
        ),
        (
            said(&k(&[3, 4, 6]), options().groups(3)),
            "4 channels in do not divide into 3 groups | choose a number of groups that divides all channels".to_owned(),
        ),
        (
            said(&k(&[3, 2, 5]), options().groups(2)),
            "5 channels out do not divide into 2 groups | choose a number of groups that divides all channels".to_owned(),
        ),
        (said(&fits, options().groups(0)), "there are 0 groups | ask for 1 or more".to_owned()),
        (said(&fits, options().stride(0)), "the stride of window dim 0 is 0 | ask for 1 or more".to_owned()),
        (said(&fits, options().dilation([-1])), "the dilation of window dim 0 is -1 | ask for 1 or more".to_owned()),
        (
            said(&fits, options().stride([1, 2])),
            "the stride has 2 entries for 1 window dims | give one number for all window dims, or one for each".to_owned(),
        ),
        (
            said(&fits, options().padding([(1, 1), (2, 2)])),
            "the padding has 2 entries for 1 window dims | give one pair for all window dims, or one for each".to_owned(),
        ),
        (
            said(&fits, options().dilation(3)),
            "the kernel takes 7 places of window dim 0, and the padded operand has 5 | pad the operand, or take a smaller kernel or dilation".to_owned(),
        ),
        (
            said(&k(&[3, 3, 4, 6]), options()),
            "the kernel has 4 dims, and the operand 3 | give the kernel a dim for each window dim, and channels in and out".to_owned(),
        ),
    ];
    for (said, expected) in cases {
        assert_eq!(said, expected);
    }
    assert_eq!(
        broken(&conv(&Tensor::zeros(F32, 3), &fits, options())),
        "conv: operand 0 is f32[3], operand 1 is f32[3, 4, 6]; the operand needs a dim of examples and one of channels"
    );
    let bools = Tensor::zeros(Bool, (1, 3, 1));
    assert!(broken(&conv(&bools, &bools, options())).ends_with("products take numbers"));
    let named = Tensor::input("x", F32, ("n", 5, "c"));
    assert!(broken(&conv(&named, &fits, options())).contains("ask for a kernel of as many"));
    check_type(&conv(&named.assume("c == 4"), &fits, options()), "f32[n, 3, 6]");
    // An operand's own error goes through.
    let bad = &x + Tensor::zeros(F32, 7);
    assert!(broken(&conv(&bad, &fits, options())).starts_with("add:"));
}

#[test]
fn bad_transposed_convolutions_and_pools_are_refused() {
    let x = Tensor::zeros(F32, (2, 5, 4));
    let k = Tensor::zeros(F32, (3, 6, 4));
    let rule = |t: &Tensor| broken(t).rsplit("; ").next().unwrap().to_owned();
    assert_eq!(
        rule(&conv_transpose(&x, &Tensor::zeros(F32, (3, 4, 6)), options())),
        "4 channels ask for a kernel of as many, and it has 6 channels in"
    );
    assert_eq!(rule(&conv_transpose(&x, &k, options().groups(3))), "4 channels in do not divide into 3 groups");
    assert_eq!(
        rule(&conv_transpose(&x, &k, options().padding(0).output_padding(-1))),
        "the output padding of window dim 0 is -1"
    );
    assert_eq!(rule(&conv_transpose(&x, &k, options().output_padding(1))), "output padding goes with explicit padding");
    assert_eq!(rule(&conv_transpose(&x, &k, options().padding(5))), "the padding of window dim 0 leaves -3 places");

    assert_eq!(
        rule(&max_pool(&x, 6, pools())),
        "the window takes 6 places of window dim 0, and the padded operand has 5"
    );
    assert_eq!(rule(&avg_pool(&x, 0, pools())), "the size of window dim 0 is 0");
    assert_eq!(rule(&max_pool(&x, 2, pools().stride(0))), "the stride of window dim 0 is 0");
    assert_eq!(rule(&max_pool(&x, [2, 2], pools())), "the size has 2 entries for 1 window dims");
    let flat = Tensor::zeros(F32, 3);
    assert_eq!(rule(&avg_pool(&flat, 2, pools())), "the operand needs a dim of examples and one of channels");
    assert_eq!(rule(&reduce_window(&x, ReduceOp::Any, [1, 2, 1], pools())), "any takes bool");
    assert_eq!(rule(&reduce_window(&x, ReduceOp::Sum, [2, 2], pools())), "the size has 2 entries for 3 window dims");
}
