"""Real traces written in the layouts of the programs that extract them.

No result of CaImAn, CNMF-E (MATLAB), Suite2p or Inscopix that may be passed on was at hand in its own format. These
files have the layouts that those programs' own sources write (named in the readers) and hold recorded traces and
footprints from the NWB files of pynapple: a two-photon session (A0662, Suite2p) and a miniscope one (A0634, CNMF-E).
"""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.io
from scipy import sparse

FloatArray = npt.NDArray[np.float64]
FRAMES = 3000


@dataclass(frozen=True, kw_only=True)
class Miniscope:
    """Ten cells of A0634-210127 at 30 Hz."""

    traces: FloatArray
    """[cell, time]"""
    footprints: FloatArray
    """[cell, height, width]"""

    @property
    def flat(self) -> sparse.csc_array:
        """[pixel, cell], column by column as MATLAB flattens an image."""
        return sparse.csc_array(self.footprints.transpose(2, 1, 0).reshape(-1, len(self.footprints)))

    @property
    def centroids(self) -> FloatArray:
        """[cell, 2] weighted x and y."""
        _, height, width = self.footprints.shape
        y, x = np.mgrid[:height, :width]
        return np.array([[np.average(x, weights=one), np.average(y, weights=one)] for one in self.footprints])


def real_miniscope(nwb: Path) -> Miniscope:
    with h5py.File(nwb) as file:
        traces = file["processing/ophys/Fluorescence/RoiResponseSeries/data"][:FRAMES].T
        footprints = file["processing/ophys/ImageSegmentation/PlaneSegmentation/image_mask"][()]
    return Miniscope(traces=traces.astype(np.float64), footprints=footprints.astype(np.float64))


def write_suite2p(folder: Path, nwb: Path) -> Path:
    """Write ``plane0`` and return its ``F.npy``."""
    folder.mkdir(parents=True)
    with h5py.File(nwb) as file:
        ophys = file["processing/ophys"]
        for name, series in {"F": "Fluorescence", "Fneu": "Neuropil", "spks": "Deconvolved"}.items():
            np.save(folder / f"{name}.npy", ophys[f"{series}/{series}/data"][()].astype(np.float32))
        table = ophys["ImageSegmentation/PlaneSegmentation"]
        np.save(folder / "iscell.npy", table["iscell"][()].astype(np.float32))
        stops = table["pixel_mask_index"][()]
        masks = np.split(table["pixel_mask"][()], stops[:-1])
    stat = [
        {
            "ypix": mask["y"].astype(np.int64),
            "xpix": mask["x"].astype(np.int64),
            "lam": mask["weight"].astype(np.float32),
            "med": [float(np.median(mask["y"])), float(np.median(mask["x"]))],
            "npix": len(mask),
            "skew": np.float32(1.5),
            "overlap": np.zeros(len(mask), dtype=bool),
        }
        for mask in masks
    ]
    np.save(folder / "stat.npy", np.array(stat, dtype=object), allow_pickle=True)
    # `run_s2p` notes when and where it ran.
    made = dt.datetime(2022, 8, 8, tzinfo=dt.timezone(dt.timedelta(hours=-4)))
    ops: dict[str, Any] = {
        "fs": 10.0, "nplanes": 1, "Ly": 608, "Lx": 608, "date_proc": made, "save_path": "/mnt/Data/Suite2P/A0662",
        "fast_disk": Path("/mnt/Data"), "meanImg": np.zeros((4, 4), dtype=np.float32),
    }  # fmt: skip
    np.save(folder / "ops.npy", np.array(ops, dtype=object), allow_pickle=True)
    return folder / "F.npy"


def write_caiman(path: Path, real: Miniscope, *, accepted: list[int] | None) -> Path:
    """Write what `CNMF.save` writes: dictionaries as groups, None as a text, sparse matrices by their parts."""
    flat = real.flat
    with h5py.File(path, "w") as file:
        estimates = file.create_group("estimates")
        for name, part in {"data": flat.data, "indices": flat.indices, "indptr": flat.indptr}.items():
            estimates[f"A/{name}"] = part
        estimates["A/shape"] = np.array(flat.shape)
        estimates["C"] = real.traces
        estimates["S"] = np.maximum(np.diff(real.traces, axis=1, prepend=0), 0)
        estimates["F_dff"] = "NoneType"
        estimates["dims"] = np.array(real.footprints.shape[1:])
        estimates["SNR_comp"] = np.linspace(2, 12, len(real.traces))
        estimates["r_values"] = np.linspace(0.6, 0.99, len(real.traces))
        estimates["cnn_preds"] = "NoneType"
        estimates["idx_components"] = "NoneType" if accepted is None else np.array(accepted, dtype=np.int64)
        file["params/data/fr"] = 30
        file["params/data/dims"] = np.array(real.footprints.shape[1:])
    return path


def cnmfe_struct(real: Miniscope) -> dict[str, Any]:
    """Return what ``neuron.obj2struct()`` holds of interest here."""
    _, height, width = real.footprints.shape
    return {
        "A": sparse.csc_matrix(real.flat),
        "C": real.traces,
        "C_raw": real.traces + 0.5,
        "S": sparse.csc_matrix(np.maximum(np.diff(real.traces, axis=1, prepend=0), 0)),
        "Fs": 30.0,
        "options": {"d1": float(height), "d2": float(width), "name": "demo"},
    }


def write_cnmfe_v5(path: Path, real: Miniscope, **changed: Any) -> Path:
    scipy.io.savemat(path, {"results": cnmfe_struct(real) | changed})
    return path


def write_cnmfe_v73(path: Path, real: Miniscope, *, class_name: str = "struct") -> Path:
    """Write the same as ``save -v7.3`` does: axes reversed, sparse matrices as ``data, ir, jc``."""
    with h5py.File(path, "w", userblock_size=512) as file:
        top = file.create_group("results")
        top.attrs["MATLAB_class"] = np.bytes_(class_name)
        for name, value in cnmfe_struct(real).items():
            if isinstance(value, sparse.csc_matrix):
                group = top.create_group(name)
                group.attrs["MATLAB_sparse"] = np.uint64(value.shape[0])
                group.attrs["MATLAB_class"] = np.bytes_("double")
                group["data"], group["ir"] = value.data, value.indices.astype(np.uint64)
                group["jc"] = value.indptr.astype(np.uint64)
            elif isinstance(value, dict):
                for field in ("d1", "d2"):
                    top[f"{name}/{field}"] = np.array([[value[field]]])
            else:
                top[name] = np.atleast_2d(value).T
    return path


def write_inscopix(path: Path, real: Miniscope, statuses: list[str], times: FloatArray) -> Path:
    """Write what isxCellSetExporter writes: fields parted by a comma and a blank."""
    names = [f"C{i}" for i in range(len(real.traces))]
    lines = [" , " + ", ".join(names), "Time(s)/Cell Status, " + ", ".join(statuses)]
    lines += [f"{t:.6f}, " + ", ".join(f"{v:.7g}" for v in row) for t, row in zip(times, real.traces.T, strict=False)]
    path.write_text("\n".join(lines) + "\n")
    properties = pd.DataFrame({"Name": names, "Status": statuses})
    properties["CentroidX"], properties["CentroidY"] = real.centroids.round().astype(int).T
    properties["NumComponents"], properties["Size"] = 1, 20
    properties.to_csv(path.with_name(f"{path.stem}-props.csv"), index=False)
    return path


def write_stamps(path: Path, times_s: FloatArray) -> Path:
    """Write the table of the Miniscope DAQ software."""
    table = {"Frame Number": range(len(times_s)), "Time Stamp (ms)": (times_s * 1000).round().astype(int)}
    pd.DataFrame(table | {"Buffer Index": 0}).to_csv(path, index=False)
    return path


def copy_minian(real: Path, folder: Path) -> Path:
    """Copy the real tree, to damage it; return its main file."""
    shutil.copytree(real, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / "neural_data" / "C.zarr" / ".zgroup"


def beside(main: Path, root: Path) -> list[str]:
    """Return every other file below `root`, as ``recordings.extra`` would."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and path != main)


def write_minian_netcdf(path: Path, real: Path) -> Path:
    """Write the real tree's variables as xarray writes ``minian.nc``: dimensions are scales of the same name."""
    import zarr  # noqa: PLC0415

    with h5py.File(path, "w") as file:
        for group, name in (("C", "unit_id"), ("C", "frame"), ("A", "height"), ("A", "width"), ("C", "C"), ("A", "A")):
            stored = zarr.open_array(store=real / "neural_data" / f"{group}.zarr" / name, mode="r")
            file[name] = np.asarray(stored[...])
            for i, dim in enumerate(stored.attrs.asdict()["_ARRAY_DIMENSIONS"]):  # type: ignore[arg-type]
                if dim == name:
                    file[name].make_scale(name)
                else:
                    file[name].dims[i].attach_scale(file[str(dim)])
    return path
