"""Program: a model as a TorchScript file, which torch alone runs, on any device.

So the network's code travels as what it computes, not as a copy of our modules: it cannot differ from them. TorchScript
files are read by later versions of torch, and by earlier ones that have the operations (docs/eeg-challenge.md says
which were tried); `torch.export` writes for its own version. The start kit loads one in its own example.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

_BATCHES = (1, 2, 5)
"""Windows in the batches that a program is compared with its model on."""
_CLOSE = 1e-4
"""Largest difference of a program and its model, over the largest value."""


class _OneByOne(nn.Module):
    """Windows one at a time, for a network whose trace holds for a single window."""

    def __init__(self, traced: Any) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, windows: Tensor) -> Tensor:
        """[window, channel, time] -> [window, 1]."""
        return torch.cat([self.traced(window.unsqueeze(0)) for window in windows.unbind(0)])


def program(model: nn.Module, *, channels: int, samples: int) -> bytes:
    """Trace a model.

    Parameters
    ----------
    model
        [window, channel, time] -> [window, 1]; put into evaluation mode.
    channels, samples
        Of its windows.

    Returns
    -------
    The file.

    Raises
    ------
    ValueError
        If what was traced does not compute what the model computes.
    """
    model.eval()
    example = torch.randn(1, channels, samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings():
        # Of shapes that are constants here, and that TorchScript is to be given up one day.
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        traced = trace(model, example, check_trace=False)
        _follow_input_device(traced.graph)
        if not _agrees(traced, model, example):
            traced = torch.jit.script(_OneByOne(traced))
            if not _agrees(traced, model, example):
                raise ValueError("the traced model does not say what the model says")
        file = io.BytesIO()
        torch.jit.save(traced, file)
    return file.getvalue()


def _follow_input_device(graph: Any) -> None:
    """Let everything be made where the input is: tracing writes down the device of this machine."""
    torch._C._jit_pass_inline(graph)  # noqa: SLF001  # there is no public way
    windows = list(graph.inputs())[1]
    written = [node for node in graph.findAllNodes("prim::Constant") if node.output().type().str() == "Device"]
    if not written:
        return
    here = graph.create("prim::device", [windows], 1)
    graph.prependNode(here)
    here.output().setType(torch._C.DeviceObjType.get())  # noqa: SLF001
    for node in written:
        node.output().replaceAllUsesWith(here.output())
    torch._C._jit_pass_dce(graph)  # noqa: SLF001


def _agrees(traced: Any, model: nn.Module, example: Tensor) -> bool:
    """Whether both say the same of batches of other sizes than the one that was traced."""
    for windows in _BATCHES:
        generator = torch.Generator().manual_seed(windows)
        batch = torch.randn(windows, *example.shape[1:], generator=generator)
        wanted = model(batch)
        try:
            said = traced(batch)
        except RuntimeError:
            return False
        if said.shape != wanted.shape or bool(((said - wanted).abs() > _CLOSE * wanted.abs().max().clamp_min(1)).any()):
            return False
    return True
