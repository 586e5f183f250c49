"""Connectivity of a subject as features: which regions go together, plainly and in tangent space.

Covariances are shrunk after Ledoit & Wolf (2004, doi:10.1016/S0047-259X(03)00096-4), since a run has about as many
volumes as regions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from neurofm.evaluation.series import Features, Floats, Series
from neurofm.windows import RecordingView


def correlation(train: Sequence[RecordingView]) -> Features:
    """Fisher's z of the correlation of each pair of channels: [recording, pair].

    Training recordings only say which channels there are.
    """
    series = Series.fit(train)
    pairs = np.triu_indices(len(series.kept), k=1)

    def features(views: Sequence[RecordingView]) -> Floats:
        return np.array([np.arctanh(_correlation(series.valid(view))[pairs]) for view in views])

    return features


def tangent(train: Sequence[RecordingView]) -> Features:
    """Tangent-space connectivity: how a recording's correlations depart from the training recordings' geometric mean.

    nilearn's `ConnectivityMeasure`; Varoquaux et al. 2010 (doi:10.1007/978-3-642-15705-9_25), and Dadi et al. 2019
    (doi:10.1016/j.neuroimage.2019.02.062), who found it the best of connectivity for predicting traits.

    Returns
    -------
    Features
        [recording, channel * (channel + 1) / 2]
    """
    # Here, since it takes seconds to import.
    from nilearn.connectome import ConnectivityMeasure  # noqa: PLC0415

    series = Series.fit(train)
    measure = ConnectivityMeasure(kind="tangent", vectorize=True, standardize=False)
    with warnings.catch_warnings():
        # The mean is good to far more digits than its tolerance, which asks for machine precision, leaves.
        warnings.filterwarnings("ignore", message="Maximum number of iterations")
        measure.fit([series.valid(view) for view in train])

    def features(views: Sequence[RecordingView]) -> Floats:
        # nilearn refuses to transform one recording, though the reference is that of others.
        vectors = [measure.transform([series.valid(view)] * 2)[0] for view in views]
        return np.asarray(vectors, dtype=np.float64)

    return features


def _correlation(x: Floats) -> Floats:
    from sklearn.covariance import ledoit_wolf  # noqa: PLC0415

    covariance, _ = ledoit_wolf(x)
    sd = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(sd, sd), dtype=np.float64)
