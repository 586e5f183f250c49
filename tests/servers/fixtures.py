"""What the tests of faults share: real bytes to serve, servers that run, and a dataset that is fetched from them."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from neurofm.fetch import FetchSummary, fetch_files
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.ledger import DatasetKey, FileState, Ledger, LedgerRow
from neurofm.recording import ManifestFile
from tests.servers.http_files import FileServer
from tests.servers.seaweed import NoServer, SeaweedServer, seaweed

PROJECT = Path(__file__).resolve().parents[2]
WHO = DatasetKey(dataset="faulty", archive="http", version="1")
PATIENCE = FetchSite(attempts=5, timeout_s=1.0, longest_pause_s=0.02)
"""Short pauses: what is tested is what comes after them."""


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def served(server: FileServer, *, where: str = "") -> list[ManifestFile]:
    """Return the server's files as a manifest has them, pinned to what they hold now."""
    return [
        ManifestFile(path=path[1:], size=len(content), digest=sha256(content), origin=f"{where or server.url}{path}")
        for path, content in sorted(server.files.items())
    ]


def wanted(url: str, content: bytes, *, digest: str = "", path: str = "") -> ManifestFile:
    """Return one file of a manifest, pinned to `content`."""
    return ManifestFile(
        path=path or url.rsplit("/", 1)[1], size=len(content), digest=digest or sha256(content), origin=url
    )


@dataclass(kw_only=True)
class Fetching:
    """A dataset's place on disk, and fetches into it."""

    home: Path
    site: FetchSite = PATIENCE
    who: DatasetKey = WHO
    raw: Path = field(init=False)
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.raw = self.home / "raw"
        self.work = self.home / ".neurofm"

    @property
    def ledger(self) -> Path:
        return self.work / "ledger.sqlite"

    @property
    def quarantine(self) -> Path:
        return self.work / "quarantine" / self.who.dataset

    def fetch(self, files: Iterable[ManifestFile], **site: Any) -> FetchSummary:
        """Fetch files; keywords change the site's settings."""
        with Ledger.open(self.ledger) as ledger:
            return fetch_files(
                list(files),
                who=self.who,
                folder=self.raw,
                ledger=ledger,
                site=self.site.model_copy(update=site),
                work=self.work,
                title=f"fetch {self.who.dataset}",
            )

    def rows(self) -> dict[str, LedgerRow]:
        """Return what the ledger knows, by path."""
        with Ledger.open(self.ledger) as ledger:
            return {row.path: row for row in ledger.rows(self.who.dataset)}

    def states(self) -> dict[str, FileState]:
        return {path: row.state for path, row in self.rows().items()}

    def present(self) -> dict[str, bytes]:
        """Return every file that lies under a name of its own (unfinished ones do not)."""
        return {
            path.relative_to(self.raw).as_posix(): path.read_bytes()
            for path in self.raw.rglob("*")
            if path.is_file() and not (path.name.startswith(".") and path.name.endswith(".part"))
        }

    def parts(self) -> list[Path]:
        """Return the unfinished files."""
        return sorted(path for path in self.raw.rglob(".*.part") if path.is_file())

    def job(self, files: Sequence[ManifestFile], **site: Any) -> dict[str, Any]:
        """Return the same fetch as `fetch` does, for a process of its own (`run_child`)."""
        return {
            "files": [file.model_dump(mode="json") for file in files],
            "who": {"dataset": self.who.dataset, "archive": self.who.archive, "version": self.who.version},
            "raw": str(self.raw),
            "work": str(self.work),
            "site": self.site.model_copy(update=site).model_dump(mode="json"),
        }


def start_child(
    jobs: Sequence[Mapping[str, Any]],
    spec: Path,
    *,
    env: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> subprocess.Popen[str]:
    """Start a real process that does these fetches one after the other; see `tests.fetch.child`.

    With `start` it gets ready and then waits until that file is there.
    """
    spec.write_text(json.dumps({"jobs": list(jobs), "start": str(start or "")}))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fetch.child", str(spec)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "src")]), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def missing_part(reason: str) -> None:
    """Skip for lack of a real part; with CI set that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(name="uncollected", scope="module")
def uncollected_fixture() -> Iterator[None]:
    """Let Python collect no garbage in the threads of a server while HDF5 waits for its answer.

    h5py does one thing at a time: a server's thread that came to close a forgotten HDF5 file would wait for the reader,
    who waits for the server. A server in another process, as outside of tests, has no part in it.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture(name="files")
def files_fixture() -> Iterator[FileServer]:
    """A web server without files."""
    with FileServer() as server:
        yield server


@pytest.fixture(name="other_host")
def other_host_fixture() -> Iterator[FileServer]:
    """Another web server, to be sent to."""
    with FileServer() as server:
        yield server


@pytest.fixture(name="s3", scope="session")
def s3_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A running SeaweedFS."""
    with ExitStack() as running:
        try:
            server = running.enter_context(seaweed(tmp_path_factory.mktemp("seaweed")))
        except NoServer as error:
            missing_part(str(error))
            raise
        yield server


@pytest.fixture(name="fetching")
def fetching_fixture(tmp_path: Path) -> Fetching:
    """A dataset that nothing was fetched of yet."""
    return Fetching(home=tmp_path)


@pytest.fixture(name="s3_site")
def s3_site_fixture(s3: SeaweedServer) -> FetchSite:
    """Settings with which every bucket is the running SeaweedFS."""
    return PATIENCE.model_copy(update={"hosts": Hosts(s3=s3.url)})


@pytest.fixture(name="edf", scope="session")
def edf_fixture(shared_data: Path) -> bytes:
    """A real EEG recording, 0.85 MB."""
    return (shared_data / "eeg" / "eegmat" / "Subject21_1.edf").read_bytes()


@pytest.fixture(name="nwb", scope="session")
def nwb_fixture(shared_data: Path) -> bytes:
    """A real recording of 7 MB."""
    return next((shared_data / "ephys").rglob("A2929-200711.nwb")).read_bytes()
