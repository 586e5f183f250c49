"""What is expected of a recording from others: real fMRI of few persons, and of another TR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neurofm.model.pooled_lags import PooledLags
from neurofm.model.prior import StationaryPrior
from neurofm.model.stationary_core import STATIONARY
from neurofm.recording import Modality
from neurofm.training.hidden_patches import fixed_masks
from neurofm.training.stationary import core_of, expected_lags, pooled_lags_of, prior_of_usable
from neurofm.windows import RecordingView
from tests.training.conftest import view_of

WINDOW, PATCH, CHANNELS, TR_S = 48, 8, 24, 2.0
LEARNED, SCORED = 4, 8


@pytest.fixture(scope="module")
def series(shared_data: Path) -> list[npt.NDArray[np.float64]]:
    """Twelve persons of ds000228, every second region of an atlas of 64."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    return [np.load(file).astype(np.float64)[:, : 2 * CHANNELS : 2] for file in files[: LEARNED + SCORED]]


def of(values: npt.NDArray[np.float64], *, name: str, interval_s: float = TR_S, learned: bool = False) -> RecordingView:
    """One person: learned from as a whole, or its last window scored and what comes before it calibration."""
    border = len(values) - WINDOW
    roles = (
        {"train": [(0, len(values))]} if learned else {"test": [(border, len(values))], "calibration": [(0, border)]}
    )
    view = view_of(values, modality=Modality.FMRI, name=name, channel_set="basc", kind="subject", **roles)
    return replace(view, sampling_rate_hz=1 / interval_s)


def error(
    views: Sequence[RecordingView], priors: Sequence[StationaryPrior | None], kind: str, *, draws: int = 4
) -> float:
    """Mean squared error where patches are hidden, relative to the mean of the calibration."""
    errors = []
    for view, prior in zip(views, priors, strict=True):
        core = core_of(view, others=prior, calibration=view.roles.calibration, window_samples=WINDOW)
        (test,) = view.roles.test
        truth = torch.from_numpy(view.z(test.start, test.stop)).repeat(draws, 1, 1)
        shown = fixed_masks(
            kind,
            windows=draws,
            patches=WINDOW // PATCH,
            features=torch.zeros(CHANNELS, 4),
            name=view.name,
            seed=1,
        ).repeat_interleave(PATCH, dim=1)
        filled = core.fill(torch.where(shown, truth, 0.0), shown)
        errors.append(float((filled - truth)[~shown].square().sum() / truth[~shown].square().sum()))
    return float(np.mean(errors))


def learned_from(views: Sequence[RecordingView]) -> PooledLags:
    return PooledLags.total(pooled_lags_of(view, view.roles.train) for view in views)


@pytest.mark.parametrize("kind", ["patches", "block"])
def test_spectra_of_few_persons_are_drawn_towards_separable_ones(
    series: list[npt.NDArray[np.float64]], kind: str
) -> None:
    total = learned_from([of(one, name=f"l{at}", learned=True) for at, one in enumerate(series[:LEARNED])])
    scored = [of(one, name=f"s{at}") for at, one in enumerate(series[LEARNED:])]
    settings = STATIONARY[Modality.FMRI].prior(window_samples=WINDOW)
    drawn = error(scored, [prior_of_usable(view, total, window_samples=WINDOW) for view in scored], kind)
    as_summed = [StationaryPrior.fit(expected_lags(view, total), settings=settings) for view in scored]
    assert drawn < 0.97 * error(scored, list(as_summed), kind)
    assert drawn < error(scored, [None] * len(scored), kind)


def test_separable_spectra_weigh_less_the_more_persons_there_are(series: list[npt.NDArray[np.float64]]) -> None:
    learned = [of(one, name=f"l{at}", learned=True) for at, one in enumerate(series)]
    settings = STATIONARY[Modality.FMRI].prior(window_samples=WINDOW)
    moved = []
    for number in (2, len(learned)):
        total = learned_from(learned[:number])
        drawn = prior_of_usable(learned[0], total, window_samples=WINDOW)
        plain = StationaryPrior.fit(expected_lags(learned[0], total), settings=settings)
        assert drawn is not None
        torch.testing.assert_close(drawn.covariance, plain.covariance)
        share = (drawn.spectra - plain.spectra).abs().mean() / (
            plain.towards_separable(1.0).spectra - plain.spectra
        ).abs().mean()
        assert float(share) == pytest.approx(3000 / (3000 + 168 * number))
        moved.append(float(share))
    assert moved[1] < moved[0]


def test_what_recordings_of_another_tr_show_is_expected_at_the_same_seconds(
    series: list[npt.NDArray[np.float64]],
) -> None:
    learned = of(series[0], name="l", learned=True)
    slow = of(series[1][::2], name="s", interval_s=2 * TR_S)
    expected = expected_lags(slow, learned_from([learned]))
    own = pooled_lags_of(learned, learned.roles.train).by_interval[TR_S]
    lags = STATIONARY[Modality.FMRI].lags
    torch.testing.assert_close(expected.products[: lags // 2 + 1], own.products[: lags + 1 : 2])
    # What lies beyond was not summed of a recording of the usual TR, and says nothing.
    assert not expected.pairs[lags // 2 + 1 :].any()
