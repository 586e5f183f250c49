"""What fMRIPrep must leave behind for a participant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neurofm.fmriprep.options import FmriprepOptions
from neurofm.fmriprep.participants import BoldRun, Participant

_SESSIONS_IN_ONE_REPORT = 4
"""fMRIPrep's `--aggregate-session-reports`: with more, each session has a report of its own."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One file that must be there."""

    patterns: tuple[str, ...]
    """Below the output folder, as `Path.glob` reads them: any of these."""
    unless: tuple[str, ...] = ()
    """Parts of a name that make it another file."""
    precomputed: bool = False
    """Whether precomputed derivatives may have it instead."""

    @property
    def name(self) -> str:
        """For people: the first pattern."""
        return self.patterns[0]

    def find(self, roots: tuple[Path, ...]) -> Path | None:
        """Return the file in the first of the folders that has it, whole enough to have a byte; None if none has."""
        for root in roots if self.precomputed else roots[:1]:
            for path in sorted(path for pattern in self.patterns for path in root.glob(pattern)):
                if path.is_file() and path.stat().st_size and not any(part in path.name for part in self.unless):
                    return path
        return None


def expected_outputs(participant: Participant, options: FmriprepOptions) -> tuple[Expected, ...]:
    """Return every file that a whole run leaves behind, by the input's runs of BOLD and the options.

    Names are those of fMRIPrep 25.2.7's own sink. Where an anatomical image lies depends on how many sessions have one,
    so that it is looked for under the participant and under each session.
    """
    return (
        *(Expected(patterns=(name,)) for name in ("dataset_description.json", "logs/CITATION.md")),
        *_reports(participant),
        *_anatomical(participant, options),
        *(Expected(patterns=(name,)) for run in participant.runs for name in _of_a_run(run, options)),
    )


def _reports(participant: Participant) -> Iterator[Expected]:
    sub = f"sub-{participant.label}"
    if participant.sessions <= _SESSIONS_IN_ONE_REPORT:
        yield Expected(patterns=(f"{sub}.html",))
        return
    yield Expected(patterns=(f"{sub}_anat.html",))
    for session in sorted({run.session for run in participant.runs if run.session}):
        yield Expected(patterns=(f"{sub}_ses-{session}_func.html",))


def _anatomical(participant: Participant, options: FmriprepOptions) -> Iterator[Expected]:
    sub = f"sub-{participant.label}"
    other_space = ("_space-",)
    names = {
        "_desc-preproc_T1w.nii.gz": other_space,
        "_desc-brain_mask.nii.gz": other_space,
        "_dseg.nii.gz": (*other_space, "_desc-"),
    }
    names |= {f"_from-T1w_to-{one.template}*_mode-image_xfm.h5": () for one in options.spaces if one.template}
    if not options.fs_no_reconall:
        names["_desc-aseg_dseg.nii.gz"] = other_space
        folders = (f"sourcedata/freesurfer/{sub}{rest}" for rest in ("", "_ses-*"))
        yield Expected(patterns=tuple(f"{folder}/mri/aseg.mgz" for folder in folders))
    for name, unless in names.items():
        folders = (f"{sub}/{below}" for below in ("anat", "ses-*/anat"))
        patterns = tuple(f"{folder}/{sub}*{name}" for folder in folders)
        yield Expected(patterns=patterns, unless=unless, precomputed=True)


def _of_a_run(run: BoldRun, options: FmriprepOptions) -> Iterator[str]:
    stem = (run.folder / run.stem).as_posix()
    yield from (f"{stem}_desc-confounds_timeseries.{ending}" for ending in ("tsv", "json"))
    for space in options.spaces:
        if space.is_surface:
            yield from (f"{stem}_hemi-{side}{space.entities}_bold.func.gii" for side in "LR")
            continue
        yield from (f"{stem}{space.entities}_desc-preproc_bold.{ending}" for ending in ("nii.gz", "json"))
        yield f"{stem}{space.entities}_desc-brain_mask.nii.gz"
    if options.cifti_output:
        grid = f"{stem}_space-fsLR_den-{options.cifti_output}_bold"
        yield from (f"{grid}.{ending}" for ending in ("dtseries.nii", "json"))
