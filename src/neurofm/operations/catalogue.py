"""What the catalogue says: all datasets in a table, or every fact of one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from neurofm.catalog import ArchiveSource, CatalogEntry, HttpSource, LocalSource, RegistrySource, load_entry
from neurofm.catalog.terms import are_accepted
from neurofm.operations.extent import extent_of
from neurofm.operations.tables import count_text, is_wide, name_cell, size_text, table
from neurofm.sources import is_pinned

NOT_CHECKED = "not checked"
_SHOWN_FILES = 3
_ARCHIVE_WIDTH = 13
_BASIS = {
    "manifest": "counted in its manifest",
    "pins": "counted in the list that it is pinned to",
    "entry": "expected",
}
_COMMIT_LENGTH = 40
_SHORT_COMMIT = 10


def dataset_ids(root: Path) -> list[str]:
    """Return the ids of all entries, sorted."""
    return sorted(path.stem for path in (root / "data" / "catalog").glob("*.yaml"))


def load_catalogue(root: Path) -> list[CatalogEntry]:
    """Read every entry.

    Raises
    ------
    UserError
        For the first entry that is broken.
    """
    return [load_entry(dataset, root=root) for dataset in dataset_ids(root)]


def summary_of(entry: CatalogEntry, *, root: Path) -> dict[str, Any]:
    """Return the facts of one line of the list, as plain data."""
    extent = extent_of(entry, root=root)
    return {
        "id": entry.id,
        "title": entry.title,
        "archive": entry.source.archive,
        "version": entry.source.version,
        "modality": entry.modality.value,
        "reader": entry.reader,
        "subjects": entry.expect.subjects,
        "files": extent.files,
        "bytes": extent.bytes,
        "licence": entry.licence,
        "redistribute": entry.redistribute,
        "pinned": is_pinned(entry.source),
        "not_checked": sorted(name for name, checked in entry.verified.items() if not checked),
        "terms_accepted": are_accepted(entry) if entry.terms else None,
    }


def list_table(summaries: Sequence[dict[str, Any]], *, width: int) -> Table:
    """Render the list for a terminal of `width` columns."""
    numbers: tuple[tuple[str, Literal["right"]], ...] = (("subj.", "right"), ("size", "right"))
    if is_wide(width):
        made = table("id", "archive", "version", "modality", *numbers, "licence", "pinned", "facts", width=width)
    else:
        made = table("id", "archive", "modality", *numbers, "facts", width=width)
    for line in summaries:
        pinned = Text("not pinned", style="yellow")
        if line["pinned"]:
            pinned = Text("hashed here" if line["archive"] == "local" else "pinned")
        unchecked = len(line["not_checked"])
        facts = Text(f"{unchecked} unchecked", style="yellow") if unchecked else Text("checked")
        counts = (line["modality"], count_text(line["subjects"]), size_text(line["bytes"]))
        archive, version = line["archive"], _short(line["version"])
        if is_wide(width):
            made.add_row(line["id"], archive, version, *counts, line["licence"], pinned, facts)
        else:
            name = name_cell(line["id"], line["licence"], width=width)
            # The longest name of an archive is broken at its hyphen.
            where = "\n".join([*textwrap.wrap(archive, _ARCHIVE_WIDTH), *textwrap.wrap(version, _ARCHIVE_WIDTH)])
            made.add_row(name, where, *counts, pinned.append("\n").append(facts))
    return made


def show_table(entry: CatalogEntry, *, root: Path) -> Table:
    """Render every fact of an entry; what could not be checked against the archive is marked."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    unchecked = {name for name, checked in entry.verified.items() if not checked}
    for name, value in facts_of(entry):
        text = Text(value)
        if any(name == mark or name.startswith(f"{mark}.") for mark in unchecked):
            text.append(f"  ({NOT_CHECKED})", style="yellow")
        made.add_row(Text(name, style="bold"), text)
    extent = extent_of(entry, root=root)
    size = f"{count_text(extent.files)} files, {size_text(extent.bytes)}"
    if extent.basis != "unknown":
        made.add_row(Text("size", style="bold"), f"{size}, {_BASIS[extent.basis]}")
    for name, value in _what_next(entry):
        made.add_row(Text(name, style="bold"), value)
    return made


def facts_of(entry: CatalogEntry) -> Iterator[tuple[str, str]]:
    """Yield every fact that an entry states, by its dotted name, in the order of its file."""
    dumped = entry.model_dump(mode="json", exclude_defaults=True, exclude={"verified"})
    for name, value in dumped.items():
        yield from _flat(name, value)


def fact_names(entry: CatalogEntry) -> frozenset[str]:
    """Return the dotted names that `CatalogEntry.verified` may use: facts that the entry states, and their sections."""
    parts = [name.split(".") for name, _ in facts_of(entry)]
    return frozenset(".".join(part[:length]) for part in parts for length in range(1, len(part) + 1))


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif name == "source.files":
        names = [file["path"] for file in value[:_SHOWN_FILES]]
        yield name, f"{len(value)}: {', '.join(names)}{', ...' if len(value) > _SHOWN_FILES else ''}"
    elif isinstance(value, list):
        yield name, ", ".join(str(item) for item in value)
    elif isinstance(value, bool):
        yield name, "yes" if value else "no"
    else:
        yield name, " ".join(str(value).split())


def _what_next(entry: CatalogEntry) -> Iterator[tuple[str, str]]:
    if entry.terms is not None:
        yield "accepted", "yes" if are_accepted(entry) else f"no: neurofm catalog accept {entry.id}"
    yield "pinned", pin_text(entry)
    yield "to use it", use_text(entry)


def pin_text(entry: CatalogEntry) -> str:
    """Say how the entry's bytes are fixed, or how to fix them."""
    source = entry.source
    if isinstance(source, LocalSource):
        return "not needed: the folder's files are hashed when its manifest is made"
    if isinstance(source, RegistrySource | HttpSource):
        return "yes: the entry lists every file with its digest"
    if isinstance(source, ArchiveSource) and source.pin:
        return f"yes: data/catalog/pins/{entry.id}.json lists every file"
    if is_pinned(source):
        return f"yes: version {_short(source.version)} fixes every byte"
    return f"no: neurofm catalog pin {entry.id}"


def group_of(entry: CatalogEntry, *, keep_raw_below_gb: float, size: int | None) -> str:
    """Return the group of params.yaml that an entry belongs under.

    Local folders are read where they lie; what may not be handed on is never kept raw, so that it reaches no remote;
    nor is what is larger than `keep_raw_below_gb` (10^9 bytes), or of unknown size.
    """
    if isinstance(entry.source, LocalSource):
        return "local"
    if not entry.redistribute or size is None or size > keep_raw_below_gb * 1e9:
        return "streamed"
    return "datasets"


def use_text(entry: CatalogEntry) -> str:
    """Say which line of params.yaml makes the dataset take part."""
    facts = f"modality: {entry.modality.value}, reader: {entry.reader}"
    if isinstance(entry.source, LocalSource):
        return f"under `local` in params.yaml: {entry.id}: {{{facts}, path: {entry.source.path}}}"
    group = "`datasets` (raw files are kept) or `streamed`" if entry.redistribute else "`streamed`"
    return f"under {group} in params.yaml: {entry.id}: {{{facts}}}"


def _short(version: str) -> str:
    is_commit = len(version) == _COMMIT_LENGTH and all(digit in "0123456789abcdef" for digit in version)
    return version[:_SHORT_COMMIT] if is_commit else version
