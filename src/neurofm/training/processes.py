"""Processes: who takes part in the training of one fold. Here one alone; several are a `neurofm.training.group`.

Bits do not depend on how many take part: the slices of a draw are fixed by params.yaml, every gradient of a slice is
computed whole by one process, and they are added up in one order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from neurofm.errors import UserError
from neurofm.training.site import TrainingSite

Value = TypeVar("Value")


class Processes:
    """One process alone: it is the main one, and agrees with itself.

    Of several, all draw the same steps, each takes its share of a draw's slices, and all make the same update. The
    main one, of rank 0, reads and writes states, validates, draws progress and decides what a clock or a disk decides.
    """

    rank = 0
    count = 1
    here = 1
    """On this machine."""
    mesh: DeviceMesh | None = None
    """Among whose devices weights are cut; None leaves them whole."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        """Where this process computes."""

    @property
    def is_main(self) -> bool:
        """Whether this one decides and writes."""
        return self.rank == 0

    def from_main(self, compute: Callable[[], Value]) -> Value:
        """Return what the main process computes, in all of them; `Stopped` is raised in all of them as well."""
        return compute()

    def most(self, value: int) -> int:
        """Return the largest of what all bring."""
        return value

    def add(self, parts: Tensor) -> Tensor:
        """Add up the parts of all processes, rank by rank, each sum rounded in that order.

        Parameters
        ----------
        parts
            [part, n] of this process; as many in each.

        Returns
        -------
        [n], the same bits in all.
        """
        return in_order(parts)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Say nothing in other processes than the main one."""
        yield


def in_order(parts: Tensor) -> Tensor:
    """[part, n] -> [n]: the sum, rounded after each part, as adding one after the other does."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


@contextmanager
def joined(site: TrainingSite) -> Iterator[Processes]:
    """Join the processes of this fold that the watchdog, or Slurm, has started.

    Raises
    ------
    UserError
        If there are to be several, and Lightning Fabric is not installed; or if there is no GPU to compute on.
    PeerGone
        If they do not all come.
    """
    if site.count == 1:
        yield Processes(torch.device(kind_of(site)))
        return
    # Loading Lightning Fabric takes twice as long as loading torch does.
    from neurofm.training.group import group  # noqa: PLC0415

    with group(site) as processes:
        yield processes


def kind_of(site: TrainingSite) -> str:
    """Return the kind of device to compute on: the CPU where the watchdog has hidden GPUs that hung.

    Raises
    ------
    UserError
        If there is no GPU.
    """
    if site.device == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError(
            "pretrain: `training.device` in site.yaml is cuda, and torch finds no GPU.",
            mend="`device: cpu`, or install torch for CUDA and look at `nvidia-smi`",
        )
    return "cuda"
