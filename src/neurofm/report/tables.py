"""The report's tables, as texts ready for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import quote

import neurofm
from neurofm.catalog import CatalogEntry
from neurofm.evaluation.row import Row
from neurofm.recording import Modality, UnitStatus
from neurofm.recording.manifest import FIRST_USE, groups_of
from neurofm.report.archives import archive_name
from neurofm.report.excerpts import Excerpt
from neurofm.report.flow import Traced
from neurofm.report.inputs import ReportInputs
from neurofm.report.verdict import group_scores, is_ours, metric_name
from neurofm.report.words import MISSING, MODALITY_WORDS, modality_word, number, plain, quality_name, quality_value
from neurofm.report.written import RecordingQuality

_LIBRARIES = ("numpy", "scipy", "torch", "scikit-learn", "mne", "nilearn", "pynwb", "zarr", "dvc")

_SHOWN_ANYWAY = {"duration_s", "n_channels", "n_usable", "excluded_reason"}
"""Quality measures that stand elsewhere: in the columns of every table, or as the reason in "left out"."""


@dataclass(frozen=True, kw_only=True)
class ModalityTotal:
    """One modality in the headline."""

    modality: str
    datasets: int
    recordings: int
    used: int
    subjects: int
    duration: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns and rows of one dataset, with a word about rows that are not shown."""

    dataset: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    hidden: int
    """Rows left out for length."""
    whole_at: str
    """File that has all of them."""


@dataclass(frozen=True, kw_only=True)
class LeftOutRow:
    """A recording that takes no part, or is not scored."""

    dataset: str
    recording: str
    consequence: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One row of the full scoreboard."""

    cells: tuple[str, ...]
    ours: bool
    best: bool
    first: bool
    """First of its dataset, task and metric."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a dataset comes from, on which terms, and what was done to it."""

    dataset: str
    title: str
    archive: str
    version: str
    manifest: str
    """MD5 of the manifest; empty without one."""
    shards: str
    """Digest of what its shards hold; empty without any."""
    files: tuple[tuple[str, str], ...]
    """(path, digest)"""
    hidden_files: int
    licence: str
    licence_url: str
    """Empty unless it is a web address."""
    redistribute: bool
    citation: str
    doi: str
    doi_url: str
    steps: tuple[str, ...]
    libraries: str


def totals(inputs: ReportInputs) -> list[ModalityTotal]:
    """Count datasets, recordings, subjects and time per modality, over the recordings that could be read."""
    found = []
    for modality in Modality:
        entries = [entry for entry in inputs.entries if entry.modality is modality]
        if not entries:
            continue
        read = [
            (entry.id, name, recording)
            for entry in entries
            for name, recording in inputs.recordings(entry.id).items()
            if recording.status == UnitStatus.SUCCEEDED
        ]
        used = {(entry.id, name) for entry in entries for name in inputs.taking_part(entry.id)}
        found.append(
            ModalityTotal(
                modality=MODALITY_WORDS[modality],
                datasets=len(entries),
                recordings=len(read),
                used=len(used),
                subjects=len({recording.subject for _, _, recording in read}),
                duration=_duration(sum(recording.duration_s for _, _, recording in read)),
            )
        )
    return found


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{number(seconds / 3600)} h"
    return f"{number(seconds / 60)} min" if seconds >= 60 else f"{number(seconds)} s"


def quality_tables(inputs: ReportInputs, *, most: int) -> list[Table]:
    """Quality per recording, one table per dataset; recordings that take no part stand first."""
    tables = []
    for entry in inputs.entries:
        recordings = inputs.recordings(entry.id)
        if not recordings:
            continue
        used = inputs.taking_part(entry.id)
        measures = sorted({name for recording in recordings.values() for name in recording.quality} - _SHOWN_ANYWAY)
        ordered = sorted(recordings, key=lambda name: (name in used, name))
        tables.append(
            Table(
                dataset=entry.id,
                title=entry.title,
                columns=(
                    "recording",
                    "subject",
                    "status",
                    "used",
                    "duration",
                    "channels usable",
                    *map(quality_name, measures),
                ),
                rows=tuple(
                    _quality_row(name, recordings[name], used=name in used, measures=measures)
                    for name in ordered[:most]
                ),
                hidden=max(0, len(ordered) - most),
                whole_at=f"metrics/quality/{entry.id}.json",
            )
        )
    return tables


def _quality_row(name: str, recording: RecordingQuality, *, used: bool, measures: Sequence[str]) -> tuple[str, ...]:
    return (
        name,
        recording.subject,
        recording.status,
        "yes" if used else "no",
        _duration(recording.duration_s) if recording.duration_s else MISSING,
        f"{recording.usable_channels} of {recording.channels}" if recording.channels else MISSING,
        *(quality_value(recording.quality.get(measure)) for measure in measures),
    )


def left_out(inputs: ReportInputs) -> list[LeftOutRow]:
    """Everything that was not used in full, and why: units that failed, and what the split left out."""
    rows = [
        LeftOutRow(
            dataset=entry.id, recording=name, consequence=f"not read ({recording.status})", reason=recording.reason
        )
        for entry in inputs.entries
        for name, recording in sorted(inputs.recordings(entry.id).items())
        if recording.status != UnitStatus.SUCCEEDED
    ]
    if inputs.splits is not None:
        rows += [
            LeftOutRow(
                dataset=left.dataset,
                recording=left.recording,
                consequence="learned from, not scored" if left.trains else "not used",
                reason=left.reason,
            )
            for left in inputs.splits.left_out
        ]
    return rows


SCORE_COLUMNS = (
    "dataset",
    "modality",
    "task",
    "metric",
    "model",
    "score",
    "95 % interval",
    "null",
    "n",
    "split",
    "seed",
)


def score_rows(scores: Sequence[Row]) -> list[ScoreRow]:
    """Every score, the best of each dataset, task and metric first."""
    return [
        ScoreRow(
            cells=(
                score.dataset,
                modality_word(score.modality),
                plain(score.task),
                metric_name(score),
                score.model,
                f"{score.value:.4f}",
                f"{score.ci_low:.4f} to {score.ci_high:.4f}",
                f"{score.null:.4f}",
                f"{score.n} ({score.ci_unit})",
                f"{score.split}; leak: {score.leak}" if score.leak else score.split,
                str(score.seed),
            ),
            ours=is_ours(score),
            best=place == 0,
            first=place == 0,
        )
        for group in group_scores(scores)
        for place, score in enumerate(group)
    ]


def origins(
    inputs: ReportInputs, traced: Sequence[Traced], *, excerpts: Mapping[str, Excerpt], most: int
) -> list[Origin]:
    """Provenance of every dataset; `traced` has its digests, in the order of `inputs.entries`."""
    return [
        _origin(entry, inputs, found, excerpts.get(entry.id), most=most)
        for entry, found in zip(inputs.entries, traced, strict=True)
    ]


def _origin(entry: CatalogEntry, inputs: ReportInputs, found: Traced, excerpt: Excerpt | None, *, most: int) -> Origin:
    manifest = inputs.manifests.get(entry.id)
    files = [(file.path, _digest(file.digest, dataset=entry.id)) for file in manifest.files] if manifest else []
    pipeline = excerpt.shard.attrs["pipeline"] if excerpt else {"steps": [], "libraries": {}}
    web = entry.licence_url.startswith(("https://", "http://"))
    return Origin(
        dataset=entry.id,
        title=entry.title,
        archive=archive_name(entry),
        version=entry.source.version,
        manifest=found.manifest,
        shards=found.shards,
        files=tuple(files[:most]),
        hidden_files=max(0, len(files) - most),
        licence=entry.licence,
        licence_url=entry.licence_url if web else "",
        redistribute=entry.redistribute,
        citation=entry.citation,
        doi=entry.doi,
        doi_url=f"https://doi.org/{quote(entry.doi, safe='/')}" if entry.doi else "",
        steps=tuple(_step(step["name"], step["version"], step["params"]) for step in pipeline["steps"]),
        libraries=", ".join(f"{name} {found}" for name, found in sorted(pipeline["libraries"].items())),
    )


def _step(name: str, step_version: str, params: Mapping[str, str | float | bool | None]) -> str:
    named = ", ".join(f"{quality_name(key)} {quality_value(value)}" for key, value in sorted(params.items()))
    return f"{plain(name)} (version {step_version}{': ' if named else ''}{named})"


def _digest(digest: str, *, dataset: str) -> str:
    if groups := groups_of(digest):
        whole = digest.rpartition("@")[2]
        return f"{whole} of the whole file, not checked: only its groups {', '.join(groups)} came"
    if digest == FIRST_USE:
        return f"none published; taken at first use, in data/receipts/{dataset}.jsonl"
    return digest


def versions() -> str:
    """Name the versions of this project and of the libraries that the scores rest on."""
    return ", ".join([f"neurofm {neurofm.__version__}", *(f"{name} {version(name)}" for name in _LIBRARIES)])


def seeds(inputs: ReportInputs) -> str:
    """Name every seed that chance came from."""
    named = [] if inputs.splits is None else [f"split {inputs.splits.seed}"]
    scored = sorted({score.seed for score in inputs.scores})
    if scored:
        named.append(f"models and scores {', '.join(map(str, scored))}")
    return "; ".join(named)
