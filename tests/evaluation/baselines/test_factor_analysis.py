"""Factor analysis is as likely as scikit-learn's, on units of a real session that fire at very different rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import FactorAnalysis

from neurofm.evaluation.baselines.factor_analysis import factorise
from neurofm.evaluation.baselines.linear import Covariances, Floats
from neurofm.evaluation.baselines.ppca import reduce_rank
from neurofm.readers.shared.variables import load_variables


@pytest.fixture(scope="module")
def counts(shared_data: Path) -> Floats:
    """[sample, unit] counts per 50 ms of Steinmetz' first session, in SDs."""
    spikes = np.stack(load_variables(shared_data / "ephys/steinmetz2019_rds/session1.rds")["spks"])
    binned = spikes[:, ::6].reshape(len(spikes), -1, 8, 5).sum(axis=-1).transpose(0, 2, 1).astype(np.float64)
    flat = binned.reshape(-1, binned.shape[-1])
    flat = flat[:, flat.sum(axis=0) > 20]
    z: Floats = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    return z


def _likelihood(covariance: Floats, measured: Floats) -> float:
    """Mean Gaussian log-likelihood of a sample, up to a constant."""
    return -0.5 * float(np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, measured)))


@pytest.mark.parametrize("rank", [2, 8])
def test_it_is_as_likely_as_the_librarys_and_likelier_than_ppca(counts: Floats, rank: int) -> None:
    inner = counts.T @ counts / len(counts)
    measured = Covariances(cross=inner, inner=inner)
    library = FactorAnalysis(rank, svd_method="lapack", tol=1e-6, max_iter=500).fit(counts)
    found = _likelihood(factorise(measured, rank).inner, inner)
    assert found > _likelihood(library.get_covariance(), inner) - 0.05
    assert found > _likelihood(reduce_rank(measured, rank).inner, inner) + 0.2
