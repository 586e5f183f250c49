"""Progress of anything that takes longer than two seconds: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_QUIET_S = 2.0
_LINE_EVERY_S = 10.0


class Progressing:
    """Progress over a known total, with rate and time left.

    On a terminal this is a rich bar. In CI and Slurm logs it is a plain line every ten seconds, and
    nothing at all for work shorter than two seconds.

    Parameters
    ----------
    title
        What is being done, to whom: ``"preprocess hcp-rest"``.
    total
        How much there is to do.
    unit
        What is counted: ``"recordings"``, ``"bytes"``, ``"steps"``.
    lines
        Plain lines on a terminal too, for work during which others show their bars.
    """

    def __init__(self, title: str, *, total: float, unit: str, lines: bool = False) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0.0
        self._started = time.monotonic()
        self._last_line = self._started
        self._bar: Progress | None = None
        self._task = None
        if sys.stderr.isatty() and not lines:
            middle = TransferSpeedColumn() if unit == "bytes" else MofNCompleteColumn()
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                middle,
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(title, total=total, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elapsed = time.monotonic() - self._started
        if elapsed > _QUIET_S and error is None:
            sys.stderr.write(f"{self.title}: {self._amount(self.done)} in {elapsed:.1f} s\n")

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Count `amount` more as done; `note` is shown beside the bar (a loss, a file name)."""
        self.done += amount
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=amount, note=note)
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            rate = self.done / (now - self._started)
            left = (self.total - self.done) / rate if rate > 0 else float("inf")
            sys.stderr.write(
                f"{self.title}: {self._amount(self.done)} of {self._amount(self.total)}, "
                f"{self._amount(rate)}/s, {left:.0f} s left {note}".rstrip()
                + "\n"
            )

    def _amount(self, value: float) -> str:
        if self.unit == "bytes":
            return f"{value / 1e6:.1f} MB"
        return f"{value:.4g} {self.unit}"
