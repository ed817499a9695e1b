"""Programs of convolutions and pooling."""
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LETTERS = "DHW"


def layout(rank):
    space = LETTERS[3 - (rank - 2):] if rank > 2 else ""
    return f"N{space}C", f"{space}IO", f"N{space}C"


def conv(x, k, stride=1, padding="VALID", holes=1, dilation=1, groups=1, dims=None):
    n = x.ndim - 2
    each = lambda v: (v,) * n if isinstance(v, int) else v
    return lax.conv_general_dilated(x, k, each(stride), padding, each(holes), each(dilation), dims or layout(x.ndim),
                                    feature_group_count=groups)


def conv_transpose(x, k, stride, padding, dilation=1):
    n = x.ndim - 2
    return lax.conv_transpose(x, k, (stride,) * n, padding, (dilation,) * n, layout(x.ndim), transpose_kernel=True)


def pool(x, init, f, size, stride, padding="VALID"):
    n = x.ndim - 2
    return lax.reduce_window(x, init, f, (1, *(size,) * n, 1), (1, *(stride,) * n, 1), padding)


def max_pool(x, size, stride, padding="VALID"):
    return pool(x, -np.inf, lax.max, size, stride, padding)


def avg_pool(x, size, stride, padding="VALID"):
    return pool(x, 0.0, lax.add, size, stride, padding) / pool(jnp.ones_like(x), 0.0, lax.add, size, stride, padding)


def define(add):
    add("conv_0d", conv, (2, 3), (3, 2))
    add("conv_1d", conv, (1, 5, 2), (3, 2, 2))
    add("conv_1d_same", lambda x, k: conv(x, k, 2, "SAME"), (2, 5, 1), (2, 1, 2))
    add("conv_1d_causal", lambda x, k: conv(x, k, 1, [(4, 0)], dilation=2), (1, 5, 1), (3, 1, 2))
    add("conv_2d", conv, (1, 3, 4, 1), (2, 2, 1, 2))
    add("conv_2d_same", lambda x, k: conv(x, k, 1, "SAME"), (1, 3, 3, 2), (3, 3, 2, 1))
    add("conv_2d_same_even", lambda x, k: conv(x, k, (2, 3), "SAME"), (1, 4, 5, 1), (2, 4, 1, 1))
    add("conv_2d_padded", lambda x, k: conv(x, k, (2, 1), [(1, 0), (0, 2)]), (1, 4, 3, 1), (3, 2, 1, 2))
    add("conv_2d_cropped", lambda x, k: conv(x, k, 1, [(-1, 1), (0, -1)]), (1, 4, 4, 1), (2, 2, 1, 1))
    add("conv_2d_dilated", lambda x, k: conv(x, k, dilation=(2, 1)), (1, 5, 3, 1), (2, 2, 1, 1))
    add("conv_2d_groups", lambda x, k: conv(x, k, 1, "SAME", groups=2), (1, 2, 3, 4), (2, 2, 2, 2))
    add("conv_2d_depthwise", lambda x, k: conv(x, k, 2, "SAME", groups=2), (1, 3, 4, 2), (3, 3, 1, 2))
    add("conv_2d_multiplier", lambda x, k: conv(x, k, groups=2), (1, 3, 3, 2), (2, 2, 1, 4))
    add("conv_2d_pointwise", lambda x, k: conv(x, k, 2), (1, 3, 3, 3), (1, 1, 3, 2))
    add("conv_2d_covering", conv, (2, 2, 2, 2), (2, 2, 2, 2))
    add("conv_2d_first", lambda x, k: conv(x, k, 1, [(1, 1), (1, 1)], dims=("NCHW", "OIHW", "NCHW")), (1, 2, 2, 3), (1, 2, 3, 3))
    add("conv_2d_first_groups", lambda x, k: conv(x, k, 1, "VALID", groups=2, dims=("NCHW", "OIHW", "NCHW")), (1, 4, 2, 3), (4, 2, 2, 2))
    add("conv_3d", lambda x, k: conv(x, k, (1, 2, 1), "SAME"), (1, 2, 3, 2, 1), (2, 2, 1, 1, 2))
    add("conv_transpose_1d_same", lambda x, k: conv_transpose(x, k, 2, "SAME"), (1, 3, 2), (3, 2, 2))
    add("conv_transpose_1d_valid", lambda x, k: conv_transpose(x, k, 3, "VALID"), (1, 3, 1), (2, 2, 1))
    add("conv_transpose_1d_wide", lambda x, k: conv_transpose(x, k, 2, "VALID"), (1, 3, 1), (5, 1, 1))
    add("conv_transpose_1d_dilated", lambda x, k: conv_transpose(x, k, 2, "SAME", 2), (1, 3, 1), (2, 2, 1))
    add("conv_transpose_2d", lambda x, k: conv_transpose(x, k, 2, "SAME"), (1, 2, 2, 2), (4, 4, 1, 2))
    # The gradient of a convolution with padding 1 and stride 2, and one row and column more at the end.
    add("conv_transpose_2d_padded",
        lambda x, k: conv(x, k[::-1, ::-1].transpose(0, 1, 3, 2), 1, [(1, 2), (1, 2)], holes=2), (1, 2, 3, 1), (3, 3, 2, 1))
    add("max_pool_1d", lambda x: max_pool(x, 2, 2), (1, 5, 2), smooth=False)
    add("max_pool_1d_padded", lambda x: max_pool(x, 3, 3, [(0, 0), (1, 2), (0, 0)]), (1, 6, 2), smooth=False)
    add("max_pool_2d", lambda x: max_pool(x, 2, 2), (2, 4, 4, 2), smooth=False)
    add("max_pool_2d_overlapping", lambda x: max_pool(x, 3, 2, "SAME"), (1, 5, 4, 2), smooth=False)
    add("max_pool_ties", lambda x: max_pool(jnp.round(x), 2, 2) * max_pool(jnp.floor(x) + x - x, 3, 1), (1, 4, 4, 1), smooth=False)
    add("max_pool_3d", lambda x: max_pool(x, 2, 2), (1, 2, 4, 2, 1), smooth=False)
    add("min_window", lambda x: pool(x, np.inf, lax.min, 3, 2, "SAME"), (1, 4, 4, 1), smooth=False)
    add("sum_window", lambda x: pool(x * x, 0.0, lax.add, 2, 1, "SAME"), (1, 3, 4, 1))
    add("avg_pool_1d", lambda x: avg_pool(x * x, 2, 2), (1, 5, 2))
    add("avg_pool_2d_same", lambda x: avg_pool(jnp.sin(x), 3, 2, "SAME"), (1, 4, 5, 1))
    add("avg_pool_global", lambda x: avg_pool(x, 3, 1), (2, 3, 3, 2))
    add("convnet", convnet, (1, 4, 4, 1), (3, 3, 1, 2), (2, 2, 2, 2), (2, 2))


def convnet(x, a, b, w):
    x = jnp.tanh(conv(x, a, 1, "SAME"))
    x = jnp.tanh(conv(avg_pool(x, 2, 2), b))
    return x.reshape(1, 2) @ w
