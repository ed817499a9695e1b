"""The rows in NumPy and double precision, to check the peers by.

Where a row is large, a sample of its result is compared.
"""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import data
from data import EPS, GPT, normal


class Mismatch(Exception):
    """A result is not what it should be."""


def check(name, got):
    """Compares a row's results: the arrays of a call."""
    for k, (pick, want, bound) in enumerate(expected(name)):
        if k >= len(got):
            raise Mismatch(f"there are {len(got)} results")
        whole = np.asarray(got[k])
        close(f"result {k}", pick(whole), want, bound)


def check_losses(name, losses):
    """The first loss is the reference's, and training on the same batch brings it down to less than two thirds.

    It may rise at first: Adam's first steps are as long for a weight that hardly matters as for any other.
    """
    close("the first loss", losses[0], LOSSES[name](), 1e-4)
    if not losses[-1] < losses[0] * 2 / 3:
        raise Mismatch(f"the loss does not go down: {losses}")


def close(what, got, want, bound):
    """Agreement within `bound` of the largest number that is expected."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        raise Mismatch(f"{what} is {got.shape}, not {want.shape}")
    off = np.max(np.abs(got - want))
    if not off <= bound * np.max(np.abs(want)):
        raise Mismatch(f"{what} is off by {off}, of {np.max(np.abs(want))}")


def expected(name):
    """For each result: what to look at, what it should be, and the bound."""
    whole = lambda a: a
    f64 = lambda *a: normal(*a).astype(np.float64)
    if name.startswith("gemm_"):
        n = int(name[5:])
        at = np.linspace(0, n - 1, 16).astype(int)
        return [(lambda c: shaped(c, n, n)[at], f64(1, n, n)[at] @ f64(2, n, n), 1e-5)]
    if name.startswith("chain_"):
        n = 65536 if name == "chain_l2" else 16777216
        x = normal(1, n)[::max(1, n // 65536)].astype(np.float64)
        want = np.tanh(1.5 * x + 0.5) / (1 + np.exp(-x)) + x * x
        return [(lambda y: shaped(y, n)[::max(1, n // 65536)], want, 1e-6)]
    if name == "axpy_dram":
        n = 16777216
        return [(lambda y: shaped(y, n)[::256], 2.5 * normal(1, n)[::256].astype(np.float64) + normal(2, n)[::256], 1e-6)]
    if name == "softmax":
        e = np.exp(f64(1, 4096, 1024))
        return [(whole, e / e.sum(1, keepdims=True), 1e-5)]
    if name == "layernorm":
        return [(whole, layer_norm(f64(1, 4096, 1024), f64(2, 1024), f64(3, 1024)), 1e-5)]
    if name == "sum_all":
        x = f64(1, 4096, 4096)
        # The sum of so many numbers of both signs is small beside what was added up.
        return [(whole, x.sum(), 1e-6 * np.abs(x).sum() / abs(x.sum()))]
    if name == "sum_axis0":
        return [(whole, f64(1, 4096, 4096).sum(0), 1e-5)]
    if name == "mlp_b1":
        return [(whole, mlp(*data.mlp_b1()), 1e-5)]
    if name == "poly_batch":
        params, xs = data.poly_batch()
        return [(whole, mlp(params, x), 1e-5) for x in xs]
    if name == "scalar_grad":
        return [(whole, 15.0, 1e-6), (whole, 8.0, 1e-6)]
    if name.startswith("deep_"):
        return deep(*data.deep(int(name[5:])))
    if name == "gpt_fwd":
        params, tokens, _ = data.gpt(1)
        return [(whole, gpt(params, tokens), 1e-4)]
    if name == "resnet18_fwd":
        return [(whole, resnet18(*data.resnet18()), 1e-4)]
    if name == "attn_2048":
        q, k, v = (a[:, :2].astype(np.float64) for a in data.attn_2048())
        return [(lambda y: shaped(y, 1, 8, 2048, 64)[:, :2], attention(q, k, v), 1e-5)]
    if name == "attn_2048_grad":
        return attention_grad(*(a[0].astype(np.float64) for a in data.attn_2048_grad()))
    if name == "solve_1000":
        a, b = data.solve_1000()
        # The residual, since the error of x grows with the condition number.
        return [(lambda x: a.astype(np.float64) @ x + b, 2 * b.astype(np.float64), 1e-2)]
    if name == "svd_300":
        a = f64(1, 300, 300)
        s = np.linalg.svd(a, compute_uv=False)
        return [(whole, s, 1e-5), (whole, a, 1e-5)]
    if name == "sort_1m":
        return [(whole, np.sort(f64(1, 1_000_000)), 0.0)]
    if name == "cumsum_1m":
        x = f64(1, 1_000_000)
        return [(whole, np.cumsum(x), 1e-6 * np.abs(x).sum() / np.abs(np.cumsum(x)).max())]
    raise Mismatch(f"there is no reference of {name}")


LOSSES = {
    "mlp_train": lambda: cross_entropy(mlp(*data.mlp_train()[:2]), data.mlp_train()[2]),
    "cnn_train": lambda: cross_entropy(cnn(*data.cnn_train()[:2]), data.cnn_train()[2]),
    "gpt_train": lambda: cross_entropy(gpt(*data.gpt(8)[:2]), data.gpt(8)[2]),
}


def shaped(a, *shape):
    if a.shape != shape:
        raise Mismatch(f"the result is {a.shape}, not {shape}")
    return a


def cross_entropy(logits, labels):
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    top = logits.max(1)
    total = np.log(np.exp(logits - top[:, None]).sum(1)) + top
    return np.mean(total - logits[np.arange(len(labels)), labels])


def mlp(params, x):
    x = x.astype(np.float64)
    for i, (w, b) in enumerate(params):
        x = x @ w + b
        if i + 1 < len(params):
            x = np.maximum(x, 0)
    return x


def deep(params, x):
    """The sum, and its slopes by each matrix and bias."""
    x, inputs, masks = x.astype(np.float64), [], []
    for w, b in params:
        y = x @ w + b
        inputs.append(x)
        masks.append(y > 0)
        x = x + np.maximum(y, 0)
    value, slopes, g = x.sum(), [], np.ones_like(x)
    for (w, _), x, mask in zip(reversed(params), reversed(inputs), reversed(masks)):
        h = g * mask
        slopes += [h.sum(0), x.T @ h]
        g = g + h @ w.T
    return [(lambda a: a, want, 1e-4) for want in [value] + slopes[::-1]]


def layer_norm(x, g, b):
    c = x - x.mean(-1, keepdims=True)
    return c / np.sqrt((c * c).mean(-1, keepdims=True) + EPS) * g + b


def shares(q, k):
    """How much of each value a query takes: causal, over [..., t, d]."""
    s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    s[..., np.triu(np.ones(s.shape[-2:], bool), 1)] = -np.inf
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v):
    return shares(q, k) @ v


def attention_grad(q, k, v, w):
    """The sum of attention weighted by `w`, and its slopes, over [heads, t, d]; of two heads only, where they can be told apart."""
    # The sum needs all heads, and one after another they fit.
    value = sum((attention(*qkv) * w_head).sum() for *qkv, w_head in zip(q, k, v, w))
    q, k, v, w = (a[:2] for a in (q, k, v, w))
    p = shares(q, k)
    by_share = w @ v.swapaxes(-1, -2)
    by_score = p * (by_share - (p * by_share).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
    slopes = by_score @ k, by_score.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ w
    two = lambda a: a[0, :2]
    # The sum is of numbers of both signs, as many as there are elements.
    return [(lambda a: a, value, 1e-4)] + [(two, slope, 1e-5) for slope in slopes]


def gpt(params, tokens):
    p = data.map_tree(lambda a: a.astype(np.float64), params)
    b, t = tokens.shape
    x = p["tok"][tokens] + p["pos"][:t]
    for block in p["blocks"]:
        h = layer_norm(x, block["ln1_g"], block["ln1_b"]) @ block["qkv_w"] + block["qkv_b"]
        q, k, v = h.reshape(b, t, 3, GPT["heads"], -1).transpose(2, 0, 3, 1, 4)
        x = x + attention(q, k, v).transpose(0, 2, 1, 3).reshape(b, t, -1) @ block["proj_w"] + block["proj_b"]
        h = layer_norm(x, block["ln2_g"], block["ln2_b"]) @ block["up_w"] + block["up_b"]
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h ** 3)))
        x = x + h @ block["down_w"] + block["down_b"]
    return layer_norm(x, p["ln_g"], p["ln_b"]) @ p["head_w"] + p["head_b"]


def windows(x, k, stride, pad, fill=0.0):
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    return sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]


def conv(x, w, stride=1, pad=0):
    y = np.tensordot(windows(x, w.shape[2], stride, pad), w.astype(np.float64), ((1, 4, 5), (1, 2, 3)))
    return y.transpose(0, 3, 1, 2)


def cnn(p, x):
    bias = lambda b: b[:, None, None]
    x = np.maximum(conv(x.astype(np.float64), p["conv1"]) + bias(p["bias1"]), 0)
    x = np.maximum(conv(x, p["conv2"]) + bias(p["bias2"]), 0)
    x = windows(x, 2, 2, 0).max((4, 5)).reshape(len(x), -1)
    return np.maximum(x @ p["hidden"] + p["bias3"], 0) @ p["out"] + p["bias4"]


def resnet18(p, x):
    def unit(x, c, stride, pad):
        column = lambda a: a.astype(np.float64)[:, None, None]
        scale = column(c["g"]) / np.sqrt(column(c["var"]) + EPS)
        return (conv(x, c["w"], stride, pad) - column(c["mean"])) * scale + column(c["b"])

    x = np.maximum(unit(x.astype(np.float64), p["stem"], 2, 3), 0)
    x = windows(x, 3, 2, 1, -np.inf).max((4, 5))
    for block, (_, stride) in zip(p["blocks"], data.RESNET18):
        y = np.maximum(unit(x, block["conv1"], stride, 1), 0)
        y = unit(y, block["conv2"], 1, 1)
        x = np.maximum(y + (unit(x, block["down"], stride, 0) if "down" in block else x), 0)
    return x.mean((2, 3)) @ p["head_w"] + p["head_b"]
