"""At once: recordings of one moment by several modalities are cut in time at the same seconds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from neurofm.errors import UserError
from neurofm.recording import SHARED_CLOCK, Modality
from neurofm.shards import Moment
from neurofm.splits.candidates import Candidate
from neurofm.splits.folds import FoldRecording, Segment
from neurofm.splits.plans import RolesOf, in_blocks, train_only
from neurofm.splits.settings import SplitSettings

_ROUNDING = 1e-6
"""Of a sample: times are sums of floats."""


def companions_of(recordings: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """Find who was recorded at once, by the name of each; itself among them, and nobody where it is alone."""
    by_clock: defaultdict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for one in recordings:
        if one.moment is not None:
            by_clock[one.moment.clock, one.subject].append(one)
    several = (own for own in by_clock.values() if len({one.modality for one in own}) > 1)
    return {one.name: own for own in several for one in own}


def refuse_two_of_a_kind(recordings: Sequence[Candidate]) -> None:
    """Refuse that two recordings of one dataset are of one moment of a third, by what the catalogue says.

    Raises
    ------
    UserError
        If two of a modality overlap on a clock that the catalogue names: to the clock they are one run.
    """
    for own in {id(own): own for own in companions_of(recordings).values()}.values():
        alike: defaultdict[tuple[str, Modality], list[Candidate]] = defaultdict(list)
        for one in own:
            if _moment(one).clock.startswith(SHARED_CLOCK):
                alike[one.dataset, one.modality].append(one)
        for several in alike.values():
            several.sort(key=lambda one: _moment(one).begin_s)
            for one, other in pairwise(several):
                if _moment(other).begin_s < _moment(one).end_s:
                    raise UserError(
                        f"split: {one.name} and {other.name} are of the same seconds on one `clock`, as one run.",
                        mend=f"name `run` in `recordings.pattern` of {one.dataset}",
                    )


def in_blocks_at_once(
    one: Candidate,
    companions: Sequence[Candidate],
    *,
    fold: int,
    settings: SplitSettings,
    window_samples: Mapping[Modality, int],
    roles_of: RolesOf,
) -> FoldRecording | None:
    """Cut one of several recordings as all of them are cut: over the time of all, with the longest gap of any.

    Returns
    -------
    What it is for. None where it has no train segment of a window's length, as where all of it lies in others' test
    block: it could not be normalised. Without such a validation segment it is not scored.
    """
    rate_hz = max(other.sampling_rate_hz for other in companions)
    moments = [_moment(other) for other in companions]
    begin_s = min(moment.begin_s for moment in moments)
    longest_s = max(window_samples[other.modality] / other.sampling_rate_hz for other in companions)
    whole = replace(
        one,
        samples=round((max(moment.end_s for moment in moments) - begin_s) * rate_hz),
        sampling_rate_hz=rate_hz,
        support_s=max(other.support_s for other in companions),
    )
    window = math.ceil(longest_s * rate_hz - _ROUNDING)
    planned = in_blocks(whole, fold=fold, settings=settings, window_samples=window, roles_of=roles_of)
    if planned.kind == "train-only":
        return train_only(one)

    needed = window_samples[one.modality]

    def own(segments: Sequence[Segment]) -> tuple[Segment, ...]:
        def at(sample: int) -> float:
            return (begin_s + sample / rate_hz - _moment(one).begin_s) * one.sampling_rate_hz

        cuts = (
            (max(0, math.ceil(at(s.start) - _ROUNDING)), min(one.samples, math.floor(at(s.stop) + _ROUNDING)))
            for s in segments
        )
        return tuple(Segment(start=start, stop=stop) for start, stop in cuts if stop - start >= needed)

    train, validation, test = own(planned.train), own(planned.validation), own(planned.test)
    if not train:
        return None
    if not validation:
        test = ()  # No setting could be chosen for it.
    return planned.model_copy(update={"calibration": train, "train": train, "validation": validation, "test": test})


def _moment(one: Candidate) -> Moment:
    assert one.moment is not None
    return one.moment
