//! Convolutions and pooling.

use lehr::ir::ops::ReduceOp;
use lehr::prelude::*;
use lehr::reduce_window;

use super::{Program, program};

fn options() -> ConvOptions {
    ConvOptions::new()
}

fn same() -> ConvOptions {
    options().padding(Padding::Same)
}

fn pools() -> PoolOptions {
    PoolOptions::new()
}

pub(super) fn programs() -> Vec<Program> {
    let mut all = convolutions();
    all.extend(transposed());
    all.extend(pooling());
    all
}

fn convolutions() -> Vec<Program> {
    let first = || options().layout(Layout::ChannelsFirst);
    vec![
        program("conv_0d", [&[2, 3], &[3, 2]], |[x, k]| conv(x, k, options())),
        program("conv_1d", [&[1, 5, 2], &[3, 2, 2]], |[x, k]| conv(x, k, options())),
        program("conv_1d_same", [&[2, 5, 1], &[2, 1, 2]], |[x, k]| conv(x, k, same().stride(2))),
        program("conv_1d_causal", [&[1, 5, 1], &[3, 1, 2]], |[x, k]| {
            conv(x, k, options().dilation(2).padding([(4, 0)]))
        }),
        program("conv_2d", [&[1, 3, 4, 1], &[2, 2, 1, 2]], |[x, k]| conv(x, k, options())),
        program("conv_2d_same", [&[1, 3, 3, 2], &[3, 3, 2, 1]], |[x, k]| conv(x, k, same())),
        program("conv_2d_same_even", [&[1, 4, 5, 1], &[2, 4, 1, 1]], |[x, k]| conv(x, k, same().stride([2, 3]))),
        program("conv_2d_padded", [&[1, 4, 3, 1], &[3, 2, 1, 2]], |[x, k]| {
            conv(x, k, options().stride([2, 1]).padding([(1, 0), (0, 2)]))
        }),
        program("conv_2d_cropped", [&[1, 4, 4, 1], &[2, 2, 1, 1]], |[x, k]| {
            conv(x, k, options().padding([(-1, 1), (0, -1)]))
        }),
        program("conv_2d_dilated", [&[1, 5, 3, 1], &[2, 2, 1, 1]], |[x, k]| conv(x, k, options().dilation([2, 1]))),
        program("conv_2d_groups", [&[1, 2, 3, 4], &[2, 2, 2, 2]], |[x, k]| conv(x, k, same().groups(2))),
        program("conv_2d_depthwise", [&[1, 3, 4, 2], &[3, 3, 1, 2]], |[x, k]| conv(x, k, same().stride(2).groups(2))),
        program("conv_2d_multiplier", [&[1, 3, 3, 2], &[2, 2, 1, 4]], |[x, k]| conv(x, k, options().groups(2))),
        program("conv_2d_pointwise", [&[1, 3, 3, 3], &[1, 1, 3, 2]], |[x, k]| conv(x, k, options().stride(2))),
        program("conv_2d_covering", [&[2, 2, 2, 2], &[2, 2, 2, 2]], |[x, k]| conv(x, k, options())),
        program("conv_2d_first", [&[1, 2, 2, 3], &[1, 2, 3, 3]], move |[x, k]| conv(x, k, first().padding(1))),
        program("conv_2d_first_groups", [&[1, 4, 2, 3], &[4, 2, 2, 2]], move |[x, k]| conv(x, k, first().groups(2))),
        program("conv_3d", [&[1, 2, 3, 2, 1], &[2, 2, 1, 1, 2]], |[x, k]| conv(x, k, same().stride([1, 2, 1]))),
        program("convnet", [&[1, 4, 4, 1], &[3, 3, 1, 2], &[2, 2, 2, 2], &[2, 2]], |[x, a, b, w]| {
            let x = conv(x, a, same()).tanh();
            conv(&avg_pool(&x, 2, pools()), b, options()).tanh().reshape((1, 2)).matmul(w)
        }),
    ]
}

fn transposed() -> Vec<Program> {
    let padded = || options().stride(2).padding(1).output_padding(1);
    vec![
        program("conv_transpose_1d_same", [&[1, 3, 2], &[3, 2, 2]], |[x, k]| conv_transpose(x, k, same().stride(2))),
        program("conv_transpose_1d_valid", [&[1, 3, 1], &[2, 2, 1]], |[x, k]| {
            conv_transpose(x, k, options().stride(3))
        }),
        program("conv_transpose_1d_wide", [&[1, 3, 1], &[5, 1, 1]], |[x, k]| conv_transpose(x, k, options().stride(2))),
        program("conv_transpose_1d_dilated", [&[1, 3, 1], &[2, 2, 1]], |[x, k]| {
            conv_transpose(x, k, same().stride(2).dilation(2))
        }),
        program("conv_transpose_2d", [&[1, 2, 2, 2], &[4, 4, 1, 2]], |[x, k]| conv_transpose(x, k, same().stride(2))),
        program("conv_transpose_2d_padded", [&[1, 2, 3, 1], &[3, 3, 2, 1]], move |[x, k]| {
            conv_transpose(x, k, padded())
        }),
    ]
}

fn pooling() -> Vec<Program> {
    let overlapping = || pools().stride(2).padding(Padding::Same);
    vec![
        program("max_pool_1d", [&[1, 5, 2]], |[x]| max_pool(x, 2, pools())),
        program("max_pool_1d_padded", [&[1, 6, 2]], |[x]| max_pool(x, 3, pools().padding([(1, 2)]))),
        program("max_pool_2d", [&[2, 4, 4, 2]], |[x]| max_pool(x, 2, pools())),
        program("max_pool_2d_overlapping", [&[1, 5, 4, 2]], move |[x]| max_pool(x, 3, overlapping())),
        program("max_pool_ties", [&[1, 4, 4, 1]], |[x]| {
            max_pool(&x.round(), 2, pools()) * max_pool(&(x.floor() + x - x), 3, pools().stride(1))
        }),
        program("max_pool_3d", [&[1, 2, 4, 2, 1]], |[x]| max_pool(x, 2, pools())),
        program("min_window", [&[1, 4, 4, 1]], move |[x]| {
            reduce_window(x, ReduceOp::Min, [1, 3, 3, 1], overlapping().stride([1, 2, 2, 1]))
        }),
        program("sum_window", [&[1, 3, 4, 1]], move |[x]| {
            reduce_window(&x.square(), ReduceOp::Sum, [1, 2, 2, 1], overlapping().stride(1))
        }),
        program("avg_pool_1d", [&[1, 5, 2]], |[x]| avg_pool(&x.square(), 2, pools())),
        program("avg_pool_2d_same", [&[1, 4, 5, 1]], move |[x]| avg_pool(&x.sin(), 3, overlapping())),
        program("avg_pool_global", [&[2, 3, 3, 2]], |[x]| avg_pool(x, 3, pools())),
    ]
}
