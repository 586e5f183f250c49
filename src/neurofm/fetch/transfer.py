"""Bring one file over HTTP: ask, receive, go on where it broke, and judge what came by its digest and nothing else."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

import aiohttp
from yarl import URL

from neurofm.errors import UserError
from neurofm.fetch.appending import BLOCK_BYTES
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.landing import Part
from neurofm.fetch.origins import Origins
from neurofm.fetch.request import MOST_REDIRECTS, NoRequest, Request
from neurofm.fetch.waiting import RETRIED, pause_s, retry_after_s
from neurofm.recording.manifest import FIRST_USE

Result = TypeVar("Result")

_BUFFER_BYTES = BLOCK_BYTES
"""What is gathered before it is handed to a thread for hashing and writing."""
_MOST_BUFFER_BYTES = 2 * BLOCK_BYTES
"""What is gathered at most while the thread is busy; then the line waits."""
_BUFFER_S = 1.0
"""On a slow line it is handed over sooner, so that a crash loses a second's worth."""
_BEYOND_BYTES = 1 << 16
"""How far an answer may go beyond the pinned size before it is cut off: enough to look at."""
_PROGRESS_BYTES = 1 << 16
"""A try that brings this much more than all before it (or a hundredth of the file) does not count against the number of
tries: a line that breaks often still brings the file."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_PAGE_TRIES = 2
"""A page instead of data may be a passing message of a proxy; asked once more."""
_WRONG_TRIES = 2
"""A byte may turn on the way; a file that is wrong twice is wrong at its origin."""
_PAGE_BYTES = 1 << 16
_PAGE_TYPES: Mapping[str, tuple[str, ...]] = {
    "text/html": (".html", ".htm"),
    "application/xhtml+xml": (".html", ".htm"),
    "application/json": (".json",),
    "application/xml": (".xml", ".gii", ".svg"),
    "text/xml": (".xml", ".gii", ".svg"),
}
"""Types of pages and messages, and the files that may truly be of that type."""
_PAGE_SUFFIXES = tuple({suffix for suffixes in _PAGE_TYPES.values() for suffix in suffixes})
_PAGE = re.compile(
    rb"\s*(<!doctype\s+html|<html|(<\?xml[^>]*>\s*)?<error|\{\s*\"(error|message|detail)s?\")", re.IGNORECASE
)
_LOGIN_PAGE = re.compile(rb"invalid user|password|log ?in", re.IGNORECASE)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Refused(Exception):
    """The file cannot be had as it is pinned, and asking again does not help: quarantine, with this reason.

    With `wrong`, bytes that are not the file's lie in the part.
    """

    def __init__(self, reason: str, *, wrong: bool = False) -> None:
        super().__init__(reason)
        self.wrong = wrong


class Unreachable(Exception):
    """The file did not come for now: failed, with this reason."""


class _Passing(Exception):
    """Trouble of one try that may pass."""

    def __init__(self, reason: str, *, asked_s: float = 0.0) -> None:
        super().__init__(reason)
        self.asked_s = asked_s


class _StartOver(_Passing):
    """What is there cannot be gone on with."""


class _Wrong(_StartOver):
    """A whole, fresh answer is not the file."""


class _Page(_Passing):
    """A page or message came instead of data."""


class _Denied(Exception):
    """The archive refuses the request (401, 403)."""


@dataclass(kw_only=True)
class Tally:
    """What went over the network."""

    requests: int = 0
    bytes: int = 0


@dataclass(kw_only=True)
class Transfer:
    """The means by which files are brought, shared by all of a fetch."""

    site: FetchSite
    origins: Origins
    session: aiohttp.ClientSession
    pool: Executor
    """Hashes and writes."""
    tally: Tally = field(default_factory=Tally)
    received: Callable[[int], None] = lambda _count: None
    """Told of bytes as they come."""
    begun: Callable[[Part], None] = lambda _part: None
    """Told when a fresh answer begins: the part's validator is what a later run needs to go on."""

    async def bring(self, part: Part) -> None:
        """Make `part` hold the whole file, verified.

        Parameters
        ----------
        part
            What is there already is gone on with where that is safe.

        Raises
        ------
        Refused
            If what is asked for is not there, not allowed, or not what is pinned. Wrong bytes lie in the part.
        Unreachable
            If it does not come after all tries.
        UserError
            If nothing else can come either: a login is missing or refused.
        """
        state = _State(part=part)
        patience = _Patience(site=self.site, part=part)
        renewed = False
        while True:
            try:
                await self._try(state)
            except _Denied as error:
                if renewed or not self.origins.renew(part.file, state.asked):
                    raise Refused(str(error)) from None
                renewed = True
            except NoRequest as error:
                raise Refused(str(error)) from None
            except (_Passing, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                wait_s = patience.after(error, host=state.request.host)
                if isinstance(error, _StartOver):
                    await self._in_thread(part.restart)
                await asyncio.sleep(wait_s)
            else:
                return

    async def _try(self, state: _State) -> None:
        """Ask once for what is missing and judge the whole; returns only if the part is right."""
        part = state.part
        if part.size > part.file.size:
            raise _StartOver("more is there than the file has")
        if part.size < part.file.size:
            if part.size and part.digest == FIRST_USE and not (part.validator or part.file.version_id):
                # Nothing would tell whether the beginning and the rest belong together.
                await self._in_thread(part.restart)
            if part.size:
                await self._in_thread(part.begin)
            await self._receive(state)
        is_page = _is_page(part)
        if not (is_page and part.digest == FIRST_USE):
            if part.is_right() if part.is_small else await self._in_thread(part.is_right):
                return
            if part.prefix_is_old:
                raise _StartOver("what came does not fit what was there")
        if is_page:
            trouble = _page(part.head, state.request)
            await self._in_thread(part.restart)
            raise trouble
        if part.size < part.file.size and not state.length_known:
            raise _Passing("the answer ended early")
        raise _Wrong(_difference(part))

    async def _receive(self, state: _State) -> None:
        part = state.part
        if self.origins.blocks(part.file):
            state.request = await self._in_thread(lambda: self.origins.request(part.file))
        else:
            state.request = self.origins.request(part.file)
        state.asked = state.request
        headers = {}
        if part.size:
            headers["Range"] = f"bytes={part.size}-"
            if part.validator and not part.file.version_id:
                headers["If-Range"] = part.validator
        async with self._answer(state, headers) as response:
            _check_status(response, state)
            await _check_kind(response, state)
            given = _validator(response)
            if response.status == HTTPStatus.PARTIAL_CONTENT:
                _check_range(response, part, given=given)
                part.prefix_is_old = part.size > 0
            elif part.size:
                await self._in_thread(part.restart)
            state.length_known = response.content_length is not None
            part.validator = given
            if part.size == 0:
                self.begun(part)
            await self._body(response, part)

    @asynccontextmanager
    async def _answer(self, state: _State, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, following redirects by hand: to another host without credentials."""
        for _ in range(1 + MOST_REDIRECTS):
            self.tally.requests += 1
            asked = state.request
            url = URL(asked.url, encoded=True)
            async with self.session.request(
                "GET" if asked.form is None else "POST",
                url,
                headers={**asked.headers, **headers},
                data=asked.form,
                allow_redirects=False,
                proxy=self.origins.surroundings.proxy(url.scheme, url.host or ""),
            ) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                location = response.headers.get("Location", "")
                if not location:
                    raise Refused(
                        f"{asked.host}: HTTP {response.status} without an address (a bucket is in another region: "
                        "name its endpoint in site.yaml)"
                    )
                state.request = asked.redirected(location, keep_form=response.status in _SAME_METHOD)
        raise Refused(f"{state.request.host}: more than {MOST_REDIRECTS} redirects")

    async def _body(self, response: aiohttp.ClientResponse, part: Part) -> None:
        """Receive, while a thread hashes and writes what came before; what came is kept also if the line breaks."""
        left = part.file.size + _BEYOND_BYTES - part.size
        gathered: list[bytes] = []
        count = 0
        since = time.monotonic()
        jobs: tuple[Future[None], ...] = ()
        content = response.content
        try:
            async for chunk, _ in content.iter_chunks():
                gathered.append(chunk)
                count += self._count(chunk)
                left -= len(chunk)
                if left < 0:
                    break
                is_due = count >= _BUFFER_BYTES or time.monotonic() - since >= _BUFFER_S
                is_behind = not all(job.done() for job in jobs)
                if not is_due or (is_behind and count < _MOST_BUFFER_BYTES):
                    continue
                await _done(*jobs)
                jobs = self._take(part, gathered)
                gathered, count, since = [], 0, time.monotonic()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            # aiohttp holds back what had come when the line broke; it is as good as the rest.
            content.set_exception(None)  # type: ignore[arg-type]
            while chunk := content.read_nowait():
                gathered.append(chunk)
                self._count(chunk)
            raise
        finally:
            await _done(*jobs)
            if gathered and part.is_small:
                part.take(gathered)
            elif gathered:
                await _done(*self._take(part, gathered))

    def _take(self, part: Part, gathered: list[bytes]) -> tuple[Future[None], ...]:
        """Hash and write side by side."""
        return self.pool.submit(part.hash, gathered), self.pool.submit(part.write, gathered)

    def _count(self, chunk: bytes) -> int:
        self.tally.bytes += len(chunk)
        self.received(len(chunk))
        return len(chunk)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)


@dataclass(kw_only=True)
class _State:
    """What is known of one file on its way."""

    part: Part
    asked: Request = field(default_factory=lambda: Request(url=""))
    request: Request = field(default_factory=lambda: Request(url=""))
    """What was asked first, and where redirects led."""
    length_known: bool = False


@dataclass(kw_only=True)
class _Patience:
    """Decides after each try whether there is another, and when."""

    site: FetchSite
    part: Part
    tries: int = 0
    pages: int = 0
    wrong: int = 0
    best: int = field(init=False)
    """Most bytes that were there after any try."""

    def __post_init__(self) -> None:
        self.best = self.part.size

    def after(self, trouble: Exception, *, host: str) -> float:
        """Return how long to wait before the next try.

        Raises
        ------
        Refused, Unreachable
            If there is none.
        """
        self.wrong += isinstance(trouble, _Wrong)
        if self.wrong >= _WRONG_TRIES:
            raise Refused(str(trouble), wrong=True)
        self.pages += isinstance(trouble, _Page)
        if self.pages >= _PAGE_TRIES:
            raise Refused(str(trouble))
        if self.part.size > self.best + min(_PROGRESS_BYTES, self.part.file.size // 100):
            self.tries = 0
        self.best = max(self.best, self.part.size)
        self.tries += 1
        if self.tries >= self.site.attempts:
            raise Unreachable(f"{host}: {_in_words(trouble)}; {self.tries} tries")
        asked_s = trouble.asked_s if isinstance(trouble, _Passing) else 0.0
        return pause_s(self.tries, site=self.site, asked_s=asked_s)


async def _done(*jobs: Future[None]) -> None:
    """Wait for hashing and writing; what has begun is not given up when the fetch is cancelled."""
    if jobs:
        await asyncio.shield(asyncio.gather(*map(asyncio.wrap_future, jobs)))


def _check_status(response: aiohttp.ClientResponse, state: _State) -> None:
    code = response.status
    if code in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        return
    said = f"{state.request.host}: HTTP {code} {response.reason or ''}".rstrip()
    if code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise _Denied(said)
    if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and state.part.size:
        raise _StartOver("the server could not go on from what was there")
    if code in RETRIED or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _Passing(said, asked_s=retry_after_s(response.headers.get("Retry-After", "")))
    raise Refused(said)


async def _check_kind(response: aiohttp.ClientResponse, state: _State) -> None:
    """Recognise a page or a message before it takes the place of what is there already."""
    file = state.part.file
    left = file.size - state.part.size if response.status == HTTPStatus.PARTIAL_CONTENT else file.size
    if response.content_length == left:
        return
    suffixes = _PAGE_TYPES.get(response.content_type)
    if suffixes and not file.path.lower().endswith(suffixes):
        head = b""
        with suppress(aiohttp.ClientError, TimeoutError):
            async for chunk in response.content.iter_any():
                head += chunk
                if len(head) > _PAGE_BYTES:
                    break
        raise _page(head, state.request)


def _is_page(part: Part) -> bool:
    """Tell whether what came begins like a page or an error message, and nothing of the kind was to come."""
    expected = part.file.path.lower().endswith(_PAGE_SUFFIXES) and part.size == part.file.size
    return not expected and _PAGE.match(part.head) is not None


def _page(head: bytes, request: Request) -> Exception:
    if request.login and _LOGIN_PAGE.search(head):
        return UserError(
            f"{request.host}: {request.login} refused the login (it answered with its login page).",
            mend="correct CRCNS_USERNAME and CRCNS_PASSWORD, or machine crcns.org in ~/.netrc",
        )
    return _Page(f"{request.host}: a page or a message came instead of the file")


def _check_range(response: aiohttp.ClientResponse, part: Part, *, given: str) -> None:
    """Refuse a piece that does not go on where the part ends, or stems from another state of the file."""
    match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None or int(match[1]) != part.size:
        raise _StartOver("the server sent another piece than the one asked for")
    if match[3] not in {"*", str(part.file.size)}:
        raise _StartOver("the file has another size at the server now")
    known = part.validator
    # An ETag is compared with an ETag only: a server may give one on some answers and a date on others.
    if known and given and known.startswith('"') == given.startswith('"') and known != given:
        raise _StartOver("the file changed at the server between two tries")


def _validator(response: aiohttp.ClientResponse) -> str:
    """Return what `If-Range` accepts: a strong ETag, else the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _difference(part: Part) -> str:
    found = ", ".join(sorted(part.found))
    return f"expected {part.digest} ({part.file.size} bytes), got {found} ({part.size} bytes)"


def _in_words(trouble: Exception) -> str:
    if isinstance(trouble, _Passing):
        return str(trouble)
    # aiohttp's own text can hold the whole address, which may be a presigned one.
    return (
        "no byte for too long" if isinstance(trouble, TimeoutError) else f"connection broke ({type(trouble).__name__})"
    )
