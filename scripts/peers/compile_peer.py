#!/usr/bin/env python3
"""`torch.compile` on PyTorch's rows, from an empty cache. See measure.py for the command line."""
import os
import tempfile

import torch

import measure
import torch_peer

# Rows whose one call is a library's routine, and one that takes longer than anyone waits.
rows = torch_peer.rows.without("solve_1000", "svd_300", "sort_1m", "cumsum_1m", "deep_1000")


if __name__ == "__main__":
    torch_peer.compiled, torch_peer.forget = torch.compile, torch.compiler.reset
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        measure.serve("torch.compile", torch.__version__, rows, torch_peer.start)
