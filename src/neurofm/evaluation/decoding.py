"""Task `decoding:<target>`: a read-out of a target from each patch of time, linear or recurrent."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurofm.evaluation.decoder import Patches, decode_recurrently
from neurofm.evaluation.row import DECODER, NULL, PROBE
from neurofm.evaluation.samples import Windows, cut, learning_windows, rounds
from neurofm.evaluation.scores import TileScores, squares
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth
from neurofm.windows import RecordingView

Floats = npt.NDArray[np.float64]
Features = Callable[[Windows], npt.NDArray[np.floating]]
"""Windows to [window, patch, feature]."""
Encode = Callable[[RecordingView, npt.NDArray[np.float32]], npt.NDArray[np.float32]]
_SMOOTHED = "ridge_counts_smoothed"
RECURRENT = "recurrent_counts"
"""The decoder on smoothed counts alone: what `row.DECODER` has beyond it is the representation's."""


class Embedding(Protocol):
    """A further model whose features are read out."""

    @property
    def name(self) -> str:
        """As it stands in the scoreboard."""

    def learn(self, fit: Windows) -> Features:
        """Learn from the signal of windows to fit on; return what gives the features of any windows."""


@dataclass(frozen=True, kw_only=True)
class TargetPatches:
    """A target averaged over each patch."""

    values: Floats
    """[window, patch, column]"""
    counted: npt.NDArray[np.bool_]
    """[window, patch] every sample counts and was measured."""


class Decoder(Protocol):
    """A further model that decodes by itself and is not read out."""

    @property
    def name(self) -> str:
        """As it stands in the scoreboard."""

    def decode(
        self, fit: Windows, judge: Windows, test: Windows, *, target: Callable[[Windows], TargetPatches]
    ) -> Floats:
        """Learn a target from windows to fit on, choose by those that judge, and decode others.

        Parameters
        ----------
        fit, judge, test
            Of one recording. Of `test` the target is not asked.
        target
            The target in windows, patch by patch.

        Returns
        -------
        [window, patch, column] of `test`.
        """


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What one model decoded of a recording's test segments."""

    model: str
    target: str
    test: Windows
    patch_samples: int
    truth: Floats
    """[window, patch, column]"""
    counted: npt.NDArray[np.bool_]
    """[window, patch] what was scored."""
    predicted: Floats
    """[window, patch, column]"""


def is_decoded(view: RecordingView, target: str) -> bool:
    """Whether a target is decoded: where a read-out can be learned at other times of the recording that is scored.

    Of a subject or a session that is held out nothing is labelled, and its units are no other recording's.
    """
    return view.roles.kind == "time" and bool(view.roles.test) and target in view.targets


def not_decoded(views: Sequence[RecordingView], targets: Sequence[str]) -> set[tuple[str, str, str]]:
    """Return the dataset, target and name of whatever is scored and has the target, and is not decoded."""
    return {
        (view.dataset, target, view.name)
        for view, target in itertools.product(views, targets)
        if view.roles.test and target in view.targets and not is_decoded(view, target)
    }


def not_decoded_said(found: set[tuple[str, str, str]]) -> str:
    """Say of what `not_decoded` found how many there are, in a line for each dataset and target."""
    counts = Counter((dataset, target) for dataset, target, _ in found)
    return "".join(
        f"evaluate: {dataset} has {count} scored recordings with {target} that are held out by subject or session and "
        "not decoded: a read-out is learned at other times of the same recording\n"
        for (dataset, target), count in sorted(counts.items())
    )


def decode(
    view: RecordingView,
    target: str,
    *,
    encode: Encode,
    settings: EvaluateSettings,
    window_samples: int,
    patch_samples: int,
    keep: Callable[[Decoded], None] | None = None,
    embeddings: Sequence[Embedding] = (),
    decoders: Sequence[Decoder] = (),
) -> tuple[list[TileScores], dict[str, float]]:
    """Decode `target` in a recording that is split in time, from counts and from our latents.

    Each read-out is a ridge regression on standardised features, fitted on the train segments; its penalty, and
    the smoothing where there is one, are those with the least squared error on validation and in
    cross-validation (`samples.rounds`). With `EvaluateSettings.decoder_steps` a recurrent decoder stands on two of
    them, alike: on smoothed counts, and on the same with our latents beside them (`decoder.decode_recurrently`).

    Parameters
    ----------
    view
        The recording.
    target
        One of its targets; for angles its columns are cosine and sine.
    encode
        The frozen encoder: (view, [window, time, channel] in SDs) to [window, patch, latent].
    settings
        Penalties and smoothing.
    window_samples, patch_samples
        A patch gives one decoded value.
    keep
        Is given what each model decoded.
    embeddings, decoders
        Further models, unfitted.

    Returns
    -------
    the scores per model, and the CPU seconds per model; none where the target was measured too rarely.
    """
    fit, tuning = (parts[0] for parts in learning_windows([view], window_samples=window_samples))
    test = cut(view, view.roles.test, window_samples=window_samples)
    cut_out = partial(target_patches, target=target, patch_samples=patch_samples)
    scores: list[TileScores] = []
    seconds: dict[str, float] = {}
    # A target may be measured in part of the recording only: a round without it judges nothing.
    tried = [pair for pair in rounds(fit, tuning) if all(cut_out(windows).counted.any() for windows in pair)]
    truth = cut_out(test)
    if not tried or not truth.counted.any():
        return scores, seconds
    models = _models(encode, settings=settings, patch_samples=patch_samples)
    further = {one.name: partial(_learned, one) for one in embeddings}
    chosen: dict[str, tuple[Features, float]] = {}

    def read_out(model: str, learn: Callable[[Windows], Sequence[Features]]) -> Floats:
        chosen[model] = _choose(learn(fit), tried=tried, penalties=settings.ridge_penalties, target=cut_out)
        return _regress(*chosen[model], fit=fit, target=cut_out, predict=test)

    def recur(model: str) -> Floats:
        features, penalty = chosen[PROBE if model == DECODER else _SMOOTHED]
        counts, _ = chosen[_SMOOTHED]
        parts = (counts, features) if model == DECODER else (counts,)
        learned = [
            (_patches(parts, fitted, cut_out(fitted)), _patches(parts, judge, cut_out(judge)))
            for fitted, judge in tried
        ]
        everything, asked = _patches(parts, fit, cut_out(fit)), _patches(parts, test, truth).features
        return decode_recurrently(everything, learned, asked, penalty=penalty, steps=settings.decoder_steps)

    ways: dict[str, Callable[[], Floats]] = {
        model: partial(read_out, model, learn) for model, learn in (models | further).items()
    }
    if settings.decoder_steps:
        ways |= {model: partial(recur, model) for model in (RECURRENT, DECODER)}
    ways |= {one.name: partial(one.decode, *tried[0], test, target=cut_out) for one in decoders}
    for model, way in ways.items():
        started = time.process_time()
        predicted = way()
        gain, total = squares(truth.values, predicted, truth.counted)
        scores.append(
            TileScores(roles=view.roles, task=f"decoding:{target}", metric="R2", model=model, gain=gain, total=total)
        )
        seconds[model] = time.process_time() - started
        if keep is not None:
            keep(
                Decoded(
                    model=model,
                    target=target,
                    test=test,
                    patch_samples=patch_samples,
                    truth=truth.values,
                    counted=truth.counted,
                    predicted=predicted,
                )
            )
    return scores, seconds


def _models(
    encode: Encode, *, settings: EvaluateSettings, patch_samples: int
) -> dict[str, Callable[[Windows], Sequence[Features]]]:
    """Features per model, of which none here learns; of several, validation chooses."""
    features: dict[str, Sequence[Features]] = {
        NULL: [partial(_no_features, patch_samples=patch_samples)],
        "ridge_counts": [partial(averaged_signal, sd_samples=0.0, patch_samples=patch_samples)],
        _SMOOTHED: [
            partial(averaged_signal, sd_samples=sd_samples, patch_samples=patch_samples)
            for sd_samples in settings.smoothing_samples
        ],
        PROBE: [lambda windows: encode(windows.view, windows.z)],
    }
    return {model: partial(_given, candidates) for model, candidates in features.items()}


def _learned(embedding: Embedding, fit: Windows) -> Sequence[Features]:
    return [embedding.learn(fit)]


def _given(candidates: Sequence[Features], _fit: Windows) -> Sequence[Features]:
    return candidates


def _choose(
    candidates: Sequence[Features],
    *,
    tried: Sequence[tuple[Windows, Windows]],
    penalties: Sequence[float],
    target: Callable[[Windows], TargetPatches],
) -> tuple[Features, float]:
    """Choose the candidate and the penalty that err least on the judging windows."""
    least, best = np.inf, (candidates[0], penalties[0])
    for features, penalty in itertools.product(candidates, penalties):
        error = 0.0
        for fitted, judge in tried:
            truth = target(judge)
            missed = _regress(features, penalty, fit=fitted, target=target, predict=judge) - truth.values
            error += float(np.sum(missed[truth.counted] ** 2))
        if error < least:
            least, best = error, (features, penalty)
    return best


def _patches(parts: Sequence[Features], windows: Windows, truth: TargetPatches) -> Patches:
    """Set features side by side, with what is to be decoded."""
    features = np.concatenate([part(windows) for part in parts], axis=-1).astype(np.float64)
    return Patches(features=features, values=truth.values, counted=truth.counted)


def _regress(
    features: Features, penalty: float, *, fit: Windows, target: Callable[[Windows], TargetPatches], predict: Windows
) -> Floats:
    """Ridge regression on standardised features: [window, patch, column] of `predict`."""
    truth = target(fit)
    predictors = features(fit)[truth.counted]
    # Of standardised predictors each has a sum of squares of the number of samples.
    regression = make_pipeline(StandardScaler(), Ridge(alpha=penalty * len(predictors)))
    regression.fit(predictors, truth.values[truth.counted])
    asked = features(predict)
    flat = regression.predict(asked.reshape(-1, asked.shape[-1]))
    predicted: Floats = flat.reshape(*asked.shape[:2], -1)
    return predicted


def _no_features(windows: Windows, *, patch_samples: int) -> Floats:
    """One constant: the regression keeps its intercept, the train mean of the target."""
    count, length, _ = windows.z.shape
    return np.zeros((count, length // patch_samples, 1))


def averaged_signal(windows: Windows, *, sd_samples: float, patch_samples: int) -> Floats:
    """Signal of all usable channels, smoothed within the window and averaged over each patch."""
    smoothed = smooth(windows.z[..., windows.view.usable], sd_samples=sd_samples)
    averaged: Floats = _by_patch(smoothed, patch_samples).mean(axis=2)
    return averaged


def target_patches(windows: Windows, target: str, *, patch_samples: int) -> TargetPatches:
    """Average a target over each patch of some windows."""
    values = windows.view.targets[target].astype(np.float64)
    length = windows.z.shape[1]
    windowed = np.array([values[start : start + length] for start in windows.start.tolist()])
    averaged = _by_patch(windowed.reshape(len(windows), length, -1), patch_samples).mean(axis=2)
    counted = _by_patch(windows.counted[..., None], patch_samples).all(axis=(2, 3))
    measured = np.isfinite(averaged).all(axis=-1)
    return TargetPatches(values=np.nan_to_num(averaged), counted=counted & measured)


def _by_patch(values: npt.NDArray[Any], patch_samples: int) -> npt.NDArray[Any]:
    """[window, time, column] to [window, patch, sample, column]."""
    windows, _, columns = values.shape
    return values.reshape(windows, -1, patch_samples, columns)
