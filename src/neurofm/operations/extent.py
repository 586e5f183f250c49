"""How many files and bytes a dataset has, as well as it is known before anything is fetched."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neurofm.catalog import ArchiveSource, CatalogEntry, HttpSource, RegistrySource
from neurofm.catalog.pins import pins_path
from neurofm.errors import UserError
from neurofm.sources.local import files_of

Basis = Literal["manifest", "pins", "folder", "entry", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Files and bytes; None where nobody says."""

    files: int | None
    bytes: int | None
    basis: Basis
    """Who says it. `entry` is what the catalogue expects, which may be rounded or not checked."""
    subjects: int | None = None
    recordings: int | None = None

    def of_subjects(self, max_subjects: int | None) -> Extent:
        """Scale down to so many subjects, as if all were equally large."""
        if max_subjects is None or not self.subjects or max_subjects >= self.subjects:
            return self
        share = max_subjects / self.subjects
        return Extent(
            files=None if self.files is None else round(self.files * share),
            bytes=None if self.bytes is None else round(self.bytes * share),
            basis="entry",
            subjects=max_subjects,
            recordings=None if self.recordings is None else max(1, round(self.recordings * share)),
        )


def extent_of(entry: CatalogEntry, *, root: Path) -> Extent:
    """Return what is known of a dataset: by its manifest, else its pins, else its entry.

    Costs little for a manifest of 100 000 files: only sizes are kept of what is read.

    Raises
    ------
    UserError
        If the pins that the entry names are missing or others.
    """
    if found := _of_manifest(entry, root=root) or _of_pins(entry, root=root):
        return found
    source, expect = entry.source, entry.expect
    if isinstance(source, RegistrySource | HttpSource):
        sizes = [file.size for file in source.files]
        return Extent(
            files=len(sizes),
            bytes=sum(sizes),
            basis="pins",
            subjects=expect.subjects,
            recordings=expect.recordings,
        )
    known = expect.files is not None or expect.bytes is not None
    return Extent(
        files=expect.files,
        bytes=expect.bytes,
        basis="entry" if known else "unknown",
        subjects=expect.subjects,
        recordings=expect.recordings,
    )


def _of_manifest(entry: CatalogEntry, *, root: Path) -> Extent | None:
    """Count the manifest, unless there is none, or one that its stage will make anew: of another version, or broken."""
    path = root / "data" / "manifests" / f"{entry.id}.json"
    try:
        manifest = _parsed(path.read_bytes())
        if manifest["version"] != entry.source.version:
            return None
        return Extent(
            files=len(manifest["files"]),
            bytes=sum(manifest["files"]),
            basis="manifest",
            subjects=len(set(manifest["recordings"])),
            recordings=len(manifest["recordings"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _of_pins(entry: CatalogEntry, *, root: Path) -> Extent | None:
    if not isinstance(entry.source, ArchiveSource) or not entry.source.pin:
        return None
    path = pins_path(entry.id, root=root)
    mend = f"take the file from git again, or pin anew: neurofm catalog pin {entry.id}"
    try:
        content = path.read_bytes()
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != entry.source.pin:
            raise UserError(f"{path}: not what data/catalog/{entry.id}.yaml pins.", mend=mend)
        sizes = _parsed(content)["files"]
        expect = entry.expect
        return Extent(
            files=len(sizes),
            bytes=sum(sizes),
            basis="pins",
            subjects=expect.subjects,
            recordings=expect.recordings,
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", mend=mend) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not pins.", mend=mend) from None


def extent_of_folder(entry: CatalogEntry, *, root: Path, max_subjects: int | None) -> Extent:
    """Count a folder of the user's as its manifest will: it is listed, and nothing in it opened.

    Raises
    ------
    UserError
        As making the manifest would.
    """
    recordings, sizes = files_of(entry, root=root, max_subjects=max_subjects)
    return Extent(
        files=len(sizes),
        bytes=sum(sizes.values()),
        basis="folder",
        subjects=len({recording.subject for recording in recordings}),
        recordings=len(recordings),
    )


def _parsed(content: bytes) -> dict[str, Any]:
    """Parse a manifest or pins, keeping the size of each file and the subject of each recording only."""

    def short(node: dict[str, Any]) -> Any:
        if "digest" in node and "size" in node:
            return node["size"]
        return node.get("subject", node)

    found: dict[str, Any] = json.loads(content, object_hook=short)
    return found
