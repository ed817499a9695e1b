"""What the peers share: a table of rows, timing as the workload runner times, memory, and a command line.

    python3 scripts/peers/NAME_peer.py --list
    python3 scripts/peers/NAME_peer.py ROW [--variant V] [--threads N] [--seconds S] [--check]

`--list` prints the library's version and its rows with their variants as one JSON line. A row prints one JSON line like the runner's:
`{"fw":"torch","name":"softmax","variant":"","ms":…,"min_ms":…,"first_ms":…,"n":…,"rss_mb":…,"init_mb":…,"out":"fresh"}`.
`rss_mb` is the peak from the inputs on and `init_mb` the size once the library is imported and its threads are up, so a row's memory
is the difference. With `--check` the results are compared with NumPy's, in double precision, and a mismatch ends the process with 1.
"""
import argparse
import ctypes
import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable

import reference


@dataclass
class Row:
    """One workload, ready to be called."""
    # One call: it returns when the result is there. A training step returns its loss.
    call: Callable[[], Any]
    # A call's results as NumPy arrays, in the order of `reference`.
    arrays: Callable[[Any], list]
    # "fresh": a call makes new arrays; "into": it writes into given ones; "donated": into its own old state.
    out: str = "fresh"
    # For rows that are timed from nothing: forgets what was built. Each call is timed after it, and all are alike.
    forget: Callable[[], None] | None = None


class Rows:
    """The rows of a peer by name, each with the variants of which the fastest counts."""

    def __init__(self):
        self.table = {}

    def row(self, *names, variants=("",)):
        def add(make):
            for name in names:
                self.table[name] = (make, list(variants))
            return make
        return add

    def without(self, *names):
        kept = Rows()
        kept.table = {n: r for n, r in self.table.items() if n not in names}
        return kept


def serve(fw, version, rows, start=lambda threads: None):
    """The command line of a peer. `start` brings the library up with so many threads, before memory is counted."""
    p = argparse.ArgumentParser()
    p.add_argument("row", nargs="?")
    p.add_argument("--list", action="store_true")
    p.add_argument("--variant")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seconds", type=float, default=3.0)
    p.add_argument("--check", action="store_true")
    a = p.parse_args()
    if a.list or not a.row:
        print(json.dumps({"fw": fw, "version": version, "rows": {n: v for n, (_, v) in rows.table.items()}}))
        return
    if a.row not in rows.table:
        sys.exit(f"{fw} has no row `{a.row}`; it has {', '.join(rows.table)}")
    make, variants = rows.table[a.row]
    variant = variants[0] if a.variant is None else a.variant
    if variant not in variants:
        sys.exit(f"{fw} has no variant `{variant}` of {a.row}; it has {', '.join(variants)}")

    start(a.threads)
    init_mb = memory("VmRSS")
    row = make(a.row, variant)
    # What made the inputs is not the row's memory.
    forget_peak()
    if row.forget:
        row.forget()
    t = time.perf_counter()
    out = row.call()
    first_ms = (time.perf_counter() - t) * 1e3
    losses = verify(a.row, row, out) if a.check else None
    del out
    times = calls(row, a.seconds, first_ms)
    line = {"fw": fw, "name": a.row, "variant": variant, "ms": statistics.median(times), "min_ms": min(times),
            "first_ms": first_ms, "n": len(times), "rss_mb": memory("VmHWM"), "init_mb": init_mb, "out": row.out}
    if losses:
        line["losses"] = losses
    print(json.dumps(line))


def verify(name, row, out):
    """Compares the first result, or the losses of the first steps, with the reference; the losses, where it is a training step."""
    try:
        if name.endswith("_train"):
            losses = [float(row.arrays(out)[0])] + [float(row.arrays(row.call())[0]) for _ in range(29)]
            reference.check_losses(name, losses)
            # Later ones amplify the roundings of each peer, so only these can be compared between peers.
            return losses[:4]
        reference.check(name, row.arrays(out))
    except reference.Mismatch as e:
        sys.exit(f"{name}: wrong result: {e}")
    return None


def calls(row, seconds, first_ms):
    """The times of calls in milliseconds: so many seconds or 2,000 calls, at least 5, after a warm-up of a tenth of that."""
    call = row.call
    if row.forget:
        times, start = [first_ms], time.perf_counter()
        while len(times) < 5 and time.perf_counter() - start < seconds:
            row.forget()
            times.append(once(call))
        return times
    warm = time.perf_counter()
    while time.perf_counter() - warm < seconds / 10:
        call()
    times, start = [], time.perf_counter()
    while len(times) < 5 or (len(times) < 2000 and time.perf_counter() - start < seconds):
        times.append(once(call))
    return times


def once(call):
    t = time.perf_counter()
    call()
    return (time.perf_counter() - t) * 1e3


def memory(field):
    """A size of this process in MiB; 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as status:
            return next((int(l.split()[1]) / 1024 for l in status if l.startswith(field + ":")), 0.0)
    except OSError:
        return 0.0


def forget_peak():
    """Gives freed memory back to the system and makes the present size the peak, where the system can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except (OSError, AttributeError):
        pass
