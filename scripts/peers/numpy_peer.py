#!/usr/bin/env python3
"""NumPy's rows: arithmetic and linear algebra. It has no gradients, so no training. See measure.py for the command line.

Its library of matrix products takes the number of threads from the environment, so OMP_NUM_THREADS and OPENBLAS_NUM_THREADS count
here in place of `--threads`.
"""
import numpy as np

import data
import measure
from data import normal
from measure import Row

rows = measure.Rows()
one = lambda result: [result]


@rows.row("gemm_512", "gemm_1024", "gemm_2048")
def gemm(name, _):
    n = int(name[5:])
    a, b, out = normal(1, n, n), normal(2, n, n), np.empty((n, n), np.float32)
    return Row(lambda: np.matmul(a, b, out=out), one, "into")


@rows.row("chain_l2", "chain_dram", variants=("plain", "inplace"))
def chain(name, variant):
    x = normal(1, 65536 if name == "chain_l2" else 16777216)
    if variant == "plain":
        return Row(lambda: np.tanh(1.5 * x + 0.5) * (1 / (1 + np.exp(-x))) + x * x, one)

    def call():
        y = np.multiply(x, np.float32(1.5))
        y += np.float32(0.5)
        np.tanh(y, out=y)
        z = np.negative(x)
        np.exp(z, out=z)
        z += np.float32(1)
        y /= z
        np.multiply(x, x, out=z)
        y += z
        return y

    return Row(call, one)


@rows.row("axpy_dram")
def axpy(name, _):
    x, y0 = normal(1, 16777216), normal(2, 16777216)
    out = np.empty_like(x)
    return Row(lambda: np.add(np.multiply(x, np.float32(2.5), out=out), y0, out=out), one, "into")


@rows.row("softmax")
def softmax(name, _):
    x = normal(1, 4096, 1024)

    def call():
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    return Row(call, one)


@rows.row("layernorm")
def layernorm(name, _):
    x, g, b = normal(1, 4096, 1024), normal(2, 1024), normal(3, 1024)

    def call():
        c = x - x.mean(axis=1, keepdims=True)
        return c / np.sqrt((c * c).mean(axis=1, keepdims=True) + data.EPS) * g + b

    return Row(call, one)


@rows.row("sum_all", "sum_axis0")
def sums(name, _):
    x = normal(1, 4096, 4096)
    return Row((lambda: x.sum()) if name == "sum_all" else (lambda: x.sum(axis=0)), one)


def forward(params, x):
    for w, b in params[:-1]:
        x = np.maximum(x @ w + b, 0)
    w, b = params[-1]
    return x @ w + b


@rows.row("mlp_b1")
def mlp_b1(name, _):
    params, x = data.mlp_b1()
    return Row(lambda: forward(params, x), one)


@rows.row("poly_batch")
def poly_batch(name, _):
    params, xs = data.poly_batch()
    return Row(lambda: [forward(params, x) for x in xs], list, forget=lambda: None)


@rows.row("attn_2048")
def attn(name, _):
    q, k, v = data.attn_2048()
    mask = np.triu(np.full((2048, 2048), -np.inf, np.float32), 1)

    def call():
        s = q @ k.swapaxes(-1, -2)
        s *= np.float32(0.125)
        s += mask
        s -= s.max(-1, keepdims=True)
        np.exp(s, out=s)
        s /= s.sum(-1, keepdims=True)
        return s @ v

    return Row(call, one)


@rows.row("solve_1000")
def solve(name, _):
    a, b = data.solve_1000()
    return Row(lambda: np.linalg.solve(a, b), one)


@rows.row("svd_300")
def svd(name, _):
    a = normal(1, 300, 300)
    return Row(lambda: np.linalg.svd(a), lambda r: [r[1], r[0] * r[1] @ r[2]])


@rows.row("sort_1m", "cumsum_1m")
def lines(name, _):
    x = normal(1, 1_000_000)
    return Row((lambda: np.sort(x)) if name == "sort_1m" else (lambda: np.cumsum(x)), one)


if __name__ == "__main__":
    measure.serve("numpy", np.__version__, rows)
