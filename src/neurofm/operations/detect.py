"""What kind of recordings a folder of the user's holds, found by looking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from neurofm.errors import UserError
from neurofm.operations.imaging_layouts import find_imaging
from neurofm.recording import Modality

_BIDS_EEG = (
    r"sub-(?P<subject>[^/_]+)/(?:ses-(?P<session>[^/_]+)/)?eeg/[^/]+?_task-(?P<task>[^/_]+)"
    r"(?:_acq-(?P<acq>[^/_]+))?(?:_run-(?P<run>[^/_]+))?_eeg\.(?:vhdr|edf|EDF|bdf|set)"
)
_BIDS_MEG = r"sub-[^/_]+/(?:ses-[^/_]+/)?meg/[^/]+?_task-[^/]+_meg\.fif"
_BIDS_EXTRA = r"(sub-(?P<subject>[^/_]+)/(ses-(?P<session>[^/_]+)/)?.+|[^/]+\.(json|tsv))"
# The layout of DANDI's archive; anything may follow the labels (`_behavior+ecephys`).
_NWB_LABELLED = r"(?:.*/)?sub-(?P<subject>[^/_]+)(?:_ses-(?P<session>[^/_]+))?[^/]*\.nwb"
_NWB_OF_ONE = r"(?:.*/)?(?P<session>[^/]+)\.nwb"
_TABLE = (
    r"(?:.*/)?sub-(?P<subject>[^/_]+)(?:_ses-(?P<session>[^/_]+))?(?:_task-(?P<task>[^/_]+))?"
    r"(?:_run-(?P<run>[^/_]+))?_[^/]*\.(?:npy|mat|tsv)"
)
_TABLE_EXTRA = r"participants\.(tsv|json)"
_RUN = (
    r"sub-(?P<subject>[^/_]+)/(?:ses-(?P<session>[^/_]+)/)?func/sub-[^/_]+(?:_ses-[^/_]+)?_task-(?P<task>[^/_]+)"
    r"(?:_acq-(?P<acq>[^/_]+))?(?:_ce-(?P<ce>[^/_]+))?(?:_rec-(?P<rec>[^/_]+))?(?:_dir-(?P<dir>[^/_]+))?(?:_run-(?P<run>[^/_]+))?"
)
_FMRIPREP = tuple(
    rf"{_RUN}_space-{kind}"
    for kind in (
        r"MNI152NLin2009cAsym_res-2_desc-preproc_bold\.nii\.gz",
        r"MNI152NLin6Asym_res-2_desc-preproc_bold\.nii\.gz",
        r"MNI152NLin2009cAsym_desc-preproc_bold\.nii\.gz",
        r"MNI152NLin6Asym_desc-preproc_bold\.nii\.gz",
        r"fsLR_den-91k_bold\.dtseries\.nii",
        r"fsLR_den-170k_bold\.dtseries\.nii",
        r"(?!T[12]w_)[a-zA-Z0-9+]+(?:_[a-z]+-[a-zA-Z0-9]+)*?_(?:desc-preproc_bold\.nii\.gz|bold\.dtseries\.nii)",
        r"MNI152NLin6Asym(?:_res-2)?_desc-smoothAROMAnonaggr_bold\.nii\.gz",
    )
)
"""Outputs of one run, each in one file of a run; by default that kind is taken which most runs have, or the first of
them. In a run's own space (``T1w``) there is no atlas."""
_FMRIPREP_EXTRA = (
    r"(sub-(?P<subject>[^/_]+)/(ses-(?P<session>[^/_]+)/)?func/"
    r".+(_desc-confounds_(timeseries|regressors)\.(tsv|json)|_bold(\.dtseries)?\.json|_desc-brain_mask\.nii\.gz)"
    r"|dataset_description\.json|participants\.(tsv|json))"
)
_FLUORESCENCE = frozenset({"RoiResponseSeries", "Fluorescence", "DfOverF"})


class Unknown(UserError):
    """A folder holds nothing that is known by its layout."""


@dataclass(frozen=True, kw_only=True)
class Detected:
    """What a folder holds."""

    kind: str
    """In words, for the user."""
    reader: str
    modality: Modality
    pattern: str
    extra: str = ""
    subject: str = ""
    """Where the paths do not carry it."""
    species: str = ""
    """Where the files say it."""


def detect(
    folder: Path, paths: Sequence[str], *, modality: Modality | None, subject: str = "", pattern: str = ""
) -> Detected:
    """Find out what `folder` holds.

    Parameters
    ----------
    folder
        The user's folder.
    paths
        Its files, relative to it.
    modality
        What the user says; needed where the files do not tell two-photon from one-photon imaging.
    subject
        What the user says; needed where neither paths nor files name it.
    pattern
        The user's choice among the files (`main_pattern`).

    Raises
    ------
    Unknown
        If nothing fits.
    UserError
        If the files do not say enough.
    """
    if "dataset_description.json" in paths and any(re.fullmatch(_BIDS_EEG, path) for path in paths):
        found = Detected(
            kind="BIDS EEG",
            reader="bids",
            modality=Modality.EEG,
            pattern=main_pattern(pattern, _BIDS_EEG),
            extra=_BIDS_EXTRA,
            subject=subject,
        )
    elif outputs := [path for path in paths if any(re.fullmatch(kind, path) for kind in _FMRIPREP)]:
        found = Detected(
            kind="preprocessed BOLD runs",
            reader="fmriprep",
            modality=Modality.FMRI,
            pattern=_commonest_kind(outputs, pattern),
            extra=_FMRIPREP_EXTRA,
            subject=subject,
        )
    elif any(path.endswith(".nwb") for path in paths):
        found = _detect_nwb(folder, paths, modality=modality, subject=subject, pattern=pattern)
    elif any(re.fullmatch(_BIDS_MEG, path) for path in paths):
        raise UserError(
            f"{folder}: holds BIDS MEG, whose two kinds of sensors have different units.",
            mend="write its entry in data/catalog by hand, with reader: bids and reader_options: {picks: mag}, "
            "{picks: grad} or {picks: meg} for both",
        )
    elif "participants.tsv" in paths and any(re.fullmatch(_TABLE, path) or pattern for path in paths):
        found = Detected(
            kind="parcellated time series",
            reader="tables",
            modality=Modality.FMRI,
            pattern=main_pattern(pattern, _TABLE),
            extra=_TABLE_EXTRA,
            subject=subject,
        )
    elif imaging := find_imaging(folder, paths):
        main, extra = imaging.patterns(folder, paths, subject=subject)
        found = Detected(
            kind=imaging.kind,
            reader=imaging.reader,
            modality=imaging.modality(folder, modality),
            pattern=main_pattern(pattern, main),
            extra=extra,
            subject=subject,
        )
    else:
        raise Unknown(
            f"{folder}: holds nothing that is known here ({len(paths)} files).",
            mend="give the root of a BIDS EEG data set (dataset_description.json and sub-*/**/eeg/*_eeg.*) or of "
            "fMRIPrep's outputs in a standard space (sub-*/**/func/*_space-*_desc-preproc_bold.nii.gz or "
            "*_bold.dtseries.nii), a folder of *.nwb files, results of minian, CaImAn, CNMF-E, suite2p or "
            "Inscopix (docs/formats/calcium.md), or one with participants.tsv and sub-*_*.npy, .mat or .tsv "
            "time series",
        )
    if modality not in {None, found.modality}:
        raise UserError(
            f"{folder}: modality {modality} was asked for, but it holds {found.kind}, which is {found.modality}.",
            mend="leave --modality out, or give the folder that you mean",
        )
    return found


def main_pattern(choice: str, default: str) -> str:
    r"""Return the regular expression of main files: `default`, narrowed by the user's glob, or replaced.

    A choice with a named group (``(?P<subject>..)``) is a regular expression and stands as it is. Any other is a
    glob over the whole path (``*`` matches everything, slashes too).

    Examples
    --------
    >>> main_pattern("*AAL*.npy", r"sub-(?P<subject>\w+)\.npy")
    '(?=.*AAL.*\\.npy$)sub-(?P<subject>\\w+)\\.npy'
    """
    if not choice:
        return default
    if "(?P<" in choice:
        return choice
    glob = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in choice)
    return f"(?={glob}$){default}"


def _commonest_kind(outputs: Sequence[str], pattern: str) -> str:
    """Return the pattern of the kind of outputs that most runs have, among those that the user wants."""
    kinds = [main_pattern(pattern, kind) for kind in _FMRIPREP]
    runs = [len({m.groups() for path in outputs if (m := re.fullmatch(kind, path))}) for kind in kinds]
    return kinds[runs.index(max(runs))]


def _detect_nwb(
    folder: Path, paths: Sequence[str], *, modality: Modality | None, subject: str, pattern: str
) -> Detected:
    chosen = main_pattern(pattern, r".*\.nwb")
    files = [path for path in paths if re.fullmatch(chosen, path)]
    if not files:
        raise UserError(f"{folder}: --pattern {pattern!r} matches no NWB file.", mend="correct it")
    facts = [_look_into(folder / path) for path in files]
    labelled = "(?P<subject>" in pattern or all(re.fullmatch(_NWB_LABELLED, path) for path in files)
    own_subjects = {fact.subject for fact in facts}
    if not labelled and not subject:
        if len(own_subjects) != 1 or own_subjects == {""}:
            raise UserError(
                f"{folder}: the paths of the NWB files do not say whose they are ({files[0]}), nor do the files agree.",
                mend="say --subject LABEL (one animal), or --pattern with named groups, such as "
                r"'(?P<subject>[A-Z]\d+)-(?P<session>\d+)\.nwb'",
            )
        subject = own_subjects.pop()
    species = {fact.species for fact in facts}
    return Detected(
        kind="NWB files",
        reader="nwb",
        modality=_nwb_modality(folder, facts, modality),
        pattern=main_pattern(pattern, _NWB_LABELLED if labelled else _NWB_OF_ONE),
        subject="" if labelled else subject,
        species=species.pop() if len(species) == 1 else "",
    )


@dataclass(frozen=True, kw_only=True)
class _NwbFacts:
    """What one NWB file says of itself."""

    has_units: bool
    has_fluorescence: bool
    subject: str
    species: str


def _look_into(path: Path) -> _NwbFacts:
    try:
        with h5py.File(path) as file:
            fluorescence = file.visititems(
                lambda _, node: True if node.attrs.get("neurodata_type") in _FLUORESCENCE else None
            )
            return _NwbFacts(
                has_units="units" in file,
                has_fluorescence=bool(fluorescence),
                subject=_text(file, "general/subject/subject_id"),
                species=_text(file, "general/subject/species"),
            )
    except (OSError, RuntimeError, KeyError) as error:
        raise UserError(
            f"{path}: not readable as NWB ({' '.join(str(error).split())}).", mend="replace or remove the file"
        ) from None


def _text(file: h5py.File, name: str) -> str:
    if name not in file:
        return ""
    value = file[name][()]
    return value.decode(errors="replace").strip() if isinstance(value, bytes) else str(value).strip()


def _nwb_modality(folder: Path, facts: Sequence[_NwbFacts], modality: Modality | None) -> Modality:
    units = all(fact.has_units for fact in facts)
    fluorescence = all(fact.has_fluorescence for fact in facts)
    possible = ([Modality.SPIKES] if units else []) + ([Modality.CALCIUM, Modality.MINISCOPE] if fluorescence else [])
    if modality in possible:
        return modality
    if modality is None and len(possible) == 1:
        return possible[0]
    if not possible:
        raise UserError(
            f"{folder}: not every NWB file has a units table (spikes), nor a RoiResponseSeries (calcium imaging).",
            mend="choose files of one kind with --pattern",
        )
    raise UserError(
        f"{folder}: the NWB files may be {' or '.join(possible)}; {modality or 'no modality'} was given.",
        mend=f"say --modality {' or '.join(possible)}",
    )
