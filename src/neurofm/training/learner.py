"""Learner: the weights of a network as they learn, with their optimiser and their running average."""

from __future__ import annotations

import torch
from torch import nn

from neurofm.model.whole_channels import Network
from neurofm.training.forward import forward_of
from neurofm.training.learning_rate import move_average
from neurofm.training.processes import Processes
from neurofm.training.settings import PretrainSettings
from neurofm.training.state import RunState, Weights, copy_of


class Learner:
    """A network whose weights are whole in every process.

    Parameters
    ----------
    network
        To be trained.
    settings
        Of params.yaml.
    processes
        Who takes part.
    who
        For messages.
    """

    def __init__(self, network: Network, *, settings: PretrainSettings, processes: Processes, who: str) -> None:
        self.network: nn.Module = network
        self.processes = processes
        self.patch_samples = network.patch_samples
        self.forward = forward_of(network, settings=settings, who=who)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.untrained = self.optimizer.state_dict()
        """State of an optimiser that has not learned yet."""
        self._decay = settings.ema_decay
        self._average: Weights = {}

    @property
    def can_keep_alone(self) -> bool:
        """Whether `store` needs no other process."""
        return True

    def load(self, state: RunState) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state.weights)
        self.optimizer.load_state_dict(state.optimizer)
        self._average = state.average = {name: value.to(self.processes.device) for name, value in state.average.items()}
        self.network.train()

    def store(self, state: RunState) -> None:
        """Write into a state what was learned so far; the average is there already."""
        state.weights = copy_of(self.network.state_dict())
        state.optimizer = self.optimizer.state_dict()

    def update(self, step: int, *, rate: float) -> None:
        """Follow the gradient, and let the average follow the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        move_average(self._average, self.network.state_dict(), step=step + 1, decay=self._decay)


def learner_of(network: Network, *, settings: PretrainSettings, processes: Processes, who: str) -> Learner:
    """Return a learner whose weights are cut among the processes, where they are to be; else they are in each."""
    if processes.mesh is None:
        return Learner(network, settings=settings, processes=processes, who=who)
    from neurofm.training.sharded import Sharded  # noqa: PLC0415  # Loads what few want.

    return Sharded(network, settings=settings, processes=processes, who=who)
