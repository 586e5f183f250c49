"""Task `masked_reconstruction`: each third of the channels is predicted from the others, on held-out data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.row import CORRELATION
from neurofm.evaluation.samples import Windows, masks
from neurofm.evaluation.scores import TileScores, correlations, poisson_bits, squares
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView

TASK = "masked_reconstruction"

Floats = npt.NDArray[np.float64]


def reconstruct(estimator: Estimator, windows: Windows, *, settings: EvaluateSettings) -> Floats:
    """Predict every usable channel while it is hidden.

    After an average reference the channels of EEG sum to zero, so visible channels fix the sum of the hidden ones:
    one constraint on a third of the channels. All models are given it alike.

    Returns
    -------
    [window, time, channel] in SDs; 0 for unusable channels.
    """
    predicted = np.zeros(windows.z.shape)
    for visible, hidden in masks(windows.view, settings):
        predicted[..., hidden] = estimator.predict(windows.view, windows.z[..., visible], visible, hidden)
    return predicted


def score(
    estimator: Estimator,
    test: Windows,
    predicted: Floats,
    *,
    tuning: Sequence[Windows],
    settings: EvaluateSettings,
) -> list[TileScores]:
    """Score reconstructions of one recording: R2, correlation, and bits per spike for spikes.

    Parameters
    ----------
    estimator
        Whose reconstructions they are.
    test
        Windows of the test segments.
    predicted
        [window, time, channel] what `reconstruct` gave for them.
    tuning
        Windows on which the floor of the rate is chosen, for spikes.
    settings
        Masks and floors.
    """
    channels = np.flatnonzero(test.view.usable)
    truth = test.z[..., channels].astype(np.float64)
    gain, total = squares(truth, predicted[..., channels], test.counted)
    every = np.broadcast_to(test.counted[..., None], truth.shape)
    alike, channels_moving = correlations(truth, predicted[..., channels], every)
    scored = [
        _scores(estimator, test, "R2", gain=gain.sum(axis=1), total=total.sum(axis=1)),
        _scores(estimator, test, CORRELATION, gain=alike, total=channels_moving),
    ]
    if test.view.modality is Modality.SPIKES:
        floor = choose_floor(estimator, tuning, settings=settings)
        spikes = np.einsum("ts,tsc->t", test.counted.astype(np.float64), test.values()[..., channels])
        scored.append(
            _scores(estimator, test, "bits_per_spike", gain=_bits(test, predicted, floor=floor), total=spikes)
        )
    return scored


def expected_counts(view: RecordingView, predicted: Floats, *, floor: float) -> Floats:
    """[..., channel] spike counts per bin from SDs, at least `floor` times each unit's mean in calibration."""
    normaliser = view.normaliser
    rate: Floats = np.maximum(predicted * normaliser.sd + normaliser.mean, floor * normaliser.mean)
    return rate


def _bits(windows: Windows, predicted: Floats, *, floor: float) -> Floats:
    units = np.flatnonzero(windows.view.usable)
    rate = expected_counts(windows.view, predicted, floor=floor)[..., units]
    counts = windows.values()[..., units].astype(np.float64)
    return poisson_bits(counts, rate, windows.view.normaliser.mean[units], windows.counted)


def choose_floor(estimator: Estimator, tuning: Sequence[Windows], *, settings: EvaluateSettings) -> float:
    """Choose the least rate, as a share of each unit's mean, under which spikes of `tuning` are likeliest."""
    bits = floored_bits(estimator, tuning, settings=settings)
    return max(settings.rate_floors, key=bits.__getitem__)


def floored_bits(estimator: Estimator, tuning: Sequence[Windows], *, settings: EvaluateSettings) -> dict[float, float]:
    """Say how much likelier an estimator makes the spikes of `tuning` than their means do, by the least rate."""
    reconstructed = [(windows, reconstruct(estimator, windows, settings=settings)) for windows in tuning]
    return bits_of(reconstructed, settings=settings)


def bits_of(reconstructed: Sequence[tuple[Windows, Floats]], *, settings: EvaluateSettings) -> dict[float, float]:
    """Say it of what `reconstruct` gave; see `floored_bits`."""
    return {
        floor: sum(float(_bits(*each, floor=floor).sum()) for each in reconstructed) for floor in settings.rate_floors
    }


def _scores(estimator: Estimator, test: Windows, metric: str, *, gain: Floats, total: Floats) -> TileScores:
    return TileScores(
        roles=test.view.roles,
        task=TASK,
        metric=metric,
        model=estimator.name,
        gain=gain[:, None],
        total=total[:, None],
    )
