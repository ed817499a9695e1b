#!/usr/bin/env python3
"""Writes the ONNX model of a row, node by node: `python3 scripts/peers/onnx_models.py ROW VARIANT PATH`.

onnx_peer.py runs it in a process of its own, so that the memory it takes is not counted for ONNX Runtime.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import data
from data import EPS, GPT

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Graph:
    """A graph under construction. Values are named by strings."""

    def __init__(self):
        self.nodes, self.weights, self.inputs, self.outputs = [], [], [], []

    def input(self, name, shape, type=FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, type, shape))
        return name

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def __call__(self, op, *inputs, outputs=1, domain="", **attributes):
        """A node; arrays among its inputs become weights. Its value, or values where there are several."""
        n = len(self.nodes)
        inputs = [i if isinstance(i, str) else self.weight(np.asarray(i)) for i in inputs]
        names = [f"v{n}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def output(self, value, shape):
        self.outputs.append(helper.make_tensor_value_info(value, FLOAT, shape))

    def model(self):
        graph = helper.make_graph(self.nodes, "row", self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model)
        return model


def f32(x):
    return np.float32(x)


def gemm(g, name, _):
    n = int(name[5:])
    g.output(g("MatMul", g.input("a", [n, n]), g.input("b", [n, n])), [n, n])


def chain(g, name, _):
    n = 65536 if name == "chain_l2" else 16777216
    x = g.input("x", [n])
    y = g("Tanh", g("Add", g("Mul", x, f32(1.5)), f32(0.5)))
    g.output(g("Add", g("Mul", y, g("Sigmoid", x)), g("Mul", x, x)), [n])


def axpy(g, name, _):
    n = 16777216
    g.output(g("Add", g("Mul", g.input("x", [n]), f32(2.5)), g.input("y", [n])), [n])


def softmax(g, name, _):
    g.output(g("Softmax", g.input("x", [4096, 1024]), axis=-1), [4096, 1024])


def layernorm(g, name, _):
    x, scale, bias = g.input("x", [4096, 1024]), g.input("scale", [1024]), g.input("bias", [1024])
    g.output(g("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPS), [4096, 1024])


def sums(g, name, _):
    x = g.input("x", [4096, 4096])
    if name == "sum_all":
        g.output(g("ReduceSum", x, keepdims=0), [])
    else:
        g.output(g("ReduceSum", x, np.array([0]), keepdims=0), [4096])


def mlp(g, params, batch):
    x = g.input("x", [batch, len(params[0][0])])
    for i, (w, b) in enumerate(params):
        x = g("Gemm", x, w, b)
        if i + 1 < len(params):
            x = g("Relu", x)
    g.output(x, [batch, len(params[-1][1])])


def mlp_b1(g, name, _):
    mlp(g, data.mlp_b1()[0], 1)


def poly_batch(g, name, _):
    mlp(g, data.poly_batch()[0], "batch")


def resnet18(g, name, _):
    p = data.resnet18()[0]

    def unit(x, c, stride, pad):
        y = g("Conv", x, c["w"], kernel_shape=c["w"].shape[2:], strides=[stride] * 2, pads=[pad] * 4)
        return g("BatchNormalization", y, c["g"], c["b"], c["mean"], c["var"], epsilon=EPS)

    x = g("Relu", unit(g.input("x", [1, 3, 224, 224]), p["stem"], 2, 3))
    x = g("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for block, (_, stride) in zip(p["blocks"], data.RESNET18):
        y = unit(g("Relu", unit(x, block["conv1"], stride, 1)), block["conv2"], 1, 1)
        x = g("Relu", g("Add", y, unit(x, block["down"], stride, 0) if "down" in block else x))
    x = g("Flatten", g("GlobalAveragePool", x))
    g.output(g("Gemm", x, p["head_w"], p["head_b"]), [1, 1000])


def causal_mask(t):
    return np.triu(np.full((t, t), -np.inf, np.float32), 1)


def attention_of_products(g, q, k, v, t, d):
    """Over [batch, heads, t, d]; `k` is transposed already."""
    s = g("Mul", g("MatMul", q, k), f32(d ** -0.5))
    return g("MatMul", g("Softmax", g("Add", s, causal_mask(t)), axis=-1), v)


def attn(g, name, variant):
    shape = [1, 8, 2048, 64]
    q, k, v = (g.input(n, shape) for n in "qkv")
    if variant == "products":
        y = attention_of_products(g, q, g("Transpose", k, perm=[0, 1, 3, 2]), v, 2048, 64)
    elif variant == "attention":
        y = g("Attention", q, k, v, is_causal=1)
    else:
        joined = lambda a: g("Reshape", g("Transpose", a, perm=[0, 2, 1, 3]), np.array([1, 2048, 512]))
        y = g("MultiHeadAttention", joined(q), joined(k), joined(v), domain="com.microsoft", num_heads=8, unidirectional=1)
        y = g("Transpose", g("Reshape", y, np.array([1, 2048, 8, 64])), perm=[0, 2, 1, 3])
    g.output(y, shape)


def gpt(g, name, variant):
    """`variant` is how attention is written and, behind a space, the rank of the dense layers' operands."""
    how, rank = variant.split()
    p = data.gpt(1)[0]
    t, d, heads, vocab = GPT["t"], GPT["d"], GPT["heads"], GPT["vocab"]
    lead = [1, t] if rank == "3d" else [t]
    turned = lambda a, perm: g("Transpose", g("Reshape", a, np.array([1, t, heads, d // heads])), perm=perm)
    norm = lambda x, p, name: g("LayerNormalization", x, p[name + "_g"], p[name + "_b"], axis=-1, epsilon=EPS)

    def dense(x, p, name):
        w, b = p[name + "_w"], p[name + "_b"]
        return g("Gemm", x, w, b) if rank == "2d" else g("Add", g("MatMul", x, w), b)

    def attend(qkv):
        q, k, v = g("Split", qkv, axis=-1, num_outputs=3, outputs=3)
        if how == "products":
            y = attention_of_products(g, turned(q, [0, 2, 1, 3]), turned(k, [0, 2, 3, 1]), turned(v, [0, 2, 1, 3]), t, d // heads)
            return g("Reshape", g("Transpose", y, perm=[0, 2, 1, 3]), np.array(lead + [d]))
        if rank == "2d":
            q, k, v = (g("Reshape", a, np.array([1, t, d])) for a in (q, k, v))
        if how == "attention":
            y = g("Attention", q, k, v, is_causal=1, q_num_heads=heads, kv_num_heads=heads)
        else:
            y = g("MultiHeadAttention", q, k, v, domain="com.microsoft", num_heads=heads, unidirectional=1)
        return g("Reshape", y, np.array([t, d])) if rank == "2d" else y

    x = g("Add", g("Gather", p["tok"], g.input("tokens", [1, t], INT64)), p["pos"])
    if rank == "2d":
        x = g("Reshape", x, np.array([t, d]))
    for block in p["blocks"]:
        x = g("Add", x, dense(attend(dense(norm(x, block, "ln1"), block, "qkv")), block, "proj"))
        h = g("Gelu", dense(norm(x, block, "ln2"), block, "up"), approximate="tanh")
        x = g("Add", x, dense(h, block, "down"))
    x = dense(norm(x, p, "ln"), p, "head")
    g.output(x if rank == "3d" else g("Reshape", x, np.array([1, t, vocab])), [1, t, vocab])


MODELS = {
    "gemm_512": gemm, "gemm_1024": gemm, "gemm_2048": gemm, "chain_l2": chain, "chain_dram": chain, "axpy_dram": axpy,
    "softmax": softmax, "layernorm": layernorm, "sum_all": sums, "sum_axis0": sums, "mlp_b1": mlp_b1, "poly_batch": poly_batch,
    "resnet18_fwd": resnet18, "gpt_fwd": gpt, "attn_2048": attn,
}


if __name__ == "__main__":
    row, variant, path = sys.argv[1:]
    graph = Graph()
    MODELS[row](graph, row, variant)
    onnx.save(graph.model(), path)
