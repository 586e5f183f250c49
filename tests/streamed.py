"""A streamed dataset of real recordings: parcel series of many subjects, with one side file that all of them read."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from neurofm.catalog import CatalogEntry
from neurofm.fetch import FetchSite, LedgerRow, open_ledger
from neurofm.files import sha256_of
from neurofm.ingest.dataset import ingest_dataset
from neurofm.ingest.recording import IngestTask, ingest
from neurofm.params import load_params
from neurofm.recording import Manifest, Modality
from neurofm.sources import build_manifest
from neurofm.stream import StreamSummary, stream_dataset
from neurofm.units import Executor, Outcome, Receipt, ReceiptBook, Unit, UnitSummary, read_receipts
from neurofm.units.attempt import attempt

PROJECT = Path(__file__).resolve().parent.parent
PREPROCESS = load_params(PROJECT).preprocess
SIDE = "participants.tsv"
PATIENT = FetchSite(attempts=2, longest_pause_s=0.0, timeout_s=30.0)


def real_files(shared_data: Path, *, subjects: int) -> dict[str, bytes]:
    """Return the files of so many subjects by path: 78 080 bytes each, and participants.tsv."""
    source = shared_data / "fmri" / "ds000228_pixar_rois"
    series = sorted((source / "timeseries").glob("*AAL_timeseries.npy"))[:subjects]
    return {SIDE: (source / SIDE).read_bytes()} | {path.name: path.read_bytes() for path in series}


class Threads:
    """An `Executor` in this process, for tests that would wait for worker processes most of the time."""

    def __init__(self, at_once: int = 2) -> None:
        self.at_once = at_once
        self._threads = ThreadPoolExecutor(at_once)

    def submit(self, unit: Unit[IngestTask]) -> Future[Receipt]:
        return self._threads.submit(attempt, unit, self.work)

    def work(self, task: IngestTask) -> Outcome:
        return ingest(task)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()


@dataclass(frozen=True)
class Streamed:
    """A dataset that is streamed from a server."""

    root: Path
    """Of the project: shards, receipts and ``.neurofm`` are below it."""
    url: str
    files: Mapping[str, bytes]
    digests: Mapping[str, str] = field(default_factory=dict)
    """Instead of the SHA-256, by path."""
    highpass_hz: float = 0.008

    @property
    def entry(self) -> CatalogEntry:
        files = [
            {
                "url": f"{self.url}/{path}",
                "path": path,
                "size": len(content),
                "digest": self.digests.get(path, f"sha256:{hashlib.sha256(content).hexdigest()}"),
            }
            for path, content in self.files.items()
        ]
        facts = {
            "id": "pixar",
            "title": "Movie watching",
            "modality": "fmri",
            "reader": "tables",
            "reader_options": {"variable": "", "axes": "time_channel", "tr_s": 2.0, "atlas": "AAL"},
            "source": {"archive": "http", "version": "1.0.0", "files": files},
            "recordings": {"pattern": r"sub-(?P<subject>[^_]+)_.*\.npy", "extra": SIDE.replace(".", r"\.")},
            "subject_namespace": "ds000228",
            "species": "Homo sapiens",
            "licence": "PDDL-1.0",
            "redistribute": False,
            "citation": "Richardson 2018",
        }
        return CatalogEntry.parse(facts, where="test", mend="-")

    @property
    def manifest(self) -> Manifest:
        return build_manifest(self.entry, root=self.root)

    @property
    def work(self) -> Path:
        return self.root / ".neurofm"

    @property
    def raw(self) -> Path:
        return self.work / "stream" / "pixar"

    @property
    def receipts(self) -> Path:
        return self.root / "receipts.jsonl"

    def changed(self, *, highpass_hz: float) -> Streamed:
        """Return the same with another setting of its preprocessing."""
        return replace(self, highpass_hz=highpass_hz)

    def stream(self, *, executor: Executor[IngestTask] | None = None, budget_bytes: int = 10**9) -> StreamSummary:
        """Run the stage."""
        return stream_dataset(
            self.entry,
            self.manifest,
            shards=self.root / "shards",
            receipts=self.receipts,
            work=self.work,
            settings=PREPROCESS.of(Modality.FMRI).model_copy(update={"highpass_hz": self.highpass_hz}),
            common=PREPROCESS.common,
            executor=executor or Threads(),
            budget_bytes=budget_bytes,
            site=PATIENT,
        )

    def preprocess(self, out: Path) -> tuple[UnitSummary, dict[str, str]]:
        """Do the same the plain way, from a folder that has all files; returns the shards' digests too."""
        raw = out / "raw"
        raw.mkdir(parents=True)
        for path, content in self.files.items():
            (raw / path).write_bytes(content)
        summary = ingest_dataset(
            self.entry,
            self.manifest,
            raw=raw,
            shards=out / "shards",
            receipts=out / "receipts.jsonl",
            work=out / ".neurofm",
            settings=PREPROCESS.of(Modality.FMRI).model_copy(update={"highpass_hz": self.highpass_hz}),
            common=PREPROCESS.common,
            executor=Threads(),
        )
        return summary, digests_in(out / "shards")

    def shards(self) -> dict[str, str]:
        return digests_in(self.root / "shards")

    def raw_files(self) -> list[str]:
        """Names of the raw files that are here, partial ones included."""
        return sorted(path.relative_to(self.raw).as_posix() for path in self.raw.rglob("*") if path.is_file())

    def ledger(self) -> dict[str, LedgerRow]:
        with open_ledger(self.work) as ledger:
            return {row.path: row for row in ledger.rows("pixar")}

    def read_receipts(self) -> dict[str, Receipt]:
        return read_receipts(self.receipts)

    def read_running(self) -> dict[str, Receipt]:
        """Return the receipts of a run that has not ended, too."""
        return ReceiptBook(self.receipts, running=self.work / "receipts" / "pixar").known


def digests_in(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder by name."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


class Watch:
    """Looks at the bytes below a folder again and again, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self.looks = 0
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.001):
            self.most = max(self.most, bytes_in(self._folder))
            self.looks += 1


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files below a folder, as far as they do not vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
