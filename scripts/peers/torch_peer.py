#!/usr/bin/env python3
"""PyTorch's rows, eager: what a user writes with its functions. See measure.py for the command line.

Training steps include dropping the old gradients and the optimiser; forward rows run in inference mode. compile_peer.py runs the
same rows through `torch.compile`.
"""
import numpy as np
import torch
import torch.nn.functional as F

import data
import measure
from data import EPS, GPT
from measure import Row

rows = measure.Rows()
tensor = torch.from_numpy
normal = lambda *a: tensor(data.normal(*a))
# What is done to the function that a row computes; compile_peer.py puts the compiler here.
compiled = lambda f: f
# What drops all that was compiled.
forget = lambda: None

# How memory formats of images and implementations of the optimiser are called among the variants.
FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
ADAM = {"loop": dict(foreach=False, fused=False), "foreach": dict(foreach=True), "fused": dict(fused=True)}
FORMAT_AND_ADAM = tuple(f"{f} {a}" for f in FORMATS for a in ADAM)


def start(threads):
    torch.set_num_threads(threads)
    torch.zeros(1).add_(1)


def numpy(result):
    """Tensors of a result, in order, as NumPy arrays."""
    if isinstance(result, torch.Tensor):
        return [result.detach().numpy()]
    return [a for r in result for a in numpy(r)]


def forward(f, *args):
    """A row that calls `f` without gradients."""
    # Left on for good: the process runs this row alone, and entering it costs a microsecond a call.
    torch.inference_mode().__enter__()
    f = compiled(f)
    return Row(lambda: f(*args), numpy)


def training(loss, params, adam):
    """A row that is one step of Adam(1e-3) on `loss(params)`; `params` is a tree of leaves that require gradients."""
    optimizer = torch.optim.Adam(data.leaves(params), lr=1e-3, **ADAM[adam])
    loss = compiled(loss)

    def call():
        optimizer.zero_grad(set_to_none=True)
        value = loss(params)
        value.backward()
        optimizer.step()
        return value.detach()

    return Row(call, numpy)


def weights(tree, format=torch.contiguous_format, grad=False):
    """Parameters as PyTorch keeps them: matrices [outputs, inputs], as its linear layers do, filters in `format`."""
    def leaf(path, a):
        if a.ndim == 2 and path not in ("tok", "pos"):
            a = np.ascontiguousarray(a.T)
        t = tensor(a)
        if t.ndim == 4:
            t = t.contiguous(memory_format=format)
        return t.requires_grad_(grad)

    def walk(path, t):
        if isinstance(t, dict):
            return {k: walk(k, v) for k, v in t.items()}
        if isinstance(t, (list, tuple)):
            return type(t)(walk(path, v) for v in t)
        return leaf(path, t)

    return walk("", tree)


@rows.row("gemm_512", "gemm_1024", "gemm_2048", variants=("fresh", "into"))
def gemm(name, variant):
    n = int(name[5:])
    a, b = normal(1, n, n), normal(2, n, n)
    if variant == "fresh":
        return forward(torch.matmul, a, b)
    return into(lambda a, b, out: torch.matmul(a, b, out=out), a, b, torch.empty(n, n))


def into(f, *args):
    row = forward(f, *args)
    row.out = "into"
    return row


@rows.row("chain_l2", "chain_dram", variants=("plain", "inplace"))
def chain(name, variant):
    def plain(x):
        return torch.tanh(1.5 * x + 0.5) * torch.sigmoid(x) + x * x

    def inplace(x):
        return (1.5 * x).add_(0.5).tanh_().mul_(torch.sigmoid(x)).addcmul_(x, x)

    return forward(plain if variant == "plain" else inplace, normal(1, 65536 if name == "chain_l2" else 16777216))


@rows.row("axpy_dram", variants=("fresh", "into"))
def axpy(name, variant):
    x, y0 = normal(1, 16777216), normal(2, 16777216)
    if variant == "fresh":
        return forward(lambda x, y: torch.add(y, x, alpha=2.5), x, y0)
    return into(lambda x, y, out: torch.add(y, x, alpha=2.5, out=out), x, y0, torch.empty_like(x))


@rows.row("softmax")
def softmax(name, _):
    return forward(lambda x: torch.softmax(x, -1), normal(1, 4096, 1024))


@rows.row("layernorm")
def layernorm(name, _):
    return forward(lambda x, g, b: F.layer_norm(x, (1024,), g, b, EPS), normal(1, 4096, 1024), normal(2, 1024), normal(3, 1024))


@rows.row("sum_all", "sum_axis0")
def sums(name, _):
    return forward((lambda x: x.sum()) if name == "sum_all" else (lambda x: x.sum(0)), normal(1, 4096, 4096))


def mlp(params, x):
    for w, b in params[:-1]:
        x = torch.relu_(F.linear(x, w, b))
    return F.linear(x, *params[-1])


def mlp_addmm(params, x):
    for w, b in params[:-1]:
        x = torch.relu_(torch.addmm(b, x, w))
    return torch.addmm(params[-1][1], x, params[-1][0])


@rows.row("mlp_train", variants=tuple(ADAM))
def mlp_train(name, adam):
    params, x, y = data.mlp_train()
    x, y = tensor(x), tensor(y)
    return training(lambda p: F.cross_entropy(mlp(p, x), y), weights(params, grad=True), adam)


@rows.row("mlp_b1", variants=("linear", "addmm"))
def mlp_b1(name, variant):
    params, x = data.mlp_b1()
    if variant == "linear":
        return forward(lambda x, p=weights(params): mlp(p, x), tensor(x))
    return forward(lambda x, p=data.map_tree(tensor, params): mlp_addmm(p, x), tensor(x))


@rows.row("poly_batch")
def poly_batch(name, _):
    params, xs = data.poly_batch()
    params, xs = weights(params), [tensor(x) for x in xs]
    torch.inference_mode().__enter__()

    def call():
        f = compiled(mlp)
        return [f(params, x) for x in xs]

    return Row(call, numpy, forget=forget)


@rows.row("scalar_grad")
def scalar_grad(name, _):
    x = torch.tensor(3.0, requires_grad=True)
    f = compiled(lambda x: x * x + 2 * x)

    def call():
        y = f(x)
        return y, torch.autograd.grad(y, x)[0]

    return Row(call, numpy)


@rows.row("deep_10", "deep_100", "deep_1000")
def deep(name, _):
    params, x = data.deep(int(name[5:]))
    params, x = data.map_tree(lambda a: tensor(a).requires_grad_(), params), tensor(x)

    def f(x):
        for w, b in params:
            x = x + torch.relu(torch.addmm(b, x, w))
        return x.sum()

    f, flat = compiled(f), data.leaves(params)

    def call():
        y = f(x)
        return y, torch.autograd.grad(y, flat)

    return Row(call, numpy)


@rows.row("cnn_train", variants=FORMAT_AND_ADAM)
def cnn_train(name, variant):
    format, adam = variant.split()
    params, x, y = data.cnn_train()
    x, y = tensor(x).contiguous(memory_format=FORMATS[format]), tensor(y)

    def loss(p):
        h = F.relu(F.conv2d(x, p["conv1"], p["bias1"]))
        h = F.relu(F.conv2d(h, p["conv2"], p["bias2"]))
        h = F.max_pool2d(h, 2).flatten(1)
        h = F.relu(F.linear(h, p["hidden"], p["bias3"]))
        return F.cross_entropy(F.linear(h, p["out"], p["bias4"]), y)

    return training(loss, weights(params, FORMATS[format], grad=True), adam)


@rows.row("resnet18_fwd", variants=tuple(FORMATS))
def resnet18_fwd(name, format):
    params, x = data.resnet18()
    p = weights(params, FORMATS[format])

    def unit(x, c, stride, pad):
        y = F.conv2d(x, c["w"], stride=stride, padding=pad)
        return F.batch_norm(y, c["mean"], c["var"], c["g"], c["b"], eps=EPS)

    def f(x):
        x = F.max_pool2d(torch.relu_(unit(x, p["stem"], 2, 3)), 3, 2, 1)
        for block, (_, stride) in zip(p["blocks"], data.RESNET18):
            y = unit(torch.relu_(unit(x, block["conv1"], stride, 1)), block["conv2"], 1, 1)
            y += unit(x, block["down"], stride, 0) if "down" in block else x
            x = torch.relu_(y)
        return F.linear(x.mean((2, 3)), p["head_w"], p["head_b"])

    return forward(f, tensor(x).contiguous(memory_format=FORMATS[format]))


def gpt(p, tokens):
    b, t = tokens.shape
    norm = lambda x, p, name: F.layer_norm(x, (GPT["d"],), p[name + "_g"], p[name + "_b"], EPS)
    dense = lambda x, p, name: F.linear(x, p[name + "_w"], p[name + "_b"])
    x = F.embedding(tokens, p["tok"]) + p["pos"][:t]
    for block in p["blocks"]:
        q, k, v = dense(norm(x, block, "ln1"), block, "qkv").view(b, t, 3, GPT["heads"], -1).permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + dense(h.transpose(1, 2).reshape(b, t, -1), block, "proj")
        x = x + dense(F.gelu(dense(norm(x, block, "ln2"), block, "up"), approximate="tanh"), block, "down")
    return dense(norm(x, p, "ln"), p, "head")


@rows.row("gpt_train", variants=tuple(ADAM))
def gpt_train(name, adam):
    params, tokens, targets = data.gpt(8)
    tokens, targets = tensor(tokens), tensor(targets).view(-1)
    return training(lambda p: F.cross_entropy(gpt(p, tokens).view(-1, GPT["vocab"]), targets), weights(params, grad=True), adam)


@rows.row("gpt_fwd")
def gpt_fwd(name, _):
    params, tokens, _ = data.gpt(1)
    return forward(lambda x, p=weights(params): gpt(p, x), tensor(tokens))


@rows.row("attn_2048")
def attn(name, _):
    return forward(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), *map(tensor, data.attn_2048()))


@rows.row("attn_2048_grad")
def attn_grad(name, _):
    q, k, v, w = map(tensor, data.attn_2048_grad())
    by = [a.requires_grad_() for a in (q, k, v)]
    f = compiled(lambda q, k, v: (F.scaled_dot_product_attention(q, k, v, is_causal=True) * w).sum())

    def call():
        y = f(*by)
        return y, torch.autograd.grad(y, by)

    return Row(call, numpy)


@rows.row("solve_1000")
def solve(name, _):
    return forward(torch.linalg.solve, *map(tensor, data.solve_1000()))


@rows.row("svd_300")
def svd(name, _):
    row = forward(torch.linalg.svd, normal(1, 300, 300))
    row.arrays = lambda r: numpy([r[1], r[0] * r[1] @ r[2]])
    return row


@rows.row("sort_1m", "cumsum_1m")
def lines(name, _):
    return forward((lambda x: torch.sort(x)[0]) if name == "sort_1m" else (lambda x: torch.cumsum(x, 0)), normal(1, 1_000_000))


if __name__ == "__main__":
    measure.serve("torch", torch.__version__, rows, start)
