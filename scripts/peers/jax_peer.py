#!/usr/bin/env python3
"""JAX's rows, each one jitted function. Training steps are donated their parameters and state. See measure.py for the command line."""
import os

import jax
import jax.numpy as jnp
import numpy as np

import data
import measure
from data import EPS, GPT
from measure import Row

rows = measure.Rows()
tree = jax.tree.map
array = lambda a: jnp.array(a)
normal = lambda *a: array(data.normal(*a))


def start(threads):
    jax.config.update("jax_platforms", "cpu")
    # XLA sizes its pool by this variable, when the first computation runs.
    os.environ["NPROC"] = str(threads)
    jax.block_until_ready(jnp.zeros(1))


def jitted(f, *args):
    """A row that calls `f`, compiled, with `args`."""
    f = jax.jit(f)
    return Row(lambda: jax.block_until_ready(f(*args)), lambda r: [np.asarray(a) for a in jax.tree.leaves(r)])


def training(loss, params):
    """A row that is one step of Adam(1e-3) on `loss(params)`."""
    def step(p, m, v, t):
        value, g = jax.value_and_grad(loss)(p)
        t = t + 1
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        a, b = 1 - 0.9 ** t, 1 - 0.999 ** t
        p = tree(lambda p, m, v: p - 1e-3 * (m / a) / (jnp.sqrt(v / b) + 1e-8), p, m, v)
        return value, (p, m, v, t)

    step = jax.jit(step, donate_argnums=(0, 1, 2, 3))
    params = tree(array, params)
    state = (params, tree(jnp.zeros_like, params), tree(jnp.zeros_like, params), jnp.float32(0))
    del params

    def call():
        nonlocal state
        value, state = jax.block_until_ready(step(*state))
        return value

    return Row(call, lambda loss: [np.asarray(loss)], "donated")


def cross_entropy(logits, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1))


def layer_norm(x, g, b):
    m = x.mean(-1, keepdims=True)
    v = ((x - m) ** 2).mean(-1, keepdims=True)
    return (x - m) * jax.lax.rsqrt(v + EPS) * g + b


@rows.row("gemm_512", "gemm_1024", "gemm_2048")
def gemm(name, _):
    n = int(name[5:])
    return jitted(lambda a, b: a @ b, normal(1, n, n), normal(2, n, n))


@rows.row("chain_l2", "chain_dram")
def chain(name, _):
    x = normal(1, 65536 if name == "chain_l2" else 16777216)
    return jitted(lambda x: jnp.tanh(1.5 * x + 0.5) * jax.nn.sigmoid(x) + x * x, x)


@rows.row("axpy_dram")
def axpy(name, _):
    return jitted(lambda x, y: 2.5 * x + y, normal(1, 16777216), normal(2, 16777216))


@rows.row("softmax")
def softmax(name, _):
    return jitted(lambda x: jax.nn.softmax(x, axis=-1), normal(1, 4096, 1024))


@rows.row("layernorm")
def layernorm(name, _):
    return jitted(layer_norm, normal(1, 4096, 1024), normal(2, 1024), normal(3, 1024))


@rows.row("sum_all", "sum_axis0")
def sums(name, _):
    return jitted((lambda x: x.sum()) if name == "sum_all" else (lambda x: x.sum(0)), normal(1, 4096, 4096))


def mlp(params, x):
    for i, (w, b) in enumerate(params):
        x = x @ w + b
        if i + 1 < len(params):
            x = jax.nn.relu(x)
    return x


@rows.row("mlp_train")
def mlp_train(name, _):
    params, x, y = data.mlp_train()
    x, y = array(x), array(y)
    return training(lambda p: cross_entropy(mlp(p, x), y), params)


@rows.row("mlp_b1")
def mlp_b1(name, _):
    params, x = data.mlp_b1()
    return jitted(mlp, tree(array, params), array(x))


@rows.row("poly_batch")
def poly_batch(name, _):
    params, xs = tree(array, data.poly_batch())

    def call():
        f = jax.jit(mlp)
        return [f(params, x).block_until_ready() for x in xs]

    return Row(call, lambda r: [np.asarray(a) for a in r], forget=jax.clear_caches)


@rows.row("scalar_grad")
def scalar_grad(name, _):
    return jitted(jax.value_and_grad(lambda x: x * x + 2 * x), jnp.float32(3))


@rows.row("deep_10", "deep_100", "deep_1000")
def deep(name, _):
    params, x = tree(array, data.deep(int(name[5:])))

    def f(params, x):
        for w, b in params:
            x = x + jax.nn.relu(x @ w + b)
        return x.sum()

    return jitted(jax.value_and_grad(f), params, x)


# The layouts of images: a convolution's operands and result, and where the two axes of an image are.
LAYOUTS = {"nchw": (("NCHW", "OIHW", "NCHW"), (2, 3)), "nhwc": (("NHWC", "HWIO", "NHWC"), (1, 2))}


def conv(x, w, layout, stride=1, pad=0):
    numbers = LAYOUTS[layout][0]
    return jax.lax.conv_general_dilated(x, w, (stride, stride), [(pad, pad)] * 2, dimension_numbers=numbers)


def max_pool(x, layout, k, stride, pad):
    axes = LAYOUTS[layout][1]
    per_axis = lambda here, elsewhere: [here if i in axes else elsewhere for i in range(4)]
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, per_axis(k, 1), per_axis(stride, 1),
                                 per_axis((pad, pad), (0, 0)))


def filters(layout, w):
    return w if layout == "nchw" else np.ascontiguousarray(w.transpose(2, 3, 1, 0))


def images(layout, x):
    return array(x if layout == "nchw" else np.ascontiguousarray(x.transpose(0, 2, 3, 1)))


def along_channels(layout, b):
    return b[:, None, None] if layout == "nchw" else b


@rows.row("cnn_train", variants=tuple(LAYOUTS))
def cnn_train(name, layout):
    params, x, y = data.cnn_train()
    x, y = images(layout, x), array(y)
    for k in ("conv1", "conv2"):
        params[k] = filters(layout, params[k])
    if layout == "nhwc":
        # The features come with the channels last, so the rows of the dense layer do.
        params["hidden"] = params["hidden"].reshape(64, 12, 12, 128).transpose(1, 2, 0, 3).reshape(-1, 128)

    def loss(p):
        h = jax.nn.relu(conv(x, p["conv1"], layout) + along_channels(layout, p["bias1"]))
        h = jax.nn.relu(conv(h, p["conv2"], layout) + along_channels(layout, p["bias2"]))
        h = max_pool(h, layout, 2, 2, 0).reshape(len(h), -1)
        h = jax.nn.relu(h @ p["hidden"] + p["bias3"])
        return cross_entropy(h @ p["out"] + p["bias4"], y)

    return training(loss, params)


@rows.row("resnet18_fwd", variants=tuple(LAYOUTS))
def resnet18_fwd(name, layout):
    params, x = data.resnet18()
    params = tree(lambda w: array(filters(layout, w) if w.ndim == 4 else w), params)

    def unit(x, c, stride, pad):
        scale = c["g"] * jax.lax.rsqrt(c["var"] + EPS)
        y = conv(x, c["w"], layout, stride, pad)
        return y * along_channels(layout, scale) + along_channels(layout, c["b"] - c["mean"] * scale)

    def forward(p, x):
        x = max_pool(jax.nn.relu(unit(x, p["stem"], 2, 3)), layout, 3, 2, 1)
        for block, (_, stride) in zip(p["blocks"], data.RESNET18):
            y = unit(jax.nn.relu(unit(x, block["conv1"], stride, 1)), block["conv2"], 1, 1)
            x = jax.nn.relu(y + (unit(x, block["down"], stride, 0) if "down" in block else x))
        return x.mean(LAYOUTS[layout][1]) @ p["head_w"] + p["head_b"]

    return jitted(forward, params, images(layout, x))


# Causal attention over [batch, t, heads, d], by hand and by the library's function.
def attention_by_hand(q, k, v):
    t, d = q.shape[1], q.shape[3]
    s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / d ** 0.5
    s = s + jnp.where(jnp.tril(jnp.ones((t, t), bool)), 0.0, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(s, -1), v)


ATTENTION = {"softmax": attention_by_hand, "dot_product_attention": lambda q, k, v: jax.nn.dot_product_attention(
    q, k, v, is_causal=True)}


def gpt(p, tokens, attend):
    b, t = tokens.shape
    x = p["tok"][tokens] + p["pos"][:t]
    for block in p["blocks"]:
        h = layer_norm(x, block["ln1_g"], block["ln1_b"]) @ block["qkv_w"] + block["qkv_b"]
        h = h.reshape(b, t, 3, GPT["heads"], -1)
        h = attend(h[:, :, 0], h[:, :, 1], h[:, :, 2]).reshape(b, t, -1)
        x = x + h @ block["proj_w"] + block["proj_b"]
        h = layer_norm(x, block["ln2_g"], block["ln2_b"]) @ block["up_w"] + block["up_b"]
        x = x + jax.nn.gelu(h, approximate=True) @ block["down_w"] + block["down_b"]
    return layer_norm(x, p["ln_g"], p["ln_b"]) @ p["head_w"] + p["head_b"]


@rows.row("gpt_train", variants=tuple(ATTENTION))
def gpt_train(name, variant):
    params, tokens, targets = data.gpt(8)
    tokens, targets = array(tokens), array(targets)
    return training(lambda p: cross_entropy(gpt(p, tokens, ATTENTION[variant]), targets), params)


@rows.row("gpt_fwd", variants=tuple(ATTENTION))
def gpt_fwd(name, variant):
    params, tokens, _ = data.gpt(1)
    return jitted(lambda p, x: gpt(p, x, ATTENTION[variant]), tree(array, params), array(tokens))


def heads_first(variant):
    """Attention over [batch, heads, t, d]."""
    def by_hand(q, k, v):
        s = q @ k.swapaxes(-1, -2) / 8
        s = s + jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), 0.0, -jnp.inf)
        return jax.nn.softmax(s, -1) @ v

    turn = lambda a: a.swapaxes(1, 2)
    return by_hand if variant == "softmax" else lambda q, k, v: turn(ATTENTION[variant](turn(q), turn(k), turn(v)))


@rows.row("attn_2048", variants=tuple(ATTENTION))
def attn(name, variant):
    return jitted(heads_first(variant), *map(array, data.attn_2048()))


@rows.row("attn_2048_grad", variants=tuple(ATTENTION))
def attn_grad(name, variant):
    f = heads_first(variant)
    weighted = lambda q, k, v, w: (f(q, k, v) * w).sum()
    return jitted(jax.value_and_grad(weighted, argnums=(0, 1, 2)), *map(array, data.attn_2048_grad()))


@rows.row("solve_1000")
def solve(name, _):
    return jitted(jnp.linalg.solve, *map(array, data.solve_1000()))


@rows.row("svd_300")
def svd(name, _):
    row = jitted(jnp.linalg.svd, normal(1, 300, 300))
    factors = row.arrays
    row.arrays = lambda r: (lambda u, s, v: [s, u * s @ v])(*factors(r))
    return row


@rows.row("sort_1m", "cumsum_1m")
def lines(name, _):
    return jitted(jnp.sort if name == "sort_1m" else jnp.cumsum, normal(1, 1_000_000))


if __name__ == "__main__":
    measure.serve("jax", jax.__version__, rows, start)
