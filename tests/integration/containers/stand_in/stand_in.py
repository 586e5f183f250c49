"""Stands in for fMRIPrep in its image, and is none: it takes fMRIPrep's arguments and writes its tree of outputs.

What it is to do is written in ``code/stand_in`` of the BIDS folder, or in ``code/stand_in_sub-<label>`` for one
participant: nothing or ``whole``, ``half-way``, ``crash``, ``quiet crash`` (with exit code 0), ``memory``, ``126``,
``127``, ``killed`` or ``hang``.

Nothing is preprocessed. A run's "preprocessed" volumes are the raw ones that were given, in the name of every space;
their mask is where the first volume is bright; the confounds are rows of a table that fMRIPrep made of another run
(nilearn brings it for its own tests), repeated to the run's length. Where what is given is no image, a few voxels stand
for it. All say so in ``dataset_description.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import signal
import struct
import sys
import time
from array import array
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
DESCRIPTION = {
    "Name": "stand_in, no fMRIPrep",
    "BIDSVersion": "1.10.0",
    "DatasetType": "derivative",
    "GeneratedBy": [
        {"Name": "stand_in", "Version": "1", "Description": "no fMRIPrep: raw volumes under the names of its outputs"}
    ],
}
CONFOUNDS = Path("/confounds")
"""A table of fMRIPrep's and its side file, as nilearn has them."""
LICENCE = "ERROR: a valid license file is required for FreeSurfer to run. fMRIPrep looked for an existing license file"
MISSING = "Cannot run fMRIPrep. Missing dependencies:\n\t* antsRegistration (Interface: Registration)"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("bids", "output", "level_of_analysis"):
        parser.add_argument(name, type=Path)
    for name in ("participant-label", "output-spaces", "session-label", "ignore", "derivatives"):
        parser.add_argument(f"--{name}", nargs="+", default=[])
    # The last of these is where fMRIPrep's image looks by itself.
    parser.add_argument("--fs-license-file", type=Path, default=Path("/opt/freesurfer/license.txt"))
    parser.add_argument("-w", "--work-dir", type=Path)
    parser.add_argument("--bids-filter-file", type=Path)
    parser.add_argument("--mem", "--mem_mb", "--mem-mb")
    for name in (
        "level",
        "nthreads",
        "omp-nthreads",
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
    return gzip.compress(_header((2, 2, 2, 3), code=2, bits=8) + bytes(range(24)), mtime=0)


def _header(shape: tuple[int, ...], *, code: int, bits: int) -> bytearray:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *([1] * (7 - len(shape))))
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, 2, 2, 2, 2, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return header


def content_of(path: Path) -> bytes | None:
    """Return an image, unpacked; None if it is none."""
    content = path.read_bytes()
    try:
        content = gzip.decompress(content)
    except OSError:
        return None
    return content if content[344:348] == b"n+1\0" else None


def mask_of(image: bytes) -> bytes:
    """Return where the first volume is brighter than a fifth of its brightest voxels, on the image's own grid."""
    order = "<" if struct.unpack_from("<i", image)[0] == 348 else ">"
    shape = struct.unpack_from(f"{order}8h", image, 40)
    (code,) = struct.unpack_from(f"{order}h", image, 70)
    kind = {2: "B", 4: "h", 8: "i", 16: "f", 64: "d", 512: "H"}[code]
    start = int(struct.unpack_from(f"{order}f", image, 108)[0])
    voxels = array(kind, image[start : start + math.prod(shape[1:4]) * array(kind).itemsize])
    if (order == "<") != (sys.byteorder == "little"):
        voxels.byteswap()
    slope, intercept = struct.unpack_from(f"{order}2f", image, 112)
    dark = -intercept / slope if slope else 0.0  # What stands for a signal of 0.
    bright = dark + (sorted(voxels)[int(0.98 * (len(voxels) - 1))] - dark) / 5
    header = bytearray(image[:352])
    struct.pack_into(f"{order}8h", header, 40, 3, *shape[1:4], 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", header, 70, 2, 8)
    struct.pack_into(f"{order}3f", header, 108, 352, 1, 0)
    return gzip.compress(bytes(header) + bytes(voxel > bright for voxel in voxels), compresslevel=1, mtime=0)


def confounds_of(image: bytes | None) -> bytes:
    """Return a table of fMRIPrep's with a row for each volume."""
    order = "<" if image is None or struct.unpack_from("<i", image)[0] == 348 else ">"
    volumes = 3 if image is None else struct.unpack_from(f"{order}8h", image, 40)[4]
    header, first, *rest = CONFOUNDS.with_suffix(".tsv").read_text().splitlines()
    rows = [first, *(rest[number % len(rest)] for number in range(volumes - 1))]
    return "\n".join((header, *rows, "")).encode()


def put(path: Path, given: Path | None) -> None:
    """Write one output, made of the raw image that was given."""
    image = content_of(given) if given is not None else None
    contents: dict[str, Callable[[], bytes]] = {
        "_mask.nii.gz": lambda: mask_of(image) if image else volume(),
        "_desc-preproc_bold.nii.gz": lambda: given.read_bytes() if image and given else volume(),
        "_desc-preproc_T1w.nii.gz": lambda: given.read_bytes() if image and given else volume(),
        ".nii.gz": volume,
        "_timeseries.tsv": lambda: confounds_of(image),
        "_timeseries.json": lambda: CONFOUNDS.with_suffix(".json").read_bytes(),
        "dataset_description.json": lambda: json.dumps(DESCRIPTION, indent=1).encode(),
        "_bold.json": lambda: json.dumps({"RepetitionTime": 2.2, "SkullStripped": False}).encode(),
        ".json": lambda: b"{}\n",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    made = next((make() for ending, make in contents.items() if path.name.endswith(ending)), b"stand_in\n")
    path.write_bytes(made)


def tree(given: argparse.Namespace) -> dict[str, Path | None]:
    """Return the names of fMRIPrep's outputs, in the order in which they come, with the raw image each is made of."""
    (label,) = given.participant_label
    sub = f"sub-{label}"
    anat = f"{sub}/anat/{sub}"
    weighted = next(iter(sorted((given.bids / sub / "anat").glob(f"{sub}*_T1w.nii.gz"))), None)
    names: dict[str, Path | None] = dict.fromkeys(["logs/CITATION.md", f"{sub}/log/20261125-101112_0d5c/fmriprep.toml"])
    names |= dict.fromkeys(
        [f"{anat}_desc-preproc_T1w.nii.gz", f"{anat}_desc-brain_mask.nii.gz", f"{anat}_dseg.nii.gz"], weighted
    )
    names |= dict.fromkeys(
        f"{anat}_from-T1w_to-{space.split(':')[0]}_mode-image_xfm.h5" for space in given.output_spaces
    )
    if not given.fs_no_reconall:
        names |= dict.fromkeys([f"{anat}_desc-aseg_dseg.nii.gz", f"sourcedata/freesurfer/{sub}/mri/aseg.mgz"])
    for bold in sorted((given.bids / sub / "func").glob(f"{sub}_*_bold.nii.gz")):
        stem = f"{sub}/func/{bold.name.removesuffix('_bold.nii.gz')}"
        names |= dict.fromkeys((f"{stem}_desc-confounds_timeseries.{kind}" for kind in ("tsv", "json")), bold)
        for space in given.output_spaces:
            name, *rest = space.split(":")
            placed = "_".join((f"{stem}_space-{name}", *rest))
            names |= dict.fromkeys((f"{placed}_desc-preproc_bold.{kind}" for kind in ("nii.gz", "json")), bold)
            names |= {f"{placed}_desc-brain_mask.nii.gz": bold, f"{placed}_boldref.nii.gz": None}
    return names | dict.fromkeys([f"{sub}.html", "dataset_description.json"])


def main() -> int:
    given = arguments()
    (label,) = given.participant_label
    orders = [given.bids / "code" / name for name in (f"stand_in_sub-{label}", "stand_in")]
    order = next((path.read_text().strip() for path in orders if path.is_file()), "whole")
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
    half = order in {"half-way", "crash", "memory", "killed", "hang"}
    for name in list(names)[: len(names) // 2] if half else names:
        put(given.output / name, names[name])
    if "crash" in order:
        crash = given.output / f"sub-{label}" / "log" / "20261125-101112_0d5c" / "crash-20261125-101113-lab-mcflirt.txt"
        crash.write_text(CRASH.format(label=label))
    if order == "memory":
        taken = [bytearray(b"x" * (64 << 20)) for _ in range(10**4)]
        say(str(len(taken)))
    if order == "killed":  # as the kernel does to what takes more memory than there is
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "hang":
        say("hanging")
        time.sleep(600)
    return int(order in {"half-way", "crash"})


if __name__ == "__main__":
    sys.exit(main())
