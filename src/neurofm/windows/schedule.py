"""Schedule: what is learned from at each step, and which samples are decoded then; a pure function of the step.

A data set that does not fit in memory is learned from through a pool: blocks of recordings stay decoded for a while,
windows are drawn from them alone, and one block after the other gives its place to the next. With K uses of every
decoded byte, decompressing costs a K-th of what it would cost per window. As all of this depends on the seed and the
number of the step only, a run that was killed, or goes on with another number of processes, sees the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.recording import Modality
from neurofm.settings import Settings
from neurofm.windows.sampling import Choices, Draw, Source, blocks_of

_PARTS = 32
"""A block is at most this part of its modality's pool: what is drawn from stays varied."""
_WINDOWS = 4
"""And holds as many windows, one after the other, however small the pool."""
_SPARE = 3
"""So many of the largest blocks are not drawn from: two come next, one may not fit at the pool's end."""
_AHEAD = 4
"""Steps that are drawn at once."""
_ORDER = 0x506F6F6C
"""Sets the order of blocks apart from the draws of the same seed."""


class PoolSettings(Settings):
    """`pretrain.pool` in params.yaml. It changes which windows a step draws, not only where they lie."""

    megabytes: float = Field(gt=0)
    """Decoded samples held at any moment, 1e6 bytes, all modalities together."""
    uses: float = Field(gt=0)
    """How often every decoded byte is drawn on average before its block makes place for another."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How windows are drawn."""

    seed: int
    shares: Mapping[Modality, float]
    """Share of steps per modality."""
    windows: int
    """Windows in a step, all processes together."""
    hidden_fraction: tuple[float, float] = (0.0, 0.0)
    """Smallest and largest share of usable channels that is hidden."""
    dataset_shares: Mapping[str, float] = field(default_factory=dict)
    """Weight of datasets within their modality."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """One modality's part of the pool: its blocks come one after the other, again and again in the same order.

    Always the same order, so that a block is never wanted again before those that came after it have gone.
    """

    blocks: npt.NDArray[np.int64]
    """Numbers of its blocks, in the order in which they come."""
    size: npt.NDArray[np.int64]
    """[block] decoded bytes, in that order."""
    most_bytes: float
    """Of the pool."""
    speed: float
    """Bytes that make place for others per step."""

    @property
    def room_bytes(self) -> int:
        """What its part of the pool takes, however small the pool: a few blocks to draw from, and those to come."""
        return int(max(self.most_bytes, 2 * _SPARE * self.size.max()))

    @cached_property
    def _total(self) -> int:
        return int(self.size.sum())

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """[block] bytes up to and with each, twice round."""
        return np.cumsum(np.tile(self.size, 2))

    def turn(self, step: int) -> int:
        """Return which block is the oldest to be drawn from at a step, by its place in the order."""
        if self._total <= self.most_bytes:
            return 0
        return int(self._ends.searchsorted((step * self.speed) % self._total, side="right")) % len(self.size)

    def blocks_at(self, turn: int) -> tuple[list[int], list[int]]:
        """Return the numbers of the blocks to draw from, oldest first, and of those that come next."""
        if self._total <= self.most_bytes:
            return self.blocks.tolist(), []
        largest = int(self.size.max())
        ends = self._ends[turn : turn + len(self.size)] - (self._ends[turn] - self.size[turn])
        # Where the pool ends, room as large as the largest block may stay empty; and what comes next is decoded while
        # others are drawn from: two of the largest, so that each is there for a while before it is wanted.
        now = max(1, int(ends.searchsorted(self.room_bytes - _SPARE * largest, side="right")))
        there = max(now, int(ends.searchsorted(self.room_bytes - largest, side="right")))
        numbers: list[int] = np.roll(self.blocks, -turn)[:there].tolist()
        return numbers[:now], numbers[now:]


class Schedule:
    """Which windows each step learns from, and which blocks are decoded meanwhile.

    Parameters
    ----------
    sources
        At least one, always in the same order.
    row_bytes
        [source] decoded bytes of one sample.
    drawing
        How windows are drawn.
    pool
        None draws from everything at every step, and so does a pool that holds everything.
    """

    def __init__(
        self, sources: Sequence[Source], *, row_bytes: Sequence[int], drawing: Drawing, pool: PoolSettings | None
    ) -> None:
        self.sources = tuple(sources)
        self.drawing = drawing
        self.rotations: tuple[Rotation, ...] = ()
        self.blocks = blocks_of(sources, most_samples=[None] * len(sources))
        self.block_bytes = self._sizes(row_bytes)
        """[block] decoded."""
        if pool is not None and sum(self.block_bytes) > 1e6 * pool.megabytes:
            self._rotate(row_bytes, pool)
        self._now: tuple[tuple[int, ...], Choices] | None = None
        self._drawn: dict[int, Draw] = {}

    def _sizes(self, row_bytes: Sequence[int]) -> tuple[int, ...]:
        return tuple(row_bytes[block.source] * block.samples for block in self.blocks)

    def _rotate(self, row_bytes: Sequence[int], pool: PoolSettings) -> None:
        shares, decoded = self.drawing.shares, dict[Modality, int]()
        for block, size in zip(self.blocks, self.block_bytes, strict=True):
            modality = self.sources[block.source].modality
            if shares.get(modality, 0.0) > 0:
                decoded[modality] = decoded.get(modality, 0) + size
        parts = _parts(decoded, shares=shares, pool=1e6 * pool.megabytes)
        self.blocks = blocks_of(
            self.sources,
            most_samples=[
                max(_WINDOWS * source.window_samples, int(parts[source.modality] / _PARTS / bytes_))
                if parts.get(source.modality, math.inf) < decoded.get(source.modality, 0)
                else None
                for source, bytes_ in zip(self.sources, row_bytes, strict=True)
            ],
        )
        self.block_bytes = self._sizes(row_bytes)
        rotations = []
        for kind, (modality, most_bytes) in enumerate(sorted(parts.items())):
            blocks = [block for block in self.blocks if self.sources[block.source].modality is modality]
            order = np.random.default_rng([self.drawing.seed, _ORDER, kind]).permutation(len(blocks))
            bytes_of = np.array([self.block_bytes[block.number] for block in blocks])
            window = [row_bytes[block.source] * self.sources[block.source].window_samples for block in blocks]
            used = self.drawing.windows * float(np.average(window, weights=bytes_of))
            rotations.append(
                Rotation(
                    blocks=np.array([block.number for block in blocks])[order],
                    size=bytes_of[order],
                    most_bytes=most_bytes,
                    speed=used * shares[modality] / sum(shares[one] for one in parts) / pool.uses,
                )
            )
        self.rotations = tuple(rotations)

    def turns(self, step: int) -> tuple[int, ...]:
        """Return how far each modality's part of the pool has turned at a step."""
        return tuple(rotation.turn(step) for rotation in self.rotations)

    def resident(self, step: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the numbers of the blocks that a step may draw from, oldest first, and of those that come next."""
        if not self.rotations:
            return tuple(range(len(self.blocks))), ()
        found = [rotation.blocks_at(rotation.turn(step)) for rotation in self.rotations]
        return tuple(n for now, _ in found for n in now), tuple(n for _, coming in found for n in coming)

    def at(self, step: int) -> Draw:
        """Draw what a step learns from."""
        if step not in self._drawn:
            # Several at once: between two batches, whose copying has emptied the processor's caches, each alone would
            # take four times as long.
            self._drawn = {ahead: self._draw(ahead) for ahead in range(step, step + _AHEAD)}
        return self._drawn[step]

    def _draw(self, step: int) -> Draw:
        drawing, turns = self.drawing, self.turns(step)
        if self._now is None or turns != self._now[0]:
            blocks = [self.blocks[number] for number in self.resident(step)[0]]
            choices = Choices(self.sources, blocks, shares=drawing.shares, dataset_shares=drawing.dataset_shares)
            self._now = turns, choices
        return self._now[1].draw(
            seed=drawing.seed, step=step, windows=drawing.windows, hidden_fraction=drawing.hidden_fraction
        )


def _parts(decoded: Mapping[Modality, int], *, shares: Mapping[Modality, float], pool: float) -> dict[Modality, float]:
    """Part the pool by the shares of steps; what a small modality does not need is for the others."""
    parts: dict[Modality, float] = {}
    while left := [modality for modality in decoded if modality not in parts]:
        each = (pool - sum(parts.values())) / sum(shares[modality] for modality in left)
        small = [modality for modality in left if decoded[modality] <= each * shares[modality]]
        for modality in small or left:
            parts[modality] = decoded[modality] if small else each * shares[modality]
    return {modality: parts[modality] for modality in decoded}
