"""Keeping: a training's state on disk, where a write that fails loses nothing that was kept before."""

from __future__ import annotations

import sys
from pathlib import Path

from neurofm.errors import UserError
from neurofm.training.memory import is_out_of_memory
from neurofm.training.state import RunState, UnreadableState, load_state, save_state


class Keeper:
    """Keeps the states of one training.

    Parameters
    ----------
    path
        File of the latest validation's state. One that a signal or a watchdog kept between two validations lies beside
        it, so that a training that diverges later goes back to where it would have gone without them.
    key
        Names the settings and data that the training belongs to.
    who
        For messages.
    """

    def __init__(self, path: Path, *, key: str, who: str) -> None:
        self._path = path
        self._between = path.with_name(f"between-{path.name}")
        self._key = key
        self.who = who
        self.kept: int | None = None
        """Step of the state on disk."""
        self.complaint = ""
        """Why the last write failed; empty if it did not."""

    def latest(self) -> RunState | None:
        """Return the state to go on from; None if there is none."""
        found = [state for state in (self.validated(), self._load(self._between)) if state is not None]
        state = max(reversed(found), key=lambda one: one.step, default=None)
        self.kept = None if state is None else state.step
        return state

    def validated(self) -> RunState | None:
        """Return the state of the latest validation; None if there is none."""
        return self._load(self._path)

    def _load(self, path: Path) -> RunState | None:
        """Read a state; a damaged one is set aside."""
        try:
            return load_state(path, key=self._key)
        except UnreadableState as error:
            aside = path.with_name(f"{path.name}.damaged")
            try:
                path.replace(aside)
            except OSError as refused:
                raise UserError(
                    f"{self.who}: {path} is damaged ({error}), and cannot be set aside: {refused.strerror}.",
                    mend="make its folder writable, or remove the file",
                ) from None
            sys.stderr.write(f"{self.who}: {path} is damaged and now {aside.name}: {error}\n")
            return None

    def save(self, state: RunState, *, is_validated: bool) -> bool:
        """Write a state, and say so where that fails: the one before stays."""
        try:
            save_state(state, self._path if is_validated else self._between, key=self._key)
            if is_validated:
                self._between.unlink(missing_ok=True)
        except (OSError, MemoryError, RuntimeError) as error:
            if not isinstance(error, OSError) and not is_out_of_memory(error):
                raise
            self.complaint = getattr(error, "strerror", None) or str(error) or "no memory"
            sys.stderr.write(
                f"{self.who}: the state at step {state.step} is not kept, {self._path.parent}: {self.complaint}; "
                f"{self.what_is_kept}\n"
            )
            return False
        self.kept, self.complaint = state.step, ""
        return True

    @property
    def what_is_kept(self) -> str:
        """In words."""
        return "nothing is kept so far" if self.kept is None else f"what is kept is of step {self.kept}"
