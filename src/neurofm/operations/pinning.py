"""Pin a dataset: ask the archive what it has now, and write that down as the state that the project is held to."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neurofm.catalog import LATEST, ArchiveSource, CatalogEntry, Pins, read_pins, write_pins
from neurofm.catalog.pins import pins_digest, pins_path
from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite
from neurofm.files import write_atomic
from neurofm.operations.round_trip import RoundTrip
from neurofm.recording import ManifestFile
from neurofm.sources import Listing, is_pinned, list_archive, recordings_of

_SHOWN_PATHS = 20


@dataclass(frozen=True, kw_only=True)
class FileChanges:
    """How one list of files differs from another."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """Same path, other bytes (size, digest or version of the object)."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        counts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        return ", ".join(f"{len(paths)} {name}" for name, paths in counts.items() if paths) or "no file differs"

    def lines(self) -> Iterator[str]:
        """Yield the first of the paths that differ, as a diff would mark them."""
        marked = [
            f"{mark} {path}"
            for mark, paths in (("+", self.added), ("-", self.removed), ("~", self.changed))
            for path in paths
        ]
        yield from marked[:_SHOWN_PATHS]
        if len(marked) > _SHOWN_PATHS:
            yield f"... and {len(marked) - _SHOWN_PATHS} more"


@dataclass(frozen=True, kw_only=True)
class PinPlan:
    """What a pin would write."""

    entry: CatalogEntry
    listing: Listing
    pins: Pins | None
    """None where the version alone fixes every byte."""
    recordings: int
    subjects: int
    changes: FileChanges | None
    """Against the pins that there are; None without."""
    before: str
    """The entry's file, and as it will be."""
    after: str

    @property
    def is_done(self) -> bool:
        """Whether the project is pinned exactly like this already."""
        return not self.diff and self.changes is not None and not self.changes

    @property
    def diff(self) -> str:
        """How the entry's file changes, as a unified diff."""
        name = f"data/catalog/{self.entry.id}.yaml"
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True), self.after.splitlines(keepends=True), name, name, n=1
        )
        return "".join(lines)


def plan_pin(entry: CatalogEntry, *, root: Path, site: FetchSite, version: str = "") -> PinPlan:
    """Ask the archive what it has now; nothing is written.

    Parameters
    ----------
    entry
        Its source is one that an archive lists.
    root
        The project's root.
    site
        Where archives are reached.
    version
        Another version than the entry's, ``latest`` for the newest.

    Raises
    ------
    UserError
        If the source is not one that is asked, the archive does not answer, or its files make no recordings.
    """
    source = entry.source
    if not isinstance(source, ArchiveSource):
        raise UserError(
            f"{entry.id}: a {source.archive!r} source needs no pins: "
            + ("its folder is hashed" if source.archive == "local" else "the entry lists every file with its digest")
            + ".",
            mend="nothing to do",
        )
    # Asked as if nothing had been pinned: the old pins may be what is to be renewed.
    afresh = {"pin": "", "version": version or source.version} | ({"commit": ""} if hasattr(source, "commit") else {})
    unpinned = entry.model_copy(update={"source": source.model_copy(update=afresh)})
    listing = list_archive(unpinned, root=root, site=site)
    if listing.version == LATEST:
        raise UserError(f"{entry.id}: {source.archive} did not say what `latest` is.", mend="name a version")
    where = f"data/catalog/{entry.id}.yaml"
    recordings = recordings_of(
        [file.path for file in listing.files], entry.recordings, namespace=entry.subject_namespace, where=where
    )
    resolved = source.model_copy(update={"version": listing.version, "pin": "", **listing.resolved})
    pins = None
    if not is_pinned(resolved):
        pins = Pins(dataset=entry.id, archive=source.archive, version=listing.version, files=listing.files)
    path = root / where
    file = RoundTrip(path)
    _set_source(file, version=listing.version, pin=pins_digest(pins) if pins else "", resolved=dict(listing.resolved))
    return PinPlan(
        entry=entry,
        listing=listing,
        pins=pins,
        recordings=len(recordings),
        subjects=len({recording.subject for recording in recordings}),
        changes=_changes(entry.id, source, listing, root=root),
        before=file.before,
        after=file.render().decode(),
    )


def write_pin(plan: PinPlan, *, root: Path) -> None:
    """Write the pins, then the entry that names them; between the two, the old entry asks to be pinned anew."""
    dataset = plan.entry.id
    if plan.pins is not None:
        write_pins(plan.pins, root=root)
    write_atomic(root / "data" / "catalog" / f"{dataset}.yaml", plan.after.encode())
    if plan.pins is None:
        pins_path(dataset, root=root).unlink(missing_ok=True)


def file_changes(old: tuple[ManifestFile, ...], new: tuple[ManifestFile, ...]) -> FileChanges:
    """Compare two lists of files."""
    before, after = ({file.path: file for file in files} for files in (old, new))
    return FileChanges(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(path for path in before.keys() & after.keys() if before[path] != after[path])),
    )


def _changes(dataset: str, source: ArchiveSource, listing: Listing, *, root: Path) -> FileChanges | None:
    if not source.pin:
        return None
    try:
        old = read_pins(dataset, digest=source.pin, root=root)
    except UserError:  # missing or not those of the entry: that is what pinning anew mends
        return None
    return file_changes(old.files, listing.files)


def _set_source(file: RoundTrip, *, version: str, pin: str, resolved: dict[str, str]) -> None:
    """Set keys of `source`: known ones where they stand, new ones behind `version`."""
    source = file.content["source"]
    wanted = {"version": version, **resolved, "pin": pin}
    for name, value in wanted.items():
        if not value:
            source.pop(name, None)
        elif name in source:
            if source[name] != value:
                source[name] = value
        else:
            source.insert(list(source).index("version") + 1, name, value)
