#!/usr/bin/env python3
"""Runs the workload runner beside NumPy and JAX, in alternation, and prints the ratio table.

    python3 scripts/compare.py [--rounds N] [--threads N] [NAME ...]

Each side runs in a process of its own, one workload a process, round after round. A peer that is not installed is left out.
Ratios are lehr over the fastest peer, so below 1 lehr is faster: the median over rounds of `ms`, of `min_ms`, and of `first_ms`
against JAX. The bench binary is built first.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

ROWS = [
    "gemm_512", "gemm_1024", "gemm_2048", "chain_l2", "chain_dram", "axpy_dram", "softmax", "layernorm", "attn_2048",
    "attn_2048_grad", "sum_all",
    "sum_axis0", "mlp_train", "mlp_b1", "scalar_grad", "poly_batch", "deep_10", "deep_100", "deep_1000",
]


def timed(call, sync):
    warm = time.perf_counter()
    while time.perf_counter() - warm < 0.3:
        sync(call())
    times, start = [], time.perf_counter()
    while len(times) < 5 or (len(times) < 2000 and time.perf_counter() - start < 3):
        t = time.perf_counter()
        sync(call())
        times.append((time.perf_counter() - t) * 1e3)
    return statistics.median(times), min(times)


def numpy_row(name):
    import numpy as np
    rng = np.random.default_rng(0)
    normal = lambda *s: rng.standard_normal(s, dtype=np.float32)
    if name.startswith("gemm_"):
        n = int(name[5:])
        a, b, out = normal(n, n), normal(n, n), np.empty((n, n), np.float32)
        return lambda: np.matmul(a, b, out=out)
    if name.startswith("chain_"):
        x = normal(65536 if name == "chain_l2" else 16777216)
        return lambda: np.tanh(1.5 * x + 0.5) * (1 / (1 + np.exp(-x))) + x * x
    if name == "axpy_dram":
        x, y0 = normal(16777216), normal(16777216)
        out = np.empty_like(x)
        return lambda: np.add(np.multiply(x, np.float32(2.5), out=out), y0, out=out)
    if name == "softmax":
        x = normal(4096, 1024)
        def f():
            e = np.exp(x - x.max(axis=1, keepdims=True))
            return e / e.sum(axis=1, keepdims=True)
        return f
    if name == "layernorm":
        x, g, b = normal(4096, 1024), normal(1024), normal(1024)
        def f():
            m = x.mean(axis=1, keepdims=True)
            c = x - m
            return c / np.sqrt((c * c).mean(axis=1, keepdims=True) + 1e-5) * g + b
        return f
    if name in ("sum_all", "sum_axis0"):
        x = normal(4096, 4096)
        return (lambda: x.sum()) if name == "sum_all" else (lambda: x.sum(axis=0))
    return None


def jax_row(name):
    """The function to time, and a function that builds and runs it from nothing, for `first_ms`."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    rng = np.random.default_rng(0)
    normal = lambda *s: jnp.asarray(rng.standard_normal(s, dtype=np.float32))

    def mlp(sizes):
        return [(normal(a, b) * 0.05, jnp.zeros(b, jnp.float32)) for a, b in zip(sizes, sizes[1:])]

    def forward(params, x):
        for i, (w, b) in enumerate(params):
            x = x @ w + b
            if i + 1 < len(params):
                x = jax.nn.relu(x)
        return x

    if name.startswith("gemm_"):
        n = int(name[5:])
        return jax.jit(lambda a, b: a @ b), (normal(n, n), normal(n, n))
    if name.startswith("chain_"):
        x = normal(65536 if name == "chain_l2" else 16777216)
        return jax.jit(lambda x: jnp.tanh(1.5 * x + 0.5) * jax.nn.sigmoid(x) + x * x), (x,)
    if name == "axpy_dram":
        return jax.jit(lambda x, y: 2.5 * x + y), (normal(16777216), normal(16777216))
    if name == "softmax":
        return jax.jit(lambda x: jax.nn.softmax(x, axis=-1)), (normal(4096, 1024),)
    if name == "layernorm":
        def f(x, g, b):
            m = x.mean(-1, keepdims=True)
            v = ((x - m) ** 2).mean(-1, keepdims=True)
            return (x - m) * jax.lax.rsqrt(v + 1e-5) * g + b
        return jax.jit(f), (normal(4096, 1024), normal(1024), normal(1024))
    if name.startswith("attn_2048"):
        # JAX's own layout has heads after positions.
        q, k, v, w = (normal(1, 2048, 8, 64) for _ in range(4))
        attend = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True)
        if name == "attn_2048":
            return jax.jit(attend), (q, k, v)
        return jax.jit(jax.value_and_grad(lambda q, k, v: (attend(q, k, v) * w).sum(), argnums=(0, 1, 2))), (q, k, v)
    if name == "sum_all":
        return jax.jit(lambda x: x.sum()), (normal(4096, 4096),)
    if name == "sum_axis0":
        return jax.jit(lambda x: x.sum(0)), (normal(4096, 4096),)
    if name == "scalar_grad":
        return jax.jit(jax.value_and_grad(lambda x: x * x + 2 * x)), (jnp.float32(3),)
    if name == "mlp_b1":
        return jax.jit(forward), (mlp([64, 32, 10]), normal(1, 64))
    if name == "mlp_train":
        params = mlp([784, 512, 256, 10])
        x, y = normal(128, 784), jnp.asarray(np.arange(128) * 7 % 10)
        zeros = jax.tree.map(jnp.zeros_like, params)

        def loss(p):
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(forward(p, x)), y[:, None], 1))

        def step(p, m, v, t):
            value, g = jax.value_and_grad(loss)(p)
            t = t + 1
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
            a, b = 1 - 0.9 ** t, 1 - 0.999 ** t
            p = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / a) / (jnp.sqrt(v / b) + 1e-8), p, m, v)
            return value, p, m, v, t

        return jax.jit(step, donate_argnums=(0, 1, 2)), [params, zeros, jax.tree.map(jnp.zeros_like, params), jnp.float32(0)]
    if name.startswith("deep_"):
        depth = int(name[5:])
        params = [(normal(64, 64) * 0.01, jnp.full(64, 0.05, jnp.float32)) for _ in range(depth)]

        def f(params, x):
            for w, b in params:
                x = x + jax.nn.relu(x @ w + b)
            return x.sum()

        return jax.jit(jax.value_and_grad(f)), (params, normal(8, 64))
    if name == "poly_batch":
        params = mlp([784, 512, 256, 10])
        xs = [normal(b, 784) for b in range(1, 51)]

        def all_sizes():
            f = jax.jit(forward)
            return [f(params, x) for x in xs]

        return all_sizes, None
    return None


def peer(which, name):
    if which == "numpy":
        call = numpy_row(name)
        if call is None:
            return
        t = time.perf_counter()
        call()
        first = (time.perf_counter() - t) * 1e3
        ms, least = timed(call, lambda r: r)
    else:
        import jax
        row = jax_row(name)
        if row is None:
            return
        f, args = row
        if args is None:
            t = time.perf_counter()
            jax.block_until_ready(f())
            first = ms = least = (time.perf_counter() - t) * 1e3
        else:
            t = time.perf_counter()
            out = jax.block_until_ready(f(*args))
            first = (time.perf_counter() - t) * 1e3
            if name == "mlp_train":
                state = list(out[1:])
                def call():
                    nonlocal state
                    out = f(*state)
                    state = list(out[1:])
                    return out
                ms, least = timed(call, jax.block_until_ready)
            else:
                ms, least = timed(lambda: f(*args), jax.block_until_ready)
    print(json.dumps({"fw": which, "name": name, "ms": ms, "min_ms": least, "first_ms": first}))


def run(command, env):
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    lines = [l for l in done.stdout.splitlines() if l.startswith("{")]
    if done.returncode != 0:
        print(f"failed: {' '.join(command)}\n{done.stderr[-500:]}", file=sys.stderr)
    return json.loads(lines[-1]) if lines else None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("names", nargs="*")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--peer")
    p.add_argument("--bench", help="the bench binary, instead of building it")
    a = p.parse_args()
    if a.peer:
        return peer(a.peer, a.names[0])
    bench = a.bench
    if not bench:
        built = subprocess.run(
            ["cargo", "bench", "--bench", "workloads", "--no-run", "--message-format=json"],
            capture_output=True, text=True, check=True)
        found = [json.loads(l) for l in built.stdout.splitlines() if '"executable"' in l]
        bench = [f["executable"] for f in found if f.get("executable") and f["target"]["name"] == "workloads"][-1]
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads), OPENBLAS_NUM_THREADS=str(a.threads), JAX_PLATFORMS="cpu",
               XLA_FLAGS=f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={a.threads}")
    peers = []
    for which in ("numpy", "jax"):
        if subprocess.run([sys.executable, "-c", f"import {which}"], capture_output=True).returncode == 0:
            peers.append(which)
    print(f"{'row':12} {'lehr ms':>10} {'peer ms':>10} {'peer':>6} {'ms ratio':>9} {'min ratio':>9} {'first vs JAX':>13}")
    for name in a.names or ROWS:
        rounds = []
        for _ in range(a.rounds):
            ours = run([bench, name, "--threads", str(a.threads)], env)
            theirs = {w: run([sys.executable, __file__, "--peer", w, name], env) for w in peers}
            theirs = {w: r for w, r in theirs.items() if r}
            if ours and theirs:
                rounds.append((ours, theirs))
        if not rounds:
            continue
        med = lambda f: statistics.median(f(o, t) for o, t in rounds)
        best = lambda t, key: min(r[key] for r in t.values())
        fastest = min(rounds[-1][1], key=lambda w: rounds[-1][1][w]["ms"])
        first = med(lambda o, t: o["first_ms"] / t["jax"]["first_ms"]) if all("jax" in t for _, t in rounds) else None
        print(f"{name:12} {med(lambda o, t: o['ms']):10.4f} {med(lambda o, t: best(t, 'ms')):10.4f} {fastest:>6} "
              f"{med(lambda o, t: o['ms'] / best(t, 'ms')):9.2f} {med(lambda o, t: o['min_ms'] / best(t, 'min_ms')):9.2f} "
              f"{'1/%.0f' % (1 / first) if first else '':>13}", flush=True)


if __name__ == "__main__":
    main()
