"""Task `classification:<target>`: which of two states a window was recorded in, eyes open or closed, awake or asleep.

Where subjects are held out it is of subjects never seen, where time is held out of the same one at other times. Labels
are the target's 0 and 1; a window counts where all of it is in one state. Fitted on train segments only: an unseen
subject's calibration may be looked at without labels, and so gives none here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurofm.evaluation.filter_bank import filter_bank_windows
from neurofm.evaluation.row import NULL, PROBE
from neurofm.evaluation.samples import CHUNKS, Windows, cut, learning_windows
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.splits import UNSEEN
from neurofm.windows import RecordingView

Floats = npt.NDArray[np.float64]
Features = Callable[[Windows], npt.NDArray[np.floating]]
"""Windows to [window, feature]."""
FitFeatures = Callable[[Sequence[Windows]], Features]
"""Takes what it needs to know from the windows that are fitted on, and from no other."""
Encode = Callable[[RecordingView, npt.NDArray[np.float32]], npt.NDArray[np.float32]]

BANDS_HZ = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 40.0))
"""Delta, theta, alpha, beta and the low gamma band below the line frequency."""
_FLOOR = 1e-6
"""Added to power before its logarithm: unusable channels are 0. In squared SDs."""


@dataclass(frozen=True, kw_only=True)
class LabelledWindows:
    """Windows whose state is known."""

    features: Floats
    """[window, feature]"""
    state: npt.NDArray[np.bool_]
    """[window]"""
    chunk: npt.NDArray[np.int64]
    """[window] what is held out together in cross-validation: recordings, or stretches of the only one, of either state
    one, since what lies between is often one state for minutes."""

    def of(self, kept: npt.NDArray[np.bool_]) -> LabelledWindows:
        """Return some of them."""
        return LabelledWindows(features=self.features[kept], state=self.state[kept], chunk=self.chunk[kept])

    @property
    def has_both(self) -> bool:
        """Whether both states are among them."""
        return 0 < int(self.state.sum()) < len(self.state)


def classify(
    views: Sequence[RecordingView], target: str, *, encode: Encode, settings: EvaluateSettings, window_samples: int
) -> tuple[list[TileScores], dict[str, float]]:
    """Classify the windows of every recording of a channel set that is scored and has the target.

    Each read-out is a logistic regression on standardised features, both states weighing the same. Its penalty is
    the one with the least log loss on validation, or in cross-validation where validation lacks a state.

    Parameters
    ----------
    views
        Recordings of one channel set.
    target
        One of their targets with one column: 0, 1, or NaN where it is not known.
    encode
        The frozen encoder: (view, [window, time, channel] in SDs) to [window, patch, latent].
    settings
        Penalties.
    window_samples
        Length of a window.

    Returns
    -------
    per recording with both states and per model the balanced accuracy, and where subjects are held out the area under
    the ROC curve; and the CPU seconds per model. None where nothing that is learned from has both states.
    """
    taken = [view for view in views if target in view.targets]
    tests = [cut(view, view.roles.test, window_samples=window_samples) for view in taken]
    tests = [test for test in tests if has_both_states(test, target)]
    learned = [view for view in taken if view.roles.train or view.roles.validation]
    scores: list[TileScores] = []
    seconds: dict[str, float] = {}
    if not tests or not any(view.roles.train for view in learned):
        return scores, seconds
    fit, tuning = learning_windows(learned, window_samples=window_samples)
    if not any(known_states(part, target)[1].any() for part in fit):
        return scores, seconds
    for model, fit_features in _models(encode, modality=taken[0].modality).items():
        started = time.process_time()
        features = fit_features(fit)
        learn, judge = (labelled_windows(parts, target, features) for parts in (fit, tuning))
        if not learn.has_both:
            return [], {}
        read_out = None if model == NULL else _fitted(learn, judge, penalties=settings.ridge_penalties)
        for test in tests:
            samples = labelled_windows([test], target, features)
            # The null knows nothing of a window.
            probability = np.full(len(samples.state), 0.5) if read_out is None else _probability(read_out, samples)
            scores.extend(state_scores(test, samples, probability, task=f"classification:{target}", model=model))
        seconds[model] = time.process_time() - started
    return scores, seconds


def not_classified(
    views: Sequence[RecordingView], target: str, scores: Sequence[TileScores]
) -> set[tuple[str, str, str]]:
    """Return the dataset, target and name of whatever is scored and has the target, but is not among the scores."""
    classified = {score.roles.name for score in scores}
    return {
        (view.dataset, target, view.name)
        for view in views
        if view.roles.test and target in view.targets and view.name not in classified
    }


def not_classified_said(found: set[tuple[str, str, str]]) -> str:
    """Say of what `not_classified` found how many there are, in a line for each dataset and target."""
    counts = Counter((dataset, target) for dataset, target, _ in found)
    return "".join(
        f"evaluate: {dataset} has {count} scored recordings with {target} that are not classified in some fold: that "
        "takes whole windows of both states, in what is scored and in what is learned from\n"
        for (dataset, target), count in sorted(counts.items())
    )


def _models(encode: Encode, *, modality: Modality) -> Mapping[str, FitFeatures]:
    """Features per model."""
    models: dict[str, FitFeatures] = {
        NULL: lambda _: lambda windows: np.zeros((len(windows), 1)),
        "logistic_power": lambda _: log_power,
        PROBE: lambda _: lambda windows: latent_statistics(encode(windows.view, windows.z)),
    }
    if modality in (Modality.EEG, Modality.MEG):
        models["logistic_band_power"] = lambda _: band_power
    if modality is Modality.EEG:
        models["filter_bank_tangent"] = partial(filter_bank_windows, bands_hz=BANDS_HZ)
    return models


def log_power(windows: Windows) -> Floats:
    """Logarithm of each channel's variance, of spikes that of the counts: [window, channel]."""
    logarithm: Floats = np.log(windows.z.var(axis=1, dtype=np.float64) + _FLOOR)
    return logarithm


def band_power(windows: Windows) -> Floats:
    """Logarithm of each channel's power in each of `BANDS_HZ`: [window, band and channel]."""
    taper = np.hanning(windows.z.shape[1])[:, None]
    frequency_hz = np.fft.rfftfreq(windows.z.shape[1], d=1 / windows.view.sampling_rate_hz)
    power = np.abs(np.fft.rfft(windows.z * taper, axis=1)) ** 2 / float((taper**2).sum())
    bands = [(frequency_hz >= low) & (frequency_hz < high) for low, high in BANDS_HZ]
    return np.concatenate([np.log(power[:, band].mean(axis=1) + _FLOOR) for band in bands if band.any()], axis=1)


def latent_statistics(encoded: npt.NDArray[np.float32]) -> Floats:
    """Mean and SD over the patches of a window: the power of a rhythm is in how latents vary, not in their mean."""
    return np.concatenate([encoded.mean(axis=1), encoded.std(axis=1)], axis=1).astype(np.float64)


def known_states(windows: Windows, target: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """[window] the state, and [window] whether all of the window is in one state and counts."""
    length = windows.z.shape[1]
    values = windows.view.targets[target][:, 0]
    windowed = np.array([values[start : start + length] for start in windows.start.tolist()]).reshape(-1, length)
    closed, opened = (windowed == 1.0).all(axis=1), (windowed == 0.0).all(axis=1)
    return closed, (closed | opened) & windows.counted.all(axis=1)


def has_both_states(windows: Windows, target: str) -> bool:
    """Whether windows of both states are known."""
    state, known = known_states(windows, target)
    return 0 < int(state[known].sum()) < int(known.sum())


def labelled_windows(parts: Sequence[Windows], target: str, features: Features) -> LabelledWindows:
    """Make features of the windows whose state is known."""
    found, states, chunk = [], [], []
    for number, part in enumerate(parts):
        state, known = known_states(part, target)
        if known.any():
            kept = part.take(np.flatnonzero(known))
            found.append(np.asarray(features(kept), dtype=np.float64))
            states.append(state[known])
            chunk.append(_stretches(state[known]) if len(parts) == 1 else np.full(len(kept), number % CHUNKS))
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return LabelledWindows(features=np.zeros((0, 1)), state=nothing.astype(np.bool_), chunk=nothing)
    return LabelledWindows(features=np.concatenate(found), state=np.concatenate(states), chunk=np.concatenate(chunk))


def _stretches(state: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """[window] which of `CHUNKS` stretches, each with a share of either state."""
    stretch = np.zeros(len(state), dtype=np.int64)
    for own in (np.flatnonzero(state), np.flatnonzero(~state)):
        stretch[own] = np.arange(len(own)) * CHUNKS // max(len(own), 1)
    return stretch


def _fitted(learn: LabelledWindows, judge: LabelledWindows, *, penalties: Sequence[float]) -> Any:
    """Fit the read-out with the penalty that judges best."""
    tried = [(learn, judge)] if judge.has_both else []
    if not tried:
        split = [(learn.of(learn.chunk != held), learn.of(learn.chunk == held)) for held in range(CHUNKS)]
        tried = [pair for pair in split if pair[0].has_both and pair[1].has_both]
    losses = [sum(_loss(_regression(part, penalty), held) for part, held in tried) for penalty in penalties]
    return _regression(learn, penalties[int(np.argmin(losses))])


def _regression(samples: LabelledWindows, penalty: float) -> Any:
    # The loss is a sum over windows, and so must its penalty be.
    regression = LogisticRegression(C=1 / (penalty * len(samples.state)), class_weight="balanced", max_iter=2000)
    return make_pipeline(StandardScaler(), regression).fit(samples.features, samples.state)


def _probability(read_out: Any, samples: LabelledWindows) -> Floats:
    probability: Floats = read_out.predict_proba(samples.features)[:, 1]
    return probability


def _loss(read_out: Any, samples: LabelledWindows) -> float:
    """Log loss, both states weighing the same."""
    share = samples.state.mean()
    weight = np.where(samples.state, 1 / share, 1 / (1 - share))
    return float(log_loss(samples.state, _probability(read_out, samples), sample_weight=weight, labels=[False, True]))


def state_scores(
    test: Windows, samples: LabelledWindows, probability: Floats, *, task: str, model: str
) -> list[TileScores]:
    """Balanced accuracy: of each state the share that was recognised. And the ROC's area where subjects are units."""
    total = np.stack([~samples.state, samples.state], axis=1).astype(np.float64)
    right = (probability >= 0.5) == samples.state
    roles = test.view.roles
    scores = [
        TileScores(
            roles=roles, task=task, metric="balanced_accuracy", model=model, gain=total * right[:, None], total=total
        )
    ]
    if roles.kind in UNSEEN:
        area = np.array([[float(roc_auc_score(samples.state, probability))]])
        scores.append(TileScores(roles=roles, task=task, metric="auc", model=model, gain=area, total=np.ones((1, 1))))
    return scores
