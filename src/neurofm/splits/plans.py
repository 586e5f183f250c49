"""Plans: what one recording is for in one fold, once the role of its being, session or blocks is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neurofm.splits.candidates import Candidate
from neurofm.splits.folds import FoldRecording, Kind, Role, Segment
from neurofm.splits.settings import SplitSettings

RolesOf = Callable[[int, int], Sequence[Role]]
"""Roles of so many blocks, in order, in a fold."""


def roles_in_turn(count: int, *, fold: int, settings: SplitSettings) -> list[Role]:
    """Roles of `count` subjects or blocks, in order.

    Every k-th is scored (k-fold), or a fixed share (one fold). Validation is spread evenly over what remains,
    starting elsewhere in each fold.
    """
    if settings.folds > 1:
        test = {index for index in range(count) if index % settings.folds == fold}
    else:
        wanted = max(1, round(count * settings.test_fraction))
        test = {round((index + 0.5) * count / wanted - 0.5) for index in range(wanted)}
    rest = [index for index in range(count) if index not in test]
    validation = _spread(rest, count=count, first=max(test) + 1 if test else 0, settings=settings)
    return ["test" if index in test else "validation" if index in validation else "train" for index in range(count)]


def learning_roles(count: int, *, fold: int, settings: SplitSettings) -> list[Role]:
    """Roles of `count` subjects or blocks of which nothing is scored: a share, other in each fold, is chosen on."""
    validation = _spread(list(range(count)), count=count, first=fold % count, settings=settings)
    return ["validation" if index in validation else "train" for index in range(count)]


def _spread(rest: Sequence[int], *, count: int, first: int, settings: SplitSettings) -> set[int]:
    wanted = max(1, round(len(rest) * settings.validation_fraction))
    turned = sorted(rest, key=lambda index: (index - first) % count)
    return {turned[index * len(turned) // wanted] for index in range(wanted)}


def entry(
    recording: Candidate, *, kind: Kind, calibration: Sequence[Segment], **roles: Sequence[Segment]
) -> FoldRecording:
    """Say what a recording is for in one fold."""
    return FoldRecording(
        dataset=recording.dataset,
        recording=recording.recording,
        subject=recording.subject,
        session=recording.session if kind == "session" else "",
        modality=recording.modality,
        kind=kind,
        calibration=tuple(calibration),
        **{role: tuple(segments) for role, segments in roles.items()},
    )


def train_only(recording: Candidate) -> FoldRecording:
    """Learn from all of it."""
    whole = [Segment(start=0, stop=recording.samples)]
    return entry(recording, kind="train-only", calibration=whole, train=whole)


def whole(recording: Candidate, *, role: Role, kind: Kind, settings: SplitSettings) -> FoldRecording:
    """Learn from all of it, or choose or score on what follows its calibration."""
    if role == "train":
        every = [Segment(start=0, stop=recording.samples)]
        return entry(recording, kind=kind, calibration=every, train=every)
    seen = round(recording.samples * settings.calibration_fraction)
    after = {role: [Segment(start=seen, stop=recording.samples)]}
    return entry(recording, kind=kind, calibration=[Segment(start=0, stop=seen)], **after)


def in_blocks(
    recording: Candidate, *, fold: int, settings: SplitSettings, window_samples: int, roles_of: RolesOf
) -> FoldRecording:
    """Cut into blocks; where neighbours differ in role, drop half a gap from each side of the border.

    A recording too short for that is learned from as a whole.
    """
    gap = window_samples + round(recording.support_s * recording.sampling_rate_hz)
    # A block loses at most one gap (half at each end): it should keep as much again, and must keep a window.
    needed = gap + window_samples + 1
    least = -(-3 // settings.folds) * settings.folds
    if recording.samples // least < needed:
        return train_only(recording)
    count = max(least, min(settings.blocks, recording.samples // max(2 * gap, needed)))
    count -= count % settings.folds
    edges = [round(index * recording.samples / count) for index in range(count + 1)]
    segments: dict[Role, list[Segment]] = {"train": [], "validation": [], "test": []}
    roles = roles_of(count, fold)
    first = 0
    while first < count:
        last = first
        while last + 1 < count and roles[last + 1] == roles[first]:
            last += 1
        start = edges[first] + (gap // 2 if first > 0 else 0)
        stop = edges[last + 1] - (gap - gap // 2 if last + 1 < count else 0)
        segments[roles[first]].append(Segment(start=start, stop=stop))
        first = last + 1
    return entry(
        recording,
        kind="time",
        calibration=segments["train"],
        train=segments["train"],
        validation=segments["validation"],
        test=segments["test"],
    )
