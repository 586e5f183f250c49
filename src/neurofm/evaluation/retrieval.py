"""Task `retrieval:<modality>`: of which window of the other modality is it, among all held-out ones of the recording.

Where two recordings were made at once. A linear map from the features of one modality to those of the other is fitted
on windows that may be learned from; for each held-out window the simultaneous one of the other modality is looked for
among all of them, by how well its features agree with the mapped ones. The same map for every model, so that what
differs is the features: power spectra and the signal's own course (the baselines), or the frozen embedding of each
modality alone, patch by patch.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.classification import Encode, band_power, log_power
from neurofm.evaluation.row import NULL, PROBE
from neurofm.evaluation.samples import TUNING_SHARE, Windows
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.splits import Role
from neurofm.windows import RecordingView, WindowsSettings
from neurofm.windows.pairs import Pair, inside, samples_at

Floats = npt.NDArray[np.float64]
Course = Callable[[Windows], npt.NDArray[np.floating]]
"""Windows to [window, step, feature]."""

TASK = "retrieval"
POWER = "ridge_power"
SIGNAL = "ridge_signal"
_NEAREST = (1, 5)
"""How many of the best are looked at."""
_FITTED_PER_WINDOW = 4
"""Windows that are fitted on begin so often in the length of one: paired recordings are short."""
_MOST_FITTED = 2000
"""Windows that a map is fitted on, evenly over the recordings and over each one's time: it has few weights."""
_LEAST_VALID = 1.0
"""Share of a window that must be fit for use on both sides: gaps that both have would give the moment away."""
_ROUNDING = 1e-6
_MOST_VALUES = 2**24
"""Samples times channels of one side that are cut at once, 64 MiB: hours of EEG beside fMRI overlap four times."""


@dataclass(frozen=True, kw_only=True)
class _Side:
    """Where the windows of one modality begin; they are cut when features are made of them."""

    view: RecordingView
    samples: int
    """Length of a window."""
    starts: npt.NDArray[np.int64]
    """[moment, window] first samples; of the modality with shorter windows each moment has several."""

    def cut(self) -> Windows:
        """Cut them, one moment after the other."""
        starts = self.starts.ravel()
        z = np.zeros((len(starts), self.samples, len(self.view.channel_ids)), dtype=np.float32)
        counted = np.zeros((len(starts), self.samples), dtype=np.bool_)
        for row, start in enumerate(starts.tolist()):
            z[row] = self.view.z(start, start + self.samples)
            counted[row] = self.view.valid[start : start + self.samples]
        return Windows(view=self.view, z=z, counted=counted, start=starts)


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """Windows of both sides at the same times."""

    sides: tuple[_Side, _Side]

    @property
    def count(self) -> int:
        """Moments."""
        return len(self.sides[0].starts)

    def features(self, features: Course) -> tuple[Floats, Floats]:
        """Make [moment, step, feature] of both sides, in as many steps as both can be cut into."""
        largest = max(side.starts.shape[1] * side.samples * len(side.view.channel_ids) for side in self.sides)
        blocks = np.split(np.arange(self.count), np.arange(self.count)[:: max(1, _MOST_VALUES // largest)][1:])
        first, second = zip(*(self.take(block).features_at_once(features) for block in blocks), strict=True)
        return np.concatenate(first), np.concatenate(second)

    def features_at_once(self, features: Course) -> tuple[Floats, Floats]:
        """Make them of all moments together; see `features`."""
        made = [np.asarray(features(side.cut()), dtype=np.float64) for side in self.sides]
        one, two = (part.reshape(self.count, -1, part.shape[-1]) for part in made)
        steps = math.gcd(one.shape[1], two.shape[1])
        one, two = (part.reshape(self.count, steps, -1, part.shape[-1]).mean(axis=2) for part in (one, two))
        return one, two

    def some(self, most: int) -> _Moments:
        """Return no more than so many of them, evenly."""
        if self.count <= most:
            return self
        return self.take(np.linspace(0, self.count - 1, most).round().astype(np.int64))

    def take(self, chosen: npt.NDArray[np.int64]) -> _Moments:
        """Return some of them."""
        one, two = (replace(side, starts=side.starts[chosen]) for side in self.sides)
        return _Moments(sides=(one, two))


def retrieve(
    pairs: Sequence[Pair], *, encode: Encode, settings: EvaluateSettings, windows: WindowsSettings
) -> tuple[list[TileScores], dict[tuple[str, str, str], float]]:
    """Retrieve in both directions, for the pairs of one fold.

    Parameters
    ----------
    pairs
        Of one fold. Those of the same channels on both sides share a map.
    encode
        The frozen encoder: (view, [window, time, channel] in SDs) to [window, patch, latent].
    settings
        Penalties of the map.
    windows
        How long a window is; of two modalities the longer one counts.

    Returns
    -------
    per pair, direction and model the share of held-out windows whose counterpart is the best one, and among the best
    five where there are more; and the CPU seconds by dataset, task and model. None where there are no two held-out
    windows, or nothing to fit on.
    """
    groups: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        for one in (pair, pair.turned()):
            groups[one.first.channel_set, one.second.channel_set].append(one)
    scores: list[TileScores] = []
    seconds: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for _, group in sorted(groups.items()):
        task = f"{TASK}:{group[0].second.modality}"
        for model, features in _models(encode, windows=windows).items():
            started = time.process_time()
            found = _of_group(group, model, features, task=task, settings=settings, windows=windows)
            scores.extend(found)
            if found:
                seconds[group[0].first.dataset, task, model] += time.process_time() - started
    return scores, dict(seconds)


def _models(encode: Encode, *, windows: WindowsSettings) -> Mapping[str, Course]:
    """Features per model; the null needs none."""

    def power(part: Windows) -> Floats:
        waves = part.view.modality in (Modality.EEG, Modality.MEG)
        return (band_power(part) if waves else log_power(part))[:, None]

    def signal(part: Windows) -> Floats:
        patch = windows.of(part.view.modality).patch_samples
        return np.asarray(part.z.reshape(len(part), -1, patch, part.z.shape[-1]).mean(axis=2), dtype=np.float64)

    return {NULL: power, POWER: power, SIGNAL: signal, PROBE: lambda part: encode(part.view, part.z)}


def _of_group(
    group: Sequence[Pair],
    model: str,
    features: Course,
    *,
    task: str,
    settings: EvaluateSettings,
    windows: WindowsSettings,
) -> list[TileScores]:
    tests = [(pair, _moments(pair, "test", windows=windows, every=1)) for pair in group]
    tests = [(pair, moments) for pair, moments in tests if moments.count > 1]
    learned, judging = (
        [
            part.some(max(1, _MOST_FITTED // len(group)))
            for pair in group
            if (part := _moments(pair, role, windows=windows, every=_FITTED_PER_WINDOW)).count
        ]
        for role in ("train", "validation")
    )
    if not tests or sum(part.count for part in learned) < 2:
        return []
    translate = None if model == NULL else _fitted(learned, judging, features, penalties=settings.ridge_penalties)
    scores: list[TileScores] = []
    for pair, moments in tests:
        found = None if translate is None else ranks(*translate(*moments.features(features)))
        for nearest in _NEAREST:
            if nearest >= moments.count:
                continue
            if found is None:
                gain = np.full(moments.count, nearest / moments.count)
            else:
                gain = (found < nearest).astype(np.float64)
            scores.append(
                TileScores(
                    roles=pair.first.roles,
                    task=task,
                    metric=f"recall@{nearest}",
                    model=model,
                    gain=gain[:, None],
                    total=np.ones((moments.count, 1)),
                )
            )
    return scores


def ranks(mapped: Floats, actual: Floats) -> npt.NDArray[np.int64]:
    """[moment] how many others agree at least as well with what is mapped as the simultaneous one does.

    Parameters
    ----------
    mapped, actual
        [moment, step, feature] standardised; agreement is the cosine of the angle between all of a moment's steps.
    """
    flat = (part.reshape(len(part), -1) for part in (mapped, actual))
    one, two = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in flat)
    agreement = one @ two.T
    counted: npt.NDArray[np.int64] = (agreement >= np.diag(agreement)[:, None]).sum(axis=1) - 1
    return counted


@dataclass(frozen=True, kw_only=True)
class _Translation:
    """A linear map from standardised features of one side to those of the other, the same in every step."""

    mean: tuple[Floats, Floats]
    sd: tuple[Floats, Floats]
    weights: Floats
    """[feature of the first, feature of the second]"""

    @classmethod
    def fit(cls, first: Floats, second: Floats, *, penalty: float) -> _Translation:
        """Fit by ridge regression; `penalty` is a multiple of the mean variance of a feature."""
        sides = first, second = first.reshape(-1, first.shape[-1]), second.reshape(-1, second.shape[-1])
        mean = first.mean(axis=0), second.mean(axis=0)
        sd = first.std(axis=0), second.std(axis=0)
        sd = np.where(sd[0] > 0, sd[0], 1.0), np.where(sd[1] > 0, sd[1], 1.0)
        x, y = ((side - centre) / spread for side, centre, spread in zip(sides, mean, sd, strict=True))
        amount = penalty * max(float((x**2).sum()) / x.shape[1], 1e-12)
        if len(x) > x.shape[1]:
            weights = np.linalg.solve(x.T @ x + amount * np.eye(x.shape[1]), x.T @ y)
        else:  # The same by the products of the windows, of which there are fewer.
            weights = x.T @ np.linalg.solve(x @ x.T + amount * np.eye(len(x)), y)
        return cls(mean=mean, sd=sd, weights=weights)

    def __call__(self, first: Floats, second: Floats) -> tuple[Floats, Floats]:
        """Map the first, and standardise the second."""
        x, y = ((side - self.mean[i]) / self.sd[i] for i, side in enumerate((first, second)))
        return x @ self.weights, y


def _fitted(
    learned: Sequence[_Moments], judging: Sequence[_Moments], features: Course, *, penalties: Sequence[float]
) -> _Translation:
    """Fit with the penalty that judges best: on validation, or on the last fifth where there is none."""
    first, second = _together(learned, features)
    if judging:
        fitted, judge = (first, second), _together(judging, features)
    else:
        kept = max(1, len(first) - int(np.ceil(TUNING_SHARE * len(first))))
        fitted, judge = (first[:kept], second[:kept]), (first[kept:], second[kept:])
    errors = []
    for penalty in penalties:
        mapped, actual = _Translation.fit(*fitted, penalty=penalty)(*judge)
        errors.append(float(((mapped - actual) ** 2).mean()))
    return _Translation.fit(first, second, penalty=penalties[int(np.argmin(errors))])


def _together(parts: Sequence[_Moments], features: Course) -> tuple[Floats, Floats]:
    first, second = zip(*(part.features(features) for part in parts), strict=True)
    return np.concatenate(first), np.concatenate(second)


def _moments(pair: Pair, role: Role, *, windows: WindowsSettings, every: int) -> _Moments:
    """Find when both sides have a role and are fit for use: `every` windows begin in the length of one."""
    lengths = [windows.of(view.modality).window_samples for view in (pair.first, pair.second)]
    length_s = max(n / view.sampling_rate_hz for n, view in zip(lengths, (pair.first, pair.second), strict=True))
    begins = [
        begin + length_s / every * np.arange(int((end - begin - length_s) / length_s * every + _ROUNDING) + 1)
        for begin, end in pair.shared(role)
        if end - begin >= length_s - _ROUNDING
    ]
    time_s = np.concatenate([np.zeros(0), *begins])
    sides, kept = [], np.ones(len(time_s), dtype=np.bool_)
    for view, samples in zip((pair.first, pair.second), lengths, strict=True):
        own = max(1, int(length_s * view.sampling_rate_hz / samples + _ROUNDING))
        starts = samples_at(view, time_s)
        kept &= inside(view, role, starts, samples=own * samples)
        kept[kept] = [view.valid[s : s + own * samples].mean() >= _LEAST_VALID for s in starts[kept].tolist()]
        sides.append(_Side(view=view, samples=samples, starts=starts[:, None] + samples * np.arange(own)))
    first, second = (replace(side, starts=side.starts[kept]) for side in sides)
    return _Moments(sides=(first, second))
