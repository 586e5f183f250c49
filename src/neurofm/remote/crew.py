"""Many objects on their way side by side: who is next, what went wrong, when to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import aiohttp

from neurofm.errors import UserError
from neurofm.remote.complaints import FINAL, Answer, complaint, reason_of

T = TypeVar("T")
_GIVEN_UP = 8
"""After so many objects in a row that did not go, the rest is not tried: the server is gone."""


@dataclass(kw_only=True)
class Outcome(Generic[T]):
    """How it ended."""

    done: list[T] = field(default_factory=list)
    wrong: list[T] = field(default_factory=list)
    """Whose bytes are not what their names say."""
    absent: list[T] = field(default_factory=list)
    """Which the remote does not have."""
    failed: int = 0
    error: BaseException | None = None
    """Why, of the last that failed."""

    def require(self, *, doing: str, where: str, of: int) -> None:
        """End in one line if anything did not go.

        Raises
        ------
        UserError
            With how far it came.
        """
        if self.error is None:
            return
        told = complaint(self.error, doing=doing, where=where)
        raise UserError(f"{told.problem} {len(self.done)} of {of} files are through.", mend=told.mend)


class WrongBytes(Exception):
    """An object is not what its name says."""


class Absent(Exception):
    """The remote does not have an object."""


async def side_by_side(items: Iterable[T], do: Callable[[T], Awaitable[None]], *, workers: int) -> Outcome[T]:
    """Do something with every item, a bounded number at a time.

    One that fails does not stop the others, unless the reason is one that all share: credentials, a full disk, a server
    that is gone.
    """
    outcome: Outcome[T] = Outcome()
    queue = iter(items)
    in_a_row = 0
    over = False

    async def work() -> None:
        nonlocal in_a_row, over
        for item in queue:
            if over:
                return
            try:
                await do(item)
            except WrongBytes:
                outcome.wrong.append(item)
            except Absent:
                outcome.absent.append(item)
            except (Answer, aiohttp.ClientError, OSError) as error:
                outcome.failed += 1
                outcome.error = error
                in_a_row += 1
                if in_a_row >= _GIVEN_UP or reason_of(error) in FINAL or _is_local(error):
                    over = True
            else:
                outcome.done.append(item)
                in_a_row = 0

    crew = [asyncio.create_task(work()) for _ in range(workers)]
    try:
        await asyncio.gather(*crew)
    finally:
        for worker in crew:
            worker.cancel()
        await asyncio.gather(*crew, return_exceptions=True)
    return outcome


def _is_local(error: BaseException) -> bool:
    """Whether it is this disk's fault."""
    return isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError | ConnectionError | TimeoutError)
