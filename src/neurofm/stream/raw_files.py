"""The raw files of one dataset while they are here: counted before they are fetched, removed when used up."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neurofm.catalog import CatalogEntry, RegistrySource
from neurofm.fetch import FileState, Ledger, dataset_key
from neurofm.fetch.landing import part_of
from neurofm.files import sha256_of
from neurofm.recording import Manifest, ManifestFile, ManifestRecording, UnitStatus
from neurofm.recording.manifest import FIRST_USE
from neurofm.units import Receipt

_ENDED = frozenset({UnitStatus.SUCCEEDED, UnitStatus.FAILED})
"""Run again from the same files with the same settings, these would end the same way."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A recording that is to be done."""

    recording: ManifestRecording
    paths: tuple[str, ...]


class RawFiles:
    """The raw files of one dataset while they are here: counted before they are fetched, removed when used up."""

    def __init__(
        self, entry: CatalogEntry, manifest: Manifest, *, folder: Path, ledger: Ledger, budget_bytes: int
    ) -> None:
        self._by_path = manifest.by_path
        self._folder = folder
        self._ledger = ledger
        self._who = dataset_key(entry)
        self._package_bytes = entry.source.size if isinstance(entry.source, RegistrySource) else 0
        self._budget_bytes = budget_bytes
        self._held: set[str] = set()
        """Paths on disk, whole or in part, or about to be: all count in full."""
        self._users: Counter[str] = Counter()
        """Recordings per path that are still to be done."""
        self._receipts: dict[str, Receipt] = {}
        """Of the last recording that a path was used for."""
        self.taken: dict[str, str] = {}
        """Digests of files for which the archive publishes none."""
        ledger.plan(self._who, manifest.files)

    def remember(self, taken: Mapping[str, str]) -> None:
        """Let the ledger, should it be new, demand the digests that were taken before."""
        self.taken |= taken
        for path, digest in taken.items():
            row = self._ledger.row(self._who, self._by_path[path])
            if row is not None and not row.sha256:
                self._ledger.record(self._who, self._by_path[path], row.state, sha256=digest.partition(":")[2])

    def start(self, *, todo: Iterable[Item], ended: Iterable[tuple[Item, Receipt]]) -> None:
        """Bring ledger and folder into agreement with what is to be done and what has ended."""
        for item in todo:
            self._users.update(item.paths)
        for item, receipt in ended:
            self._receipts |= dict.fromkeys(item.paths, receipt)
        states = {row.path: row.state for row in self._ledger.rows(self._who.dataset)}
        for path, state in states.items():
            if self._users[path]:
                if state is FileState.CONSUMED:
                    self._record(path, FileState.PLANNED)
            elif state is not self._state_when_removed(path):
                self._forget(path)
        self._ledger.flush()
        self._held = {path for path in self._on_disk() if self._users[path]}
        self._remove_all_but(self._held)
        if self._bytes(self._held) > self._room():
            self.make_room(())  # The budget is smaller than it was.

    def quarantined(self, paths: Iterable[str]) -> str:
        """Say which of these files is not to be asked for again, and why; empty if none."""
        for path in paths:
            row = self._ledger.row(self._who, self._by_path[path])
            if row is not None and row.state is FileState.QUARANTINED:
                return f"{path}: {row.reason}"
        return ""

    def here(self, paths: Iterable[str]) -> bool:
        """Tell whether any of these files is here, whole or in part, from an earlier run."""
        return not self._held.isdisjoint(paths)

    def too_large(self, paths: Iterable[str]) -> str:
        """Say why these files can never be here together; empty if they can."""
        needed = self._bytes(paths) + self._package_bytes
        if needed <= self._budget_bytes:
            return ""
        package = " with the package that they are in" if self._package_bytes else ""
        return (
            f"its files take {amount(needed)} at once{package}, `disk_budget_gb` in site.yaml allows "
            f"{amount(self._budget_bytes)}"
        )

    def fits(self, paths: Iterable[str]) -> bool:
        """Tell whether these files fit beside what is here."""
        return self._bytes(self._held.union(paths)) <= self._room()

    def make_room(self, paths: Iterable[str]) -> None:
        """Remove files that nobody works on, and that these recordings' files would need the room of.

        They are the leavings of an interrupted run, or wait for a later recording that shares them: fetching them
        again is better than not going on.
        """
        for path in sorted(self._held.difference(paths)):
            if self.fits(paths):
                return
            self._record(path, FileState.PLANNED)
            self._ledger.flush()
            self._remove(path)
        for other in self._others():
            if self.fits(paths):
                return
            shutil.rmtree(other)

    def free_bytes_lacking(self, paths: Iterable[str], *, shards: Path) -> int:
        """Return by how many bytes the disks are too small for these files and a shard of at most their size."""
        new = self._bytes(set(paths) - self._held)
        self._folder.mkdir(parents=True, exist_ok=True)
        together = self._folder.stat().st_dev == shards.stat().st_dev
        raw_lacking = new * (2 if together else 1) - shutil.disk_usage(self._folder).free
        return max(0, raw_lacking, new - shutil.disk_usage(shards).free)

    def reserve(self, paths: Iterable[str]) -> list[ManifestFile]:
        """Count these files from now on; they may be fetched then."""
        self._held.update(paths)
        return [self._by_path[path] for path in paths]

    def take_digests(self, paths: Iterable[str]) -> None:
        """Write down what came where the archive publishes no digest."""
        for path in paths:
            file = self._by_path[path]
            if file.digest == FIRST_USE:
                row = self._ledger.row(self._who, file)
                known = row.sha256 if row is not None else ""
                self.taken[path] = f"sha256:{known or sha256_of(self._folder / path)}"

    def used(self, paths: Iterable[str], receipt: Receipt) -> None:
        """Remove what no other recording needs. Call it once the receipt is durable."""
        if receipt.status in _ENDED:
            self._receipts |= dict.fromkeys(paths, receipt)
        self._users.subtract(paths)
        gone = [path for path in paths if not self._users[path]]
        for path in gone:
            self._forget(path)
        self._ledger.flush()
        for path in gone:
            self._remove(path)

    def _forget(self, path: str) -> None:
        """Write into the ledger what holds once a file is not here any more."""
        row = self._ledger.row(self._who, self._by_path[path])
        bad = row is not None and row.state in {FileState.QUARANTINED, FileState.FAILED}
        if path in self._receipts or not bad:
            self._record(path, self._state_when_removed(path))

    def _state_when_removed(self, path: str) -> FileState:
        return FileState.CONSUMED if path in self._receipts else FileState.PLANNED

    def _record(self, path: str, state: FileState) -> None:
        receipt = self._receipts.get(path) if state is FileState.CONSUMED else None
        self._ledger.record(
            self._who,
            self._by_path[path],
            state,
            reason=receipt.reason if receipt else "",
            receipt=receipt.id if receipt else "",
            sha256=self.taken.get(path, "").partition(":")[2],
        )

    def _room(self) -> int:
        """Return the bytes that this dataset's files may take."""
        others = sum(path.lstat().st_size for other in self._others() for path in _files_under(other))
        return self._budget_bytes - self._package_bytes - others

    def _others(self) -> list[Path]:
        """Return the folders that interrupted streams of other datasets left."""
        if not self._folder.parent.is_dir():
            return []
        return [path for path in sorted(self._folder.parent.iterdir()) if path.is_dir() and path != self._folder]

    def _bytes(self, paths: Iterable[str]) -> int:
        return sum(self._by_path[path].size for path in paths)

    def _on_disk(self) -> dict[str, list[Path]]:
        """Return what is on disk for each path of the manifest: the file, and what there is of it."""
        places = {place: path for path in self._by_path for place in self._places(path)}
        found: dict[str, list[Path]] = {}
        for file in _files_under(self._folder):
            if file in places:
                found.setdefault(places[file], []).append(file)
        return found

    def _places(self, path: str) -> tuple[Path, Path]:
        target = self._folder / path
        return target, part_of(target)

    def _remove_all_but(self, kept: set[str]) -> None:
        wanted = {file for path, files in self._on_disk().items() if path in kept for file in files}
        for file in list(_files_under(self._folder)):
            if file not in wanted:
                file.unlink()

    def _remove(self, path: str) -> None:
        for place in self._places(path):
            place.unlink(missing_ok=True)
        self._held.discard(path)
        for parent in PurePosixPath(path).parents[:-1]:
            folder = self._folder / parent
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def _files_under(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def amount(size: int) -> str:
    """Say a number of bytes in 10^9 or 10^6 bytes."""
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"
