"""A web server of files that can be told what to do wrong: stands for any archive's host that speaks plain HTTP.

It does HTTP/1.1 as RFC 9110 says (Range, If-Range, ETag, Last-Modified, Content-Range, 416), and then what real hosts
were seen to do: end early, claim a length that is not so, send a page of HTML with 200, ignore a range, answer with
another range, ask for patience, send elsewhere. What goes wrong is said per path, answer by answer::

    with FileServer({"/a.edf": content}) as server:
        server.script["/a.edf"] = [Fault(stop_at=1000), Fault(status=503)]
"""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

_PIECE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with one answer. Places are counted in bytes of its body."""

    status: int = 0
    """Answer with this status, `headers` and `body`, and not with the file."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent beside the usual ones, and instead of them where the names are the same."""
    body: bytes = b""
    stop_at: int | None = None
    """Close the connection after so many bytes."""
    stall_at: int | None = None
    """Send no more, and keep it open."""
    claim: int | None = None
    """Content-Length that is said; negative: none is said, the end of the connection ends the file."""
    flip: int | None = None
    """Turn one bit of this byte of the file."""
    extra: bytes = b""
    """Send this after the file's own bytes, as if it belonged to it."""
    ignore_range: bool = False
    """Answer 200 with the whole file."""
    ignore_if_range: bool = False
    """Answer 206 although the file is another one."""
    anonymous: bool = False
    """Send neither ETag nor Last-Modified."""
    shift: int = 0
    """Begin a range so many bytes from where it was asked to, and say so in Content-Range."""
    then: bytes | None = None
    """What the file holds after this answer."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    """Decoded, without the query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes
    at: float
    """Seconds of the monotonic clock."""

    @property
    def form(self) -> dict[str, str]:
        """Fields of a POSTed form."""
        return {name: values[0] for name, values in parse_qs(self.body.decode(), keep_blank_values=True).items()}

    @property
    def everything(self) -> str:
        """All that was sent, to look for what must not be there."""
        lines = [f"{name}: {value}" for name, value in self.headers.items()]
        return "\n".join([self.method, self.path, str(dict(self.query)), *lines, self.body.decode("latin-1")])


@dataclass(frozen=True, kw_only=True)
class Page:
    """An answer that is no file."""

    body: bytes
    status: int = 200
    kind: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


class FileServer:
    """Listens on a free port of 127.0.0.1. Use it as a context manager.

    Parameters
    ----------
    files
        Content by path (``/sub-01/eeg.edf``); may be changed while it runs.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files: dict[str, bytes] = dict(files or {})
        self.kinds: dict[str, str] = {}
        """Content-Type by path; bytes otherwise."""
        self.script: dict[str, list[Fault]] = defaultdict(list)
        """Faults of the next answers by path, in order; then all is well."""
        self.always: dict[str, Fault] = {}
        """A fault of every answer by path, once the script is over."""
        self.asked: list[Request] = []
        self.sent: dict[str, int] = defaultdict(int)
        """Bytes of bodies by path."""
        self.compresses = False
        """Send gzip to clients that say they take it."""
        self.route: Callable[[Request], str | Page | None] = lambda request: request.path
        """Says which of `files` a request is for, or what to answer; None is a 404."""
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests(self, path: str | None = None) -> list[Request]:
        """Return the requests for one path, or all."""
        return [request for request in self.asked if path is None or request.path == path]

    def forget(self) -> None:
        """Begin counting anew."""
        with self.lock:
            self.asked.clear()
            self.sent.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def next_fault(self, path: str) -> Fault:
        """Take what goes wrong with the next answer for a path."""
        with self.lock:
            waiting = self.script[path]
            return waiting.pop(0) if waiting else self.always.get(path, Fault())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, files: FileServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files

    def handle_error(self, *_: object) -> None:
        """A client that went away is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        files = self.server.files
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            query={name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()},
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
            at=time.monotonic(),
        )
        with files.lock:
            files.asked.append(request)
        found = files.route(request)
        if isinstance(found, Page):
            self._answer(found.status, {"Content-Type": found.kind, **found.headers}, found.body, path=request.path)
        elif found is None:
            self._answer(404, {"Content-Type": "text/plain"}, b"not found", path=request.path)
        else:
            self._file(found, request)

    def _file(self, path: str, request: Request) -> None:
        """Answer with a file, or with what is wrong with it."""
        files = self.server.files
        fault = files.next_fault(path)
        if fault.status:
            self._answer(fault.status, fault.headers, fault.body, path=path, fault=fault)
        elif path not in files.files:
            self._answer(404, {"Content-Type": "text/plain"}, b"not found", path=path)
        else:
            self._bytes(path, request, fault)
        if fault.then is not None:
            with files.lock:
                files.files[path] = fault.then

    def _bytes(self, path: str, request: Request, fault: Fault) -> None:
        files = self.server.files
        content = files.files[path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {
            "Content-Type": files.kinds.get(path, "application/octet-stream"),
            "Accept-Ranges": "bytes",
            "ETag": tag,
            "Last-Modified": "Sat, 21 Nov 2026 07:00:00 GMT",
        }
        if fault.anonymous:
            del headers["ETag"], headers["Last-Modified"]
        if fault.flip is not None:
            content = content[: fault.flip] + bytes([content[fault.flip] ^ 1]) + content[fault.flip + 1 :]
        content += fault.extra
        start, end, status = 0, len(content), 200
        if (wanted := request.headers.get("range", "")) and not fault.ignore_range:
            condition = request.headers.get("if-range", "")
            if not condition or condition == tag or fault.ignore_if_range:
                start, end = _span(wanted, len(content))
                status = 206
        if status == 206 and start >= len(content):
            self._answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"", path=path)
            return
        if status == 206:
            start = max(0, start + fault.shift)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        body = content[start:end]
        if status == 200 and files.compresses and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        self._answer(status, {**headers, **fault.headers}, body, path=path, fault=fault)

    def _answer(
        self, status: int, headers: Mapping[str, str], body: bytes, *, path: str, fault: Fault | None = None
    ) -> None:
        fault = fault or Fault()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        claim = len(body) if fault.claim is None else fault.claim
        if claim < 0:
            self.send_header("Connection", "close")
            self.close_connection = True
        elif "Content-Length" not in headers:
            self.send_header("Content-Length", str(claim))
        self.end_headers()
        if self.command == "HEAD":
            return
        stops = [place for place in (fault.stop_at, fault.stall_at) if place is not None]
        self._send(body[: min(stops)] if stops else body, path=path)
        if fault.stall_at is not None:
            self.server.files.closing.wait()
        if stops or claim != len(body):
            self.close_connection = True

    def _send(self, body: bytes, *, path: str) -> None:
        files = self.server.files
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            self.wfile.write(piece)
            with files.lock:
                files.sent[path] += len(piece)


def _span(wanted: str, size: int) -> tuple[int, int]:
    """Return where a range of one part begins and ends (exclusive)."""
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size
