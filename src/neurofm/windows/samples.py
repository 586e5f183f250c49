"""Samples: one recording's signal, decoded when it is asked for; what is damaged is skipped and remembered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.shards.packed import DamagedChunk, PackedArray


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A stretch of samples that could not be read."""

    start: int
    stop: int
    text: str
    """Names file, array and chunk."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """[time, channel] as stored, of one recording.

    Samples of a damaged chunk are 0, and `valid` says so from the moment that they were read.
    """

    array: PackedArray
    valid: npt.NDArray[np.bool_]
    """[time]; changed where damage is found."""
    damage: dict[int, Damage] = field(default_factory=dict)
    """By first sample."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, channel)."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or int16."""
        return self.array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        start, stop, step = rows.indices(len(self))
        return self.read(start, max(start, stop))[::step]

    def read(self, start: int, stop: int, *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return samples [start, stop), in `out` where it is given: [stop - start, channel], C-contiguous."""
        try:
            return self.array.read(start, stop, out=out)
        except DamagedChunk:
            filled = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype) if out is None else out
            self.note(self._skip(start, stop, filled))
            return filled

    def _skip(self, start: int, stop: int, out: npt.NDArray[Any]) -> Iterable[Damage]:
        """Fill `out` chunk by chunk, with 0 where one is damaged."""
        rows = self.array.chunk_rows
        for first in range(start - start % rows, stop, rows):
            low, high = max(start, first), min(stop, first + rows)
            try:
                self.array.read(low, high, out=out[low - start : high - start])
            except DamagedChunk as error:
                out[low - start : high - start] = 0
                yield Damage(start=first, stop=min(first + rows, len(self)), text=str(error))

    def note(self, damages: Iterable[Damage]) -> None:
        """Take note of damage, found here or by a process that read for this one."""
        for damage in damages:
            self.damage[damage.start] = damage
            self.valid[damage.start : damage.stop] = False


def refuse_damage(samples: Sequence[Samples], *, most: float, who: str) -> str:
    """Return a line that says what is skipped of some recordings; nothing where all is whole.

    Raises
    ------
    UserError
        If more than the share `most` of all samples is damaged.
    """
    found = [damage for one in samples for damage in one.damage.values()]
    if not found:
        return ""
    lost, total = sum(damage.stop - damage.start for damage in found), sum(len(one) for one in samples)
    said = f"{who}: {len(found)} damaged chunks, {lost / total:.3%} of all samples; the first: {found[0].text}"
    if lost > most * total:
        raise UserError(f"{said}; more than {most:.3%} are not skipped.", mend="neurofm shards repair")
    return f"{said}; skipped\n"
