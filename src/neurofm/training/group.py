"""Group: several processes that train one model together, on one machine or on several; Lightning Fabric joins them.

Gradients are not left to DistributedDataParallel: which weights take part differs from modality to modality, a batch
for which memory is short is computed in parts by that process alone, and DDP's sums depend on the number of processes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed

from neurofm.errors import UserError
from neurofm.training.processes import Processes, in_order, kind_of
from neurofm.training.site import TrainingSite
from neurofm.training.stopping import PeerGone, Stopped

try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
    from lightning_fabric.strategies.strategy import Strategy
except ImportError as error:
    raise UserError(
        f"pretrain: training in several processes needs Lightning Fabric: {error}.",
        mend="install `neurofm[lightning]`, or leave `training.processes` and `training.nodes` in site.yaml at 1",
    ) from None

Value = TypeVar("Value")

_PATIENCE = timedelta(days=7)
"""Waiting for others is for the watchdog to judge: validation, which the main process does, may take hours."""


class Group(Processes):
    """One process of several.

    Parameters
    ----------
    fabric
        Launched.
    here
        Processes on this machine.
    """

    def __init__(self, fabric: Fabric, *, here: int) -> None:
        super().__init__(fabric.device)
        self._fabric, self.here = fabric, here
        if isinstance(fabric.strategy, ModelParallelStrategy):
            self.mesh = fabric.strategy.device_mesh["data_parallel"]
        self.rank, self.count = fabric.global_rank, fabric.world_size

    def from_main(self, compute: Callable[[], Value]) -> Value:
        """Compute it in the main process and send it to the others."""
        value: Value | None = None
        stopped = 0
        if self.is_main:
            try:
                value = compute()
            except Stopped as error:
                stopped = error.signum
        with _others():
            value, stopped = self._fabric.broadcast((value, stopped))
        if stopped:
            raise Stopped(stopped)
        return value  # type: ignore[return-value]  # the main one's, by now

    def most(self, value: int) -> int:
        """Ask all."""
        most = torch.tensor(value, device=self.device)
        with _others():
            distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
        return int(most)

    def add(self, parts: Tensor) -> Tensor:
        """Let every process add up its share of the numbers, and send all the sums."""
        if len(parts) == 1 and self.count == 2:  # Both orders give the same sum, and this is half the work.
            both = parts[0].clone()
            with _others():
                distributed.all_reduce(both)
            return both
        size = parts.shape[1]
        share = -(-size // self.count)
        padded = torch.nn.functional.pad(parts, (0, share * self.count - size))
        sent = padded.reshape(len(parts), self.count, share).transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        whole = torch.empty(share * self.count, dtype=parts.dtype, device=parts.device)
        with _others():
            distributed.all_to_all_single(received, sent)
            distributed.all_gather_single(whole, in_order(received.flatten(0, 1)))
        return whole[:size]

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Say nothing here unless this is the main process."""
        if self.is_main:
            yield
            return
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            yield


@contextmanager
def _others() -> Iterator[None]:
    """Wait for others, who may be gone."""
    try:
        yield
    except RuntimeError as error:
        raise PeerGone(" ".join(str(error).split())[:200]) from None


@contextmanager
def group(site: TrainingSite) -> Iterator[Processes]:
    """Join those that were started with this process, as the environment says."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    where: ClusterEnvironment = (
        SLURMEnvironment(auto_requeue=False) if site.nodes > 1 else LightningEnvironment()  # Requeuing is Slurm's.
    )
    strategy: Strategy = DDPStrategy(timeout=_PATIENCE)
    if site.strategy == "fsdp":
        strategy = ModelParallelStrategy(
            lambda module, _: module, data_parallel_size=site.count, tensor_parallel_size=1, timeout=_PATIENCE
        )
    fabric = Fabric(
        accelerator=kind_of(site),
        devices=site.processes,
        num_nodes=site.nodes,
        strategy=strategy,
        plugins=[where],
    )
    with _others():
        fabric.launch()
    try:
        yield Group(fabric, here=site.processes)
    finally:
        distributed.destroy_process_group()
