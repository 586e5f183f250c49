"""Stands for the download page of crcns.org at NERSC (``/project/crcns/download/index.php``).

As published clients of it show: every folder and file is asked for by a POST of `username`, `password`, `fn` and
`submit=Login`; a folder is answered with a page of ``<a href="...">name</a> (bytes)``, of which folders have no size;
a wrong login is answered with the login form, HTTP 200; ranges are not honoured. What the page of the real archive
looks like beyond that could not be checked.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote

PAGE = "/project/crcns/download/index.php"

_LOGIN = """<html><body><h2>CRCNS.org data download</h2>{complaint}
<form action="/project/crcns/download/index.php" method="post">
<input type="hidden" name="fn" value="{fn}" />
<table><tr><td>username:</td><td><input type="text" name="username" /></td></tr>
<tr><td>password:</td><td><input type="password" name="password" /></td></tr></table>
<input type="submit" name="submit" value="Login" /></form></body></html>"""


@dataclass(kw_only=True)
class CrcnsServer:
    """A running server."""

    root: Path
    """Holds one folder per set."""
    username: str = "somebody"
    password: str = "pass word&more"  # needs escaping in a form
    sizes: Literal["bytes", "rounded", "none"] = "bytes"
    """What the pages say of a file's size."""
    announces_length: bool = True
    faults: list[int] = field(default_factory=list)
    """Statuses of the next answers, in this order; then all is well."""
    redirect: str = ""
    """Where every request is sent on to, if anywhere."""
    asked: list[str] = field(default_factory=list)
    """`fn` of every request with a good login."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of a file that were put on the wire."""
    most_at_once: int = 0
    """Largest number of requests under way together."""
    url: str = ""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def page(self, fn: str, folder: Path) -> str:
        """Return the page of a folder."""
        lines = []
        for path in sorted(folder.iterdir()):
            size = f" ({self._said(path.stat().st_size)})" if path.is_file() and self.sizes != "none" else ""
            href = f"/project/crcns/download/{quote(f'{fn}/{path.name}')}"
            lines.append(f'<li><a href="{href}">{html.escape(path.name)}</a>{size}</li>')
        back = f'<a href="/project/crcns/download/{quote(fn.rpartition("/")[0])}">Up</a>' if "/" in fn else ""
        links = f'<a href="https://crcns.org/">crcns.org</a> {back} <a href="/project/crcns/download/logout">Logout</a>'
        return f"<html><body>{links}<h3>Contents of {html.escape(fn)}</h3><ul>{''.join(lines)}</ul></body></html>"

    def _said(self, size: int) -> str:
        if self.sizes == "bytes":
            return str(size)
        for unit, bytes_ in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
            if size >= bytes_:
                return f"{size / bytes_:.1f}{unit}"
        return f"{size / 1024:.1f}K"

    def began(self) -> None:
        """Count one request as under way."""
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)

    def ended(self) -> None:
        """Count it no more."""
        with self._lock:
            self._now -= 1


class _Handler(BaseHTTPRequestHandler):
    state: CrcnsServer
    _under_way = False

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._page(_LOGIN.format(complaint="", fn=""))

    def do_POST(self) -> None:
        self.state.began()
        self._under_way = True
        try:
            self._answer()
        finally:
            self._over()

    def _over(self) -> None:
        """End the request, at the latest before its last bytes go: the client may begin another with them."""
        if self._under_way:
            self._under_way = False
            self.state.ended()

    def _answer(self) -> None:
        state = self.state
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        fields = {name: values[0] for name, values in form.items()}
        if state.redirect:
            self._send(307, b"", kind="text/html", Location=state.redirect)
            return
        if state.faults:
            self._send(state.faults.pop(0), b"busy", kind="text/plain")
            return
        fn = fields.get("fn", "")
        if (fields.get("username"), fields.get("password")) != (state.username, state.password):
            complaint = "<p>Invalid user name or password.</p>"
            self._page(_LOGIN.format(complaint=complaint, fn=html.escape(fn)))
            return
        state.asked.append(fn)
        path = (state.root / fn).resolve()
        if not path.is_relative_to(state.root) or not path.exists():
            self._page(f"<html><body>{html.escape(fn)} is not here.</body></html>")
        elif path.is_dir():
            self._page(state.page(fn, path))
        else:
            self._file(fn, path)

    def _page(self, text: str) -> None:
        self._send(200, text.encode(), kind="text/html; charset=UTF-8")

    def _file(self, fn: str, path: Path) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", f'attachment; filename="{path.name}"')
        if self.state.announces_length:
            self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        self.state.sent[fn] = 0
        with path.open("rb") as file:
            while chunk := file.read(1 << 14):
                if file.tell() == path.stat().st_size:
                    self._over()
                try:
                    self.wfile.write(chunk)
                except OSError:
                    return  # given up by the client
                self.state.sent[fn] += len(chunk)

    def _send(self, status: int, body: bytes, *, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self._over()
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def crcns_server(root: Path) -> Iterator[CrcnsServer]:
    """Run the stand-in on a free port of the loopback device."""
    state = CrcnsServer(root=root.resolve())
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}{PAGE}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def lay_out_hc3(session: Path, root: Path, *, checksums: bool) -> Path:
    """Lay a real Neurosuite session out as hc-3: one tar per session, tables beside it, `checksums.md5` at the top.

    Parameters
    ----------
    session
        Folder with ``<name>.xml``, ``<name>.clu.N``, ``<name>.res.N``.
    root
        Gets ``hc-3/``.
    """
    name = "A2929-200711"
    top = root / "hc-3"
    (top / "A2929").mkdir(parents=True)
    tables = top / "hc3-metadata-tables"
    tables.mkdir()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in sorted(session.glob(f"{name}.*")):
            if file.suffix != ".nwb":
                tar.add(file, arcname=f"{name}/{file.name}")
    archive = top / "A2929" / f"{name}.tar.gz"
    archive.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    # As in hc-3, without a header row: id, topdir, session, behavior, familiarity, duration (s).
    (tables / "hc3-session.csv").write_text(f"1,A2929,{name},sleep,1,1200\n")
    # topdir, session, size, vtype, video_size.
    (tables / "hc3-files.csv").write_text(f"A2929,{name},{archive.stat().st_size},,0\n")
    if checksums:
        files = sorted(path for path in top.rglob("*") if path.is_file())
        lines = [f"{hashlib.md5(file.read_bytes()).hexdigest()}  ./{file.relative_to(top)}\n" for file in files]
        (top / "checksums.md5").write_text("".join(lines))
    return archive
