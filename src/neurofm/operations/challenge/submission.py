"""Submission to the EEG Foundation Challenge of NeurIPS 2025, as `neurofm challenge package` writes it.

It needs torch and nothing else. Each weight file is a TorchScript program: the network with its weights, what it
expects of the channels, and the linear read-out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_load_program: Any = torch.jit.load
_RATE_HZ, _CHANNELS, _SAMPLES = 100, 129, 200
_PLACES = (Path(__file__).resolve().parent, Path("/app/input/res"), Path("/app/input"), Path())
"""Where weights are looked for: beside this file, then where the start kit looks for them."""


class _OnCpu(nn.Module):
    """A model that runs on the CPU whatever device windows are on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, windows: Tensor) -> Tensor:
        """[window, channel, time] -> [window, 1], where the windows are."""
        said: Tensor = self.model(windows.cpu())
        return said.to(windows.device)


class Submission:
    """What the organisers ask for.

    Parameters
    ----------
    SFREQ
        100.
    DEVICE
        Where the models shall run.
    """

    def __init__(self, SFREQ: float, DEVICE: torch.device | str) -> None:  # noqa: N803  # the organisers' names
        if int(SFREQ) != _RATE_HZ:
            raise ValueError(f"these models take windows at {_RATE_HZ} Hz, not at {SFREQ} Hz")
        self.sfreq = SFREQ
        self.device = torch.device(DEVICE)

    def get_model_challenge_1(self) -> nn.Module:
        """Response time in s: [window, 129, 200] -> [window, 1]."""
        return self._load("weights_challenge_1.pt")

    def get_model_challenge_2(self) -> nn.Module:
        """Externalizing: [window, 129, 200] -> [window, 1]."""
        return self._load("weights_challenge_2.pt")

    def _load(self, name: str) -> nn.Module:
        path = next((str(place / name) for place in _PLACES if (place / name).is_file()), None)
        if path is None:
            raise FileNotFoundError(f"{name} is in none of {', '.join(map(str, _PLACES))}")
        model: nn.Module = _load_program(path, map_location=self.device).eval()
        try:
            with torch.inference_mode():
                model(torch.zeros(1, _CHANNELS, _SAMPLES, device=self.device))
        except RuntimeError as error:
            if self.device.type == "cpu":
                raise
            why = str(error).splitlines()[-1]
            print(f"{name} runs on the CPU, not on {self.device}: {why}", flush=True)  # noqa: T201
            return _OnCpu(_load_program(path, map_location="cpu").eval())
        return model
