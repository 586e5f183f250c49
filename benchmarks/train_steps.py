"""How the training benchmark measures a network: the same steps, optimiser, precision and clock for all.

Only numpy, torch and the standard library are imported here, because POYO runs in an environment of its own.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.loader_windows import Row, row
from benchmarks.train_windows import Settings

LEARNING_RATE, WEIGHT_DECAY, MAX_NORM = 1e-4, 0.05, 1.0
MOST_STEPS = 60
_GEMM_ROUNDS = 5
_GEMM_SIZE = {"cpu": 1536, "cuda": 8192}
"""Large enough for the peak, small enough for a second."""


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """A network and how it learns from a step's windows."""

    who: str
    network: nn.Module
    prepare: Callable[[int], Any]
    """Inputs of a step on the CPU, made of its windows: tensors in dataclasses, mappings or tuples."""
    output: Callable[[nn.Module, Any], Tensor]
    """The network's forward pass."""
    loss: Callable[[Tensor, Any], Tensor]
    """Of its output."""
    windows: int
    """In a step."""


class Steps:
    """A trainee at work.

    Parameters
    ----------
    trainee
        What is measured; its network is moved to the device.
    device
        ``cpu`` or ``cuda``: bfloat16 by autocast on the latter.
    compiled
        Whether the network goes through ``torch.compile``.
    """

    def __init__(self, trainee: Trainee, *, device: str, compiled: bool = False) -> None:
        self.trainee, self.device = trainee, device
        self.network = trainee.network.to(device).train()
        self.called: nn.Module = self.network
        if compiled:
            self.called.compile()
        self.exchange: Callable[[], None] = lambda: None
        """Adds the gradients of other processes to this one's."""
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def inputs(self, step: int) -> Any:
        """Return what the network is given, on the device."""
        return moved(self.trainee.prepare(step), self.device)

    def learn(self, inputs: Any) -> None:
        """Forward, backward, clipped step of AdamW."""
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.trainee.loss(self.trainee.output(self.called, inputs), inputs)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.exchange()
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        self.optimizer.step()

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds that it takes: of the processor on a CPU, of the clock on a GPU."""
        if self.device == "cuda":
            torch.cuda.synchronize()
            began = time.perf_counter()
            work()
            torch.cuda.synchronize()
            return time.perf_counter() - began
        began = time.process_time()
        work()
        return time.process_time() - began

    def first(self) -> float:
        """Seconds of the first step on the clock, without what comes before it."""
        inputs = self.inputs(0)
        began = time.perf_counter()
        self.timed(lambda: self.learn(inputs))
        return time.perf_counter() - began

    def steady(self, *, seconds: float) -> tuple[float, float]:
        """Median seconds of a whole step, its windows included, and of the network's part of it."""
        took = [self._once(1)]
        while sum(sum(one) for one in took) < seconds and len(took) < MOST_STEPS:
            took.append(self._once(len(took) + 1))
        return statistics.median(sum(one) for one in took), statistics.median(learned for _, learned in took)

    def _once(self, step: int) -> tuple[float, float]:
        """Seconds of making a step's inputs, and of learning from them."""
        held: list[Any] = []
        return self.timed(lambda: held.append(self.inputs(step))), self.timed(lambda: self.learn(held[0]))

    def flops(self) -> float:
        """Floating-point operations of forward and backward of a step, counted without doing them."""
        network = copy.deepcopy(self.network).to("meta")
        inputs = moved(self.trainee.prepare(0), "meta")
        # What the network makes for itself, such as times of patches, must be on its device too.
        with torch.device("meta"), FlopCounterMode(display=False) as counted:
            torch.autograd.backward(self.trainee.output(network, inputs).sum())
        return float(counted.get_total_flops())


def measure(make: Callable[[], Trainee], settings: Settings) -> list[Row]:
    """Train a few steps and return the rows of the table.

    Parameters
    ----------
    make
        Builds network and windows; called once memory was looked at.
    settings
        ``device``, ``size``, ``modality`` and ``seconds``.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, case = settings["device"], f"{settings['size']}, {settings['modality']}"
    before = memory_mb(device, anew=True)
    steps = Steps(make(), device=device)
    who, windows = steps.trainee.who, steps.trainee.windows
    first_s = steps.first()
    whole_s, network_s = steps.steady(seconds=settings["seconds"])
    used_mb = memory_mb(device) - before
    flops = steps.flops()
    peak = gemm_peak(device)
    unit = "windows/s" if device == "cuda" else "windows/CPU-s"
    rows = [
        row(f"windows/s {case}", who, windows / whole_s, unit),
        row(f"windows/s {case}, network alone", who, windows / network_s, unit),
        row(f"parameters {case}", who, sum(p.numel() for p in steps.network.parameters()) / 1e6, "millions"),
        row(f"FLOPs {case}", who, flops / windows / 1e9, "GFLOP/window", higher_is_better=False),
        row(f"MFU {case}", who, flops / (network_s * peak), "share"),
        row(f"peak memory {case}", who, used_mb, "MB", higher_is_better=False),
        row(f"first step {case}", who, first_s, "s", higher_is_better=False),
        row(f"GEMM peak {case}", who, peak / 1e9, "GFLOP/s"),
    ]
    return [one | {"windows_per_step": windows} for one in rows]


def compile_rows(make: Callable[[], Trainee], settings: Settings) -> list[Row]:
    """Return what ``torch.compile`` costs at first, and what it gives."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, case = settings["device"], f"{settings['size']}, {settings['modality']}"
    steps = Steps(make(), device=device, compiled=True)
    first_s = steps.first()
    _, network_s = steps.steady(seconds=settings["seconds"])
    who, unit = steps.trainee.who, "windows/s" if device == "cuda" else "windows/CPU-s"
    return [
        row(f"compile time {case}", who, first_s - network_s, "s", higher_is_better=False),
        row(f"windows/s {case}, network alone, compiled", who, steps.trainee.windows / network_s, unit),
    ]


def gemm_peak(device: str) -> float:
    """FLOP/s of a large matrix product, the best of a few: float32 on a CPU, bfloat16 on a GPU."""
    size, dtype = _GEMM_SIZE[device], torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(_GEMM_ROUNDS):
        began = time.process_time() if device == "cpu" else time.perf_counter()
        product = a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        took = (time.process_time() if device == "cpu" else time.perf_counter()) - began
        best = max(best, 2 * size**3 / took)
        del product
    return best


def memory_mb(device: str, *, anew: bool = False) -> float:
    """Most memory that was in use at once; `anew` forgets what was before."""
    if device == "cuda":
        if anew:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 1e6
    if anew:
        # Forget the peak of imports (proc_pid_clear_refs(5)); getrusage's could not, and has the parent's in it.
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def moved(value: Any, device: str) -> Any:
    """Return the same with all its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.init]
        return replace(value, **{name: moved(getattr(value, name), device) for name in names})
    if isinstance(value, Mapping):
        return {name: moved(one, device) for name, one in value.items()}
    if isinstance(value, tuple):
        return tuple(moved(one, device) for one in value)
    return value
