"""A proxy between a client and a real server that does what networks do: cut, end early, stall, corrupt, delay.

It passes bytes of HTTP/1.1 on, one exchange (request and answer) after the other, and counts them. What goes wrong
with an exchange is said by a script::

    with Proxy(server.address) as proxy:
        proxy.script = in_turn([Fault(cut_after=1000), Fault(cut_after=5000)])
        ...
        assert proxy.body_bytes("/raw/sub-01/eeg.edf") <= 1.01 * size
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

_CHUNK = 1 << 18
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one answer. Places are counted in bytes of its body."""

    cut_after: int | None = None
    """The connection is reset."""
    end_after: int | None = None
    """The connection is closed in good order, as if nothing were missing."""
    stall_after: int | None = None
    """Nothing more comes, and the connection stays open."""
    corrupt_at: int | None = None
    """One bit of this byte is turned."""
    delay_s: float = 0.0
    """Before the first byte of the answer."""
    refuse: str = ""
    """The server is not asked; S3's code for why (``ExpiredToken``) is answered with 403."""

    @property
    def stops_at(self) -> int | None:
        places = [place for place in (self.cut_after, self.end_after, self.stall_after) if place is not None]
        return min(places) if places else None


@dataclass(kw_only=True)
class Exchange:
    """One request, and how much of its answer was passed on."""

    method: str
    path: str
    """Decoded, without the query."""
    query: str
    range: str
    """`Range` header of the request."""
    status: int = 0
    body_bytes: int = 0
    """Of the answer, as passed on to the client."""


Script = Callable[[Exchange], Fault | None]
"""Asked once per request, in the order in which they come."""


def all_well(_: Exchange) -> Fault | None:
    """Pass everything on."""
    return None


def in_turn(faults: Sequence[Fault | None], *, under: str = "/") -> Script:
    """Give the first requests below a path these faults in order; later ones go well."""
    waiting = list(faults)

    def script(exchange: Exchange) -> Fault | None:
        if not waiting or not exchange.path.startswith(under):
            return None
        return waiting.pop(0)

    return script


class Proxy:
    """Listens on a free port of 127.0.0.1. Use it as a context manager.

    Parameters
    ----------
    target
        Host and port of the real server.
    rate
        Bytes a second that all connections together may pass on to clients; 0 for no bound.
    """

    def __init__(self, target: tuple[str, int], *, rate: float = 0.0) -> None:
        self.script: Script = all_well
        self.exchanges: list[Exchange] = []
        """In the order in which the requests came."""
        self.connections = 0
        self.port = 0
        self._target = target
        self._rate = rate
        self._free_at = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests(self, path: str | None = None) -> int:
        """Return how many requests came, for one path or for all."""
        return sum(path is None or exchange.path == path for exchange in self.exchanges)

    def body_bytes(self, path: str | None = None) -> int:
        """Return how many bytes of answers' bodies were passed on, for one path or for all."""
        return sum(exchange.body_bytes for exchange in self.exchanges if path is None or exchange.path == path)

    def by_path(self) -> dict[str, list[Exchange]]:
        """Return the exchanges by path."""
        found = defaultdict(list)
        for exchange in list(self.exchanges):
            found[exchange.path].append(exchange)
        return dict(found)

    def forget(self) -> None:
        """Begin counting anew."""
        self.exchanges = []
        self.connections = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, limit=_CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.connections += 1
        try:
            upstream = await asyncio.open_connection(*self._target, limit=_CHUNK)
        except OSError:
            _reset(writer)
            self._running.discard(task)
            return
        connection = _Connection(proxy=self, client=writer, server=upstream[1])
        try:
            await connection.relay(reader, upstream[0])
        finally:
            upstream[1].transport.abort()
            writer.close()
            self._running.discard(task)

    async def _wait_turn(self, count: int) -> None:
        """Hold `count` bytes back until the rate allows them."""
        if not self._rate:
            return
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + count / self._rate
        await asyncio.sleep(self._free_at - now)


@dataclass(kw_only=True)
class _Connection:
    proxy: Proxy
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    exchange: Exchange | None = None
    fault: Fault = field(default_factory=Fault)
    head: bytes = b""
    """Of the answer that is on its way, until it is complete."""
    in_body: bool = False
    over: bool = False

    async def relay(self, from_client: asyncio.StreamReader, from_server: asyncio.StreamReader) -> None:
        """Pass both directions on until either side is done."""
        ways = [asyncio.ensure_future(self._requests(from_client)), asyncio.ensure_future(self._answers(from_server))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self, source: asyncio.StreamReader) -> None:
        seen, body = b"", 0
        while chunk := await source.read(_CHUNK):
            while chunk:
                if body:
                    passed, chunk = chunk[:body], chunk[body:]
                    body -= len(passed)
                else:
                    seen += chunk
                    if _HEAD_END not in seen:
                        break
                    head, chunk = seen.split(_HEAD_END, 1)
                    passed, seen, body = head + _HEAD_END, b"", self._begin(head)
                if not self.fault.refuse:
                    self.server.write(passed)
                    await self.server.drain()
                elif not body or b"100-continue" in passed:
                    await self._send(_refusal(self.fault.refuse))
                    return

    def _begin(self, head: bytes) -> int:
        """Begin with a request; returns the bytes of its body."""
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ")
        path, _, query = parts[1].partition("?")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        exchange = Exchange(method=parts[0], path=unquote(path), query=query, range=headers.get("range", ""))
        self.proxy.exchanges.append(exchange)
        self.exchange, self.fault = exchange, self.proxy.script(exchange) or Fault()
        self.head, self.in_body = b"", False
        return int(headers.get("content-length", "0"))

    async def _answers(self, source: asyncio.StreamReader) -> None:
        while chunk := await source.read(_CHUNK):
            if not self.in_body:
                self.head += chunk
                if _HEAD_END not in self.head:
                    continue
                head, chunk = self.head.split(_HEAD_END, 1)
                self.in_body = True
                if self.exchange is not None:
                    self.exchange.status = int(head.split(b" ", 2)[1])
                if self.fault.delay_s:
                    await asyncio.sleep(self.fault.delay_s)
                await self._send(head + _HEAD_END)
            if not await self._send_body(chunk):
                return

    async def _send_body(self, chunk: bytes) -> bool:
        """Pass a piece of a body on, as far as the fault lets it; False when the connection is over."""
        exchange, fault = self.exchange, self.fault
        if exchange is None:
            return False
        start = exchange.body_bytes
        if fault.corrupt_at is not None and start <= fault.corrupt_at < start + len(chunk):
            place = fault.corrupt_at - start
            chunk = chunk[:place] + bytes([chunk[place] ^ 1]) + chunk[place + 1 :]
        stop = fault.stops_at
        if stop is not None and start + len(chunk) >= stop:
            chunk = chunk[: stop - start]
        await self.proxy._wait_turn(len(chunk))
        exchange.body_bytes += len(chunk)
        await self._send(chunk)
        if stop is None or exchange.body_bytes < stop:
            return True
        if fault.stall_after is not None:
            await asyncio.Event().wait()
        if fault.cut_after is not None:
            # What was passed on must arrive before the reset: a reset throws away what the kernel still holds.
            await asyncio.sleep(0.05)
            _reset(self.client)
        return False

    async def _send(self, content: bytes) -> None:
        self.client.write(content)
        await self.client.drain()


def _refusal(code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>refused by the test</Message></Error>".encode()
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of a good end."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
