"""The way from datasets to this page, as a graph: counts, and the beginnings of digests."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import neurofm
from neurofm.catalog import CatalogEntry
from neurofm.recording import Modality, Unreadable
from neurofm.report.inputs import ReportInputs
from neurofm.report.words import MODALITY_WORDS, counted, number

_ROWS = 4
"""Most rows of a modality; where it has more datasets, the last row stands for the rest."""
_DIGITS = 8
_FOLDS = 4
"""Most folds that get a line of their own."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One box."""

    title: str
    lines: tuple[str, ...] = ()
    digest: str = ""
    """How its digest begins; empty where it has none of its own."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One dataset, or several in one row: boxes from left to right."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The datasets of one modality."""

    modality: str
    chains: tuple[Chain, ...]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """All that led to the page."""

    lanes: tuple[Lane, ...]
    trunk: tuple[Node, ...]
    """What comes after all datasets have met."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """One dataset's digests, whole."""

    manifest: str
    """MD5 of the manifest, as dvc.lock has it; empty without one."""
    shards: str
    """SHA-256 over the names and checksums of all that its shards hold; empty without any."""
    files: int
    recordings: int
    """Shards."""


def trace(entry: CatalogEntry, inputs: ReportInputs, *, root: Path) -> Traced:
    """Take a dataset's digests.

    Shards are not read for it: each has the checksums of its parts in its directory.

    Raises
    ------
    Unreadable
        For a damaged shard.
    """
    manifest = inputs.manifests.get(entry.id)
    shards = sorted((root / "data" / "shards" / entry.id).glob("*.zarr.zip"))
    return Traced(
        manifest=_md5(root / "data" / "manifests" / f"{entry.id}.json"),
        shards=_digest_of(shards),
        files=len(manifest.files) if manifest else 0,
        recordings=len(shards),
    )


def draw_flow(inputs: ReportInputs, traced: Sequence[Traced], *, root: Path) -> Flow:
    """Put the graph together.

    Parameters
    ----------
    inputs
        What the earlier stages left.
    traced
        Digests of the datasets, in the order of `inputs.entries`.
    root
        The project's root.
    """
    lanes = []
    known = list(zip(inputs.entries, traced, strict=True))
    for modality in Modality:
        own = [(entry, found) for entry, found in known if entry.modality is modality]
        if own:
            lanes.append(Lane(modality=MODALITY_WORDS[modality], chains=_chains(own, inputs)))
    trunk = (_split(inputs, root=root), *_model(inputs, root=root), _scoreboard(inputs, root=root), _page())
    return Flow(lanes=tuple(lanes), trunk=tuple(node for node in trunk if node is not None))


def _chains(own: Sequence[tuple[CatalogEntry, Traced]], inputs: ReportInputs) -> tuple[Chain, ...]:
    shown = own if len(own) <= _ROWS else own[: _ROWS - 1]
    chains = [_chain(entry, found, inputs) for entry, found in shown]
    if rest := own[len(shown) :]:
        files, shards = sum(found.files for _, found in rest), sum(found.recordings for _, found in rest)
        names = ", ".join(entry.id for entry, _ in rest)
        boxes = [Node(title=f"{len(rest)} more datasets", lines=(names,))]
        boxes += [Node(title=counted(len(rest), "manifest"), lines=(counted(files, "file"),))]
        boxes += [Node(title=counted(shards, "shard"), lines=("digests below",))]
        chains.append(Chain(nodes=tuple(boxes)))
    return tuple(chains)


def _chain(entry: CatalogEntry, found: Traced, inputs: ReportInputs) -> Chain:
    manifest = inputs.manifests.get(entry.id)
    source = f"{entry.source.archive} {manifest.source_id if manifest else ''}".strip()
    version = manifest.version if manifest else entry.source.version
    nodes = [Node(title=entry.id, lines=(f"{source}, {version}",))]
    if manifest is not None:
        lines = (counted(found.files, "file"),)
        nodes.append(Node(title="manifest", lines=lines, digest=found.manifest[:_DIGITS]))
    if found.recordings:
        used = len(inputs.taking_part(entry.id))
        nodes.append(
            Node(title=counted(found.recordings, "shard"), lines=(f"{used} used",), digest=found.shards[:_DIGITS])
        )
    return Chain(nodes=tuple(nodes))


def _split(inputs: ReportInputs, *, root: Path) -> Node | None:
    if inputs.splits is None:
        return None
    folds = inputs.splits.folds
    subjects = {one.subject for fold in folds for one in fold.recordings}
    lines = [f"{counted(len(subjects), 'subject')} in {counted(len(folds), 'fold')}"]
    if inputs.splits.left_out:
        lines.append(f"{counted(len(inputs.splits.left_out), 'recording')} left out or not scored")
    return Node(title="split", lines=tuple(lines), digest=_md5(root / "data" / "splits.json")[:_DIGITS])


def _model(inputs: ReportInputs, *, root: Path) -> list[Node]:
    folds = inputs.training.folds
    if not folds:
        return []
    lines = [
        f"fold {fold.fold}: {number(fold.parameters)} weights, {_learned_from(inputs, fold.fold)}"
        for fold in folds[:_FOLDS]
    ]
    if len(folds) > _FOLDS:
        lines.append(f"and {len(folds) - _FOLDS} more")
    digest = _md5(root / "metrics" / "pretrain.json")[:_DIGITS]
    return [Node(title=counted(len(folds), "model"), lines=tuple(lines), digest=digest)]


def _learned_from(inputs: ReportInputs, number_of_fold: int) -> str:
    """Say of how many subjects a fold's model has seen anything, and how many it has not."""
    if inputs.splits is None or number_of_fold >= len(inputs.splits.folds):
        return "its split is not known"
    recordings = inputs.splits.folds[number_of_fold].recordings
    learned = {one.subject for one in recordings if one.train}
    unseen = {one.subject for one in recordings if one.test} - learned
    return f"{counted(len(learned), 'subject')} learned from, {len(unseen)} others scored"


def _scoreboard(inputs: ReportInputs, *, root: Path) -> Node | None:
    if not inputs.scores:
        return None
    datasets, models = {row.dataset for row in inputs.scores}, {row.model for row in inputs.scores}
    lines = (
        counted(len(inputs.scores), "score"),
        f"{counted(len(models), 'model')} on {counted(len(datasets), 'dataset')}",
    )
    digest = _md5(root / "metrics" / "scoreboard.json")[:_DIGITS]
    return Node(title="scoreboard", lines=lines, digest=digest)


def _page() -> Node:
    return Node(title="this report", lines=(f"neurofm {neurofm.__version__}",))


def _md5(path: Path) -> str:
    """Return the digest that dvc.lock has of a file; empty if it is not there."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _digest_of(shards: Sequence[Path]) -> str:
    """Digest what shards hold, from the checksums in their directories; empty without shards."""
    digest = hashlib.sha256()
    for path in shards:
        try:
            with zipfile.ZipFile(path) as shard:
                parts = sorted((part.filename, part.file_size, part.CRC) for part in shard.infolist())
        except (OSError, zipfile.BadZipFile) as error:
            raise Unreadable(f"{path}: not a whole shard ({error})") from error
        digest.update(f"{path.name}\0{parts!r}\n".encode())
    return digest.hexdigest() if shards else ""
