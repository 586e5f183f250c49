"""Sampling: which windows are learned from at a training step, as a pure function of seed and step.

There is no sampler to save: a run that is killed and started again draws at step n what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.recording import Modality
from neurofm.splits import UNSEEN, FoldRecording, Segment
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
class Block:
    """Samples of one episode's targets that are decoded together."""

    number: int
    """Its own."""
    source: int
    """Index into the sources."""
    episode: int
    segments: tuple[Segment, ...]
    """Each holds a window at least."""

    window_samples: int

    @cached_property
    def samples(self) -> int:
        """How many samples it holds."""
        return sum(segment.stop - segment.start for segment in self.segments)

    @cached_property
    def _firsts(self) -> npt.NDArray[np.int64]:
        return np.array([segment.start for segment in self.segments])

    @cached_property
    def _before(self) -> npt.NDArray[np.int64]:
        """[segment] samples that lie before it."""
        return np.cumsum([0, *(segment.stop - segment.start for segment in self.segments[:-1])])

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """[segment] windows up to and with it."""
        return np.cumsum([segment.stop - segment.start - self.window_samples + 1 for segment in self.segments])

    @property
    def windows(self) -> int:
        """How many windows lie in it."""
        return int(self._ends[-1])

    def starts(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the first samples of windows, which are numbered from 0 on."""
        if len(self.segments) == 1:
            return np.asarray(numbers + self._firsts[0], dtype=np.int64)
        within = self._ends.searchsorted(numbers, side="right")
        passed = np.concatenate([[0], self._ends[:-1]])
        return np.asarray(self._firsts[within] + numbers - passed[within], dtype=np.int64)

    def rows(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where samples of the recording lie when the segments are laid end to end."""
        if len(self.segments) == 1:
            return np.asarray(starts - self._firsts[0], dtype=np.int64)
        within = self._firsts.searchsorted(starts, side="right") - 1
        return np.asarray(self._before[within] + starts - self._firsts[within], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What one training step learns from."""

    source: int
    """Index into the sources."""
    block: Block
    """Holds the windows; its episode tells what the recording is described from."""
    starts: npt.NDArray[np.int64]
    """[window] first sample of each window."""
    hidden: npt.NDArray[np.int64]
    """Sorted channels that are hidden in all windows of the step."""
    visible: npt.NDArray[np.int64]
    """Sorted channels that are shown."""

    def of_rank(self, rank: int, *, world_size: int) -> Draw:
        """Return the windows of one of several processes; all of them together see what one alone would."""
        return replace(self, starts=self.starts[rank::world_size])


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
        if roles.kind in UNSEEN:
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


def blocks_of(sources: Sequence[Source], *, most_samples: Sequence[int | None]) -> tuple[Block, ...]:
    """Cut the sources' episodes into blocks of at most `most_samples` [source], or one per episode where it is None.

    Blocks of one segment share a window less one sample, so that every window of the segment lies in one of them.
    """
    cuts = (
        (number, episode, segments)
        for number, (source, most) in enumerate(zip(sources, most_samples, strict=True))
        for episode, segments in _cut(source, most)
    )
    return tuple(
        Block(
            number=at,
            source=number,
            episode=episode,
            segments=segments,
            window_samples=sources[number].window_samples,
        )
        for at, (number, episode, segments) in enumerate(cuts)
    )


def _cut(source: Source, most_samples: int | None) -> Iterator[tuple[int, tuple[Segment, ...]]]:
    """Yield episode and segments of each block of a source."""
    window = source.window_samples
    for episode, said in enumerate(source.episodes):
        long = tuple(piece for piece in said.targets if piece.stop - piece.start >= window)
        if not long:
            continue
        if most_samples is None or sum(piece.stop - piece.start for piece in long) <= most_samples:
            yield episode, long
            continue
        for piece in long:
            starts = piece.stop - piece.start - window + 1
            edges = np.linspace(0, starts, -(-starts // max(1, most_samples - window + 1)) + 1).round().astype(int)
            for low, high in pairwise(edges.tolist()):
                yield episode, (Segment(start=piece.start + low, stop=piece.start + high + window - 1),)


class Choices:
    """What a step may draw: some blocks, and how often each recording of theirs is to come.

    The modality follows `shares`, renormalised over the modalities that have data; the recording is drawn with
    a probability proportional to the square root of its train samples (within its dataset, where `dataset_shares`
    names one of the modality's) and to the part of it that is among the blocks; its blocks and window starts evenly.
    Of the channels that are not hidden a random half to all are shown, so that the model learns to do with fewer.

    Parameters
    ----------
    sources
        At least one, always in the same order.
    blocks
        At least one of some modality with a share.
    shares
        Share of steps per modality.
    dataset_shares
        Weight of datasets within their modality; one that is not named weighs as much as the mean of those that are.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        blocks: Sequence[Block],
        *,
        shares: Mapping[Modality, float],
        dataset_shares: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._sources = sources
        self._blocks: dict[int, list[Block]] = {}
        for block in blocks:
            self._blocks.setdefault(block.source, []).append(block)
        found = {sources[index].modality for index in self._blocks}
        self._modalities = sorted(modality for modality in found if shares.get(modality, 0.0) > 0)
        self._below = _below([shares[modality] for modality in self._modalities])
        self._among: dict[Modality, tuple[list[int], npt.NDArray[np.float64]]] = {}
        for modality in self._modalities:
            among = [index for index in sorted(self._blocks) if sources[index].modality is modality]
            roots = np.sqrt([sources[index].train_samples for index in among])
            roots *= _dataset_weights([sources[index].dataset for index in among], roots, shares=dataset_shares)
            roots *= [self._part(index) for index in among]
            self._among[modality] = (among, _below(roots))

    def _part(self, index: int) -> float:
        """Return the part of a recording's windows that the blocks hold."""
        source = self._sources[index]
        pieces = [piece for episode in source.episodes for piece in episode.targets]
        every = sum(max(0, piece.stop - piece.start - source.window_samples + 1) for piece in pieces)
        return sum(block.windows for block in self._blocks[index]) / every

    def draw(self, *, seed: int, step: int, windows: int, hidden_fraction: tuple[float, float]) -> Draw:
        """Draw what training step `step` learns from.

        Parameters
        ----------
        seed, step
            All that the draw depends on, besides the blocks.
        windows
            Windows in a step.
        hidden_fraction
            Smallest and largest share of usable channels that is hidden; at least one is hidden and one shown.
        """
        rng = np.random.default_rng([seed, step])
        modality = self._modalities[int(self._below.searchsorted(rng.random(), side="right"))]
        among, below = self._among[modality]
        chosen = among[int(below.searchsorted(rng.random(), side="right"))]
        source = self._sources[chosen]
        block = self._blocks[chosen][int(rng.integers(len(self._blocks[chosen])))]
        low, high = hidden_fraction
        wanted = round((low + (high - low) * rng.random()) * len(source.usable))
        count = min(max(wanted, 1), len(source.usable) - 1)
        order = rng.permutation(source.usable)
        part = _SHOWN_AT_LEAST + (1 - _SHOWN_AT_LEAST) * rng.random()
        shown = max(1, round(part * (len(order) - count)))
        return Draw(
            source=chosen,
            block=block,
            starts=block.starts(np.sort(rng.integers(0, block.windows, size=windows))),
            hidden=np.sort(order[:count]),
            visible=np.sort(order[count : count + shown]),
        )


def refuse_absent(dataset_shares: Mapping[str, float], present: set[str]) -> None:
    """Refuse shares of datasets of which there is no recording.

    Raises
    ------
    UserError
        Naming the first.
    """
    if absent := sorted(set(dataset_shares) - present):
        raise UserError(
            f"dataset_shares: {absent[0]!r} has no recording to learn from; there are {', '.join(sorted(present))}.",
            mend=f"take {absent[0]!r} out of dataset_shares, or give it recordings long enough in the train split",
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


def _below(weights: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of the weights up to and with each; where an even number in [0, 1) falls says which is drawn."""
    sums = np.cumsum(weights)
    below: npt.NDArray[np.float64] = sums / sums[-1]
    return below


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
