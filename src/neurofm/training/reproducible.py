"""Reproducible: the same bits from the same data and seed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic kernels on one thread, as it was before afterwards."""
    threads, before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Without it torch refuses to multiply on a GPU.
    torch.set_deterministic_debug_mode("error")  # `use_deterministic_algorithms` loads the compiler first, a second.
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        if "torch._inductor.config" in sys.modules:  # It may have been told, by `neurofm.training.forward`.
            torch.use_deterministic_algorithms(mode=before > 0)
        torch.set_deterministic_debug_mode(before)
