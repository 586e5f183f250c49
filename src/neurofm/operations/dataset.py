"""Bring a folder of one's own into the project: ``neurofm dataset add PATH``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.operations.detect import Detected, Unknown, detect
from neurofm.operations.round_trip import RoundTrip, stored_path, yaml_bytes
from neurofm.operations.trial_tables import mapped_tables, read_mapping, unmapped
from neurofm.params import GROUPS
from neurofm.readers import reader_options
from neurofm.recording import Modality
from neurofm.sources import recordings_of
from neurofm.sources.local import scan

_HUMAN = "Homo sapiens"


def add_dataset(
    path: Path,
    *,
    root: Path,
    licence: str,
    citation: str,
    dataset_id: str | None = None,
    title: str = "",
    modality: Modality | None = None,
    species: str = "",
    subject: str = "",
    subject_namespace: str = "",
    pattern: str = "",
    licence_url: str = "",
    doi: str = "",
    redistribute: bool = False,
    options: Mapping[str, Any] | None = None,
    mapping: Path | None = None,
) -> CatalogEntry:
    """Write the catalogue entry of a local folder, and name it under ``local`` in ``params.yaml``.

    Parameters
    ----------
    path
        BIDS EEG data set, fMRIPrep's outputs, folder of NWB files, folder of parcellated time series with
        ``participants.tsv``, or folder of any tables that `mapping` explains.
    root
        The project's root.
    licence, citation
        On which terms, and whom to cite: no dataset takes part without them.
    dataset_id
        Name in the project; by default from the folder's name.
    title
        One line; by default from the folder's name.
    modality
        Needed where the files do not tell (two-photon or one-photon imaging).
    species
        Of all subjects; by default what NWB files say, and human for EEG and fMRI.
    subject
        Label of the one subject, where neither paths nor files carry it.
    subject_namespace
        Who numbered the subjects; by default the dataset's id. Datasets that share subjects must share it.
    pattern
        Which files: a glob (``*AAL*``), or a regular expression with named groups.
    licence_url, doi, redistribute
        As in the catalogue.
    options
        The reader's options; ``tr_s`` (seconds) is needed for time series, whose ``axes`` are ``time_channel`` and
        whose ``atlas`` is ``parcel`` unless said otherwise and whose columns ``atlas_names`` names, in the order of its
        labels; ``atlas`` for fMRIPrep's outputs. Those that are None are
        left out.
    mapping
        YAML file with the options of reader ``trials``: which variable of the user's own tables is what.

    Returns
    -------
    CatalogEntry
        As written to ``data/catalog/<id>.yaml``.

    Raises
    ------
    UserError
        If a fact is missing, nothing fits, or the id is taken. Nothing is written then.
    """
    folder = path.expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"{path}: not a folder.", mend="correct the path")
    _refuse_empty({"licence": licence, "citation": citation})
    name = dataset_id or re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    entry_path = root / "data" / "catalog" / f"{name}.yaml"
    if entry_path.exists():
        raise UserError(f"{entry_path}: there is a dataset {name!r} already.", mend="give another name with --id")
    paths = scan(folder)
    if mapping is not None:
        found = mapped_tables(folder, paths, modality=modality, subject=subject, pattern=pattern)
        options = read_mapping(mapping)
    else:
        found = _detect(folder, paths, modality=modality, subject=subject, pattern=pattern)
    rule = {"pattern": found.pattern, "subject": found.subject, "extra": found.extra}
    facts: dict[str, Any] = {
        "id": name,
        "title": title or f"{found.kind} in {folder.name}",
        "modality": found.modality.value,
        "reader": found.reader,
        "reader_options": _reader_options(found, options or {}, where=str(path)),
        "source": {"archive": "local", "path": stored_path(folder, root=root)},
        "recordings": {key: value for key, value in rule.items() if value},
        "subject_namespace": subject_namespace or name,
        "species": _species(found, species, where=str(path)),
        "licence": licence,
        "licence_url": licence_url,
        "redistribute": redistribute,
        "citation": citation,
        "doi": doi,
    }
    facts = {key: value for key, value in facts.items() if value not in ("", {})}
    entry = CatalogEntry.parse(facts, where=f"dataset {name}", mend="correct what you gave for it")
    found_lines(entry, root=root)
    params = _with_local_dataset(root / "params.yaml", entry)
    write_atomic(entry_path, yaml_bytes(facts))
    write_atomic(root / "params.yaml", params)
    return entry


def found_lines(entry: CatalogEntry, *, root: Path) -> list[str]:
    """Say what an entry of a local folder makes of it: files, recordings, subjects.

    Raises
    ------
    UserError
        If its files do not make recordings.
    """
    assert entry.source.archive == "local"
    folder = root / entry.source.path
    paths = scan(folder)
    try:
        recordings = recordings_of(paths, entry.recordings, namespace=entry.subject_namespace, where=str(folder))
    except UserError as error:
        raise UserError(
            error.problem,
            mend="choose the files with --pattern: a glob, such as '*atlas-AAL*', or a regular expression with the "
            "named groups subject, session, task and run",
        ) from None
    subjects = sorted({recording.subject for recording in recordings})
    used = {path for recording in recordings for path in (*recording.files.values(), *recording.extra)}
    sessions = ", ".join(recording.id for recording in recordings[:3])
    return [
        f"{entry.id}: {entry.modality} in {folder}, read by {entry.reader}",
        f"  {len(recordings)} recordings ({sessions}{', ...' if len(recordings) > 3 else ''})",
        f"  {len(subjects)} subjects ({', '.join(subjects[:3])}{', ...' if len(subjects) > 3 else ''})",
        f"  {len(used)} of {len(paths)} files, {sum((folder / path).stat().st_size for path in used) / 1e6:.1f} MB",
    ]


def _detect(folder: Path, paths: Sequence[str], *, modality: Modality | None, subject: str, pattern: str) -> Detected:
    """Find out what `folder` holds; where that is nothing known, its tables may be told by a mapping."""
    try:
        return detect(folder, paths, modality=modality, subject=subject, pattern=pattern)
    except Unknown as error:
        raise unmapped(folder, paths) or error from None


def _refuse_empty(facts: Mapping[str, str]) -> None:
    for name, value in facts.items():
        if not value.strip():
            raise UserError(
                f"dataset add: no {name}.", mend=f"say --{name}; no dataset takes part without one, your own included"
            )


def _species(found: Detected, said: str, *, where: str) -> str:
    species = said or found.species or (_HUMAN if found.reader in {"bids", "fmriprep", "tables"} else "")
    if not species:
        raise UserError(f"{where}: the files do not say of which species.", mend="say --species, as 'Mus musculus'")
    return species


def _reader_options(found: Detected, given: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    options = {key: value for key, value in given.items() if value is not None}
    if found.reader == "tables":
        if "tr_s" not in options:
            raise UserError(
                f"{where}: {found.kind} do not carry their repetition time.", mend="say --tr-s SECONDS, such as 2.0"
            )
        if names := options.pop("atlas_names", None):
            from neurofm.parcels import label_names  # noqa: PLC0415  # needs nibabel, which other commands do not

            found_names = label_names(Path(names).expanduser())
            options["names"] = [found_names[label] for label in sorted(found_names)]
        options = {"axes": "time_channel", "atlas": "parcel"} | options
    if found.reader == "fmriprep" and "atlas" not in options:
        raise UserError(
            f"{where}: {found.kind} are averaged over an atlas, and none is named.",
            mend="say --atlas, such as schaefer-400+subcortex (docs/fmri.md lists them), or --atlas-file too",
        )
    reader_options(found.reader, options, where=f"{where}: options")
    return options


def _with_local_dataset(params: Path, entry: CatalogEntry) -> bytes:
    """Return ``params.yaml`` with the dataset under ``local``, comments and order kept."""
    file = RoundTrip(params)
    local = file.content.get("local")
    if not isinstance(local, CommentedMap) or not local:
        local = CommentedMap()
        file.content["local"] = local
    if any(entry.id in (file.content.get(group) or {}) for group in GROUPS):
        raise UserError(f"{params}: names a dataset {entry.id!r} already.", mend="give another name with --id")
    assert entry.source.archive == "local"
    local[entry.id] = {"modality": entry.modality.value, "reader": entry.reader, "path": entry.source.path}
    return file.render()
