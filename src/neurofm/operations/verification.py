"""Check a catalogue entry's facts against the archive."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from neurofm.catalog import ArchiveSource, CatalogEntry, HttpSource, LocalSource, RegistrySource, read_pins
from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite
from neurofm.files import write_atomic
from neurofm.operations.pinning import file_changes
from neurofm.operations.round_trip import RoundTrip
from neurofm.operations.tables import name_cell, table
from neurofm.sources import Listing, list_archive, recordings_of
from neurofm.sources.local import scan

Verdict = Literal["yes", "no", "not stated", "not told"]
_BYTES_TOLERANCE = 0.01
"""Sizes in entries are rounded (15.1 GB)."""
_RATE_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Check:
    """One fact of an entry and what the archive says."""

    fact: str
    """Dotted name."""
    entry: str
    archive: str
    agrees: Verdict
    """`not stated` by the entry; `not told` by the archive."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What came of asking about one dataset."""

    dataset: str
    checks: tuple[Check, ...] = ()
    unreachable: str = ""
    """Why the archive could not be asked."""

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of the facts that the archive contradicts."""
        return tuple(check.fact for check in self.checks if check.agrees == "no")


def verify(entry: CatalogEntry, *, root: Path, site: FetchSite) -> Verification:
    """Ask the archive and compare; nothing is written.

    An archive that cannot be asked (no network, no credentials, a folder that is not there) is said, not raised.
    """
    try:
        listing = _listing(entry, root=root, site=site)
        told = _told(entry, listing, root=root)
    except UserError as error:
        return Verification(dataset=entry.id, unreachable=str(error))
    stated = _stated(entry)
    unchecked = {name for name, checked in entry.verified.items() if not checked}
    checks = [
        Check(
            fact=fact,
            entry=_text(stated.get(fact)),
            archive=_text(told.get(fact)),
            agrees=_verdict(fact, stated.get(fact), told.get(fact)),
        )
        for fact in sorted(told.keys() | unchecked)
    ]
    return Verification(dataset=entry.id, checks=tuple(checks))


def write_verified(verification: Verification, *, root: Path) -> tuple[str, ...]:
    """Remove the mark "not checked" from the facts that agree; returns their names."""
    path = root / "data" / "catalog" / f"{verification.dataset}.yaml"
    file = RoundTrip(path)
    marks = file.content.get("verified") or {}
    agreed = tuple(
        check.fact for check in verification.checks if check.agrees == "yes" and marks.get(check.fact) is False
    )
    for fact in agreed:
        del marks[fact]
    if agreed:
        if not marks:
            del file.content["verified"]
        write_atomic(path, file.render())
    return agreed


def verification_table(verifications: Sequence[Verification], *, width: int) -> Table:
    """Render what was compared: fact, entry, archive, agrees."""
    made = table("dataset", "fact", "entry", "archive", "agrees", width=width)
    for verification in verifications:
        for number, check in enumerate(verification.checks):
            made.add_row(
                name_cell(verification.dataset, width=width) if number == 0 else "",
                check.fact,
                check.entry,
                check.archive,
                Text(check.agrees, style={"yes": "green", "no": "bold red"}.get(check.agrees, "dim")),
            )
        if verification.unreachable:
            made.add_row(name_cell(verification.dataset, width=width), Text("not asked", style="yellow"), "", "", "")
    return made


def _listing(entry: CatalogEntry, *, root: Path, site: FetchSite) -> Listing | None:
    """Ask for the files as they are now; None where the entry itself lists them."""
    source = entry.source
    if isinstance(source, ArchiveSource):
        unpinned = entry.model_copy(update={"source": source.model_copy(update={"pin": ""})})
        return list_archive(unpinned, root=root, site=site)
    return None


def _told(entry: CatalogEntry, listing: Listing | None, *, root: Path) -> dict[str, Any]:
    """Return what the archive says, by dotted name."""
    source = entry.source
    where = f"data/catalog/{entry.id}.yaml"
    facts: dict[str, Any] = {}
    paths: list[str] = []
    if isinstance(source, RegistrySource | HttpSource):
        paths = [file.path for file in source.files]
    elif listing is not None:
        paths = [file.path for file in listing.files]
        facts |= dict(listing.facts)
        facts["source.version"] = listing.version
        facts |= {"expect.files": len(paths), "expect.bytes": sum(file.size for file in listing.files)}
        facts |= {f"source.{name}": value for name, value in listing.resolved.items()}
        if isinstance(source, ArchiveSource) and source.pin:
            old = read_pins(entry.id, digest=source.pin, root=root)
            changes = file_changes(old.files, listing.files)
            facts["source.pin"] = str(changes) if changes else source.pin
    elif isinstance(source, LocalSource):
        folder = root / source.path
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder.", mend=f"neurofm catalog show {entry.id} says how to get it")
        paths = scan(folder)
    recordings = recordings_of(paths, entry.recordings, namespace=entry.subject_namespace, where=where)
    facts["expect.recordings"] = len(recordings)
    facts["expect.subjects"] = len({recording.subject for recording in recordings})
    return facts


def _stated(entry: CatalogEntry) -> dict[str, Any]:
    return dict(_flat("", entry.model_dump(mode="json", exclude={"verified"}, exclude_none=True)))


def _flat(prefix: str, facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        elif value not in ("", [], None):
            yield f"{prefix}{name}", value


def _verdict(fact: str, stated: Any, told: Any) -> Verdict:
    if told is None:
        return "not told"
    if stated is None:
        return "not stated"
    if fact == "expect.bytes":
        agree = abs(stated - told) <= _BYTES_TOLERANCE * max(stated, told)
    elif fact == "expect.channels":
        agree = set(_listed(told)) <= set(_listed(stated))
    elif isinstance(stated, int | float) and isinstance(told, int | float):
        agree = abs(stated - told) <= _RATE_TOLERANCE * max(abs(stated), abs(told))
    else:
        agree = _plain(stated) == _plain(told)
    return "yes" if agree else "no"


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(value: Any) -> str:
    """Return a text without what differs between ways of writing the same: CC0 and CC0-1.0, doi:10... and its URL."""
    text = re.sub(r"^(spdx:|doi:|https?://(dx\.)?doi\.org/)", "", str(value).strip().lower())
    text = re.sub(r"[\s_-]+", "-", text)
    return {"cc0": "cc0-1.0", "cc-0": "cc0-1.0"}.get(text, text)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
