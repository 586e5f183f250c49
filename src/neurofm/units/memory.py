"""Room for units: no more at once than the machine's memory holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_KEPT = 0.9
"""Share of what is free that units may take: the kernel and the page cache need some."""


class Room:
    """Lets units in as long as there is a place, and memory for one more of the largest so far.

    The first unit tells what units take; until one has ended, only the number of places counts. One unit is always
    let in, however large.

    Parameters
    ----------
    places
        Most units at once.
    memory_mb
        What they may take together, MiB; by default most of what is free now.
    """

    def __init__(self, places: int, *, memory_mb: float | None = None) -> None:
        self.places = places
        self._memory_mb = _KEPT * free_memory_mb() if memory_mb is None else memory_mb
        self._largest_mb = 0.0
        self._inside = 0
        self._alone = False
        self._changed = threading.Condition()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Wait for a place."""
        with self._changed:
            self._changed.wait_for(self._fits)
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else is inside, and keep others out."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: self._inside == 0)
            self._inside = 1
        try:
            yield
        finally:
            self._alone = False
            self._leave()

    def learn(self, peak_mb: float) -> None:
        """Take note of what a unit's process took at most."""
        with self._changed:
            self._largest_mb = max(self._largest_mb, peak_mb)

    def _fits(self) -> bool:
        if self._alone:
            return False
        enough = (self._inside + 1) * self._largest_mb <= self._memory_mb
        return self._inside == 0 or (self._inside < self.places and enough)

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()


def free_memory_mb(*, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> float:
    """Return what new processes can take: what the kernel says is available, or less where a container limits it.

    Returns
    -------
    float
        MiB; infinite where the machine does not tell.
    """
    free = float("inf")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) / 1024
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free = min(free, max(0.0, (int(most) - int(used.read_text())) / 2**20))
    return free


def total_memory_mb(*, meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> float:
    """Return what all processes together can ever take: the machine's memory, or less where a container limits it.

    Returns
    -------
    float
        MiB; infinite where the machine does not tell.
    """
    total = float("inf")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total = int(lines["MemTotal"].split()[0]) / 1024
    limit = cgroup / "memory.max"
    if limit.is_file() and (most := limit.read_text().strip()).isdigit():
        total = min(total, int(most) / 2**20)
    return total
