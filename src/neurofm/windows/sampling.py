"""Sampling: which windows are learned from at a training step, as a pure function of seed and step.

There is no sampler to save: a run that is killed and started again draws at step n what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Segment
from neurofm.windows.settings import WindowSettings

_FEWEST_EPISODES = 2
_SHOWN_AT_LEAST = 0.5
"""Smallest share of the channels not hidden that a step shows."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Targets from one part of a recording's train segments, everything that describes it from other parts."""

    targets: tuple[Segment, ...]
    calibration: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A recording as the sampler sees it."""

    dataset: str
    name: str
    modality: Modality
    train_samples: int
    window_samples: int
    """Shorter than the modality's window where the recording is too short to be cut in two otherwise."""
    usable: npt.NDArray[np.int64]
    """Channels that can be hidden or shown."""
    episodes: tuple[Episode, ...]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What one training step learns from."""

    source: int
    """Index into the sources."""
    episode: int
    starts: npt.NDArray[np.int64]
    """[window] first sample of each window."""
    hidden: npt.NDArray[np.int64]
    """Sorted channels that are hidden in all windows of the step."""
    visible: npt.NDArray[np.int64]
    """Sorted channels that are shown."""


def source_of(
    roles: FoldRecording, *, usable: npt.NDArray[np.bool_], window: WindowSettings, episodes: int
) -> Source | None:
    """Cut a recording's train segments into episodes.

    The train segments, laid end to end, are cut into as many equal chunks as `episodes`, or fewer (at least two)
    until each holds a window; if two halves do not, the window is shortened to whole patches. Targets of an
    episode come from one chunk. What describes the recording comes from all others; for a recording split by
    subject from the next one only, since an unseen subject is described from a short span too.

    Parameters
    ----------
    roles
        Train segments and how the recording is split.
    usable
        [channel]
    window
        Of the modality.
    episodes
        Chunks wanted.

    Returns
    -------
    None where there is nothing to learn: no train segments, fewer than two usable channels, or not even two
    patches of signal.
    """
    channels = np.flatnonzero(usable)
    if not roles.train or len(channels) < 2:
        return None
    chunks: list[tuple[Segment, ...]] = []
    samples = 0
    for count in range(max(episodes, _FEWEST_EPISODES), _FEWEST_EPISODES - 1, -1):
        chunks = _chunks(roles.train, count=count)
        # The longest window that fits into every chunk, in whole patches.
        room = min(max((piece.stop - piece.start for piece in chunk), default=0) for chunk in chunks)
        samples = min(window.window_samples, room - room % window.patch_samples)
        if samples == window.window_samples:
            break
    if samples == 0:
        return None
    made = []
    for index, targets in enumerate(chunks):
        others = chunks[index + 1 :] + chunks[:index]
        if roles.kind == "subject":
            others = others[:1]
        made.append(Episode(targets=targets, calibration=tuple(piece for chunk in others for piece in chunk)))
    return Source(
        dataset=roles.dataset,
        name=f"{roles.dataset}/{roles.recording}",
        modality=roles.modality,
        train_samples=sum(segment.stop - segment.start for segment in roles.train),
        window_samples=samples,
        usable=channels.astype(np.int64),
        episodes=tuple(made),
    )


def draw(
    sources: Sequence[Source],
    *,
    seed: int,
    step: int,
    shares: Mapping[Modality, float],
    windows: int,
    hidden_fraction: tuple[float, float],
    dataset_shares: Mapping[str, float] = MappingProxyType({}),
) -> Draw:
    """Draw what training step `step` learns from.

    The modality follows `shares`, renormalised over the modalities that have data; the recording is drawn with
    a probability proportional to the square root of its train samples (within its dataset, where `dataset_shares`
    names one of the modality's); its episodes and window starts evenly.
    Of the channels that are not hidden a random half to all are shown, so that the model learns to do with fewer.

    Parameters
    ----------
    sources
        At least one, always in the same order.
    seed, step
        All that the draw depends on, besides the sources.
    shares
        Share of steps per modality.
    windows
        Windows in a step.
    hidden_fraction
        Smallest and largest share of usable channels that is hidden; at least one is hidden and one shown.
    dataset_shares
        Weight of datasets within their modality; one that is not named weighs as much as the mean of those that are.
    """
    rng = np.random.default_rng([seed, step])
    present = sorted({source.modality for source in sources if shares.get(source.modality, 0.0) > 0})
    weights = np.array([shares[modality] for modality in present])
    modality = present[rng.choice(len(present), p=weights / weights.sum())]
    among = [index for index, source in enumerate(sources) if source.modality is modality]
    roots = np.sqrt([sources[index].train_samples for index in among])
    roots *= _dataset_weights([sources[index].dataset for index in among], roots, shares=dataset_shares)
    chosen = among[rng.choice(len(among), p=roots / roots.sum())]
    source = sources[chosen]
    episode = int(rng.integers(len(source.episodes)))
    starts = _starts(source.episodes[episode].targets, window_samples=source.window_samples)
    fraction = rng.uniform(*hidden_fraction)
    count = int(np.clip(round(fraction * len(source.usable)), 1, len(source.usable) - 1))
    order = rng.permutation(source.usable)
    shown = max(1, round(rng.uniform(_SHOWN_AT_LEAST, 1.0) * (len(order) - count)))
    return Draw(
        source=chosen,
        episode=episode,
        starts=np.sort(rng.choice(starts, size=windows)),
        hidden=np.sort(order[:count]),
        visible=np.sort(order[count : count + shown]),
    )


def _dataset_weights(
    datasets: Sequence[str], roots: npt.NDArray[np.float64], *, shares: Mapping[str, float]
) -> npt.NDArray[np.float64] | float:
    """Return what each recording's weight is multiplied with, so that datasets are drawn by their shares."""
    totals = dict.fromkeys(datasets, 0.0)
    for dataset, root in zip(datasets, roots, strict=True):
        totals[dataset] += float(root)
    named = [shares[dataset] for dataset in totals if dataset in shares]
    if not named:
        return 1.0
    mean = sum(named) / len(named)
    return np.array([shares.get(dataset, mean) / totals[dataset] for dataset in datasets])


def _starts(segments: Sequence[Segment], *, window_samples: int) -> npt.NDArray[np.int64]:
    """Every start of a window that lies wholly inside a segment."""
    ranges = [np.arange(segment.start, segment.stop - window_samples + 1) for segment in segments]
    return np.concatenate(ranges).astype(np.int64)


def _chunks(segments: Sequence[Segment], *, count: int) -> list[tuple[Segment, ...]]:
    """Cut segments, laid end to end, into `count` chunks of nearly equal length."""
    total = sum(segment.stop - segment.start for segment in segments)
    edges = [round(index * total / count) for index in range(count + 1)]
    chunks = []
    for low, high in pairwise(edges):
        pieces = []
        passed = 0
        for segment in segments:
            length = segment.stop - segment.start
            first, last = max(low - passed, 0), min(high - passed, length)
            if first < last:
                pieces.append(Segment(start=segment.start + first, stop=segment.start + last))
            passed += length
        chunks.append(tuple(pieces))
    return chunks
