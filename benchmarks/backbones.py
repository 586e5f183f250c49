"""Backbones over long windows: what a layer of Mamba-2 and one of attention cost, forwards and backwards.

`python -m benchmarks.backbones [cuda]` writes ``benchmarks/backbones.json``. The cores alone are compared, at 4
windows, 4 heads of 64 and a state of 64: `neurofm.model.mamba2.ssd` in one direction, PyTorch's attention in both, and
the recurrence one step at a time; then whole layers of equal width (256), as models have them. One thread, in turns,
the least of the rounds, CPU milliseconds (on a GPU wall milliseconds).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from neurofm.model.backbone import TransformerLayer
from neurofm.model.gru import GRULayer
from neurofm.model.mamba2 import Mamba2Layer, ssd

RESULT = Path(__file__).with_name("backbones.json")
WINDOWS, HEADS, VALUE, STATE, WIDTH, ROUNDS = 4, 4, 64, 64, 256, 3
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
NAIVE_UP_TO = 512


def main() -> None:
    """Time all ways at all lengths, print the rows and write them down."""
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for length in LENGTHS:
        ways = _ways(length, device)
        least = dict.fromkeys(ways, float("inf"))
        for _ in range(ROUNDS):
            for who, way in ways.items():
                least[who] = min(least[who], _milliseconds(way, device))
        for who, value in least.items():
            rows.append({"case": f"{length} tokens", "who": who, "value": round(value, 2), "unit": "ms"})
            print(f"{length:>6} tokens  {who:<28}{value:>10.1f} ms", flush=True)
    RESULT.write_text(json.dumps({"device": str(device), "torch": torch.__version__, "rows": rows}, indent=1) + "\n")


def _ways(length: int, device: torch.device) -> dict[str, Callable[[], None]]:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, requires_grad=True)

    x, step, decay = random(WINDOWS, length, HEADS, VALUE), *(random(WINDOWS, length, HEADS) for _ in range(2))
    write, read = random(WINDOWS, length, STATE), random(WINDOWS, length, STATE)
    query, key, value = (random(WINDOWS, HEADS, length, VALUE) for _ in range(3))
    tokens, time_s = random(WINDOWS, length, WIDTH), 0.1 * torch.arange(length, device=device)
    layers = {
        "layer mamba2, both ways": Mamba2Layer(width=WIDTH, heads=HEADS, dropout=0.0, state=STATE, causal=False),
        "layer mamba2, causal": Mamba2Layer(width=WIDTH, heads=HEADS, dropout=0.0, state=STATE, causal=True),
        "layer transformer, both ways": TransformerLayer(width=WIDTH, heads=HEADS, dropout=0.0, expansion=4),
        "layer gru, both ways": GRULayer(width=WIDTH, dropout=0.0, causal=False),
    }
    ways = {
        "ssd": lambda: _there_and_back(ssd(x, step, -decay.abs(), write, read)),
        "sdpa": lambda: _there_and_back(functional.scaled_dot_product_attention(query, key, value)),
    }
    if length <= NAIVE_UP_TO:
        ways["recurrence"] = lambda: _there_and_back(_recurrence(x, step, -decay.abs(), write, read))
    for who, layer in layers.items():
        ways[who] = _layer_way(layer.to(device), tokens, time_s)
    return ways


def _layer_way(layer: torch.nn.Module, tokens: Tensor, time_s: Tensor) -> Callable[[], None]:
    return lambda: _there_and_back(layer(tokens, time_s))


def _there_and_back(y: Tensor) -> None:
    torch.autograd.backward(y.sum())


def _recurrence(x: Tensor, step: Tensor, log_decay: Tensor, write: Tensor, read: Tensor) -> Tensor:
    state = x.new_zeros(WINDOWS, HEADS, STATE, VALUE)
    out = []
    for t in range(x.shape[1]):
        state = state * log_decay[:, t].exp()[..., None, None] + torch.einsum(
            "wh,ws,whv->whsv", step[:, t], write[:, t], x[:, t]
        )
        out.append(torch.einsum("ws,whsv->whv", read[:, t], state))
    return torch.stack(out, dim=1)


def _milliseconds(way: Callable[[], None], device: torch.device) -> float:
    if device.type == "cpu":
        began = time.process_time()
        way()
        return 1e3 * (time.process_time() - began)
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    way()
    torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
