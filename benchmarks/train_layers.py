"""Mamba-2 beside attention as sequences get longer: ``python -m benchmarks.train_layers SETTINGS``, prints JSON rows.

Forward and backward of 4 sequences of random values: which ones they are does not matter here. `mixing alone` is what a
layer does along time (one direction, 4 heads of 64, state 64); a layer is that of the size, in both directions of time.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.loader_windows import Row, printed, row
from benchmarks.train_ours import SIZES
from benchmarks.train_windows import Settings
from neurofm.model.backbone import BACKBONES
from neurofm.model.mamba2 import ssd
from neurofm.model.sizes import Backbone, size

LENGTHS = (128, 512, 2048)
_WINDOWS, _HEADS, _HEAD_WIDTH, _STATE = 4, 4, 64, 64
_ROUNDS = 5
_NAMES: dict[Backbone, str] = {"transformer": "SDPA", "mamba2": "Mamba-2"}


def main(settings: Settings) -> list[Row]:
    """Return milliseconds of each, by length."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, unit = settings["device"], "ms" if settings["device"] == "cuda" else "CPU-ms"
    rows: list[Row] = []
    for length in LENGTHS:
        works = {f"{length} patches, mixing alone": _mixing(length, device)}
        works[f"{length} patches, layer of {settings['size']}"] = _layers(length, settings["size"], device)
        rows += [
            row(case, _NAMES[backbone], _milliseconds(work, device), unit, higher_is_better=False)
            for case, pair in works.items()
            for backbone, work in pair.items()
        ]
    return rows


def _mixing(length: int, device: str) -> dict[Backbone, Callable[[], Tensor]]:
    value = torch.randn(_WINDOWS, length, _HEADS, _HEAD_WIDTH, device=device, requires_grad=True)
    log_decay = (-torch.rand(_WINDOWS, length, _HEADS, device=device)).requires_grad_()
    write, read = (torch.randn(_WINDOWS, length, _STATE, device=device, requires_grad=True) for _ in range(2))
    query, key, seen = (
        torch.randn(_WINDOWS, _HEADS, length, _HEAD_WIDTH, device=device, requires_grad=True) for _ in range(3)
    )
    return {
        "transformer": lambda: functional.scaled_dot_product_attention(query, key, seen),
        "mamba2": lambda: ssd(value, log_decay, write, read),
    }


def _layers(length: int, name: str, device: str) -> dict[Backbone, Callable[[], Tensor]]:
    return {backbone: _layer(backbone, length, name, device) for backbone in _NAMES}


def _layer(backbone: Backbone, length: int, name: str, device: str) -> Callable[[], Tensor]:
    settings = size(SIZES[name], backbone=backbone)
    layer = BACKBONES[backbone](settings).to(device)
    x = torch.randn(_WINDOWS, length, settings.width, device=device, requires_grad=True)
    seconds = 0.1 * torch.arange(length, device=device)
    return lambda: layer(x, seconds)


def _milliseconds(work: Callable[[], Tensor], device: str) -> float:
    """Median of a few rounds after a first one."""
    took = []
    for _ in range(1 + _ROUNDS):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter() if device == "cuda" else time.process_time()
        torch.autograd.backward(work().sum())
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(1000 * ((time.perf_counter() if device == "cuda" else time.process_time()) - began))
    return statistics.median(took[1:])


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
