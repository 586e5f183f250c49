"""Matrices: how the parcels of one recording correlate, before and after its cleaning."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.connectivity.settings import ConnectivitySettings, Kind
from neurofm.files import write_atomic
from neurofm.recording import Unreadable
from neurofm.shards import Shard

UNCLEANED = "uncleaned"
"""Name of the signal, in a shard, as it was before confounds were regressed out."""
BEFORE = "correlation_uncleaned"
"""Name of the matrix made of that signal."""
CORRELATION = "correlation"


@dataclass(frozen=True, kw_only=True)
class Connectivity:
    """The matrices of one recording."""

    parcels: tuple[str, ...]
    """All rows of the channel table, usable or not."""
    volumes: int
    """Valid volumes that they were computed from."""
    matrices: Mapping[str, npt.NDArray[np.float32]]
    """By name (``correlation``, ``partial_correlation``, ``correlation_uncleaned``): [parcel, parcel], symmetric, ones
    on the diagonal; rows and columns of parcels that are not usable, or never change, are NaN."""

    def write(self, path: Path) -> None:
        """Write as ``.npz`` of plain arrays; the same matrices give the same bytes."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            allow_pickle=False,
            parcels=np.array(self.parcels, dtype=np.str_),
            volumes=np.int64(self.volumes),
            **{name: self.matrices[name] for name in sorted(self.matrices)},
        )
        write_atomic(path, buffer.getvalue())


def connect(shard: Shard, *, settings: ConnectivitySettings, where: str) -> Connectivity:
    """Correlate the usable parcels of one recording over its valid volumes.

    Correlations are Pearson's: nilearn's `ConnectivityMeasure` with the empirical covariance. Its default, the
    covariance shrunk after Ledoit and Wolf, shrinks more where volumes are fewer, so that scrubbing alone would tie
    connectivity to motion; partial correlations keep it, since the empirical covariance of as many parcels as volumes
    has no inverse. Parcels are brought to SD 1 before both, so that no parcel's unit says how much it is shrunk.

    Parameters
    ----------
    shard
        Of an fMRI recording.
    settings
        `connectivity` in params.yaml.
    where
        What errors call the shard.

    Returns
    -------
    Connectivity
        Every one of ``settings.kinds``, and ``correlation_uncleaned`` where the shard has its signal before cleaning.

    Raises
    ------
    Unreadable
        If fewer than two parcels are usable, or fewer volumes than ``settings.min_volumes`` are valid.
    """
    volumes, usable = int(shard.valid.sum()), int(shard.usable.sum())
    if volumes < settings.min_volumes:
        raise Unreadable(f"{where}: {volumes} valid volumes, connectivity needs {settings.min_volumes}")
    if usable < 2:
        raise Unreadable(f"{where}: {usable} usable parcels, connectivity needs 2")
    values = shard.values()
    matrices = {kind.replace(" ", "_"): _matrix(values, shard, kind=kind) for kind in settings.kinds}
    before = shard.recording.extra_signals.get(UNCLEANED)
    if before is not None:
        matrices[BEFORE] = _matrix(before.values.astype(np.float32), shard, kind="correlation")
    return Connectivity(parcels=shard.recording.channels.id, volumes=volumes, matrices=matrices)


def _matrix(values: npt.NDArray[np.float32], shard: Shard, *, kind: Kind) -> npt.NDArray[np.float32]:
    # Here, because every command reads this package's settings and nilearn takes seconds to import.
    from nilearn.connectome import ConnectivityMeasure  # noqa: PLC0415
    from nilearn.signal import standardize_signal  # noqa: PLC0415
    from sklearn.covariance import EmpiricalCovariance, LedoitWolf  # noqa: PLC0415

    good = values[shard.valid].astype(np.float64)
    known = shard.usable & np.isfinite(good).all(axis=0) & (np.ptp(good, axis=0) > 0)
    filled = np.full((len(known), len(known)), np.nan, dtype=np.float32)
    if not known.any():
        return filled
    estimator = EmpiricalCovariance() if kind == "correlation" else LedoitWolf(store_precision=False)
    measure = ConnectivityMeasure(
        cov_estimator=estimator, kind=kind, vectorize=False, discard_diagonal=False, standardize=False
    )
    z = standardize_signal(good[:, known], detrend=False, standardize="zscore_sample")
    (matrix,) = measure.fit_transform([z])
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 1.0)
    filled[np.ix_(known, known)] = matrix
    return filled
