"""What it costs to average a run over parcels, beside nilearn, and what reading the file alone costs.

`make bench-fmri` writes ``benchmarks/fmri.json``. The run is [64, 64, 29, 260] of made values (a level per voxel and
noise) with the 424 parcels of the real A424, taken to that grid by nearest neighbour. Two average it, in turns:

* ``neurofm``: `parcel_means`, with coverage and the voxels without signal counted;
* ``nilearn``: `NiftiLabelsMasker(labels).fit_transform(run)`, its default call.

From memory both get the same image: as nibabel reads a file (``parcellate``), and as numpy makes an array, with time
as the fastest axis. A424 labels 17 % of the grid; what the gain owes to that shows with labels in every voxel. From a
``.nii.gz``, of int16 as scanners write it and of float32, ``nibabel`` reads the values and does nothing else. Wall and
CPU seconds are medians of the rounds; the first round warms up and shows how far the two differ. Memory is what a
process of its own takes at most beyond what it had before the call, over the run's size in float32.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nilearn.maskers import NiftiLabelsMasker

from neurofm.parcels import load_atlas, parcel_means

PROJECT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("fmri.json")
A424 = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data")) / "atlas" / "A424+4mm.nii.gz"
GRID, VOLUMES, ROUNDS = (64, 64, 29), 260, 9
FLOAT32_BYTES = int(np.prod(GRID)) * VOLUMES * 4
AFFINE = np.diag([3.4, 3.4, 5.0, 1.0])
SPACE = "MNI152NLin6Asym"
NIFTI: Any = nib.Nifti1Image  # untyped in nibabel
Row = dict[str, Any]
Work = Callable[[], npt.NDArray[Any] | None]


def main() -> None:
    """Run all cases, print them and write them down."""
    if not A424.is_file():
        raise SystemExit(f"error: there is no {A424}. Mend: set NEUROFM_TEST_DATA to the shared recordings")
    with tempfile.TemporaryDirectory(prefix="bench-fmri-") as name:
        folder = Path(name)
        labels, everywhere = _labels(folder)
        values = _values()
        image, turned = NIFTI(values, AFFINE), NIFTI(np.ascontiguousarray(values), AFFINE)
        rows = _in_turns("parcellate", _ways(image, labels))
        rows += _in_turns("parcellate, time fastest", _ways(turned, labels))
        rows += _in_turns("parcellate, labels everywhere", _ways(image, everywhere))
        for dtype in (np.int16, np.float32):
            path = folder / f"{np.dtype(dtype)}.nii.gz"
            NIFTI(np.rint(values) if dtype is np.int16 else values, AFFINE, dtype=dtype).to_filename(path)
            case = f"parcellate file, {np.dtype(dtype)}"
            rows.append(_row(f"{case}, size", "file", path.stat().st_size / 1e6, "MB"))
            rows += _in_turns(case, _ways(path, labels) | {"nibabel (reading alone)": lambda path=path: _read(path)})
            rows += [
                _row(f"memory, {np.dtype(dtype)}", who, _peak(who, path, labels), "of the run in float32")
                for who in ("neurofm", "nilearn")
            ]
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['case']:<36}{row['who']:<42}{row['value']:>10.4g} {row['unit']}")


def _labels(folder: Path) -> tuple[Path, Path]:
    """Take the parcels of A424 to the grid: each voxel gets the label of the one at the same share of the way.

    The second image has no background: its voxels get labels in turns.
    """
    image: Any = nib.load(A424)
    labels = np.rint(np.asarray(image.dataobj)).astype(np.int16)
    at = [((np.arange(n) + 0.5) * of / n).astype(int) for n, of in zip(GRID, labels.shape, strict=True)]
    real = labels[np.ix_(*at)]
    in_turns = np.arange(1, real.size + 1).reshape(GRID) % real.max()
    paths = folder / "A424.nii.gz", folder / "everywhere.nii.gz"
    for path, values in zip(paths, (real, np.where(real > 0, real, in_turns + 1)), strict=True):
        NIFTI(values.astype(np.int16), AFFINE).to_filename(path)
    return paths


def _values() -> npt.NDArray[np.float32]:
    """[x, y, z, volume], first axis fastest, as nibabel reads a file."""
    draw = np.random.default_rng(1)
    noise = draw.standard_normal((VOLUMES, *GRID[::-1]), dtype=np.float32)
    return (draw.uniform(500, 1500, GRID[::-1]).astype(np.float32) + 20 * noise).T


def _ways(run: Any, labels: Path) -> dict[str, Work]:
    def neurofm() -> npt.NDArray[Any]:
        return parcel_means(run, atlas=load_atlas(labels, space=SPACE), space=SPACE).values

    def nilearn() -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = NiftiLabelsMasker(str(labels)).fit_transform(
            str(run) if isinstance(run, Path) else run
        )
        return found

    return {"neurofm": neurofm, "nilearn": nilearn}


def _read(path: Path) -> None:
    image: Any = nib.load(path)
    np.asarray(image.dataobj)


def _in_turns(case: str, ways: Mapping[str, Work]) -> list[Row]:
    """Time every way in every round."""
    found = {who: work() for who, work in ways.items()}  # warms up
    ours, theirs = found["neurofm"], found["nilearn"]
    assert ours is not None
    assert theirs is not None
    wall: dict[str, list[float]] = {who: [] for who in ways}
    cpu: dict[str, list[float]] = {who: [] for who in ways}
    for number in range(ROUNDS):
        order = list(ways.items())
        for who, work in order if number % 2 else order[::-1]:
            began, cpu_began = time.perf_counter(), time.process_time()
            work()
            wall[who].append(time.perf_counter() - began)
            cpu[who].append(time.process_time() - cpu_began)
    rows = [_row(case, who, statistics.median(took), "s") for who, took in wall.items()]
    rows += [_row(f"{case}, CPU", who, statistics.median(took), "s") for who, took in cpu.items()]
    for unit, took in (("times as fast", wall), ("times less CPU", cpu)):
        gain = statistics.median(b / a for a, b in zip(took["neurofm"], took["nilearn"], strict=True))
        rows.append(_row(case, "nilearn / neurofm, median of rounds", gain, unit) | {"higher_is_better": True})
    rows.append(_row(f"{case}, difference", "neurofm, nilearn", np.abs(ours / theirs - 1).max(), "relative, largest"))
    return rows


def _peak(who: str, path: Path, labels: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.fmri", who, str(path), str(labels)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) / FLOAT32_BYTES


def peak_bytes(who: str, path: Path, labels: Path) -> int:
    """Return what this process takes at most while it averages the run, beyond what it had before."""
    work = _ways(path, labels)[who]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def _resident(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def _row(case: str, who: str, value: float, unit: str) -> Row:
    return {"case": case, "who": who, "value": float(f"{value:.4g}"), "unit": unit, "higher_is_better": False}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # nilearn's on its own defaults
    if len(sys.argv) > 1:
        print(peak_bytes(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
    else:
        main()
