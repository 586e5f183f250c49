"""Regression of what is known to be noise, by `nilearn.signal.clean`, and the degrees of freedom that it leaves."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def residuals(values: Floats, *, regressors: Floats, kept: Flags) -> Floats:
    """Take mean, linear trend and regressors off each column.

    The kept volumes are those of `nilearn.maskers.NiftiLabelsMasker` with ``detrend=True, standardize=None``
    and the same confounds and sample mask: all is fitted on them alone. The others keep their place in time and
    are drawn linearly between kept neighbours, as in the ends, where there is one neighbour, its value.

    Parameters
    ----------
    values
        [volume, parcel], finite.
    regressors
        [volume, regressor], finite; may be none.
    kept
        [volume].

    Returns
    -------
    [volume, parcel]; 0 where the regressors leave no degree of freedom.
    """
    # Here, because every command reads this module's settings and nilearn takes seconds to import.
    from nilearn.signal import clean  # noqa: PLC0415

    clean_values = np.zeros_like(values)
    if values.shape[1] == 0 or degrees_of_freedom_left(regressors, kept) == 0:
        return clean_values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for pandas tables, and tells of constant regressors
        clean_values[kept] = clean(
            values,
            detrend=True,
            standardize=None,
            filter=False,
            confounds=regressors if regressors.shape[1] else None,
            sample_mask=None if kept.all() else np.flatnonzero(kept),
        )
    lost, there = np.flatnonzero(~kept), np.flatnonzero(kept)
    for column in clean_values.T if len(lost) else ():
        column[lost] = np.interp(lost, there, column[there])
    return clean_values


def degrees_of_freedom_left(regressors: Floats, kept: Flags) -> int:
    """Return how many of the kept volumes' degrees of freedom mean, trend and regressors leave.

    Scrubbed volumes and regressors both cost some (Ciric 2017, 10.1016/j.neuroimage.2017.03.020); regressors
    that say the same are counted once.
    """
    volumes = int(kept.sum())
    if volumes == 0:
        return 0
    design = np.column_stack([np.ones(volumes), np.arange(volumes, dtype=np.float64), regressors[kept]])
    size = np.sqrt((design**2).sum(axis=0))
    design = design[:, size > 0] / size[size > 0]  # columns come in any unit
    return volumes - int(np.linalg.matrix_rank(design))
