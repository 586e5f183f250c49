"""Forward: how the network is called while it learns: in which precision, and by whose code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neurofm.model.neurofm import Query, Visible
from neurofm.model.whole_channels import Network
from neurofm.training.memory import is_out_of_memory
from neurofm.training.settings import PretrainSettings

Forward = Callable[[Visible, Query], Tensor]
"""How a network is called while it learns."""


def forward_of(
    network: Network, *, settings: PretrainSettings, who: str, backend: str | Callable[..., Any] = "inductor"
) -> Forward:
    """Return how to call a network.

    Parameters
    ----------
    network
        As it is it serves those who are not asked for anything else, and validation.
    settings
        Its `precision` and `compile`.
    who
        For messages.
    backend
        Of `torch.compile`.
    """
    call: Forward = Compiled(network, who=who, backend=backend) if settings.compile else network
    return _in_bfloat16(call) if settings.precision == "bf16-mixed" else call


def _in_bfloat16(call: Forward) -> Forward:
    """Let autocast choose bfloat16 within the network; what comes out is float32, as losses want it."""

    def forward(seen: Visible, query: Query) -> Tensor:
        with torch.autocast(seen.values.device.type, dtype=torch.bfloat16):
            return call(seen, query).float()

    return forward


class Compiled:
    """A network by the code of `torch.compile`, or by its own where there is no compiler.

    Parameters
    ----------
    network, who, backend
        As in `forward_of`.
    """

    def __init__(self, network: Network, *, who: str, backend: str | Callable[..., Any]) -> None:
        self._who = who
        # Recordings differ in channels and steps in how many are hidden: code for any number, not for each.
        self._eager: Forward = network
        if torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(mode=True)  # Tells the compiler too.
        self._call: Forward = torch.compile(network, dynamic=True, backend=backend)

    def __call__(self, seen: Visible, query: Query) -> Tensor:
        """Correct the linear core's estimate, as the network does."""
        try:
            residual: Tensor = self._call(seen, query)
        except Exception as error:
            if self._call is self._eager or is_out_of_memory(error) or not _is_of_compiling(error):
                raise
            why = " ".join(str(error).split("\n\n")[0].split())[:200] or type(error).__name__
        else:
            return residual
        sys.stderr.write(f"{self._who}: torch.compile failed ({why}); it goes on without\n")
        self._call = self._eager
        return self._call(seen, query)


def _is_of_compiling(error: BaseException) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415  # Loaded by now; seconds otherwise.

    return isinstance(error, TorchDynamoException)
