"""A crew of workers that bring files over HTTP side by side, a bounded number per host."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field

import aiohttp

from neurofm.fetch.endings import Endings
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.landing import Part
from neurofm.fetch.ledger import FileState
from neurofm.fetch.origins import Origins
from neurofm.fetch.survey import Missing
from neurofm.fetch.transfer import Refused, Tally, Transfer, Unreachable
from neurofm.progress import Progressing

_SETTLED_FILES, _SETTLED_BYTES, _SETTLED_S = 512, 32 << 20, 0.5
"""When verified files are given their names: many at once make `fsync` cheap, and waiting long would lose much."""
_SETTLING = 2
_LARGE_BYTES = 1 << 20
"""From here on a file's validator is written down as soon as it begins, so that a later run can go on with it."""
_CONNECTIONS = {"crcns": 1}
"""Archives that bear fewer connections than `FetchSite.connections_per_host`, by the origin's scheme."""
_GIVEN_UP_FILES = 32
"""After so many files in a row that did not come, the rest is not asked for: the network or the archive is down."""
_READ_BUFFER_BYTES = 4 << 20


async def bring_from_hosts(
    missing: Sequence[Missing],
    *,
    endings: Endings,
    site: FetchSite,
    pool: Executor,
    tally: Tally,
    progress: Progressing,
) -> None:
    """Bring files over HTTP; how each one ends is told to `endings`.

    However this ends, what was verified by then is under its name, and what was not can be gone on with.

    Raises
    ------
    UserError
        For what ends everything: no login, disk full.
    """
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=site.connections_per_host)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=site.timeout_s, sock_read=site.timeout_s)
    origins = Origins(site)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "neurofm"},
        read_bufsize=_READ_BUFFER_BYTES,
    ) as session:
        transfer = Transfer(
            site=site,
            origins=origins,
            session=session,
            pool=pool,
            tally=tally,
            received=lambda count: progress.advance(count, note=f"{endings.fetched} of {len(missing)} files"),
            begun=lambda part: endings.begin(part) if part.file.size >= _LARGE_BYTES else None,
        )
        crew = _Crew(queue=iter(missing), transfer=transfer, endings=endings, pool=pool)
        workers = [asyncio.create_task(crew.work()) for _ in range(min(site.connections_per_host, len(missing)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            tally.requests += origins.requests
            await crew.finish()


@dataclass(kw_only=True)
class _Crew:
    """What the workers share."""

    queue: Iterator[Missing]
    """Taken from one by one: there is never a task per file."""
    transfer: Transfer
    endings: Endings
    pool: Executor
    gates: dict[str, asyncio.Semaphore] = field(
        default_factory=lambda: {scheme: asyncio.Semaphore(most) for scheme, most in _CONNECTIONS.items()}
    )
    waiting: list[Part] = field(default_factory=list)
    """Verified, and not yet under their names."""
    waiting_bytes: int = 0
    waiting_since: float = 0.0
    settling: deque[asyncio.Future[None]] = field(default_factory=deque)
    unreachable: int = 0
    """Files in a row that did not come after all tries."""

    async def work(self) -> None:
        for missing in self.queue:
            scheme = missing.file.origin.partition("://")[0]
            async with self.gates.get(scheme) or nullcontext():
                if self.unreachable >= _GIVEN_UP_FILES:
                    self.endings.fail(missing.file, f"not asked for: the last {_GIVEN_UP_FILES} files did not come")
                else:
                    await self._bring(missing.part())

    async def _bring(self, part: Part) -> None:
        try:
            await self.transfer.bring(part)
        except Refused as error:
            self.endings.refuse(part, str(error), wrong=error.wrong)
            self.unreachable = 0
        except Unreachable as error:
            self.endings.leave(part, FileState.FAILED, str(error))
            self.unreachable += 1
        except OSError as error:
            self.endings.give_up(part, error)
        except BaseException:
            self.endings.leave(part, FileState.PARTIAL)
            raise
        else:
            self.unreachable = 0
            self.waiting_since = self.waiting_since if self.waiting else time.monotonic()
            self.waiting.append(part)
            self.waiting_bytes += part.size
            if self._is_due():
                await self._settle()

    async def _settle(self) -> None:
        """Start to make verified files durable; waits only if that falls behind, since `fsync` is mostly waiting."""
        loop = asyncio.get_running_loop()
        self.settling.append(loop.run_in_executor(self.pool, self.endings.verify, self.landed()))
        while len(self.settling) > _SETTLING:
            await self.settling.popleft()

    async def finish(self) -> None:
        """Make what is verified durable."""
        await self._settle()
        while self.settling:
            await self.settling.popleft()

    def _is_due(self) -> bool:
        return (
            len(self.waiting) >= _SETTLED_FILES
            or self.waiting_bytes >= _SETTLED_BYTES
            or time.monotonic() - self.waiting_since >= _SETTLED_S
        )

    def landed(self) -> list[Part]:
        landed, self.waiting, self.waiting_bytes = self.waiting, [], 0
        return landed
