"""Sharded: weights, gradients, optimiser and average cut among the processes (PyTorch's FSDP2), for large networks.

The network itself stays whole beside what learns, in the memory of each process; the main one validates with it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from neurofm.errors import UserError
from neurofm.model.backbone import TemporalBackbone
from neurofm.model.whole_channels import Network
from neurofm.training.learner import Learner
from neurofm.training.processes import Processes
from neurofm.training.settings import PretrainSettings
from neurofm.training.state import RunState


class Sharded(Learner):
    """A network of whose weights every process holds a part.

    Sums are rounded otherwise than with whole weights: the length of the gradient is added up part by part.

    Parameters
    ----------
    network, settings, processes, who
        As of `Learner`.

    Raises
    ------
    UserError
        If torch.compile is asked for as well.
    """

    def __init__(self, network: Network, *, settings: PretrainSettings, processes: Processes, who: str) -> None:
        if settings.compile:
            raise UserError(
                f"{who}: `pretrain.compile` is true in params.yaml and `training.strategy` is fsdp in site.yaml, "
                "which do not go together.",
                mend="`compile: false`, or `strategy: ddp`",
            )
        assert processes.mesh is not None
        parts = copy.deepcopy(network)
        for module in parts.modules():
            if isinstance(module, TemporalBackbone):
                for layer in module.layers:
                    fully_shard(layer, mesh=processes.mesh)
        fully_shard(parts, mesh=processes.mesh)
        super().__init__(parts, settings=settings, processes=processes, who=who)

    @property
    def can_keep_alone(self) -> bool:
        """It takes all processes to put the weights together."""
        return False

    def load(self, state: RunState) -> None:
        """Go on from a state, which is whole in all processes; only the main one holds it from then on."""
        own = self.network.state_dict()
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(_cut(state.weights[name], like=value))
        self._average = {name: _cut(state.average[name], like=value).clone() for name, value in own.items()}
        parameters = list(self.network.parameters())
        parts = {
            number: {
                name: _cut(value, like=parameters[number]) if torch.is_tensor(value) and value.ndim else value
                for name, value in of.items()
            }
            for number, of in state.optimizer["state"].items()
        }
        self.optimizer.load_state_dict(state.optimizer | {"state": parts})
        self.network.train()
        if not self.processes.is_main:
            state.weights, state.average, state.best, state.optimizer = {}, {}, {}, {}

    def store(self, state: RunState) -> None:
        """Put the parts together in the main process."""
        weights = {name: self._whole(value) for name, value in self.network.state_dict().items()}
        average = {name: self._whole(value) for name, value in self._average.items()}
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            number: {name: self._whole(value) for name, value in of.items()}
            for number, of in optimizer["state"].items()
        }
        if self.processes.is_main:
            state.weights, state.average, state.optimizer = weights, average, optimizer

    def _whole(self, value: Any) -> Any:
        """Put a tensor together, and keep it in the main process only."""
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if not torch.is_tensor(whole):
            return whole
        return whole.detach().cpu().clone() if self.processes.is_main else torch.empty(0)


def _cut(whole: Tensor, *, like: Tensor) -> Tensor:
    """Return this process's part of a tensor."""
    value = whole.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
