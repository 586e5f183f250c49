"""Memory: where it does not hold a batch, fewer windows at a time, and their gradients added up."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from neurofm.errors import UserError

Result = TypeVar("Result")

_SIGNS = ("out of memory", "DefaultCPUAllocator", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How torch says it where it has no exception of its own: on the CPU, and in libraries of the GPU."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory for a tensor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def fitting(attempt: Callable[[int], Result], *, windows: int, what: str) -> tuple[Result, int]:
    """Do something with so many windows at a time as there is memory for.

    Parameters
    ----------
    attempt
        Called with a number of windows; called again with half as many where that was too much.
    windows
        How many at first.
    what
        For messages: who does what.

    Returns
    -------
    Its result, and how many it took.

    Raises
    ------
    UserError
        If there is no memory for a single window.
    """
    while True:
        try:
            return attempt(windows), windows
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            complaint = " ".join(str(error).split())[:200] or "MemoryError"
        if windows == 1:
            raise UserError(
                f"{what}: there is no memory for a single window: {complaint}.",
                mend="shorten `windows.<modality>.window_samples`, choose a smaller `pretrain.model`, or a machine "
                "with more memory",
            )
        # Out of the `except`: the error's frames hold what was computed.
        _give_back()
        half = (windows + 1) // 2
        sys.stderr.write(
            f"{what}: no memory for {windows} windows at once ({complaint}); {half} at a time from here on, with the "
            "same batches\n"
        )
        windows = half


def _give_back() -> None:
    gc.collect(1)  # of what was made lately
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
