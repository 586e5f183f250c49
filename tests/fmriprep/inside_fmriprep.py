"""Run by fMRIPrep's own Python: its parser, queries and sink on the cases of standard input, one process for each.

``python -I inside_fmriprep.py < cases.json``: the last line of the output is the answers' JSON.
"""

# mypy: ignore-errors

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from fmriprep import config
from fmriprep.cli import version
from fmriprep.cli.parser import parse_args
from fmriprep.interfaces import DerivativesDataSink
from fmriprep.utils.bids import dismiss_echo
from nipype.interfaces.base import isdefined
from niworkflows.interfaces.space import SpaceDataSource
from niworkflows.utils.bids import collect_data


def parse(case: dict[str, Any]) -> dict[str, Any]:
    """Parse a command line and return what fMRIPrep took from it, and which runs it found."""
    parse_args(case["arguments"])
    config.init_spaces()
    execution, workflow, nipype = config.execution, config.workflow, config.nipype
    (participant,) = execution.participant_label
    found, _ = collect_data(
        execution.layout,
        participant,
        session_id=config.execution.processing_groups[0][1],
        task=execution.task_id,
        bids_filters=execution.bids_filters,
        group_echos=False,
    )
    return {
        "participant": participant,
        "t1w": found["t1w"],
        "bold": found["bold"],
        "fs_license_file": str(execution.fs_license_file),
        "work_dir": str(execution.work_dir),
        "fmriprep_dir": str(execution.fmriprep_dir),
        "fs_subjects_dir": str(execution.fs_subjects_dir),
        "derivatives": {name: str(path) for name, path in execution.derivatives.items()},
        "notrack": execution.notrack,
        "task": execution.task_id,
        "sessions": execution.session_label,
        "level": workflow.level,
        "cifti_output": workflow.cifti_output,
        "run_reconall": workflow.run_reconall,
        "ignore": workflow.ignore,
        "dummy_scans": workflow.dummy_scans,
        "skull_strip_fixed_seed": workflow.skull_strip_fixed_seed,
        "force": workflow.force,
        "regressors_fd_th": workflow.regressors_fd_th,
        "nprocs": nipype.nprocs,
        "omp_nthreads": nipype.omp_nthreads,
        "memory_gb": nipype.memory_gb,
        "stop_on_first_crash": nipype.stop_on_first_crash,
        "low_mem": execution.low_mem,
        "seed": config.seeds.master,
        "names": names(case, workflow.spaces, found["bold"]),
    }


def names(case: dict[str, Any], spaces: Any, bold: list[str]) -> list[str]:
    """Return the names that fMRIPrep's own sink gives to the outputs of every run of BOLD, below the output folder."""
    output = Path(config.execution.fmriprep_dir)
    made: set[Path] = set()

    def sink(source: str, given: str, **entities: Any) -> None:
        one = DerivativesDataSink(
            base_directory=str(output),
            source_file=source,
            in_file=given,
            check_hdr=False,
            dismiss_entities=dismiss_echo(),
            **entities,
        )
        done = one.run().outputs
        files = done.out_file if isinstance(done.out_file, list) else [done.out_file]
        meta = done.out_meta if isdefined(done.out_meta) else []
        made.update(Path(path) for path in (*files, *(meta if isinstance(meta, list) else [meta])))

    volumes = []
    for reference in spaces.cached.get_standard(dim=(3,)):
        outputs = SpaceDataSource(in_tuple=(reference.fullname, reference.spec)).run().outputs
        entities = {"space": outputs.space, "cohort": outputs.cohort, "resolution": outputs.resolution}
        volumes.append({name: value for name, value in entities.items() if isdefined(value)})
    nonstandard = set(spaces.get_nonstandard())
    volumes += [{"space": "T1w"}] if nonstandard & {"T1w", "anat"} else []
    volumes += [{}] if nonstandard & {"func", "run", "bold", "boldref", "sbref"} else []
    table, gifti, cifti = inputs(output)
    for source in bold:
        sink(source, table, desc="confounds", suffix="timeseries", meta_dict={"a": {"b": 1}})
        for entities in volumes:
            sink(source, source, desc="preproc", compress=True, RepetitionTime=2.0, **entities)
            sink(source, source, desc="brain", suffix="mask", compress=True, **entities)
        for space in spaces.get_fs_spaces():
            for hemi in "LR":
                sink(source, gifti, extension=".func.gii", hemi=hemi, space=space, suffix="bold")
        if config.workflow.cifti_output:
            grid = config.workflow.cifti_output
            sink(source, cifti, space="fsLR", density=grid, suffix="bold", compress=False, RepetitionTime=2.0)
    return sorted(str(path.relative_to(output)) for path in made)


def inputs(folder: Path) -> tuple[str, str, str]:
    """Write the smallest table, surface and grayordinates that the sink opens."""
    folder.mkdir(parents=True, exist_ok=True)
    table, gifti, cifti = (folder / name for name in ("in.tsv", "in.func.gii", "in.dtseries.nii"))
    table.write_text("a\n1\n")
    values = np.ones(2, dtype=np.float32)
    nibabel.save(nibabel.GiftiImage(darrays=[nibabel.gifti.GiftiDataArray(values)]), gifti)
    axes = nibabel.cifti2.SeriesAxis(0, 2, 2), nibabel.cifti2.BrainModelAxis.from_surface([0, 1], 2, "CORTEX_LEFT")
    nibabel.save(nibabel.Cifti2Image(np.ones((2, 2), dtype=np.float32), axes), cifti)
    return str(table), str(gifti), str(cifti)


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """Parse in a process of its own: fMRIPrep keeps what it parsed in its modules."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(attempt, (case,))


def attempt(case: dict[str, Any]) -> dict[str, Any]:
    try:
        return parse(case)
    except SystemExit as end:
        return {"refused": str(end.code)}


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    # Both would ask the network, and wait for it.
    version.check_latest.__code__ = (lambda: None).__code__
    version.is_flagged.__code__ = (lambda: (False, None)).__code__
    assert os.environ["TEMPLATEFLOW_AUTOUPDATE"] == "off"
    sys.stdout.write("\n" + json.dumps([answer(case) for case in cases]))
