"""Task `hidden_forward` of spikes, calcium and Miniscope: all channels at a window's end, from what came before.

For spikes in bits per spike against each unit's mean rate, this is the forward prediction of the Neural Latents
Benchmark (Pei et al. 2021, arXiv:2109.04463); there each trial's end is hidden. Windows of unbroken recordings lie side
by side; of trials each has one, which ends with it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.evaluation.baselines.forecasts import Forecaster, Judge, forecasts_for
from neurofm.evaluation.masked import expected_counts
from neurofm.evaluation.row import CORE
from neurofm.evaluation.samples import TUNING_SHARE, Windows
from neurofm.evaluation.scores import Floats, TileScores, poisson_bits, squares
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training.forecasts import learning_starts, starts_of
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView
from neurofm.windows.often import fired_often
from neurofm.windows.settings import WindowSettings

TASK = "hidden_forward"
MODALITIES = (Modality.SPIKES, Modality.CALCIUM, Modality.MINISCOPE)
"""Others foretell by their stationary core (`neurofm.evaluation.patches`), where they are trained to."""
_FEWEST = 2
"""Windows of each kind that there must be."""


def foretell_set(
    views: Sequence[RecordingView], predictor: Predictor, *, settings: EvaluateSettings, window: WindowSettings
) -> tuple[list[TileScores], dict[tuple[str, str, str], float]]:
    """Score forecasts of the recordings of one channel set.

    Parameters
    ----------
    views
        All of them in one fold; each is fitted by itself.
    predictor
        The fold's model.
    settings
        How many patches are hidden, and grids.
    window
        Of the modality.

    Returns
    -------
    Scores, and CPU seconds by dataset, task and model. Nothing of recordings too short to be learned from and scored,
    of other modalities, and where `evaluate.forward_patches` is 0.

    Raises
    ------
    UserError
        If so much is hidden that less is known of a window.
    """
    future = settings.forward_patches * window.patch_samples
    modality = views[0].modality
    if not future or modality not in MODALITIES:
        return [], {}
    if 2 * future > window.window_samples:
        raise UserError(
            f"evaluate.forward_patches: {settings.forward_patches} of the "
            f"{window.window_samples // window.patch_samples} patches of a window of {modality} would be hidden.",
            mend="hide half of a window at most, or lengthen `windows` in params.yaml",
        )
    found: list[TileScores] = []
    seconds: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for view in views:
        test = cut_forward(view, view.roles.test, window=window, future=future, stride=window.window_samples)
        fit, tuning, everything = learning_forward(view, window=window, future=future)
        if not len(test) or min(len(fit), len(tuning)) < _FEWEST:
            continue
        judge = _judge(tuning, future=future, settings=settings)
        for forecaster in (*forecasts_for(settings), OurForecast(predictor, view)):
            started = time.process_time()
            forecaster.fit(fit, tuning, everything, future=future, judge=judge)
            predicted = forecaster.predict(test.z[:, :-future])
            found += _score(forecaster, test, predicted, tuning, future=future, settings=settings)
            seconds[view.dataset, TASK, forecaster.name] += time.process_time() - started
    return found, dict(seconds)


class OurForecast:
    """The forecast that our model makes of a recording from its calibration; nothing is chosen on validation.

    Parameters
    ----------
    predictor
        The fold's model.
    view
        The recording.
    """

    name = CORE

    def __init__(self, predictor: Predictor, view: RecordingView) -> None:
        self._predictor, self._view = predictor, view

    def fit(self, fit: Windows, tuning: Windows, everything: Windows, *, future: int, judge: Judge) -> None:
        """Say how much is hidden; see `Forecaster.fit`."""
        del fit, tuning, everything, judge
        view = self._view
        self._future = future
        self._looked_at = fired_often(view) if view.modality is Modality.SPIKES else view.usable

    def predict(self, known: npt.NDArray[np.float32]) -> Floats:
        """Foretell; see `Forecaster.predict`."""
        return self._predictor.predict_forward(self._view, known, future=self._future, looked_at=self._looked_at)


def cut_forward(
    view: RecordingView, segments: Sequence[Segment], *, window: WindowSettings, future: int, stride: int
) -> Windows:
    """Cut windows, of which the last `future` samples count."""
    starts = starts_of(view, segments, window_samples=window.window_samples, future=future, stride=stride)
    return _at(view, starts, window=window, future=future)


def learning_forward(view: RecordingView, *, window: WindowSettings, future: int) -> tuple[Windows, Windows, Windows]:
    """Cut what a recording may be fitted on, tuned on, and fitted on once settings are chosen.

    As `samples.learning_windows`: without validation segments the last fifth of the windows is tuned on.
    """

    def starts_in(segments: Sequence[Segment], stride: int) -> npt.NDArray[np.int64]:
        return learning_starts(view, segments, window_samples=window.window_samples, future=future, stride=stride)

    starts = starts_in(view.roles.train or view.roles.calibration, window.patch_samples)
    everything = _at(view, starts, window=window, future=future)
    if view.roles.validation:
        tuning = _at(view, starts_in(view.roles.validation, future), window=window, future=future)
        return everything, tuning, everything
    kept = starts[: len(starts) - int(np.ceil(TUNING_SHARE * len(starts)))]
    # Windows overlap: none is fitted on that reaches into what is tuned on.
    apart = kept[kept + window.window_samples <= starts[len(kept)]] if len(kept) < len(starts) else kept
    return everything.take(slice(len(apart))), everything.take(slice(len(kept), None)), everything


def _at(view: RecordingView, starts: npt.NDArray[np.int64], *, window: WindowSettings, future: int) -> Windows:
    length = window.window_samples
    z = np.zeros((len(starts), length, len(view.channel_ids)), dtype=np.float32)
    for row, start in enumerate(starts.tolist()):
        z[row] = view.z(start, start + length)
    counted = np.zeros((len(starts), length), dtype=np.bool_)
    counted[:, -future:] = True
    return Windows(view=view, z=z, counted=counted, start=starts)


def _judge(tuning: Windows, *, future: int, settings: EvaluateSettings) -> Judge:
    """Judge predictions of the windows to tune on: by bits under the best least rate, or squares."""
    counts = _counts(tuning, future=future) if tuning.view.modality is Modality.SPIKES else None

    def judge(predicted: Floats) -> float:
        if counts is None:
            return float(_squares(tuning, predicted, future=future)[0].sum())
        return max(_floored_bits(tuning, predicted, counts, settings=settings).values())

    return judge


def _counts(windows: Windows, *, future: int) -> Floats:
    """[window, future, usable unit] observed."""
    stop = windows.start + windows.z.shape[1]
    values = np.stack([windows.view.values(end - future, end) for end in stop.tolist()])
    return values[..., windows.view.usable].astype(np.float64)


def _bits(windows: Windows, predicted: Floats, counts: Floats, *, floor: float) -> Floats:
    """[window] bits gained over the mean rate."""
    view = windows.view
    rate = expected_counts(view, predicted, floor=floor)[..., view.usable]
    return poisson_bits(counts, rate, view.normaliser.mean[view.usable], np.ones(counts.shape[:2], dtype=bool))


def _floored_bits(
    windows: Windows, predicted: Floats, counts: Floats, *, settings: EvaluateSettings
) -> dict[float, float]:
    return {floor: float(_bits(windows, predicted, counts, floor=floor).sum()) for floor in settings.rate_floors}


def _squares(windows: Windows, predicted: Floats, *, future: int) -> tuple[Floats, Floats]:
    truth = windows.z[:, -future:, windows.view.usable].astype(np.float64)
    return squares(truth, predicted[..., windows.view.usable], np.ones(truth.shape[:2], dtype=bool))


def _score(
    forecaster: Forecaster,
    test: Windows,
    predicted: Floats,
    tuning: Windows,
    *,
    future: int,
    settings: EvaluateSettings,
) -> list[TileScores]:
    gain, total = (each.sum(axis=1) for each in _squares(test, predicted, future=future))
    scored = [("R2", gain, total)]
    if test.view.modality is Modality.SPIKES:
        tuned = forecaster.predict(tuning.z[:, :-future])
        found = _floored_bits(tuning, tuned, _counts(tuning, future=future), settings=settings)
        counts = _counts(test, future=future)
        floor = max(found, key=found.__getitem__)
        scored.append(("bits_per_spike", _bits(test, predicted, counts, floor=floor), counts.sum(axis=(1, 2))))
    return [
        TileScores(
            roles=test.view.roles,
            task=TASK,
            metric=metric,
            model=forecaster.name,
            gain=gain[:, None],
            total=total[:, None],
        )
        for metric, gain, total in scored
    ]
