"""Decoders: processes that decode blocks into memory that they share with the one that draws."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.windows.ring import Memory, attach
from neurofm.windows.samples import Damage, Samples
from neurofm.windows.sampling import Block
from neurofm.windows.signal import StoredSignal


class Decoders:
    """Processes that decode what comes next. They read the shards themselves; only where to goes to and fro.

    Parameters
    ----------
    count
        Processes.
    signals
        [source]
    bfloat16
        As `StoredSignal.fill` takes it.
    """

    def __init__(self, count: int, signals: Sequence[StoredSignal], *, bfloat16: bool) -> None:
        # What is valid is not needed to decode, and as long as the recordings.
        empty = np.zeros(0, dtype=np.bool_)
        bare = [
            replace(signal, valid=empty, samples=replace(signal.samples, valid=empty, damage={}))
            if isinstance(signal.samples, Samples)
            else replace(signal, valid=empty)
            for signal in signals
        ]
        self._pool = ProcessPoolExecutor(
            max_workers=count, mp_context=get_context("spawn"), initializer=_begin, initargs=(bare, bfloat16)
        )

    def submit(self, block: Block, memory: Memory, *, place: int, size: int) -> Future[list[Damage]]:
        """Have a block decoded into `size` bytes of `memory`, from `place` on; the result is the damage met."""
        return self._pool.submit(_decode, block, memory.path, memory.size, place, size)

    def close(self) -> None:
        """Let the processes end what they are at, and go."""
        self._pool.shutdown(cancel_futures=True)


@dataclass
class _Decoder:
    """What a decoding process knows."""

    signals: Sequence[StoredSignal] = ()
    bfloat16: bool = False
    memory: dict[Path, npt.NDArray[np.uint8]] = field(default_factory=dict)


_DECODER = _Decoder()


def _begin(signals: Sequence[StoredSignal], bfloat16: bool) -> None:  # noqa: FBT001  # a pool passes no names
    _DECODER.signals, _DECODER.bfloat16 = signals, bfloat16


def _decode(block: Block, path: Path, size: int, place: int, count: int) -> list[Damage]:
    """Decode a block into the memory of the process that asks for it."""
    if path not in _DECODER.memory:
        _DECODER.memory[path] = attach(path, size)
    out = _DECODER.memory[path][place : place + count]
    signal = _DECODER.signals[block.source]
    if isinstance(signal.samples, Samples):
        signal.samples.damage.clear()
    return signal.fill(block.segments, out, bfloat16=_DECODER.bfloat16)
