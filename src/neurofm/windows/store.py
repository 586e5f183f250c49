"""Store: the decoded samples that steps draw from, kept as `neurofm.windows.policy` says.

Every policy is the same machine: blocks of samples are decoded into rings of memory, and windows are copied out of
them. The policies differ in where the memory lies (RAM, a file, the GPU) and in how much of it there is. What a ring
has lost, or never had, is decoded when it is wanted: a policy changes how long a window takes, never what is in it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.windows.decoders import DecoderGone, Decoders
from neurofm.windows.policy import Free, Needs, Plan, Policy, StoreSite, choose
from neurofm.windows.ring import Memory, Ring, aligned
from neurofm.windows.samples import Damage, Samples
from neurofm.windows.sampling import Block, Draw
from neurofm.windows.schedule import Rotation, Schedule
from neurofm.windows.signal import StoredSignal

_WATCH_EVERY_S = 1.0
_LEAST_FREE = 0.05
"""Share of the memory that was free at the start; below it the store takes less."""


@dataclass(kw_only=True)
class _Room:
    """A ring and the memory that it parts."""

    ring: Ring
    host: Memory | None
    device: Tensor | None

    @classmethod
    def of(cls, size: int, *, shared: bool, folder: Path | None, device: str) -> Self:
        """Take memory."""
        if device != "cpu":
            return cls(ring=Ring(size), host=None, device=torch.empty(size, dtype=torch.uint8, device=device))
        return cls(ring=Ring(size), host=Memory(size, shared=shared, folder=folder), device=None)

    def close(self) -> None:
        """Give it back."""
        if self.host is not None:
            self.host.close()
        self.device = None


def _ring_bytes(rotation: Rotation) -> int:
    """Bytes of a rotation's ring: each block begins at a round place."""
    return rotation.room_bytes + 64 * len(rotation.blocks)


class Store:
    """The decoded samples of a training run.

    Parameters
    ----------
    signals
        [source] in the order of the schedule's sources.
    schedule
        What steps draw from.
    site
        Where samples are to lie.
    bfloat16
        Whether to keep standardised samples as bfloat16 rather than what is stored. It changes numbers, so params.yaml
        says it.
    device
        Where windows are wanted: they are copied there as stored, and become float32 there.
    side_by_side
        Stores that run on this machine at once.
    free
        Measures what is free.
    who
        For messages.
    each_block
        Called whenever a block has been decoded while a window is waited for, which may take long at the start.

    Raises
    ------
    UserError
        If there is no room for the policy that was asked for.
    """

    def __init__(
        self,
        signals: Sequence[StoredSignal],
        schedule: Schedule,
        *,
        site: StoreSite,
        bfloat16: bool = False,
        device: str = "cpu",
        side_by_side: int = 1,
        free: Callable[[Path], Free] = Free.now,
        who: str = "pretrain",
        each_block: Callable[[], None] = lambda: None,
    ) -> None:
        self._signals = tuple(signals)
        self._schedule = schedule
        self._site = site
        self._bfloat16 = bfloat16
        self._device = device
        self._free = free
        self._who = who
        self._each_block = each_block
        self._sizes = [aligned(size) for size in schedule.block_bytes]
        if site.policy is Policy.DEVICE_POOL and device == "cpu":
            raise UserError(
                f"{who}: `store.policy: device_pool` keeps samples on a GPU, and this runs on the CPU.",
                mend="`store: {policy: auto}` in site.yaml",
            )
        at_first = free(site.folder)
        self._least_free = _LEAST_FREE * at_first.memory
        needs = Needs(everything=sum(self._sizes), pool=self._pool_bytes(), smallest=max(self._sizes))
        self.plan: Plan = choose(site.policy, needs, at_first, side_by_side=side_by_side, who=who)
        self._rooms: list[_Room] = []
        self._room_of: list[int] = []
        self._pending: dict[int, Future[list[Damage]]] = {}
        self._decoders: Decoders | None = None
        self._watched = time.monotonic()
        self._turns: tuple[int, ...] = ()
        """Up to where other processes have been told to decode."""
        self._take_rooms()

    def _pool_bytes(self) -> int:
        """Return what the pool takes, or would if everything rotated."""
        return sum(_ring_bytes(rotation) for rotation in self._schedule.rotations) or sum(self._sizes)

    def _take_rooms(self) -> None:
        """Take memory for the plan: one ring for what stays, others for what makes place."""
        resident = self._hot(self.plan.resident)
        self._room_of = [0] * len(self._sizes)
        sizes = [sum(self._sizes[number] for number in resident)]
        cold = [number for number in range(len(self._sizes)) if number not in resident]
        rotations = self._schedule.rotations
        share = min(1.0, self.plan.pool / self._pool_bytes())
        for numbers, room in [(r.blocks.tolist(), _ring_bytes(r)) for r in rotations] or [(cold, self._pool_bytes())]:
            if among := [number for number in numbers if number not in resident]:
                for number in among:
                    self._room_of[number] = len(sizes)
                largest = max(self._sizes[number] for number in among)
                sizes.append(max(largest, min(int(share * room), sum(self._sizes[number] for number in among))))
        folder = self._site.folder if self.plan.policy is Policy.MMAP else None
        device = self._device if self.plan.policy is Policy.DEVICE_POOL else "cpu"
        shared = self._site.decoders > 0
        self._rooms = [_Room.of(max(size, 64), shared=shared, folder=folder, device=device) for size in sizes]

    def _hot(self, most_bytes: int) -> set[int]:
        """Choose the blocks that stay: of the recordings that are drawn most often per byte."""
        if most_bytes >= sum(self._sizes):
            return set(range(len(self._sizes)))
        sources, shares = self._schedule.sources, self._schedule.drawing.shares
        bytes_of = [0] * len(sources)
        for block, size in zip(self._schedule.blocks, self._sizes, strict=True):
            bytes_of[block.source] += size
        order = sorted(
            (number for number in range(len(sources)) if bytes_of[number]),
            key=lambda n: -shares.get(sources[n].modality, 0.0) * sources[n].train_samples ** 0.5 / bytes_of[n],
        )
        kept, total = set(), 0
        for number in order:
            if total + bytes_of[number] <= most_bytes:
                kept.add(number)
                total += bytes_of[number]
        return {number for number, block in enumerate(self._schedule.blocks) if block.source in kept}

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What is drawn from."""
        return self._schedule.blocks

    @property
    def held_bytes(self) -> int:
        """Memory that decoded samples take at most."""
        return sum(room.ring.size for room in self._rooms)

    def free_beside(self, folder: Path) -> Free:
        """Measure what is free beside what this store will have taken."""
        free = self._free(folder)
        where = {Policy.MMAP: "disk", Policy.DEVICE_POOL: "device"}.get(self.plan.policy, "memory")
        return replace(free, **{where: getattr(free, where) - self.held_bytes})

    def at(self, step: int, *, rank: int = 0, world_size: int = 1) -> tuple[Draw, Tensor, Tensor]:
        """Return what a step draws, of one of several processes, and its windows as `windows` does."""
        drawn = self._draw(step, rank=rank, world_size=world_size)
        return drawn, *self.windows(drawn)

    def stored_at(
        self, step: int, *, rank: int = 0, world_size: int = 1, out: npt.NDArray[Any] | None = None
    ) -> tuple[Draw, Tensor]:
        """Return what a step draws, and its windows as `stored_windows` does."""
        drawn = self._draw(step, rank=rank, world_size=world_size)
        return drawn, self.stored_windows(drawn, out=out)

    def _draw(self, step: int, *, rank: int, world_size: int) -> Draw:
        """Draw a step, and see to it that its blocks are there, or soon are."""
        self._watch()
        if (turns := self._schedule.turns(step)) != self._turns:
            self._turns = turns
            now, coming = self._schedule.resident(step)
            if self._site.decoders:
                self._look_ahead((*now, *coming))
            else:  # In the order in which they make place, too.
                for number in now:
                    self._there(number)
        return self._schedule.at(step).of_rank(rank, world_size=world_size)

    def windows(self, drawn: Draw) -> tuple[Tensor, Tensor]:
        """Cut the windows of a draw.

        Returns
        -------
        [window, time, channel] float32 on the store's device, standardised and 0 where not valid; and
        [window, time] bool, valid.
        """
        signal = self._signals[drawn.source]
        length = self._schedule.sources[drawn.source].window_samples
        here: Tensor
        if self._device == "cpu" and not self._bfloat16:  # Float32 in the same copy.
            out = np.empty((len(drawn.starts), length, signal.samples.shape[1]), dtype=np.float32)
            here = self.stored_windows(drawn, out=out)
        else:
            here = self.stored_windows(drawn).to(self._device)
        # After the samples: what is damaged is known by then.
        within = drawn.starts[:, None] + np.arange(length)
        valid = torch.from_numpy(signal.valid[within])
        if self._bfloat16:
            z = here.view(torch.bfloat16).float()
        else:
            z = here.to(torch.float32).mul_(torch.from_numpy(signal.gain).to(self._device))
            z.add_(torch.from_numpy(signal.bias).to(self._device))
        if not valid.all():
            z[~valid.to(self._device)] = 0.0
        return z, valid

    def stored_windows(self, drawn: Draw, *, out: npt.NDArray[Any] | None = None) -> Tensor:
        """Cut the windows of a draw, as they lie in memory.

        Parameters
        ----------
        drawn
            Its block and starts say which.
        out
            [window, time, channel] to be filled, cast to its dtype; made where it is not given. Not for samples that
            lie on a GPU.

        Returns
        -------
        [window, time, channel] uint8, int16, or int16 holding the bits of bfloat16.
        """
        signal, length = self._signals[drawn.source], self._schedule.sources[drawn.source].window_samples
        number = drawn.block.number
        room = self._rooms[self._room_of[number]]
        place = self._there(number)
        channels = signal.samples.shape[1]
        dtype = np.dtype(np.int16) if self._bfloat16 else signal.samples.dtype
        rows = drawn.block.rows(drawn.starts)
        count = self._schedule.block_bytes[number]
        if room.device is not None:
            base = room.device[place : place + count].view(torch.from_numpy(np.empty(0, dtype)).dtype)
            index = torch.from_numpy(rows[:, None] + np.arange(length)).to(self._device)
            return base.view(-1, channels)[index]
        assert room.host is not None
        stored = room.host.bytes[place : place + count].view(dtype).reshape(-1, channels)
        windows = np.empty((len(rows), length, channels), dtype=dtype) if out is None else out
        for window, row in enumerate(rows.tolist()):
            windows[window] = stored[row : row + length]
        return torch.from_numpy(windows)

    def _there(self, number: int) -> int:
        """Return where a block lies, decoded now if it is not yet."""
        room = self._rooms[self._room_of[number]]
        if number in self._pending:
            self._settle(number)
        if number in room.ring:
            return room.ring.place(number)
        place = self._make_place(number, room)
        self._fill(number, place, room)
        self._each_block()
        return place

    def _settle(self, number: int) -> None:
        """Wait until another process has decoded a block; do it here where that process is gone."""
        wanted = self._pending.pop(number)
        while not wanted.done():
            others = [one for one in self._pending.values() if not one.done()]
            wait([wanted, *others], return_when=FIRST_COMPLETED)
            self._each_block()
        try:
            damages = wanted.result()
        except (DecoderGone, CancelledError):
            if self._decoders is not None:
                sys.stderr.write(
                    f"{self._who}: a process that decoded ahead was killed; steps decode by themselves now\n"
                )
                self._decoders.close()
                self._decoders = None
                self._site = self._site.model_copy(update={"decoders": 0})
            room = self._rooms[self._room_of[number]]
            if number in room.ring:
                self._fill(number, room.ring.place(number), room)
            return
        samples = self._signals[self._schedule.blocks[number].source].samples
        if isinstance(samples, Samples):
            samples.note(damages)

    def _fill(self, number: int, place: int, room: _Room) -> None:
        """Decode a block to its place."""
        block, size = self._schedule.blocks[number], self._schedule.block_bytes[number]
        signal = self._signals[block.source]
        if room.host is not None:
            signal.fill(block.segments, room.host.bytes[place : place + size], bfloat16=self._bfloat16)
        else:
            assert room.device is not None
            decoded = np.empty(size, dtype=np.uint8)
            signal.fill(block.segments, decoded, bfloat16=self._bfloat16)
            room.device[place : place + size] = torch.from_numpy(decoded)

    def _make_place(self, number: int, room: _Room) -> int:
        place, gone = room.ring.make_place(number, self._schedule.block_bytes[number])
        for other in gone:
            if other in self._pending:  # Another process writes there still.
                self._settle(other)
        return place

    def _look_ahead(self, numbers: Sequence[int]) -> None:
        """Have other processes decode what is not there yet."""
        for number in numbers:
            room = self._rooms[self._room_of[number]]
            if number in room.ring or room.host is None:
                continue
            if self._decoders is None:
                self._decoders = Decoders(self._site.decoders, self._signals, bfloat16=self._bfloat16)
            place = self._make_place(number, room)
            if self._decoders is None:  # Gone, as was seen when place was made.
                self._fill(number, place, room)
                return
            block = self._schedule.blocks[number]
            size = self._schedule.block_bytes[number]
            self._pending[number] = self._decoders.submit(block, room.host, place=place, size=size)

    def _watch(self) -> None:
        """Take less memory where little is left of it: slower, but alive."""
        if time.monotonic() - self._watched < _WATCH_EVERY_S:
            return
        self._watched = time.monotonic()
        left = self._free(self._site.folder).memory
        if left < self._least_free and self.plan.policy not in {Policy.MMAP, Policy.DEVICE_POOL}:
            self.step_down(left)

    def step_down(self, left: float) -> None:
        """Keep half of what was kept; `left` bytes of memory are."""
        held = self.held_bytes
        smallest = max(self._sizes)
        if self.plan.resident:
            resident = self.plan.resident // 2 if self.plan.resident > 2 * smallest else 0
            pool = self._pool_bytes() if self._schedule.rotations else smallest
        else:
            resident, pool = 0, max(smallest, self.plan.pool // 2)
        policy = Policy.HYBRID if resident else Policy.HOST_POOL
        plan = Plan(policy=policy, resident=resident, pool=pool)
        if plan == self.plan:
            return
        self._close_rooms()
        self.plan = plan
        self._take_rooms()
        now = self.held_bytes
        sys.stderr.write(
            f"{self._who}: {left / 1e9:.2g} GB of memory are left; {policy} from here on, with {now / 1e9:.2g} GB of "
            f"decoded samples instead of {held / 1e9:.2g} GB. Samples stay the same, steps take longer.\n"
        )

    def _close_rooms(self) -> None:
        if self._decoders is not None:
            self._decoders.close()
            self._decoders = None
        # What they met of damage is met again when the block is decoded again.
        self._pending.clear()
        self._turns = ()
        for room in self._rooms:
            room.close()
        self._rooms = []

    def close(self) -> None:
        """Give everything back."""
        self._close_rooms()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
