"""Guard: what a training tells whoever watches over it. This one tells nobody."""

from __future__ import annotations

from collections.abc import Callable


class Guard:
    """Nobody watches."""

    def beat(self, step: int, what: str) -> None:
        """Say that training goes on, and what it does next."""

    def rest(self) -> None:
        """Say that what follows are no steps, and may take its time."""

    def can_keep(self, keep: Callable[[], bool]) -> None:
        """Say how what was learned can be kept by another thread, while this one hangs."""
