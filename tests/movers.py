"""Real runs with a known motion: recordings of ds000228 as preprocessing leaves them, confounds and all.

The archive's series came without their confounds. Framewise displacement here is that of fMRIPrep's table in nilearn's
wheel, repeated over the run and scaled per subject; the signal before cleaning is the real one with a trace of that
motion added to every other parcel, so that what motion did is known.
"""

from __future__ import annotations

import csv
from pathlib import Path

import nilearn
import numpy as np
import numpy.typing as npt

from neurofm.parcels import load_atlas
from neurofm.recording import Channels, Clock, Modality, Recording, Signal, Step, Target
from neurofm.shards import Provenance, write_shard

TR_S = 2.0
FD_LIMIT_MM = 0.5
FOLDER = Path("fmri") / "ds000228_pixar_rois"
TABLE = Path(nilearn.__file__).parent / "interfaces/fmriprep/data/test-v21_desc-confounds_timeseries.tsv"
MAKER = Step(name="fMRIPrep", version="25.2.5", params={"description": "fMRIPrep - robust fMRI preprocessing pipeline"})


def confound(name: str, *, volumes: int) -> npt.NDArray[np.float64]:
    """Column of fMRIPrep's table, repeated to `volumes`; NaN in the first row."""
    with TABLE.open(newline="") as file:
        column = [row[name] for row in csv.DictReader(file, delimiter="\t")]
    known = np.array([float(value) for value in column if value != "n/a"])
    filled = np.resize(known, volumes)
    filled[0] = np.nan
    return filled


def mover(
    data: Path, number: int, *, motion: float | None = None, excluded: str = "", maker: Step | None = MAKER
) -> Recording:
    """The run of subject `number` of ds000228, in 64 parcels.

    Parameters
    ----------
    data
        Folder of shared recordings.
    motion
        Factor of framewise displacement, and of motion's trace in the signal before cleaning; None: the run came
        without confounds.
    excluded
        Why preprocessing keeps it out.
    maker
        Who made the derivatives.
    """
    path = sorted((data / FOLDER / "timeseries").glob("*BASC064_timeseries.npy"))[number]
    clean = np.load(path).astype(np.float64)
    atlas = load_atlas(data / FOLDER / "space-MNI152_res-4mm_atlas-BASC064_dseg.nii.gz", space="MNI152NLin6Asym")
    volumes, parcels = clean.shape
    time_s = np.arange(volumes) * TR_S
    usable = np.ones(parcels)
    usable[number % parcels] = 0.0
    valid = np.ones(volumes, dtype=np.bool_)
    noise: dict[str, Target] = {}
    extra: dict[str, Signal] = {}
    quality: dict[str, str | int | float | bool | None] = {"tsnr_median": 80.0 + number, "dvars_median": 1.1}
    if motion is not None:
        fd = confound("framewise_displacement", volumes=volumes) * motion
        dvars = confound("std_dvars", volumes=volumes)
        valid = ~(fd > FD_LIMIT_MM)
        for name, values, unit in (("framewise_displacement", fd, "mm"), ("std_dvars", dvars, "")):
            noise[name] = Target(values=values[:, None], unit=unit, columns=(name,), time_s=time_s)
        trace = np.nan_to_num(dvars - np.nanmean(dvars)) * motion * 3
        uncleaned = clean + trace[:, None] * (np.arange(parcels) % 2 == 0)
        extra["uncleaned"] = Signal(values=uncleaned.astype(np.float32), sampling_rate_hz=1 / TR_S, units="SD")
        quality |= {
            "fd_mean_mm": float(np.nanmean(fd)),
            "fd_outlier_fraction": float(np.mean(fd > FD_LIMIT_MM)),
        }
    quality["usable_minutes"] = float(valid.sum() * TR_S / 60)
    quality["coverage_median"] = 0.97
    quality["parcels_low_coverage"] = 1
    if excluded:
        quality["excluded_reason"] = excluded
    subject = path.name.partition("_")[0]
    steps = [] if maker is None else [maker]
    steps.append(
        Step(name="clean", version="1", params={"scrub.fd_threshold_mm": FD_LIMIT_MM}, support_s=volumes * TR_S)
    )
    return Recording(
        dataset="pixar",
        subject=f"openneuro-ds000228:{subject}",
        session="",
        run="",
        task="pixar",
        species="Homo sapiens",
        modality=Modality.FMRI,
        channels=Channels(
            id=tuple(map(str, atlas.names)),
            position=atlas.position_mm,
            position_unit="mm",
            space="MNI152NLin6Asym",
            quality={"usable": usable, "coverage": np.full(parcels, 0.97), "tsnr": np.full(parcels, 80.0)},
        ),
        clock=Clock(id=subject),
        signal=Signal(values=clean.astype(np.float32), sampling_rate_hz=1 / TR_S, units="SD"),
        valid=valid,
        noise=noise,
        extra_signals=extra,
        quality=quality,
        steps=tuple(steps),
    )


def write_movers(shards: Path, recordings: dict[str, Recording]) -> None:
    """Write shards by id."""
    provenance = Provenance(
        archive="local",
        source_id="pixar",
        version="1",
        files=(),
        licence="PDDL",
        citation="Richardson 2018",
        libraries={},
    )
    for name, recording in recordings.items():
        write_shard(recording, provenance=provenance, path=shards / f"{name}.zarr.zip")
