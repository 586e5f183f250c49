"""One participant: every run of BOLD from raw to normalised, with its confounds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurofm.environments import python_of
from neurofm.files import write_atomic, write_json
from neurofm.fmriprep import BoldRun, Participant
from neurofm.light.ants_process import Ants
from neurofm.light.confounds import HIGH_PASS_S, as_tsv, confounds
from neurofm.light.images import Bold, Flags, lay_out_bold, write_nifti
from neurofm.light.motion import HEAD_RADIUS_MM, Motion, estimate_motion, motion_parameters
from neurofm.light.normalisation import Anatomy, Transforms, normalise_anatomy, resample_run, template_to_run
from neurofm.light.options import LightOptions
from neurofm.light.outputs import NAME, NOT_FMRIPREP, VERSION, RunFiles, files_of
from neurofm.light.reference import alignment_mask, brain_of, centre_mm, mean_volume, reference_number
from neurofm.light.sidecars import repetition_time_s
from neurofm.light.template import Template, load_template
from neurofm.recording import Unreadable

ENVIRONMENT = "antspyx"
_IN_MEAN = 50
"""Aligned volumes, spread over the run, that are averaged for normalisation."""
_BY_T1W = "BOLD to T1w (rigid), T1w to template (affine and SyN)"
_DIRECT = "BOLD to template (affine and SyN); there is no T1w"


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How one run went."""

    stem: str
    files: tuple[Path, ...]
    """Outputs; none where it could not be processed."""
    reason: str = ""
    """Why it could not be processed; empty if it was."""


def process_participant(
    participant: Participant, *, bids: Path, output: Path, work: Path, options: LightOptions
) -> tuple[RunOutcome, ...]:
    """Correct each run for motion, bring it to the template, and write it with mask and confounds.

    A participant without a T1-weighted image is processed too, and the outputs say so. With several, the first is
    taken. The same inputs, options and versions give the same bytes.

    Parameters
    ----------
    participant
        As `neurofm.fmriprep.find_participants` gives them.
    bids
        The raw BIDS folder.
    output
        Folder of the outputs; see also `write_description`.
    work
        ``.neurofm``, in the project's root: antspyx's environment is made there on first need, and intermediate
        files lie in ``light/`` while it works: the largest run twice, as float32 on both grids.
    options
        Template, resolution and seed.

    Returns
    -------
    tuple of RunOutcome
        A run that is unreadable has its reason, and the others go on.

    Raises
    ------
    Unreadable
        If the T1-weighted image cannot be used.
    UserError
        If the template or the environment cannot be used.
    """
    python = python_of(ENVIRONMENT, work=work, root=work.parent)
    template = load_template(options)
    outcomes = []
    # A process for each run: if ANTs breaks down, it is with that run alone.
    with _ants(python, work=work, seed=options.seed) as ants:
        anatomy = None
        if participant.anatomical:
            anatomy = normalise_anatomy(participant.anatomical[0], template=template, ants=ants)
        for run in participant.runs:
            files = files_of(run, output=output, space=options.space)
            try:
                with _ants(python, work=work, seed=options.seed) as own:
                    _process_run(run, bids=bids, files=files, anatomy=anatomy, template=template, ants=own)
                outcomes.append(RunOutcome(stem=run.stem, files=files.all))
            except Unreadable as error:
                for path in files.all:  # of an earlier run, from other bytes
                    path.unlink(missing_ok=True)
                outcomes.append(RunOutcome(stem=run.stem, files=(), reason=str(error)))
    return tuple(outcomes)


@contextmanager
def _ants(python: Path, *, work: Path, seed: int) -> Iterator[Ants]:
    """Start ANTs with a folder of its own, which goes with it."""
    parent = work / "light"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        with Ants(python=python, folder=folder, seed=seed) as ants:
            yield ants
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _process_run(
    run: BoldRun, *, bids: Path, files: RunFiles, anatomy: Anatomy | None, template: Template, ants: Ants
) -> None:
    if len(run.files) > 1:
        raise Unreadable(f"{run.stem}: {len(run.files)} files (echoes); the engine `light` takes one")
    (path,) = run.files
    bold = lay_out_bold(path, folder=ants.folder)
    tr_s = repetition_time_s(path, bids=bids)
    number = reference_number(bold)
    brain = brain_of(bold.volumes()[number].copy(), bold.grid, name=bold.name)
    motion = estimate_motion(bold, reference=number, mask=alignment_mask(brain), ants=ants)
    common = _to_run(bold, motion, anatomy=anatomy, template=template, ants=ants)
    normalised = resample_run(
        bold.array,
        bold.grid,
        target=template.grid,
        common=common,
        motion=motion.transforms,
        name=bold.name,
        ants=ants,
        to=ants.folder / "normalised.npy",
    )
    covered = np.logical_and.reduce([volume != 0 for volume in normalised])
    masks = _masks(template, covered, name=bold.name)
    table = confounds(
        motion_parameters(motion.matrices, centre_mm=centre_mm(brain, bold.grid)),
        normalised,
        masks=masks,
        brain=masks["global_signal"],
        repetition_time_s=tr_s,
    )
    facts = {
        "RepetitionTime": tr_s,
        "SkullStripped": False,
        "SliceTimingCorrected": False,
        "Space": template.space,
        "GeneratedBy": f"{NAME} {VERSION}",
        "Description": NOT_FMRIPREP,
        "Normalisation": _DIRECT if anatomy is None else _BY_T1W,
        "T1w": None if anatomy is None else anatomy.name,
        "ReferenceVolume": number,
        "TemplateBrainCovered": round(float(covered[template.mask].mean()), 4),
    }
    _write(files, normalised, masks["global_signal"], table, template=template, facts=facts)


def _to_run(bold: Bold, motion: Motion, *, anatomy: Anatomy | None, template: Template, ants: Ants) -> Transforms:
    """Find the template in the mean of some aligned volumes, which has less noise than the reference."""
    some = np.unique(np.linspace(0, bold.length - 1, min(_IN_MEAN, bold.length)).astype(int))
    chosen = ants.folder / "chosen.npy"
    np.save(chosen, bold.volumes()[some])
    aligned = resample_run(
        chosen,
        bold.grid,
        target=bold.grid,
        common=(),
        motion=tuple(motion.transforms[number] for number in some),
        name=bold.name,
        ants=ants,
        to=ants.folder / "aligned.npy",
        interpolator="linear",
    )
    mean = mean_volume(aligned)
    brain = brain_of(mean, bold.grid, name=bold.name)
    return template_to_run(mean, brain, bold.grid, name=bold.name, anatomy=anatomy, template=template, ants=ants)


def _masks(template: Template, covered: Flags, *, name: str) -> dict[str, Flags]:
    """Return the voxels of each mean, as far as every volume of the run has them."""
    masks = {
        "global_signal": template.mask & covered,
        "csf": template.csf & covered,
        "white_matter": template.white_matter & covered,
    }
    for tissue, mask in masks.items():
        if not mask.any():
            raise Unreadable(f"{name}: none of the template's voxels of {tissue} lies in its field of view")
    return masks


def _write(
    files: RunFiles, normalised: Any, mask: Flags, table: pd.DataFrame, *, template: Template, facts: dict[str, Any]
) -> None:
    affine, tr_s = template.grid.affine, facts["RepetitionTime"]
    write_nifti(files.mask, [mask], shape=mask.shape, dtype=np.uint8, affine=affine)
    write_atomic(files.confounds, as_tsv(table))
    write_json(
        files.confounds_json,
        {
            "GeneratedBy": facts["GeneratedBy"],
            "Description": facts["Description"],
            "HighPassPeriod": {"Value": HIGH_PASS_S, "Units": "s"},
            "HeadRadius": {"Value": HEAD_RADIUS_MM, "Units": "mm"},
            "Tissues": f"eroded tissues of the template {template.space}, not the participant's own",
        },
    )
    write_nifti(
        files.bold,
        normalised,
        shape=(*template.grid.shape, len(normalised)),
        dtype=np.float32,
        affine=affine,
        repetition_time_s=tr_s,
    )
    write_json(files.bold_json, facts)
