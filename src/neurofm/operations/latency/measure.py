"""Measure: seconds per window of a network in every precision, and how far its answers move."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurofm.errors import UserError
from neurofm.operations.latency.heldout import HeldOut
from neurofm.operations.latency.precision import PRECISIONS, Precision, bytes_of, given, in_precision
from neurofm.training.batches import Batch, make_batch
from neurofm.training.contexts import Context

WARM_UP = 5
"""Windows before the clock runs."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One network, in one precision, on one device, for windows of one recording."""

    recording: str
    modality: str
    device: str
    precision: str
    p50_ms: float | None = None
    """Per window, alone in its batch; None where the device does not have the precision."""
    p95_ms: float | None = None
    megabytes: float | None = None
    """Of the weights on disk."""
    difference: float | None = None
    """Norm of what the answers differ from those in fp32, over the norm of those."""
    r2: float | None = None
    """Masked R2 on the held-out windows; each third of the channels is hidden once."""
    why_not: str = ""
    """Why there is no figure."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All rows, and what they hold for."""

    model: str
    windows: int
    warm_up: int
    threads: int
    torch: str
    machine: str
    core_p50_ms: dict[str, float]
    """By recording: making a window's batch, with the linear core in float64, which every precision shares."""
    rows: tuple[Latency, ...]
    held_out: bool = True
    """Whether a split holds the recordings out; without, their R2 only compares formats."""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def devices() -> list[torch.device]:
    """Return the CPU, and the GPU where there is one."""
    return [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def measure(network: nn.Module, held: HeldOut, *, device: torch.device, advance: Callable[[], None]) -> list[Latency]:
    """Time a network in every precision on one device.

    Parameters
    ----------
    network
        Of a checkpoint.
    held
        What it reads.
    device
        Where.
    advance
        Called after each precision.
    """
    rows = []
    reference: list[Tensor] | None = None
    for precision in PRECISIONS:
        none = Latency(
            recording=held.view.name,
            modality=str(held.view.modality),
            device=device.type,
            precision=precision.name,
        )
        if device.type not in precision.devices:
            rows.append(replace(none, why_not=f"none on {device.type}"))
        else:
            try:
                made = in_precision(network, precision, device=device)
                seconds = _seconds(made, held, precision, device=device)
                answers = held.answers([_residual(made, batch, precision, device=device) for batch in held.batches])
            except (RuntimeError, NotImplementedError, AttributeError) as error:
                # Kernels differ between devices and versions of torch.
                rows.append(replace(none, why_not=str(error).splitlines()[0][:120]))
            else:
                reference = reference or answers
                p50, p95 = 1e3 * np.percentile(seconds, [50, 95])
                rows.append(
                    replace(
                        none,
                        p50_ms=float(p50),
                        p95_ms=float(p95),
                        megabytes=bytes_of(made) / 1e6,
                        difference=_difference(answers, reference),
                        r2=held.r2(answers),
                    )
                )
        advance()
    return rows


def core_seconds(held: HeldOut, context: Context, *, windows: int) -> list[float]:
    """Time what comes before the network: smoothing, the core's weights for the mask, its estimate; on the CPU."""
    batch = held.batches[0]
    usable = torch.from_numpy(np.flatnonzero(held.view.usable))
    # As many as the mask has; which ones makes no difference to the clock.
    visible, hidden = usable.tensor_split([batch.seen.values.shape[-1]])
    seconds = []
    for number in range(windows + 1):
        row = number % held.windows
        started = time.perf_counter()
        make_batch(held.view, context, values=batch.seen.values[row : row + 1], visible=visible, hidden=hidden)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def about_machine() -> str:
    """Name the processor, and the GPU where there is one."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [
            line for line in information.read_text(encoding="utf-8").splitlines() if line.startswith("model name")
        ]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else name


def use_threads(threads: int) -> int:
    """Set torch's threads; return what it had."""
    if threads < 1:
        raise UserError(f"latency: --threads is {threads}.", mend="give at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    return before


def _seconds(network: nn.Module, held: HeldOut, precision: Precision, *, device: torch.device) -> list[float]:
    """Time one window at a time, each of the first mask; on a GPU until it has answered."""
    batch = held.batches[0]
    rows = [batch.rows(number, number + 1) for number in range(held.windows)]
    read = [
        (
            given(row.seen, dtype=precision.dtype, device=device),
            given(row.query, dtype=precision.dtype, device=device),
        )
        for row in rows
    ]
    seconds = []
    with torch.inference_mode():
        for number in range(-WARM_UP, len(read)):
            seen, query = read[number % len(read)]
            started = time.perf_counter()
            network(seen, query)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= 0:
                seconds.append(time.perf_counter() - started)
    return seconds


def _residual(network: nn.Module, batch: Batch, precision: Precision, *, device: torch.device) -> Tensor:
    with torch.inference_mode():
        said: Tensor = network(
            given(batch.seen, dtype=precision.dtype, device=device),
            given(batch.query, dtype=precision.dtype, device=device),
        )
    return said.cpu()


def _difference(answers: list[Tensor], reference: list[Tensor]) -> float:
    moved = sum(float(((said - true) ** 2).sum()) for said, true in zip(answers, reference, strict=True))
    size = sum(float((true**2).sum()) for true in reference)
    return float((moved / size) ** 0.5) if size else 0.0
