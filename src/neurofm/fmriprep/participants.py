"""The participants of a BIDS folder, and which of them fMRIPrep can process."""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError
from neurofm.fmriprep.bids_names import Named, images_in, passes
from neurofm.fmriprep.options import LABEL, FmriprepOptions

_IN_OUTPUTS = ("task", "acq", "ce", "rec", "dir", "run", "part")
"""Entities of a run that fMRIPrep keeps in the names of its outputs, in its order; echoes are combined."""
_FOLDER_OF = {"T1w": "anat", "bold": "func"}
_NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class BoldRun:
    """One run of BOLD: what is processed as one series."""

    folder: Path
    """Of its outputs, below the output folder."""
    stem: str
    """With which the names of its outputs begin."""
    session: str | None
    files: tuple[Path, ...]
    """One, or one for each echo."""


@dataclass(frozen=True, kw_only=True)
class Participant:
    """One participant, as the options select from the BIDS folder."""

    label: str
    """Without ``sub-``."""
    anatomical: tuple[Path, ...]
    """T1-weighted images."""
    runs: tuple[BoldRun, ...]
    sessions: int
    """How many sessions the BIDS folder has of them, selected or not."""
    problem: str = ""
    """Why they cannot be processed, in words; empty if they can."""
    mend: str = ""

    @property
    def missing(self) -> str:
        """Problem and mend in one line, as a unit of work and its receipt have it; empty if there is none."""
        return f"{self.problem} Mend: {self.mend}" if self.problem else ""


def find_participants(
    bids: Path, *, options: FmriprepOptions, needs_anatomical: bool = True
) -> tuple[Participant, ...]:
    """Return every participant of a BIDS folder, sorted by label; one who cannot be processed says why.

    Parameters
    ----------
    bids
        Folder of a raw BIDS dataset. No image is opened.
    options
        Which sessions, task and files are wanted.
    needs_anatomical
        Whether nobody can be processed without a T1-weighted image, as by fMRIPrep.

    Raises
    ------
    UserError
        If the folder is no raw BIDS dataset, has no participants, or ``participants.tsv`` names one twice.
    """
    _check_description(bids)
    _check_table(bids / "participants.tsv")
    folders = sorted(path for path in bids.glob("sub-*") if path.is_dir())
    if not folders:
        raise UserError(f"{bids}: there are no participants (folders sub-*).", mend="name the dataset's own folder")
    return tuple(_participant(folder, options, needs_anatomical=needs_anatomical) for folder in folders)


def choose_participants(names: Sequence[str], found: Sequence[Participant]) -> tuple[Participant, ...]:
    """Return the participants of these names, with or without ``sub-``; all of them where no name is given.

    Raises
    ------
    UserError
        For a name that is not there, with the nearest ones, or that stands twice.
    """
    by_label = {participant.label: participant for participant in found}
    labels = [name.removeprefix("sub-") for name in names]
    for label, times in Counter(labels).items():
        if label not in by_label:
            near = difflib.get_close_matches(label, by_label, n=_NEAREST, cutoff=0.4)
            known = " or ".join(near) if near else ", ".join(list(by_label)[:_NEAREST]) + ", ..."
            raise UserError(f"there is no participant {label!r} in the BIDS folder.", mend=f"did you mean {known}?")
        if times > 1:
            raise UserError(f"participant {label!r} is named {times} times.", mend="name each one once")
    return tuple(by_label[label] for label in sorted(labels)) if labels else tuple(found)


def _check_description(bids: Path) -> None:
    path = bids / "dataset_description.json"
    mend = 'write one, with at least {"Name": "...", "BIDSVersion": "1.10.0"}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{bids}: no dataset_description.json: fMRIPrep takes it for no BIDS.", mend=mend) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable: {error}.", mend=mend) from None
    lacking = [key for key in ("Name", "BIDSVersion") if not isinstance(content, dict) or key not in content]
    if lacking:
        raise UserError(f"{path}: required key {lacking[0]!r} is missing.", mend=mend)
    if content.get("DatasetType", "raw") != "raw":
        raise UserError(
            f"{bids}: this is a dataset of type {content['DatasetType']!r}, and fMRIPrep starts from a raw one.",
            mend="name the folder of the raw dataset, and this one under `derivatives`",
        )


def _check_table(path: Path) -> None:
    """Refuse a table that has a participant twice: nobody knows which line is meant."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        named = Counter(row.get("participant_id") or "" for row in csv.DictReader(file, delimiter="\t"))
    twice = [name for name, times in named.items() if name and times > 1]
    if twice:
        raise UserError(f"{path}: {twice[0]!r} stands there {named[twice[0]]} times.", mend="keep one line for each")


def _participant(folder: Path, options: FmriprepOptions, *, needs_anatomical: bool) -> Participant:
    sessions = sorted(path for path in folder.glob("ses-*") if path.is_dir())
    anatomical = _selected(folder, sessions, kind="T1w", options=options)
    bold = _selected(folder, sessions, kind="bold", options=options)
    if options.task:
        bold = [named for named in bold if named.entities.get("task") == options.task]
    problem, mend = next(_problems(folder, anatomical, bold, options, needs_anatomical=needs_anatomical), ("", ""))
    return Participant(
        label=folder.name.removeprefix("sub-"),
        anatomical=tuple(named.path for named in anatomical),
        runs=_runs(bold),
        sessions=len(sessions),
        problem=problem,
        mend=mend,
    )


def _selected(folder: Path, sessions: list[Path], *, kind: str, options: FmriprepOptions) -> list[Named]:
    return [
        named
        for parent in (folder, *sessions)
        for named in images_in(parent / _FOLDER_OF[kind], suffix=kind)
        if (not options.sessions or named.entities.get("ses") in options.sessions)
        and passes(named, options.bids_filters.get(kind.lower(), {}))
    ]


def _runs(bold: list[Named]) -> tuple[BoldRun, ...]:
    series: dict[tuple[Path, str], list[Named]] = {}
    for named in bold:
        kept = [f"{name}-{named.entities[name]}" for name in ("sub", "ses", *_IN_OUTPUTS) if name in named.entities]
        folder = Path(*[part for part in kept if part.startswith(("sub-", "ses-"))], "func")
        series.setdefault((folder, "_".join(kept)), []).append(named)
    return tuple(
        BoldRun(
            folder=folder,
            stem=stem,
            session=files[0].entities.get("ses"),
            files=tuple(named.path for named in files),
        )
        for (folder, stem), files in sorted(series.items())
    )


def _problems(
    folder: Path, anatomical: list[Named], bold: list[Named], options: FmriprepOptions, *, needs_anatomical: bool
) -> Iterator[tuple[str, str]]:
    """Yield what keeps fMRIPrep from processing a participant, each with its mend, the plainest first."""
    name = folder.name
    if not re.fullmatch(LABEL, name.removeprefix("sub-")):
        yield f"{name!r}: no BIDS name of a participant.", "use letters and digits only"
    if needs_anatomical and not anatomical and not _has_precomputed(name, options):
        yield (
            f"{name}: no T1-weighted image (anat/*_T1w.nii.gz) among what is selected.",
            "add it, widen `sessions` and `bids_filters`, or name `derivatives` that have the preprocessed one",
        )
    if not bold:
        what = f"of the task {options.task!r} " if options.task else ""
        yield (
            f"{name}: no BOLD {what}(func/*_bold.nii.gz) among what is selected.",
            "add it, or widen `task`, `sessions` and `bids_filters`",
        )
    for named in (*anatomical, *bold):
        where = named.path.relative_to(folder.parent)
        around = [part for part in where.parts[:-1] if part.startswith(("sub-", "ses-"))]
        if [f"{entity}-{named.entities[entity]}" for entity in ("sub", "ses") if entity in named.entities] != around:
            # Its outputs would bear the name's participant or session: another one's would be overwritten.
            yield f"{where}: its name is not of {' and '.join(around)}.", "name it as its folder, or move it"
        if not named.path.exists():
            yield f"{where}: only a link, without its content.", "fetch it (`datalad get`, `git annex get`)"
        elif not named.path.stat().st_size:
            yield f"{where}: empty.", "fetch it again"
    for named in bold:
        if "task" not in named.entities:
            yield f"{named.path.relative_to(folder.parent)}: no task in its name.", "name it as BIDS has it"
    yield from _duplicates(folder, bold)


def _duplicates(folder: Path, bold: list[Named]) -> Iterator[tuple[str, str]]:
    """Yield files that are the same run: the outputs of one would overwrite those of the other."""
    for run in _runs(bold):
        echoes = [named.entities.get("echo") for named in bold if named.path in run.files]
        if len(set(echoes)) < len(echoes):
            names = " and ".join(str(path.relative_to(folder.parent)) for path in run.files[:2])
            yield f"{names}: the same run.", "keep one of them, or give them different run numbers"


def _has_precomputed(name: str, options: FmriprepOptions) -> bool:
    """Whether precomputed derivatives have the preprocessed T1-weighted image."""
    return any(
        "_space-" not in path.name
        for root in options.derivatives.values()
        for path in root.glob(f"{name}/**/anat/*_desc-preproc_T1w.nii.gz")
    )
