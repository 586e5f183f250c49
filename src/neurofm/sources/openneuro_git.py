"""OpenNeuro by its git mirror: one clone holds every path, size, digest and S3 version, and all small files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from neurofm.catalog import LATEST
from neurofm.errors import UserError
from neurofm.fetch.mirror import read_git, read_objects
from neurofm.recording import ManifestFile
from neurofm.sources.annex import BRANCH, OBJECTS, AnnexKey, Remotes
from neurofm.sources.listing import chosen, safe

_LINK, _SUBMODULE = "120000", "160000"
_POINTER_BYTES = 1024
"""No pointer file of git-annex is larger; keys are at most 255 characters."""
_TAGS = "refs/tags/"
_HEADS = "refs/heads/"
_BRANCHES = ("main", "master")
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of a commit's tree."""

    path: str
    mode: str
    blob: str
    size: int
    """Bytes of the blob: of a link, those of its target's name."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A commit in a mirror."""

    mirror: str
    """``openneuro`` or ``openneuro-derivatives``."""
    accession: str
    version: str
    """What it is called: a tag, or the commit itself."""
    commit: str
    folder: Path
    """The bare repository."""

    @property
    def where(self) -> str:
        """The dataset and version, for messages."""
        return f"{self.accession} {self.version}"


def tagged(folder: Path, accession: str, version: str, *, commit: str) -> Snapshot:
    """Return the snapshot of a tag; ``latest`` is the newest by version order.

    Parameters
    ----------
    folder
        The mirror.
    accession, version
        Of the catalogue entry.
    commit
        What the tag pointed to when it was pinned; empty if it was not.

    Raises
    ------
    UserError
        If there is no such tag, or it has moved.
    """
    tags = {name.removeprefix(_TAGS): found for name, found in _refs(folder).items() if name.startswith(_TAGS)}
    tag = newest(tags) if version == LATEST else version
    if tag not in tags:
        raise UserError(
            f"{accession}: has no version {tag}".rstrip()
            + f" (it has {', '.join(sorted(tags, key=order)) or 'none'}).",
            mend="correct `source.version` in its catalogue entry",
        )
    refuse_moved(accession, tag, pinned="" if version == LATEST else commit, found=tags[tag])
    return Snapshot(mirror="openneuro", accession=accession, version=tag, commit=tags[tag], folder=folder)


def committed(folder: Path, accession: str, version: str) -> Snapshot:
    """Return the snapshot of a commit; ``latest`` is the newest commit of the main branch.

    Raises
    ------
    UserError
        If it is not clear which branch is the main one.
    """
    commit = version
    if version == LATEST:
        heads = {name.removeprefix(_HEADS): found for name, found in _refs(folder).items() if name.startswith(_HEADS)}
        heads.pop(BRANCH.removeprefix(_HEADS), None)
        branch = next((name for name in _BRANCHES if name in heads), "") or (min(heads) if len(heads) == 1 else "")
        if not branch:
            raise UserError(
                f"{accession}: it is not clear which branch is meant ({', '.join(sorted(heads)) or 'there is none'}).",
                mend="state a commit as `source.version` in its catalogue entry",
            )
        commit = heads[branch]
    return Snapshot(mirror="openneuro-derivatives", accession=accession, version=commit, commit=commit, folder=folder)


def newest(tags: Iterable[str]) -> str:
    """Return the newest of version tags (1.10.0 is newer than 1.9.0); empty if there is none."""
    return max(tags, key=order, default="")


def order(tag: str) -> tuple[tuple[int, int, str], ...]:
    """Return what tags are sorted by: numbers as numbers, and before anything else."""
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"[.+-]", tag))


def refuse_moved(accession: str, tag: str, *, pinned: str, found: str) -> None:
    """Refuse a tag that points to another commit than when it was pinned.

    Raises
    ------
    UserError
        If it does.
    """
    if pinned and found != pinned:
        raise UserError(
            f"{accession}: the tag {tag} was {pinned} when it was pinned, and is {found or 'not told'} now.",
            mend="see what changed and pin it anew: neurofm catalog pin (or take a mirror that still has it)",
        )


def read_files(
    snapshot: Snapshot, *, include: tuple[str, ...], exclude: tuple[str, ...]
) -> tuple[tuple[ManifestFile, ...], dict[str, JsonValue]]:
    """Return the files of a snapshot that the globs leave, sorted by path, and what it says of itself.

    Submodules and links that are not git-annex's are left out: they lead elsewhere.

    Raises
    ------
    UserError
        For a hostile path, or if a file's content is nowhere to be had.
    """
    tree = {entry.path: entry for entry in _tree(snapshot)}
    wanted = [tree[path] for path in chosen(sorted(tree), include=include, exclude=exclude)]
    wanted = [entry for entry in wanted if entry.mode != _SUBMODULE]
    keys, links = _annexed(snapshot, wanted)
    plain = [entry for entry in wanted if entry.path not in links]
    files = [
        ManifestFile(
            path=entry.path,
            size=entry.size,
            digest=f"git-sha1:{entry.blob}",
            origin=f"git://{snapshot.mirror}/{snapshot.accession}@{snapshot.commit}/{entry.path}",
        )
        for entry in plain
    ]
    files += _in_buckets(snapshot, keys)
    files.sort(key=lambda file: file.path)
    return tuple(files), _facts(snapshot, tree, plain)


def _refs(folder: Path) -> Mapping[str, str]:
    """Return the commit of every branch and tag."""
    said = read_git(folder, "for-each-ref", "--format=%(refname)%00%(objectname)%00%(*objectname)")
    lines = [line.split("\0") for line in said.decode(errors="replace").splitlines()]
    return {name: peeled or commit for name, commit, peeled in lines}


def _tree(snapshot: Snapshot) -> Iterator[Entry]:
    said = read_git(snapshot.folder, "ls-tree", "-r", "-l", "-z", "--full-tree", snapshot.commit)
    for line in said.split(b"\0"):
        if not line:
            continue
        about, _, name = line.partition(b"\t")
        mode, _, blob, size = about.decode().split()
        yield Entry(path=_path(name, snapshot), mode=mode, blob=blob, size=int(size) if size.isdigit() else 0)


def _path(name: bytes, snapshot: Snapshot) -> str:
    try:
        path = name.decode()
    except UnicodeDecodeError:
        path = "/"  # not a name in UTF-8: no better than an absolute one
    if ".git" in path.lower().split("/"):
        raise UserError(
            f"{snapshot.where}: the archive lists a hostile path: {path!r} reaches into a git repository.",
            mend="tell the archive; do not use this version",
        )
    return safe(path, where=snapshot.where)


def _annexed(snapshot: Snapshot, entries: Sequence[Entry]) -> tuple[dict[str, AnnexKey], frozenset[str]]:
    """Return the keys of annexed files by path, and all paths whose blob is not the file itself.

    Annexed are links into git-annex's folder, and pointer files (what git-annex calls unlocked): small files that say
    where the content would be, and that must never be taken for it.
    """
    doubtful = [entry for entry in entries if entry.mode == _LINK or entry.size <= _POINTER_BYTES]
    keys: dict[str, AnnexKey] = {}
    links = set()
    contents = read_objects(snapshot.folder, (entry.blob for entry in doubtful))
    for entry, content in zip(doubtful, contents, strict=True):
        if entry.mode == _LINK:
            links.add(entry.path)
            target = (content or b"").decode(errors="replace")
        elif content is not None and content.startswith(f"/{OBJECTS}".encode()):
            target = content.decode(errors="replace").splitlines()[0]
        else:
            continue
        if key := AnnexKey.of_link(target):
            keys[entry.path] = key
            links.add(entry.path)
    return keys, frozenset(links)


def _in_buckets(snapshot: Snapshot, keys: Mapping[str, AnnexKey]) -> Iterator[ManifestFile]:
    """Yield annexed files with the object that holds each one's content."""
    logs = [name for key in keys.values() for name in (key.log(".log.rmet"), key.log(".log"))]
    common = (f"{BRANCH}:remote.log", f"{BRANCH}:trust.log")
    texts = ((content or b"").decode(errors="replace") for content in read_objects(snapshot.folder, [*common, *logs]))
    remotes = Remotes.parse(next(texts), next(texts)) if keys else Remotes()
    nowhere = []
    for path, key in keys.items():
        rmet, log = next(texts), next(texts)
        if key.size is None:
            raise UserError(
                f"{snapshot.where}: {path} is annexed as {key.name}, which does not tell its size.",
                mend="leave it out with `source.exclude`",
            )
        places = remotes.places(key, path, rmet=rmet, log=log)
        place = next(iter(places), None)
        if snapshot.mirror == "openneuro" and (place is None or not remotes.is_public(place)):
            # Not exported yet, or not for everybody: OpenNeuro itself hands it out.
            origin, version_id = f"openneuro://{snapshot.accession}/{snapshot.version}/{path}", ""
        elif place is None:
            nowhere.append(path)
            continue
        else:
            origin, version_id = place.origin, place.version_id
        yield ManifestFile(path=path, size=key.size, digest=key.digest, origin=origin, version_id=version_id)
    if nowhere:
        more = f" and {len(nowhere) - _SHOWN} more" if len(nowhere) > _SHOWN else ""
        raise UserError(
            f"{snapshot.where}: no bucket is on record for {', '.join(nowhere[:_SHOWN])}{more}.",
            mend="leave them out with `source.exclude`, or take another version; if they came just now, remove "
            f"{snapshot.folder}: it is cloned again",
        )


def _facts(snapshot: Snapshot, tree: Mapping[str, Entry], plain: Sequence[Entry]) -> dict[str, JsonValue]:
    """Return licence, DOI, subjects, native rate and channel count, as far as small files tell."""
    sources = {
        "description": tree.get("dataset_description.json"),
        "run": _first(plain, ("_eeg.json", "_bold.json", "_bold.dtseries.json")),
        "channels": _first(plain, ("_channels.tsv",)),
    }
    there = {name: entry for name, entry in sources.items() if entry is not None and entry.mode != _LINK}
    contents = read_objects(snapshot.folder, (entry.blob for entry in there.values()))
    texts = {name: (content or b"").decode(errors="replace") for name, content in zip(there, contents, strict=True)}
    rate_hz, channels = _rate_hz(_json(texts.get("run", ""))), _eeg_channels(texts.get("channels", ""))
    facts = description_facts(_json(texts.get("description", "")))
    if subjects := {path.split("/")[0] for path in tree if re.match(r"sub-[^/]+/", path)}:
        facts["expect.subjects"] = len(subjects)
    if rate_hz:
        facts["expect.native_rate_hz"] = rate_hz
    if channels:
        facts["expect.channels"] = [channels]
    return facts


def description_facts(about: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return what ``dataset_description.json`` says, by the entry's names."""
    stated = {"licence": about.get("License"), "doi": str(about.get("DatasetDOI") or "").removeprefix("doi:")}
    return {name: value for name, value in stated.items() if isinstance(value, str) and value}


def _first(entries: Sequence[Entry], endings: tuple[str, ...]) -> Entry | None:
    """Return the first of the files (in their order) with one of the endings; one of a subject before one of all."""
    found = [entry for entry in entries if entry.path.endswith(endings)]
    return min(found, key=lambda entry: "/" not in entry.path, default=None)


def _json(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _rate_hz(sidecar: Mapping[str, Any]) -> float | None:
    rate_hz, period_s = sidecar.get("SamplingFrequency"), sidecar.get("RepetitionTime")
    if isinstance(rate_hz, int | float) and rate_hz > 0:
        return float(rate_hz)
    if isinstance(period_s, int | float) and period_s > 0:
        return 1 / period_s
    return None


def _eeg_channels(table: str) -> int:
    head, *lines = [line.split("\t") for line in table.splitlines() if line.strip()] or [[]]
    if "type" not in head:
        return len(lines)
    column = head.index("type")
    return sum(1 for line in lines if len(line) > column and line[column].strip().upper() == "EEG")
