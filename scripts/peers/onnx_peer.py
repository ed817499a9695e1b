#!/usr/bin/env python3
"""ONNX Runtime's rows: models of onnx_models.py, all optimisations on. See measure.py for the command line.

The first call includes loading the model from a file and preparing its session. A variant's last word is how it is called: `run`
hands arrays over and gets one, `bound` has its inputs and outputs bound beforehand, `into` writes into an array that is bound.
"""
import atexit
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

import data
import measure
from data import normal
from measure import Row

rows = measure.Rows()
threads = 2
HOW = ("run", "bound", "into")


def start(n):
    global threads
    threads = n


def model(name, variant):
    """The file of a row's model, which lasts as long as the process."""
    handle, path = tempfile.mkstemp(suffix=".onnx")
    os.close(handle)
    atexit.register(os.remove, path)
    builder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "onnx_models.py")
    subprocess.run([sys.executable, builder, name, variant, path], check=True)
    return path


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Rows are chains of nodes, so nodes side by side gain nothing.
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def fixed(name, variant, inputs, shape):
    """A row of fixed shapes: its model, its inputs by name, the shape of its output."""
    how = variant.split()[-1]
    path = model(name, " ".join(variant.split()[:-1]))
    out = np.empty(shape, np.float32) if how == "into" else None
    run = None

    def call():
        nonlocal run
        if run is None:
            run = caller(session(path), how, inputs, out)
        return run()

    return Row(call, lambda y: [np.asarray(y)], "into" if how == "into" else "fresh")


def caller(s, how, inputs, out):
    name = s.get_outputs()[0].name
    if how == "run":
        return lambda: s.run(None, inputs)[0]
    io = s.io_binding()
    for n, a in inputs.items():
        io.bind_cpu_input(n, a)
    if how == "into":
        io.bind_output(name, "cpu", 0, np.float32, out.shape, out.ctypes.data)

        def call():
            s.run_with_iobinding(io)
            return out
    else:
        def call():
            # Bound anew, so that a call's result is not overwritten by the next.
            io.bind_output(name, "cpu")
            s.run_with_iobinding(io)
            return io.get_outputs()[0]
    return call


@rows.row("gemm_512", "gemm_1024", "gemm_2048", variants=HOW)
def gemm(name, variant):
    n = int(name[5:])
    return fixed(name, variant, {"a": normal(1, n, n), "b": normal(2, n, n)}, (n, n))


@rows.row("chain_l2", "chain_dram", variants=HOW)
def chain(name, variant):
    n = 65536 if name == "chain_l2" else 16777216
    return fixed(name, variant, {"x": normal(1, n)}, (n,))


@rows.row("axpy_dram", variants=HOW)
def axpy(name, variant):
    n = 16777216
    return fixed(name, variant, {"x": normal(1, n), "y": normal(2, n)}, (n,))


@rows.row("softmax", variants=HOW)
def softmax(name, variant):
    return fixed(name, variant, {"x": normal(1, 4096, 1024)}, (4096, 1024))


@rows.row("layernorm", variants=HOW)
def layernorm(name, variant):
    inputs = {"x": normal(1, 4096, 1024), "scale": normal(2, 1024), "bias": normal(3, 1024)}
    return fixed(name, variant, inputs, (4096, 1024))


@rows.row("sum_all", "sum_axis0", variants=HOW)
def sums(name, variant):
    return fixed(name, variant, {"x": normal(1, 4096, 4096)}, () if name == "sum_all" else (4096,))


@rows.row("mlp_b1", variants=HOW)
def mlp_b1(name, variant):
    return fixed(name, variant, {"x": data.mlp_b1()[1]}, (1, 10))


@rows.row("poly_batch")
def poly_batch(name, _):
    path, xs = model(name, ""), data.poly_batch()[1]

    def call():
        s = session(path)
        return [s.run(None, {"x": x})[0] for x in xs]

    return Row(call, list, forget=lambda: None)


@rows.row("resnet18_fwd", variants=("run",))
def resnet18(name, variant):
    return fixed(name, variant, {"x": data.resnet18()[1]}, (1, 1000))


@rows.row("gpt_fwd", variants=tuple(f"{a} {rank} run" for a in ("products", "attention", "mha") for rank in ("2d", "3d")))
def gpt(name, variant):
    return fixed(name, variant, {"tokens": data.gpt(1)[1]}, (1, 128, 1000))


@rows.row("attn_2048", variants=tuple(f"{a} run" for a in ("products", "attention", "mha")))
def attn(name, variant):
    return fixed(name, variant, dict(zip("qkv", data.attn_2048())), (1, 8, 2048, 64))


if __name__ == "__main__":
    measure.serve("onnx", ort.__version__, rows, start)
