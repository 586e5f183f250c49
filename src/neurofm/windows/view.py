"""View: one recording as one fold may see it, decoded in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.recording import Modality
from neurofm.shards import Shard, read_shard
from neurofm.splits import FoldRecording, Segment, Splits
from neurofm.windows.normaliser import Normaliser, fit_normaliser


@dataclass(frozen=True, kw_only=True)
class RecordingView:
    """One recording as one fold may see it.

    `roles` says where targets for training, validation and test lie and which samples (`calibration`) may
    be looked at to normalise and describe the recording. The normaliser is fitted on calibration samples only.
    """

    dataset: str
    recording: str
    subject: str
    modality: Modality
    sampling_rate_hz: float
    channel_ids: tuple[str, ...]
    position: npt.NDArray[np.float32]
    """[channel, 3] in `position_unit`; NaN where unknown."""
    position_unit: str
    region: tuple[str, ...]
    """[channel] ontology names; empty strings where unknown."""
    channel_set: str
    """Recordings with the same channel set (an atlas) have the same channels in the same order, so that
    statistics across channels can be shared between them."""
    stored: npt.NDArray[np.uint8] | npt.NDArray[np.int16]
    """[time, channel] as on disk."""
    scale: npt.NDArray[np.float64]
    """[channel]"""
    offset: npt.NDArray[np.float64]
    """[channel]"""
    valid: npt.NDArray[np.bool_]
    """[time]"""
    roles: FoldRecording
    normaliser: Normaliser
    targets: Mapping[str, npt.NDArray[np.float32]]
    """[time, k] per name; NaN where it was not measured."""

    @property
    def name(self) -> str:
        """``<dataset>/<recording>``."""
        return f"{self.dataset}/{self.recording}"

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """[channel] fit for use in this fold."""
        return self.normaliser.usable

    def values(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """[time, channel] in physical units (counts per bin for spikes)."""
        return (self.stored[start:stop] * self.scale + self.offset).astype(np.float32)

    def z(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """[time, channel] in the normaliser's SDs; unusable channels and invalid samples are 0."""
        z = self.normaliser.z(self.values(start, stop))
        z[~self.valid[start:stop]] = 0.0
        return z

    def z_segments(self, segments: Sequence[Segment]) -> list[npt.NDArray[np.float32]]:
        """`z` of each segment."""
        return [self.z(segment.start, segment.stop) for segment in segments]


def load_views(splits: Splits, *, fold: int, shards: Path) -> list[RecordingView]:
    """Load every recording that takes part in `fold`.

    Parameters
    ----------
    splits
        What `neurofm.splits` decided.
    fold
        Which fold.
    shards
        ``data/shards``.
    """
    return [
        _view(read_shard(shards / entry.dataset / f"{entry.recording}.zarr.zip"), entry)
        for entry in splits.folds[fold].recordings
    ]


def _view(shard: Shard, roles: FoldRecording) -> RecordingView:
    recording = shard.recording
    calibration = [
        shard.values(segment.start, segment.stop)[shard.valid[segment.start : segment.stop]]
        for segment in roles.calibration
    ]
    identity = f"{recording.channels.space}:{','.join(recording.channels.id)}"
    # Units and ROIs are numbered anew in every session: equal ids are the same channel only in an atlas or a montage.
    shared = recording.modality in (Modality.FMRI, Modality.EEG)
    if not shared:
        identity += f":{roles.dataset}/{roles.recording}"
    return RecordingView(
        dataset=roles.dataset,
        recording=roles.recording,
        subject=roles.subject,
        modality=recording.modality,
        sampling_rate_hz=shard.sampling_rate_hz,
        channel_ids=recording.channels.id,
        position=recording.channels.position.astype(np.float32),
        position_unit=recording.channels.position_unit,
        region=recording.channels.region or ("",) * len(recording.channels),
        channel_set=f"{recording.modality}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}",
        stored=shard.stored,
        scale=shard.scale,
        offset=shard.offset,
        valid=shard.valid,
        roles=roles,
        normaliser=fit_normaliser(calibration, usable=shard.usable),
        targets={name: target.values.astype(np.float32) for name, target in recording.targets.items()},
    )
