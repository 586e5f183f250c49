"""A package index on this machine, with the faults that real ones have, serving a small real package."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.catalog import CatalogEntry, RegistrySource
from neurofm.recording import Manifest, ManifestFile
from tests.allen_nwb import trains_of, write_large


class Index(ThreadingHTTPServer):
    """Serves ``/simple/<package>/`` and ``/files/<name>``; remembers who asked for what."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        """What goes wrong with the next requests for a file, in this order; then all is well."""
        self.asked: list[tuple[str, str]] = []
        """Path and Range of each request."""
        self.password = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"

    @property
    def downloads(self) -> list[tuple[str, str]]:
        return [(path, wanted) for path, wanted in self.asked if path.startswith("/files/")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Index
    codes: ClassVar = {"401": 401, "403": 403, "404": 404, "503": 503, "429": 429}

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range", "")))
        if self.server.password and self.headers.get("Authorization", "") != self.server.password:
            self.answer(401, b"")
        elif self.path.startswith("/simple/"):
            names = (name for name in self.server.files if name.startswith(self.path.split("/")[2]))
            links = "".join(f'<a href="/files/{name}">{name}</a>' for name in names)
            self.answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), kind="text/html")
        else:
            self.file(self.server.files[self.path.rsplit("/", 1)[1]])

    def file(self, content: bytes) -> None:
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault in self.codes:
            self.answer(self.codes[fault], b"")
            return
        if fault == "wrong":
            content = bytes([content[0] ^ 1]) + content[1:]
        start = 0 if fault == "no range" else int(self.headers.get("Range", "bytes=0-")[6:-1])
        if start >= len(content):
            self.answer(416, b"")
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if fault == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def answer(self, code: int, body: bytes, *, kind: str = "text/plain") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The index, running, and pip's settings pointing at it and nowhere else."""
    monkeypatch.setattr("neurofm.fetch.package.PAUSES_S", (0.0, 0.0, 0.0, 0.0))
    with Index() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        only_index(monkeypatch, server.url)
        yield server
        server.shutdown()


def only_index(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let pip's settings name one index."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CERT", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def members(sample_raw: Callable[[str], Path]) -> dict[str, bytes]:
    """Real files: a recording of 0.7 MB with its side files."""
    folder = sample_raw("tiny-bids-eeg")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"tiny-1.0/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths}


def tar_gz(members: dict[str, bytes], *odd: tarfile.TarInfo) -> bytes:
    """Pack as an sdist; `odd` members (links, hostile names) go first."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info in odd:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def wheel(members: dict[str, bytes], *odd: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    """Pack as a wheel."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for info, content in odd:
            packed.writestr(info, content)
        for name, content in members.items():
            packed.writestr(name, content)
    return buffer.getvalue()


def entry_of(
    filename: str, distribution: bytes, wanted: dict[str, bytes], *, dataset: str = "tiny", **pins: str
) -> CatalogEntry:
    """Return an entry that pins `wanted` members of a distribution; `pins` overrides the digest of a member."""
    files = [
        {
            "member": member,
            "path": member.removeprefix("tiny-1.0/"),
            "size": len(content),
            "sha256": pins.get(Path(member).suffix[1:], hashlib.sha256(content).hexdigest()),
        }
        for member, content in wanted.items()
    ]
    source = {
        "archive": "registry",
        "package": "tiny",
        "version": "1.0",
        "filename": filename,
        "size": len(distribution),
        "sha256": hashlib.sha256(distribution).hexdigest(),
        "files": files,
    }
    facts = {
        "id": dataset,
        "title": "tiny",
        "modality": "eeg",
        "reader": "bids",
        "source": source,
        "recordings": {"pattern": ".*", "subject": "01"},
        "subject_namespace": "tiny",
        "species": "Homo sapiens",
        "licence": "BSD-3-Clause",
        "redistribute": True,
        "citation": "Appelhoff 2019",
    }
    return CatalogEntry.parse(facts, where="test", mend="")


def manifest_of(entry: CatalogEntry) -> Manifest:
    """Return the entry's files as a manifest; recordings do not matter to a download."""
    assert isinstance(entry.source, RegistrySource)
    files = tuple(
        ManifestFile(path=file.path, size=file.size, digest=f"sha256:{file.sha256}", origin="test")
        for file in entry.source.files
    )
    return Manifest(dataset=entry.id, archive="registry", source_id="tiny", version="1.0", files=files, recordings=())


LFP_BYTES = 100_000_000


@pytest.fixture(scope="session")
def few_spikes(shared_data: Path) -> list[npt.NDArray[np.float64]]:
    """The first 4000 spikes of each of 15 real units."""
    trains = trains_of(shared_data / "ephys" / "neurosuite_A2929-200711" / "A2929-200711.nwb")
    return [train[:4000] for train in trains]


@pytest.fixture(scope="session")
def large_nwb(few_spikes: list[npt.NDArray[np.float64]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real spikes in the Allen Institute's layout, beside 100 MB that nobody wants."""
    return write_large(tmp_path_factory.mktemp("large") / "session.nwb", few_spikes, lfp_bytes=LFP_BYTES)


@pytest.fixture(scope="session")
def small_nwb(few_spikes: list[npt.NDArray[np.float64]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same beside 6 MB, for tests in which the share does not matter."""
    return write_large(tmp_path_factory.mktemp("small") / "session.nwb", few_spikes, lfp_bytes=6_000_000)
