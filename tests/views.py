"""Recordings as one fold sees them, of values that a test makes or reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Kind, Segment
from neurofm.windows import RecordingView, fit_normaliser

Span = tuple[int, int]


def spans(given: Sequence[Span]) -> tuple[Segment, ...]:
    return tuple(Segment(start=start, stop=stop) for start, stop in given)


def view_of(
    values: npt.NDArray[np.float64],
    *,
    modality: Modality,
    name: str = "r",
    channel_set: str = "",
    kind: Kind = "time",
    train: Sequence[Span] = (),
    validation: Sequence[Span] = (),
    test: Sequence[Span] = (),
    calibration: Sequence[Span] | None = None,
) -> RecordingView:
    """Wrap [time, channel] values as a view; calibration is the train segments unless given."""
    roles = FoldRecording(
        dataset=str(modality),
        recording=name,
        subject=f"lab:{name}",
        modality=modality,
        kind=kind,
        calibration=spans(train if calibration is None else calibration),
        train=spans(train),
        validation=spans(validation),
        test=spans(test),
    )
    channels = values.shape[1]
    spikes = modality is Modality.SPIKES
    stored = values.astype(np.uint8) if spikes else np.round(values * 1000).astype(np.int16)
    scale = np.full(channels, 1.0 if spikes else 0.001)
    parts = [stored[segment.start : segment.stop] * scale for segment in roles.calibration]
    return RecordingView(
        dataset=roles.dataset,
        recording=name,
        subject=roles.subject,
        modality=modality,
        sampling_rate_hz=10.0,
        channel_ids=tuple(f"c{index}" for index in range(channels)),
        position=np.full((channels, 3), np.nan, dtype=np.float32),
        position_unit="",
        region=("",) * channels,
        channel_set=channel_set or f"{modality}-{name}",
        stored=stored,
        scale=scale,
        offset=np.zeros(channels),
        valid=np.ones(len(values), dtype=bool),
        roles=roles,
        normaliser=fit_normaliser(parts, usable=np.ones(channels, dtype=bool)),
        targets={},
    )
