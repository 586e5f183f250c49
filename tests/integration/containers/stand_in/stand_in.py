"""Stands in for fMRIPrep in its image, and is none: it takes fMRIPrep's arguments and writes its tree of outputs.

What it is to do is written in ``code/stand_in`` of the BIDS folder: nothing or ``whole``, ``half-way``, ``crash``,
``quiet crash`` (with exit code 0), ``memory``, ``126``, ``127`` or ``hang``. The images are headers with a few voxels.
"""

from __future__ import annotations

import argparse
import gzip
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

CRASH = """Node: fmriprep_25_2_wf.sub_{label}_wf.bold_task_rest_wf.bold_hmc_wf.mcflirt
Working directory: /scratch/fmriprep_25_2_wf

Node inputs:

in_file = /data/bold.nii.gz

Traceback (most recent call last):
  File "/opt/conda/lib/python3.12/site-packages/nipype/pipeline/plugins/multiproc.py", line 66, in run_node
    result["result"] = node.run(updatehash=updatehash)
RuntimeError: subprocess exited with code 1.
"""
LICENCE = "ERROR: a valid license file is required for FreeSurfer to run. fMRIPrep looked for an existing license file"
MISSING = "Cannot run fMRIPrep. Missing dependencies:\n\t* antsRegistration (Interface: Registration)"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("bids", "output", "level_of_analysis"):
        parser.add_argument(name, type=Path)
    for name in ("participant-label", "output-spaces", "session-label", "ignore", "derivatives"):
        parser.add_argument(f"--{name}", nargs="+", default=[])
    for name in ("fs-license-file", "work-dir", "bids-filter-file"):
        parser.add_argument(f"--{name}", type=Path)
    for name in (
        "level",
        "nthreads",
        "omp-nthreads",
        "mem-mb",
        "random-seed",
        "cifti-output",
        "task-id",
        "dummy-scans",
    ):
        parser.add_argument(f"--{name}")
    for name in ("skip-bids-validation", "notrack", "stop-on-first-crash", "skull-strip-fixed-seed"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("fs-no-reconall", "low-mem"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def volume() -> bytes:
    """A NIfTI-1 image of 2 x 2 x 2 voxels and 3 volumes, 8-bit."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 4, 2, 2, 2, 3, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 2, 2, 2, 2, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + bytes(range(24)), mtime=0)


def put(path: Path) -> None:
    contents: dict[str, Callable[[], bytes]] = {
        ".nii.gz": volume,
        ".tsv": lambda: b"trans_x\tframewise_displacement\n0\tn/a\n0.1\t0.1\n0.1\t0.0\n",
        ".json": lambda: b"{}\n",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [make() for ending, make in contents.items() if path.name.endswith(ending)]
    path.write_bytes(made[0] if made else b"stand_in\n")


def tree(given: argparse.Namespace) -> list[str]:
    """Return the names of fMRIPrep's outputs, in the order in which they come."""
    (label,) = given.participant_label
    sub = f"sub-{label}"
    anat = f"{sub}/anat/{sub}"
    names = ["logs/CITATION.md", f"{sub}/log/20261125-101112_0d5c/fmriprep.toml"]
    names += [f"{anat}_desc-preproc_T1w.nii.gz", f"{anat}_desc-brain_mask.nii.gz", f"{anat}_dseg.nii.gz"]
    names += [f"{anat}_from-T1w_to-{space.split(':')[0]}_mode-image_xfm.h5" for space in given.output_spaces]
    if not given.fs_no_reconall:
        names += [f"{anat}_desc-aseg_dseg.nii.gz", f"sourcedata/freesurfer/{sub}/mri/aseg.mgz"]
    for bold in sorted((given.bids / sub / "func").glob(f"{sub}_*_bold.nii.gz")):
        stem = f"{sub}/func/{bold.name.removesuffix('_bold.nii.gz')}"
        names += [f"{stem}_desc-confounds_timeseries.{kind}" for kind in ("tsv", "json")]
        for space in given.output_spaces:
            name, *rest = space.split(":")
            placed = "_".join((f"{stem}_space-{name}", *rest))
            names += [f"{placed}_desc-preproc_bold.{kind}" for kind in ("nii.gz", "json")]
            names += [f"{placed}_desc-brain_mask.nii.gz", f"{placed}_boldref.nii.gz"]
    return [*names, f"{sub}.html", "dataset_description.json"]


def main() -> int:
    given = arguments()
    orders = given.bids / "code" / "stand_in"
    order = orders.read_text().strip() if orders.is_file() else "whole"
    say(f"stand_in, no fMRIPrep: {order}")
    say(f"networks: {' '.join(path.name for path in Path('/sys/class/net').iterdir())}")
    if "@" not in given.fs_license_file.read_text() or order == "126":
        say(LICENCE)
        return 126
    if order == "127":
        say(MISSING)
        return 127
    (given.work_dir / "stand_in").write_text("work")
    for path in (given.bids / "written", Path(os.environ["TEMPLATEFLOW_HOME"]) / "written"):
        try:
            path.touch()
        except OSError as error:
            say(f"read-only: {path.parent} {error.strerror}")
    names = tree(given)
    half = order in {"half-way", "crash", "memory", "hang"}
    for name in names[: len(names) // 2] if half else names:
        put(given.output / name)
    (label,) = given.participant_label
    if "crash" in order:
        crash = given.output / f"sub-{label}" / "log" / "20261125-101112_0d5c" / "crash-20261125-101113-lab-mcflirt.txt"
        crash.write_text(CRASH.format(label=label))
    if order == "memory":
        taken = [bytearray(b"x" * (64 << 20)) for _ in range(10**4)]
        say(str(len(taken)))
    if order == "hang":
        time.sleep(600)
    return int(order in {"half-way", "crash"})


if __name__ == "__main__":
    sys.exit(main())
