#!/usr/bin/env python3
"""Times matrix products of the shapes of real models beside NumPy and JAX, in alternation, and prints ratio lines.

    python3 scripts/products.py [--rounds N] [--threads N] [--bench BINARY] [SPEC ...]

A SPEC is `[BATCH@]MxKxN` with `:a`, `:b` or `:ab` behind it for operands stored transposed; without one, the squares and the
forward, dW and dX products of the workloads `mlp_train`, `gpt_train` and `deep_*` are run. Each side is one process that
is asked in turn, round after round. Ratios are lehr over the faster peer of the same round, so below 1 lehr is faster: the
median over rounds, for the median and for the least of a round's calls. The bench binary is built first.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

SQUARES = ["64x64x64", "256x256x256", "512x512x512", "1024x1024x1024", "2048x2048x2048"]
MLP = ["128x784x512", "128x512x256", "128x256x10", "784x128x512:a", "512x128x256:a", "256x128x10:a", "128x256x512:b",
       "128x10x256:b"]
GPT = ["1024x256x256", "1024x256x768", "1024x256x1024", "1024x1024x256", "1024x256x1000",
       "256x1024x256:a", "256x1024x768:a", "256x1024x1024:a", "1024x1024x256:a", "256x1024x1000:a",
       "1024x256x256:b", "1024x768x256:b", "1024x1024x256:b", "1024x256x1024:b", "1024x1000x256:b",
       "32@128x64x128:b", "32@128x128x64", "32@128x128x64:a"]
DEEP = ["8x64x64", "64x8x64:a", "8x64x64:b"]
SKINNY = ["1x1024x1024", "8x1024x1024", "1024x1024x1", "1024x1024x8"]

PEER = r"""
import statistics, sys, time
import numpy as np
jax = None
if sys.argv[1] == "jax":
    import jax
made = {}

def make(spec):
    shape, _, turned = spec.partition(":")
    batch, _, shape = shape.rpartition("@")
    m, k, n = map(int, shape.split("x"))
    lead = (int(batch),) if batch else ()
    rng = np.random.default_rng(0)
    normal = lambda r, c, t: rng.standard_normal(lead + ((c, r) if t else (r, c)), dtype=np.float32)
    a, b = normal(m, k, "a" in turned), normal(k, n, "b" in turned)
    turn = lambda x, t: x.swapaxes(-1, -2) if t else x
    if jax:
        f = jax.jit(lambda a, b: jax.numpy.matmul(turn(a, "a" in turned), turn(b, "b" in turned)))
        a, b = jax.numpy.asarray(a), jax.numpy.asarray(b)
        return lambda: f(a, b).block_until_ready()
    return lambda: np.matmul(turn(a, "a" in turned), turn(b, "b" in turned))

for line in sys.stdin:
    spec = line.strip()
    f = made.setdefault(spec, None) or make(spec)
    made[spec] = f
    f()
    times, start = [], time.perf_counter()
    while len(times) < 5 or (len(times) < 2000 and time.perf_counter() - start < 0.15):
        t = time.perf_counter()
        f()
        times.append((time.perf_counter() - t) * 1e3)
    print(statistics.median(times), min(times), flush=True)
"""


def main():
    p = argparse.ArgumentParser()
    p.add_argument("specs", nargs="*")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bench", help="the bench binary, instead of building it")
    a = p.parse_args()
    bench = a.bench
    if not bench:
        built = subprocess.run(
            ["cargo", "bench", "--bench", "products", "--no-run", "--message-format=json"],
            capture_output=True, text=True, check=True)
        found = [json.loads(l) for l in built.stdout.splitlines() if '"executable"' in l]
        bench = [f["executable"] for f in found if f.get("executable") and f["target"]["name"] == "products"][-1]
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads), OPENBLAS_NUM_THREADS=str(a.threads), JAX_PLATFORMS="cpu",
               XLA_FLAGS=f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={a.threads}")
    # These make NumPy choose kernels for another processor.
    env.pop("OPENBLAS_CORETYPE", None)
    env.pop("OPENBLAS_L2_SIZE", None)
    start = lambda c: subprocess.Popen(c, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    peers = {w: start([sys.executable, "-c", PEER, w]) for w in ("numpy", "jax")
             if subprocess.run([sys.executable, "-c", f"import {w}"], capture_output=True).returncode == 0}
    if not peers:
        sys.exit("neither NumPy nor JAX is installed")
    ours = start([bench, "--threads", str(a.threads)])

    def ask(process, spec):
        process.stdin.write(spec + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            sys.exit(f"no answer for {spec}")
        if line.startswith("{"):
            line = json.loads(line)
            return line["ms"], line["min_ms"]
        return tuple(map(float, line.split()))

    print(f"{'product':18} {'GFLOP/s':>8} {'lehr ms':>9}" + "".join(f" {w + ' ms':>9}" for w in peers) + " ms ratio min ratio")
    for spec in a.specs or SQUARES + MLP + GPT + DEEP + SKINNY:
        rounds = [(ask(ours, spec), {w: ask(p, spec) for w, p in peers.items()}) for _ in range(a.rounds)]
        ratio = lambda i: statistics.median(o[i] / min(t[i] for t in ts.values()) for o, ts in rounds)
        batch, _, shape = spec.partition(":")[0].rpartition("@")
        m, k, n = map(int, shape.split("x"))
        least = min(o[1] for o, _ in rounds)
        print(f"{spec:18} {2e-6 * int(batch or 1) * m * k * n / least:8.1f} {least:9.4f}"
              + "".join(f" {min(ts[w][1] for _, ts in rounds):9.4f}" for w in peers)
              + f" {ratio(0):8.2f} {ratio(1):9.2f}", flush=True)


if __name__ == "__main__":
    main()
