#!/usr/bin/env python3
"""Writes what JAX gives for the programs of tests/facade/jax: values, gradients, Hessians, over a batch of points.

    python3 scripts/jax_programs.py [NAME ...]

It needs NumPy and JAX (CPU), and writes tests/facade/jax/programs.npz, which the test reads without Python. Run it again when a
program is added or changed here, and change the Rust program of the same name with it. With names, only these are run again, and
programs that are no longer defined are dropped from the file.

A program is a function of f64 arrays, its arguments, to one array. Two members belong to each:

    NAME/values  [B, ...]  the result at each of B points, as f64
    NAME/rows    [_, N]    rows as long as all arguments together, flattened one after another:
                           the B points, whose numbers are all of f32 too;
                           the B gradients of the weighted sum of the result;
                           where the program is smooth there, the N rows of its Hessian at the first point

Weights are 0.5 + (37 i mod 101) / 101 for the i-th element of the result, so that no two elements count alike. Programs marked
`forward` go through a loop of unknown length and are differentiated in forward mode.
"""
import math
import pathlib
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")
# Most of the time goes into compiling; the arithmetic is the same.
jax.config.update("jax_disable_most_optimizations", True)

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "facade" / "jax" / "programs.npz"
BATCH = 3


class Program:
    def __init__(self, f, shapes, low, high, rows, smooth, forward):
        self.f, self.shapes, self.smooth, self.forward = f, shapes, smooth, forward
        self.low, self.high, self.rows = low, high, rows

    def points(self, name):
        size = sum(math.prod(s) for s in self.shapes)
        if self.rows is not None:
            points = np.array(self.rows, np.float64)
            assert points.shape[1] == size, f"{name}: points of {points.shape[1]} numbers, {size} wanted"
        else:
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            points = rng.uniform(self.low, self.high, (BATCH, size))
            # Short fractions away from integers, where some programs have kinks.
            points = np.floor(points * 256) / 256 + 1 / 1024
        assert np.array_equal(points, points.astype(np.float32), equal_nan=True), f"{name}: points that are not f32"
        return points

    def split(self, p):
        args, start = [], 0
        for shape in self.shapes:
            size = math.prod(shape)
            args.append(p[start:start + size].reshape(shape))
            start += size
        return args

    def value(self, p):
        return jnp.asarray(self.f(*self.split(p))).astype(jnp.float64)

    def loss(self, p):
        y = self.value(p)
        weights = 0.5 + (37 * np.arange(y.size) % 101) / 101
        return jnp.sum(y * weights.reshape(y.shape))

    def answers(self, name):
        first = jax.jacfwd if self.forward else jax.grad
        points = self.points(name)
        grad = first(self.loss)

        def all_(points):
            both = lambda p: (self.value(p), grad(p))
            hessian = jax.jacfwd(grad)(points[0]) if self.smooth else None
            return jax.vmap(both)(points), both(points[0]), hessian

        (values, grads), alone, hessian = jax.jit(all_)(points)
        # What JAX says of one point has to agree with what it says of a batch, or the batch cannot be the reference for both.
        for one, many in zip(alone, (values, grads)):
            assert np.allclose(one, many[0], 1e-11, 1e-13, equal_nan=True), f"{one} alone and {many[0]} in a batch"
        rows = [points, grads]
        if self.smooth:
            assert np.isfinite(hessian).all(), f"the Hessian is {hessian}"
            rows.append(hessian)
        rows = np.concatenate([np.asarray(r, np.float64) for r in rows])
        return {f"{name}/rows": rows, f"{name}/values": np.asarray(values, np.float64)}


PROGRAMS = {}


def add(name, f, *shapes, low=-2.0, high=2.0, rows=None, smooth=True, forward=False):
    """A program over points from `low` to `high`, or at these rows."""
    assert name not in PROGRAMS, name
    PROGRAMS[name] = Program(f, shapes, low, high, rows, smooth, forward)


def edge(name, f, *points, smooth=False):
    """A program of one vector at points where a convention decides; a second row of a batch has them in reverse."""
    rows = [list(p) for p in points]
    if len(rows) == 1:
        rows.append(rows[0][::-1])
    add(name, f, (len(rows[0]),), rows=rows, smooth=smooth)


def define():
    import jax_programs_basic
    import jax_programs_more
    import jax_programs_windows
    jax_programs_basic.define(add)
    jax_programs_more.define(add, edge)
    jax_programs_windows.define(add)


def main():
    define()
    asked = sys.argv[1:] or list(PROGRAMS)
    old = np.load(OUT) if sys.argv[1:] else {}
    arrays = {k: old[k] for k in old if k.split("/")[0] in PROGRAMS and k.split("/")[0] not in asked}
    failed = []
    for i, name in enumerate(asked):
        if i % 20 == 0:
            print(f"{i} of {len(asked)}", flush=True)
        try:
            arrays.update(PROGRAMS[name].answers(name))
        except Exception as e:
            failed.append(f"{name}: {e}")
    arrays = {k: v for name in PROGRAMS for k, v in arrays.items() if k.split("/")[0] == name}
    # The reader takes members without compression.
    np.savez(OUT, **arrays)
    print(f"{len({k.split('/')[0] for k in arrays})} programs, {OUT.stat().st_size // 1024} KiB")
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
