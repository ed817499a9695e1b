"""Inputs and weights of the rows, in NumPy and from fixed seeds, so that all peers compute on the same numbers.

Matrices are stored [inputs, outputs], filters [outputs, inputs, height, width]; images are [batch, channels, height, width].
"""
import numpy as np

MLP = [784, 512, 256, 10]
GPT = dict(vocab=1000, d=256, heads=4, layers=4, t=128)
# Channels and the first stride of a residual network's eight blocks.
RESNET18 = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
EPS = 1e-5


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


class Weights:
    """Random weights, one after another."""

    def __init__(self, seed=7):
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape, scale=1.0, mean=0.0):
        w = self.rng.standard_normal(shape, dtype=np.float32)
        w *= np.float32(scale)
        w += np.float32(mean)
        return w


def labels(n, classes=10):
    return np.arange(n, dtype=np.int64) * 7 % classes


def mlp(sizes):
    """Pairs of a matrix and a bias."""
    w = Weights()
    return [(w(a, b, scale=(2 / a) ** 0.5), w(b, scale=0.01)) for a, b in zip(sizes, sizes[1:])]


def mlp_b1():
    return mlp([64, 32, 10]), normal(1, 1, 64)


def mlp_train():
    return mlp(MLP), normal(1, 128, 784), labels(128)


def poly_batch():
    return mlp(MLP), [normal(b, b, 784) for b in range(1, 51)]


def cnn_train():
    w = Weights()
    params = dict(
        conv1=w(32, 1, 3, 3, scale=(2 / 9) ** 0.5), bias1=w(32, scale=0.01),
        conv2=w(64, 32, 3, 3, scale=(2 / 288) ** 0.5), bias2=w(64, scale=0.01),
        # Its rows follow the features as [channels, height, width].
        hidden=w(64 * 12 * 12, 128, scale=(2 / 9216) ** 0.5), bias3=w(128, scale=0.01),
        out=w(128, 10, scale=(1 / 128) ** 0.5), bias4=w(10, scale=0.01))
    return params, normal(1, 64, 1, 28, 28), labels(64)


def gpt(batch):
    """A decoder with learned positions and an output head of its own (a dense layer with bias; no weights are tied)."""
    w = Weights()
    d, t, vocab = GPT["d"], GPT["t"], GPT["vocab"]
    dense = lambda a, b, name: {name + "_w": w(a, b, scale=0.02), name + "_b": w(b, scale=0.02)}
    norm = lambda name: {name + "_g": w(d, scale=0.1, mean=1), name + "_b": w(d, scale=0.02)}
    blocks = [norm("ln1") | dense(d, 3 * d, "qkv") | dense(d, d, "proj") | norm("ln2") | dense(d, 4 * d, "up")
              | dense(4 * d, d, "down") for _ in range(GPT["layers"])]
    params = dict(tok=w(vocab, d, scale=0.02), pos=w(t, d, scale=0.02), blocks=blocks) | norm("ln") | dense(d, vocab, "head")
    text = np.random.default_rng(1).integers(0, vocab, (batch, t + 1))
    return params, np.ascontiguousarray(text[:, :-1]), np.ascontiguousarray(text[:, 1:])


def resnet18():
    """torchvision's layout. A convolution is its filter and scale, bias, mean and variance of the normalisation behind it."""
    w = Weights()

    def conv(outputs, inputs, k):
        return dict(w=w(outputs, inputs, k, k, scale=(2 / (inputs * k * k)) ** 0.5), g=w(outputs, scale=0.1, mean=1),
                    b=w(outputs, scale=0.1), mean=w(outputs, scale=0.1), var=np.abs(w(outputs, scale=0.2, mean=1)) + 0.1)

    params, inputs = dict(stem=conv(64, 3, 7), blocks=[]), 64
    for width, stride in RESNET18:
        block = dict(conv1=conv(width, inputs, 3), conv2=conv(width, width, 3))
        if stride != 1 or width != inputs:
            block["down"] = conv(width, inputs, 1)
        params["blocks"].append(block)
        inputs = width
    params["head_w"], params["head_b"] = w(512, 1000, scale=0.05), w(1000, scale=0.05)
    return params, normal(1, 1, 3, 224, 224)


def attn_2048():
    """Queries, keys and values."""
    return [normal(seed, 1, 8, 2048, 64) for seed in (1, 2, 3)]


def attn_2048_grad():
    """The same, and the weights of the sum that is derived."""
    return attn_2048() + [normal(4, 1, 8, 2048, 64)]


def deep(depth):
    w = Weights()
    return [(w(64, 64, scale=0.01), np.full(64, 0.05, np.float32)) for _ in range(depth)], normal(1, 8, 64)


def solve_1000():
    return normal(1, 1000, 1000), normal(2, 1000)


def map_tree(f, tree):
    """`tree` with `f` of each array."""
    if isinstance(tree, dict):
        return {k: map_tree(f, v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tree(f, v) for v in tree)
    return f(tree)


def leaves(tree):
    """The arrays of `tree`."""
    found = []
    map_tree(found.append, tree)
    return found
