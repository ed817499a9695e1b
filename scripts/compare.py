#!/usr/bin/env python3
"""Runs the workload runner beside NumPy, JAX, PyTorch and ONNX Runtime, in alternation, and prints the table of ratios.

    python3 scripts/compare.py [--rounds N] [--threads N] [--peers NAME,…] [--compile] [--markdown] [--bench BINARY] [ROW ...]
    python3 scripts/compare.py --peers-only [ROW ...]

Each side runs in a process of its own, one workload a process, round after round, and every other round in the reverse order.
A peer that is not installed is left out. Before its first round every peer's result is checked against NumPy in double precision,
and where it can do a row in several ways (layouts of images, implementations of the optimiser) the fastest is kept for all rounds.
`--compile` adds `torch.compile`, which takes long to compile. A peer whose least call took more than 1.5 times the fastest peer's
sits out the rounds that follow.

Ratios are lehr over the fastest peer of the same round, so below 1 lehr is faster: the median over rounds and, in brackets, the
least and the greatest, for the median of a round's calls (`ms`) and for its least call (`min ms`). A row is won when both medians
are at most 1.00, level when they are at most 1.05; fewer than seven rounds decide nothing. The first call, from nothing built, is
held against JAX's. Memory is the process's peak in MiB less its size once the library is up; lehr's is the whole of its process
unless the runner prints its size at the start as `init_mb`.

The bench binary is built first. With `--peers-only` the peers are checked and timed without it.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field

ROWS = [
    "gemm_512", "gemm_1024", "gemm_2048", "chain_l2", "chain_dram", "axpy_dram", "softmax", "layernorm", "sum_all",
    "sum_axis0", "mlp_train", "cnn_train", "gpt_train", "gpt_fwd", "resnet18_fwd", "mlp_b1", "attn_2048", "attn_2048_grad",
    "scalar_grad", "poly_batch", "deep_10", "deep_100", "deep_1000", "solve_1000", "svd_300", "sort_1m", "cumsum_1m",
]
PEERS = ["numpy", "jax", "torch", "onnx"]
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
# A process that takes longer, in seconds, has failed.
PATIENCE = 900
# Fewer rounds decide nothing.
DECISIVE = 7
# A peer whose least call takes this many times the fastest peer's sits out the rounds that follow.
BEATEN = 1.5


class Failed(Exception):
    """A process that printed no line, with the end of what it said."""


@dataclass
class Peer:
    """A library that is run beside lehr."""
    name: str
    version: str
    # The variants of each row it has.
    rows: dict
    # The variant that is kept, for each row that was tried.
    kept: dict = field(default_factory=dict)

    def command(self, row, threads, *more):
        return [sys.executable, script(self.name), row, "--threads", str(threads), *more]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="ROW")
    p.add_argument("--rounds", type=int, default=DECISIVE)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--peers", default=",".join(PEERS), help="which of " + ", ".join(PEERS))
    p.add_argument("--compile", action="store_true", help="torch.compile as a peer")
    p.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    p.add_argument("--peers-only", action="store_true", help="without lehr")
    p.add_argument("--bench", help="the bench binary, instead of building it")
    a = p.parse_args()
    env = dict(os.environ, **{f"{lib}_NUM_THREADS": str(a.threads) for lib in ("OMP", "OPENBLAS", "MKL")})
    peers = [found for name in a.peers.split(",") + ["compile"] * a.compile if (found := installed(name, env))]
    bench = None if a.peers_only else a.bench or build()
    print("Beside " + (", ".join(f"{p.name} {p.version}" for p in peers) or "nothing") + f"; {a.threads} threads, {a.rounds} rounds.\n")
    show = Table(a.markdown)
    for row in a.names or ROWS:
        try:
            show.row(measure(row, bench, peers, a, env))
        except Failed as e:
            show.left_out(row, e)
    show.end()


def script(peer):
    return os.path.join(FOLDER, f"{peer}_peer.py")


def build():
    """Builds the bench binary and returns its path."""
    built = subprocess.run(["cargo", "bench", "--bench", "workloads", "--no-run", "--message-format=json"],
                           stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in built.stdout.splitlines() if '"executable"' in line]
    return [l["executable"] for l in lines if l.get("executable") and l["target"]["name"] == "workloads"][-1]


def installed(name, env):
    """The peer, or nothing where its library is not there."""
    if not os.path.exists(script(name)):
        sys.exit(f"compare.py: there is no peer `{name}`; there are {', '.join(PEERS)}")
    try:
        line = run([sys.executable, script(name), "--list"], env)
        return Peer(name, line["version"], line["rows"])
    except Failed as e:
        why = "it is not installed" if "ModuleNotFoundError" in str(e) else e
        print(f"compare.py: {name} is left out: {why}", file=sys.stderr)
        return None


def run(command, env):
    """The JSON line that a process prints last."""
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"it took more than {PATIENCE} s") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise Failed(done.stderr.strip()[-600:] or f"it ended with {done.returncode}")
    return json.loads(lines[-1])


@dataclass
class Measured:
    """A row's rounds. In a round, a line for each side that came through; lehr's is under `lehr`."""
    name: str
    rounds: list
    variants: dict

    def sides(self):
        """The peers that came through in any round."""
        return [s for s in dict.fromkeys(s for r in self.rounds for s in r) if s != "lehr"]

    def median(self, side, f):
        return statistics.median(f(r[side]) for r in self.rounds if side in r)

    def fastest(self):
        """The peer whose median over rounds is least."""
        return min(self.sides(), key=lambda s: self.median(s, lambda line: line["ms"]), default=None)

    def ratios(self, key, side=None):
        """lehr over that side, or over the fastest peer of the round."""
        found = []
        for r in self.rounds:
            against = [line[key] for s, line in r.items() if s != "lehr" and side in (None, s)]
            if "lehr" in r and against:
                found.append(r["lehr"][key] / min(against))
        return found


def measure(row, bench, peers, a, env):
    """Tries and then times a row on all sides."""
    ours = [bench, row, "--threads", str(a.threads)]
    if bench:
        # Once for nothing, to know that the row is there, and to have the binary in memory as the peers' libraries are.
        try:
            run(ours, env)
        except Failed as e:
            missing = f"there is no workload `{row}`" in str(e)
            raise Failed("the runner has no such row (--peers-only runs the peers alone)" if missing else f"lehr: {e}") from None
    here = try_out(row, [p for p in peers if row in p.rows], a, env)
    if not here:
        raise Failed("no peer has it")
    sides = {p.name: p.command(row, a.threads, "--variant", p.kept[row]) for p in here}
    if bench:
        sides = {"lehr": ours} | sides
    rounds = []
    for k in range(a.rounds):
        order = list(sides) if k % 2 == 0 else list(sides)[::-1]
        lines = {}
        for side in order:
            try:
                lines[side] = run(sides[side], env)
            except Failed as e:
                print(f"compare.py: {row}, round {k + 1}: {side} failed: {e}", file=sys.stderr)
        rounds.append({s: lines[s] for s in sides if s in lines})
        sides = contenders(sides, rounds[-1])
    if bench and not any("lehr" in r and len(r) > 1 for r in rounds):
        raise Failed("no round has lehr and a peer")
    return Measured(row, rounds, {p.name: p.kept[row] for p in here})


def contenders(sides, lines):
    """Those of the sides that may still be a row's fastest peer, after a round."""
    best = min((line["min_ms"] for side, line in lines.items() if side != "lehr"), default=0)
    return {s: c for s, c in sides.items() if s == "lehr" or s not in lines or lines[s]["min_ms"] <= BEATEN * best}


def try_out(row, peers, a, env):
    """The peers whose result is right, each with its fastest variant kept; training steps must agree on their losses."""
    right, losses = [], {}
    for peer in peers:
        best = None
        for variant in peer.rows[row]:
            try:
                line = run(peer.command(row, a.threads, "--variant", variant, "--check", "--seconds", "1"), env)
            except Failed as e:
                print(f"compare.py: {row}: {peer.name} {variant} is left out: {e}", file=sys.stderr)
                continue
            losses[f"{peer.name} {variant}"] = line.get("losses")
            # The least call suffers least from what else the machine does.
            if best is None or line["min_ms"] < best["min_ms"]:
                best = line
        if best:
            peer.kept[row] = best["variant"]
            right.append(peer)
    steps = {side: l for side, l in losses.items() if l}
    for side, curve in steps.items():
        first, other = next(iter(steps.items()))
        if any(abs(x - y) > 1e-3 * abs(y) for x, y in zip(curve, other)):
            raise Failed(f"the losses of {side}, {curve}, are not those of {first}, {other}")
    return right


class Table:
    """Prints rows as they come, in columns or in Markdown."""

    HEAD = ["row", "lehr ms", "fastest peer", "its ms", "ms ratio", "min ms ratio", "", "first call", "MiB", "peers' MiB", "peers' ms"]
    WIDTHS = [12, 9, 13, 9, 19, 19, 9, 24, 6, 38, 0]

    def __init__(self, markdown):
        self.markdown = markdown
        self.means, self.verdicts, self.missing = [], Counter(), []
        self.line(self.HEAD)
        if markdown:
            self.line(["---"] * len(self.HEAD))

    def line(self, cells):
        if self.markdown:
            print("| " + " | ".join(cells) + " |", flush=True)
        else:
            print("  ".join(c.ljust(w) for c, w in zip(cells, self.WIDTHS)).rstrip(), flush=True)

    def row(self, m):
        fastest = m.fastest()
        least = lambda side: m.median(side, lambda l: l["ms"])
        memory = lambda side: m.median(side, lambda l: l["rss_mb"] - l.get("init_mb", 0))
        peers = sorted(m.sides(), key=least)
        tail = [", ".join(f"{s} {memory(s):.0f}" for s in peers),
                ", ".join(f"{s} {digits(least(s))}" + (f" ({m.variants[s]})" if m.variants[s] else "") for s in peers)]
        if not any("lehr" in r for r in m.rounds):
            self.line([m.name, "", fastest, digits(least(fastest)), "", "", "", "", "", *tail])
            return
        ratios, least_ratios = m.ratios("ms"), m.ratios("min_ms")
        self.means.append(statistics.median(ratios))
        verdict = judge(ratios, least_ratios)
        self.verdicts[verdict] += 1
        self.line([m.name, digits(least("lehr")), fastest, digits(least(fastest)), spread(ratios), spread(least_ratios), verdict,
                   first_call(m), f"{memory('lehr'):.0f}", *tail])

    def left_out(self, row, why):
        self.missing.append(row)
        if self.markdown:
            print(f"compare.py: {row} is left out: {why}", file=sys.stderr, flush=True)
        else:
            print(f"{row:12}  left out: {why}", flush=True)

    def end(self):
        if self.means:
            mean = math.exp(statistics.mean(map(math.log, self.means)))
            counts = ", ".join(f"{n} {v}" for v, n in self.verdicts.items())
            print(f"\nGeometric mean of the ms ratios over {len(self.means)} rows: {mean:.2f} ({counts}).")
        if self.missing:
            print(f"\nLeft out: {', '.join(self.missing)}.")


def judge(ratios, least_ratios):
    worst = max(statistics.median(ratios), statistics.median(least_ratios))
    if len(ratios) < DECISIVE:
        return "undecided"
    return "won" if worst <= 1.0 else "level" if worst <= 1.05 else "lost"


def first_call(m):
    """The first call against the compilers'."""
    cells = []
    for side in ("jax", "compile"):
        if ratios := m.ratios("first_ms", side):
            r = statistics.median(ratios)
            cells.append(f"{side} 1/{1 / r:.0f}" if r < 0.67 else f"{side} {r:.2f}")
    return ", ".join(cells)


def spread(ratios):
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def digits(ms):
    """Milliseconds to three digits."""
    return f"{ms:.{max(0, 2 - math.floor(math.log10(ms)))}f}" if ms > 0 else "0"


if __name__ == "__main__":
    main()
