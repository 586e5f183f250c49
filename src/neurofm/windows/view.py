"""View: one recording as one fold may see it, decoded in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.recording import Modality
from neurofm.shards import Moment, Shard, read_shard
from neurofm.shards.packed import PackedShard
from neurofm.splits import FoldRecording, Segment, Splits
from neurofm.windows.normaliser import Normaliser, fit_normaliser
from neurofm.windows.samples import Samples
from neurofm.windows.signal import StoredSignal


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
    stored: Samples | npt.NDArray[np.uint8] | npt.NDArray[np.int16]
    """[time, channel] as on disk; `Samples` decode what is asked for."""
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
    moment: Moment | None = None
    """When it was recorded."""

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
        signal = self.signal
        z = signal.standardised(self.stored[start:stop])
        z[~self.valid[start:stop]] = 0.0
        return z

    @property
    def signal(self) -> StoredSignal:
        """What is stored, and how it becomes the normaliser's SDs."""
        usable, normaliser = self.usable, self.normaliser
        return StoredSignal(
            samples=self.stored,
            valid=self.valid,
            gain=np.where(usable, self.scale / normaliser.sd, 0.0).astype(np.float32),
            bias=np.where(usable, (self.offset - normaliser.mean) / normaliser.sd, 0.0).astype(np.float32),
        )

    def z_segments(self, segments: Sequence[Segment]) -> list[npt.NDArray[np.float32]]:
        """`z` of each segment."""
        return [self.z(segment.start, segment.stop) for segment in segments]


def load_views(
    splits: Splits,
    *,
    fold: int,
    shards: Path,
    decoded: bool = True,
    datasets: Collection[str] = (),
    names: Collection[str] = (),
) -> list[RecordingView]:
    """Load every recording that takes part in `fold`.

    Parameters
    ----------
    splits
        What `neurofm.splits` decided.
    fold
        Which fold.
    shards
        ``data/shards``.
    decoded
        Whether to hold all samples. Without them they are decoded when they are asked for, and what is damaged of them
        is skipped.
    datasets
        Whose recordings; of all datasets without.
    names
        Which recordings, as ``<dataset>/<recording>``; all of them without.

    Raises
    ------
    Unreadable
        If a shard is not whole; of what is only decoded later, other things than a damaged chunk.
    """
    views = []
    for entry in splits.folds[fold].recordings:
        if datasets and entry.dataset not in datasets:
            continue
        if names and f"{entry.dataset}/{entry.recording}" not in names:
            continue
        path = shards / entry.dataset / f"{entry.recording}.zarr.zip"
        shard = read_shard(path, signal=decoded)
        stored = shard.stored if decoded else Samples(array=PackedShard(path).array("signal"), valid=shard.valid)
        views.append(_view(shard, entry, stored))
    return views


def load_view(path: Path, *, calibration_s: float | None = None) -> RecordingView:
    """Load a recording that is in no split: to be described and encoded, not scored.

    Parameters
    ----------
    path
        ``<recording>.zarr.zip``.
    calibration_s
        Seconds at its beginning that may be looked at to normalise and describe it; all of it without.

    Raises
    ------
    Unreadable
        If the shard is not whole.
    """
    shard = read_shard(path)
    recording, samples = shard.recording, len(shard.stored)
    stop = samples if calibration_s is None else min(samples, max(1, round(calibration_s * shard.sampling_rate_hz)))
    roles = FoldRecording(
        dataset=recording.dataset,
        recording=path.name.removesuffix(".zarr.zip"),
        subject=recording.subject,
        modality=recording.modality,
        kind="subject",
        calibration=(Segment(start=0, stop=stop),),
    )
    return _view(shard, roles, shard.stored)


def _view(shard: Shard, roles: FoldRecording, stored: Samples | npt.NDArray[Any]) -> RecordingView:
    recording = shard.recording
    calibration = [
        (stored[part.start : part.stop] * shard.scale + shard.offset).astype(np.float32)[
            shard.valid[part.start : part.stop]
        ]
        for part in roles.calibration
    ]
    identity = f"{recording.channels.space}:{','.join(recording.channels.id)}"
    # Units and ROIs are numbered anew in every session: equal ids are the same channel only in an atlas or a montage.
    shared = recording.modality in (Modality.FMRI, Modality.EEG, Modality.MEG)
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
        stored=stored,
        scale=shard.scale,
        offset=shard.offset,
        valid=shard.valid,
        roles=roles,
        normaliser=fit_normaliser(calibration, usable=shard.usable),
        targets={name: target.values.astype(np.float32) for name, target in recording.targets.items()},
        moment=shard.moment(samples=len(shard.valid)),
    )
