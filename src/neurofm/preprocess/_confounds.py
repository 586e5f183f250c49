"""What is regressed out of parcels, and which volumes are left out: a strategy over fMRIPrep's confounds table."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.recording import Recording, Unreadable
from neurofm.recording.recording import Confounds
from neurofm.settings import Settings

Strategy = Literal["none", "simple", "scrubbing", "compcor", "ica_aroma"]
MotionModel = Literal["basic", "power2", "derivatives", "full"]

AROMA_IMAGE = "desc-smoothAROMAnonaggr_bold"
"""How fMRIPrep names what it cleaned with ICA-AROMA."""
_COSINE = "cosine"
_SCRUB_COLUMNS = ("framewise_displacement", "std_dvars")


class Scrub(Settings):
    """When a volume is left out for motion; `nilearn.interfaces.fmriprep.load_confounds` has the same defaults."""

    fd_threshold_mm: float = Field(default=0.5, gt=0)
    """Framewise displacement beyond this marks a volume as moved."""
    std_dvars_threshold: float = Field(default=1.5, gt=0)
    """Standardised DVARS beyond this does too."""
    min_segment_volumes: int = Field(default=5, ge=0)
    """Fewer volumes than this between two that moved go as well; 0 keeps them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Regressors:
    """What one run is cleaned with."""

    strategy: Strategy
    """What was done, which is ``none`` where there is no table."""
    values: npt.NDArray[np.float64]
    """[volume, regressor]; drift cosines among them, mean and trend not."""
    kept: npt.NDArray[np.bool_]
    """[volume] False for volumes to leave out: not in steady state, or scrubbed."""
    high_pass: str
    """Where the drift cosines are from."""


def confounds_of(recording: Recording, *, volumes: int) -> Confounds | None:
    """Return the recording's confounds, or None.

    Raises
    ------
    Unreadable
        If the table has another number of rows than the run has volumes.
    """
    table = recording.confounds
    if table is not None and len(table.values) != volumes:
        raise Unreadable(
            f"{recording.clock.id}: the confounds table has {len(table.values)} rows, the run {volumes} volumes"
        )
    return table


def drift_only(volumes: int, *, highpass_hz: float, tr_s: float) -> Regressors:
    """Return drift cosines and nothing else: the strategy ``none``."""
    drift = _drift(volumes, highpass_hz=highpass_hz, tr_s=tr_s)
    return Regressors(
        strategy="none",
        values=drift,
        kept=np.ones(volumes, dtype=np.bool_),
        high_pass=_own_high_pass(drift, highpass_hz=highpass_hz),
    )


def strategy_regressors(
    recording: Recording,
    table: Confounds,
    *,
    strategy: Literal["simple", "scrubbing", "compcor", "ica_aroma"],
    motion: MotionModel,
    global_signal: bool,
    scrub: Scrub,
    highpass_hz: float,
    tr_s: float,
) -> Regressors:
    """Choose regressors and volumes by `nilearn.interfaces.fmriprep.load_confounds_strategy`.

    The strategies are those that Ciric 2017 (10.1016/j.neuroimage.2017.03.020) compared, as Wang 2024
    (10.1371/journal.pcbi.1011942) put them into nilearn. Volumes that fMRIPrep found before the steady state are
    left out by every strategy; the scrubbing is that of Power 2014 (10.1016/j.neuroimage.2013.08.048). The
    table's cosines are the high-pass. A table without them (fMRIPrep writes none for runs of about a minute)
    gets those of `highpass_hz`. NaN in a first row, where a difference has no number, becomes the second row's.

    Parameters
    ----------
    recording
        Whose confounds they are; its id is named in errors, its steps tell whether ICA-AROMA cleaned it.
    table
        [volume, column] as fMRIPrep 1.2 or later wrote it.
    strategy, motion, global_signal, scrub
        As in params.yaml. `motion` does not bear on ``ica_aroma``, `scrub` on ``scrubbing`` alone.
    highpass_hz, tr_s
        For a table without cosines.

    Raises
    ------
    Unreadable
        If the table lacks columns of the strategy, one of them is not finite beyond its first row, or ``ica_aroma``
        is asked for on another image than fMRIPrep's ``desc-smoothAROMAnonaggr_bold``.
    """
    whole = dict(zip(table.columns, table.values.T, strict=True))
    # The regression takes means off anyway.
    wanted: dict[str, Any] = {"motion": motion, "demean": False}
    if strategy == "ica_aroma":
        del wanted["motion"]
        _check_aroma(recording)
    if strategy == "compcor" and not table.described:
        raise Unreadable(
            f"{recording.clock.id}: strategy compcor needs the JSON file beside the confounds table, and there is none"
        )
    if strategy == "scrubbing":
        # nilearn would keep every volume that has no number here.
        _check_finite(recording, {name: whole[name] for name in _SCRUB_COLUMNS if name in whole})
        wanted |= {
            "fd_threshold": scrub.fd_threshold_mm,
            "std_dvars_threshold": scrub.std_dvars_threshold,
            "scrub": scrub.min_segment_volumes,
        }
    if global_signal:
        wanted["global_signal"] = "basic"
    names, values, kept = _from_nilearn(recording, table, strategy=strategy, wanted=wanted)
    _check_finite(recording, dict(zip(names, values.T, strict=True)))
    cosines = sum(_COSINE in name for name in names)
    if cosines:
        high_pass = f"{cosines} cosines of the confounds table"
    else:
        drift = _drift(len(values), highpass_hz=highpass_hz, tr_s=tr_s)
        values = np.hstack([values, drift])
        high_pass = f"{_own_high_pass(drift, highpass_hz=highpass_hz)}; the confounds table has no cosines"
    return Regressors(strategy=strategy, values=values, kept=kept, high_pass=high_pass)


def _from_nilearn(
    recording: Recording, table: Confounds, *, strategy: Strategy, wanted: dict[str, Any]
) -> tuple[tuple[str, ...], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return names of the regressors, their values [volume, regressor], and [volume] whether it is kept."""
    # Here, because every command reads this module's settings and nilearn takes seconds to import.
    from nilearn.interfaces.fmriprep import load_confounds_strategy  # noqa: PLC0415

    try:
        with _as_fmriprep_has_it(table, aroma=strategy == "ica_aroma") as image, warnings.catch_warnings():
            # It warns where every volume is scrubbed, which the share of valid samples says.
            warnings.simplefilter("ignore")
            chosen, sample_mask = load_confounds_strategy(str(image), denoise_strategy=strategy, **wanted)
    except ValueError as error:
        raise Unreadable(f"{recording.clock.id}: strategy {strategy}: {' '.join(str(error).split())}") from error
    except KeyError as error:
        # Where some columns of a group are there and others not, nilearn looks for them all the same.
        reason = " ".join(str(error).strip("\"'").split())
        raise Unreadable(
            f"{recording.clock.id}: the confounds table lacks, for strategy {strategy}: {reason}"
        ) from error
    except (TypeError, AttributeError) as error:
        # nilearn looks into the JSON file without a look at what it is.
        raise Unreadable(
            f"{recording.clock.id}: strategy {strategy}: the JSON file beside the confounds table does not describe "
            f"its columns as fMRIPrep does ({' '.join(str(error).split())})"
        ) from error
    kept = np.ones(len(table.values), dtype=np.bool_)
    if sample_mask is not None:
        kept[:] = False
        kept[sample_mask] = True
    return tuple(chosen.columns), chosen.to_numpy(dtype=np.float64), kept


@contextmanager
def _as_fmriprep_has_it(table: Confounds, *, aroma: bool) -> Iterator[Path]:
    """Write the table for nilearn, which takes an image's path, opens what lies beside it, and not the image."""
    import pandas as pd  # noqa: PLC0415

    # nilearn finds the JSON by putting "json" for "tsv" in the whole path: hexadecimal digits have no "tsv".
    folder = Path(tempfile.gettempdir()) / f"neurofm-{uuid.uuid4().hex}"
    folder.mkdir(mode=0o700)
    try:
        stem = folder / "sub-x_task-x_desc-confounds_timeseries"
        rows = pd.DataFrame(table.values, columns=pd.Index(table.columns))
        rows.to_csv(stem.with_suffix(".tsv"), sep="\t", index=False, na_rep="n/a")
        if table.described:
            stem.with_suffix(".json").write_text(json.dumps(dict(table.described)), encoding="utf-8")
        yield folder / f"sub-x_task-x_{AROMA_IMAGE if aroma else 'desc-preproc_bold'}.nii.gz"
    finally:
        shutil.rmtree(folder)


def _check_aroma(recording: Recording) -> None:
    told = (str(value) for step in recording.steps for value in step.params.values())
    if not any(AROMA_IMAGE in text for text in told):
        raise Unreadable(
            f"{recording.clock.id}: strategy ica_aroma is for fMRIPrep's {AROMA_IMAGE} (before version 23.2), "
            "which this recording is not from"
        )


def _check_finite(recording: Recording, columns: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """Refuse columns with holes beyond the first row, which nilearn fills."""
    for name, column in columns.items():
        missing = ~np.isfinite(column)
        if missing.all():
            raise Unreadable(f"{recording.clock.id}: confounds column {name} has no number")
        if missing[1:].any():
            row = 1 + int(np.argmax(missing[1:]))
            raise Unreadable(
                f"{recording.clock.id}: confounds column {name} has no number in {int(missing[1:].sum())} volumes, "
                f"first in volume {row} counted from 0"
            )


def _drift(volumes: int, *, highpass_hz: float, tr_s: float) -> npt.NDArray[np.float64]:
    """[volume, cosine] the drift basis of SPM and fMRIPrep; none where the run is too short for one."""
    from nilearn.signal import create_cosine_drift  # noqa: PLC0415

    if volumes < 2:
        return np.zeros((volumes, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cut-off beyond the Nyquist rate leaves no degrees of freedom, as is told
        basis = create_cosine_drift(highpass_hz, np.arange(volumes) * tr_s)
    return np.asarray(basis[:, :-1], dtype=np.float64)  # the last column is the constant


def _own_high_pass(drift: npt.NDArray[np.float64], *, highpass_hz: float) -> str:
    if drift.shape[1] == 0:
        return "none, the run is too short for a cosine"
    return f"{drift.shape[1]} cosines below {highpass_hz:g} Hz"
