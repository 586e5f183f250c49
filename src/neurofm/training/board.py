"""Board: a training's scalars as TensorBoard shows them, while it runs. No result depends on it.

DVCLive's curves (`neurofm.training.live`) are part of the results and hence the same in every run; event files hold
times and speeds, and lie with the states, in ``.neurofm/runs/<digest>/tensorboard/fold-<n>/``:

    tensorboard --logdir .neurofm/runs
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from neurofm.errors import UserError


class Board:
    """Shows nothing."""

    def show(self, step: int, scalars: Mapping[str, float]) -> None:
        """Show numbers of a step."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left to be written."""


class TensorBoard(Board):
    """Writes event files.

    Parameters
    ----------
    folder
        For them; a training that goes on adds another.
    who
        For messages.

    Raises
    ------
    UserError
        If TensorBoard is not installed, or the folder cannot be written into.
    """

    def __init__(self, folder: Path, *, who: str) -> None:
        self._who = who
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # Takes seconds, and is asked for seldom.

            folder.mkdir(parents=True, exist_ok=True)
            self._writer: Any = SummaryWriter(str(folder))
        except ImportError as error:
            raise UserError(
                f"{who}: `training.tensorboard` in site.yaml needs TensorBoard: {error}.",
                mend="install `neurofm[tensorboard]`, or leave it off: `dvc plots show` draws the same curves",
            ) from None
        except OSError as error:
            raise UserError(
                f"{who}: {folder} cannot be written: {error.strerror or error}.",
                mend="free space, or leave `training.tensorboard` in site.yaml off",
            ) from None

    def show(self, step: int, scalars: Mapping[str, float]) -> None:
        """Show numbers of a step."""
        if self._writer is None:
            return
        try:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:  # A full disk must not end a training.
            self._end(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left to be written."""
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as refused:
            self._end(refused)

    def _end(self, error: OSError) -> None:
        self._writer = None
        sys.stderr.write(f"{self._who}: TensorBoard gets nothing any more: {error.strerror or error}\n")


def board_of(folder: Path, *, is_wanted: bool, who: str) -> Board:
    """Return where a training shows its numbers."""
    return TensorBoard(folder, who=who) if is_wanted else Board()
