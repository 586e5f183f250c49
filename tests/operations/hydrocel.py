"""Real EEG on 129 channels, and a tiny model of it: what the challenges need where no signal of HBN is at hand.

EEGMAT (19 electrodes, 40 s of rest) and EEGLAB's tutorial set (32 electrodes, a task with response times) are brought
to 100 Hz and laid on the HydroCel net: each of its 128 electrodes gets the weighted mean of the nearest three that were
recorded, and Cz is flat, as in HBN. Response times are the tutorial's own. No factor of HBN goes with these people:
their age stands where externalizing would. The end of the task stands for a person who is held out.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
import numpy.typing as npt
import torch
from scipy.signal import resample_poly

from neurofm.model.core import CoreSettings, Moments
from neurofm.model.settings import ModelSettings
from neurofm.model.whole_channels import network_of
from neurofm.recording import Channels, Clock, Modality, Recording, Signal, Target
from neurofm.shards import Provenance, write_shard
from neurofm.splits import Fold, FoldRecording, Segment, Splits
from neurofm.training.acquisition import acquisitions
from neurofm.training.checkpoint import Checkpoint, digest, patch_samples, write_checkpoint
from neurofm.training.contexts import CoreChoice, moments_of
from neurofm.training.tuning import CoreChoices
from neurofm.windows import WindowsSettings, load_views

Array = npt.NDArray[np.float64]
RATE_HZ, SAMPLES = 100, 200
REST = ("00", "09", "13", "01", "19", "24")
"""Subjects of EEGMAT: the first three train, the next validates, two are held out."""
TASK_S, TASK_TEST = 160, 10_000
"""How much of the task is taken, and the first sample that is held out."""
WINDOW_S = (0.5, 2.5)
_PROVENANCE = Provenance(
    archive="local", source_id="x", version="1", files=(), licence="CC0-1.0", citation="x", libraries={}
)


@dataclass(frozen=True, kw_only=True)
class HydroCel:
    """A project with shards, splits and a model."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "models" / "pretrained" / "fold-0"

    @property
    def splits(self) -> Path:
        return self.root / "data" / "splits.json"

    @property
    def shards(self) -> Path:
        return self.root / "data" / "shards"

    def shard(self, recording: str) -> Path:
        return self.shards / "net" / f"{recording}.zarr.zip"


def make_hydrocel(root: Path, *, shared_data: Path) -> HydroCel:
    """Write shards, splits and a model."""
    made = HydroCel(root=root)
    ages = _ages(shared_data)
    entries = []
    for number, subject in enumerate(REST):
        values, names = _rest(shared_data, subject)
        role = "train" if number < 3 else "validation" if number == 3 else "test"
        recording = _on_net(values, names, montage="standard_1020", subject=subject, scalars=_scalars(ages[subject]))
        write_shard(recording, provenance=_PROVENANCE, path=made.shard(f"rest-{subject}"))
        entries.append(_entry(f"rest-{subject}", subject, "subject", {role: [(0, len(values))]}))
    values, names, onsets_s, times_s = _task(shared_data)
    target = _response_target(len(values), onsets_s, times_s)
    recording = _on_net(values, names, montage="standard_1005", subject="tutorial", targets={"response_time": target})
    write_shard(recording, provenance=_PROVENANCE, path=made.shard("task"))
    write_shard(replace(recording, subject="lab:later"), provenance=_PROVENANCE, path=made.shard("task-later"))
    parts = {"train": [(0, 7_000)], "validation": [(7_400, 9_600)], "test": [(TASK_TEST, len(values))]}
    entries.append(_entry("task-later", "later", "subject", {"test": parts["test"]}))
    entries.append(_entry("task", "tutorial", "time", parts))
    splits = Splits(schema="neurofm-splits/1", seed=0, folds=(Fold(recordings=tuple(entries)),), left_out=())
    splits.write(made.splits)
    _write_model(made, splits)
    return made


def _write_model(made: HydroCel, splits: Splits) -> None:
    """A network with drawn weights; what the channels have in common is of the train segments."""
    section = {"window_samples": SAMPLES, "patch_samples": 20}
    windows = WindowsSettings.parse(dict.fromkeys([str(m) for m in Modality], section), where="windows", mend="")
    settings = ModelSettings(backbone="transformer", width=16, layers=1, heads=2, dropout=0.1)
    torch.manual_seed(0)
    network = network_of(settings, patch_samples=patch_samples(windows)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # the head starts at zero
    core = CoreSettings(smoothing_samples=(0.0, 1.0), ridge=0.1, prior_samples=100.0)
    choice = CoreChoice(core=core, rate_floor=0.1)
    views = load_views(splits, fold=0, shards=made.shards)
    learned = [view for view in views if view.roles.train]
    prior = Moments.total(
        [moments_of(view, view.roles.train, sds_samples=core.smoothing_samples) for view in learned],
        channels=len(views[0].channel_ids),
        scales=2,
    )
    channel_set = views[0].channel_set
    write_checkpoint(
        Checkpoint(
            network=network,
            model=settings,
            windows=windows,
            gains={Modality.EEG: 0.5},
            choices=CoreChoices(by_channel_set={channel_set: choice}, by_modality={Modality.EEG: choice}),
            priors={channel_set: prior},
            acquisitions=acquisitions(views),
            prior_recordings=frozenset(digest(view.name) for view in learned),
            subjects=frozenset(digest(view.subject) for view in learned),
        ),
        made.model,
    )


def _entry(recording: str, subject: str, kind: Any, roles: dict[str, list[tuple[int, int]]]) -> FoldRecording:
    segments: dict[str, Any] = {
        name: tuple(Segment(start=a, stop=b) for a, b in spans) for name, spans in roles.items()
    }
    calibration = segments.get("train") or (Segment(start=0, stop=1000),)
    return FoldRecording(
        dataset="net",
        recording=recording,
        subject=f"lab:{subject}",
        modality=Modality.EEG,
        kind=kind,
        calibration=calibration,
        **segments,
    )


def _ages(shared_data: Path) -> dict[str, float]:
    with (shared_data / "eeg" / "eegmat" / "subject-info.csv").open(encoding="utf-8-sig") as file:
        return {row["Subject"].removeprefix("Subject"): float(row["Age"]) for row in csv.DictReader(file)}


def _scalars(age: float) -> dict[str, Any]:
    """Stand-ins for two factors; one of them has values that all lie within -1 and 1."""
    return {"externalizing": age, "p_factor": (age - 20) / 6, "attention": None}


def _rest(shared_data: Path, subject: str) -> tuple[Array, list[str]]:
    raw = mne.io.read_raw_edf(shared_data / "eeg" / "eegmat" / f"Subject{subject}_1.edf", preload=True, verbose="error")
    raw.pick(raw.ch_names[:19])
    return resample_poly(raw.get_data().T * 1e6, 1, 5), [name.removeprefix("EEG ") for name in raw.ch_names]


def _task(shared_data: Path) -> tuple[Array, list[str], list[float], list[float]]:
    """Values at 100 Hz, channels, when squares were shown, and how long until the press."""
    path = next((shared_data / "eeg" / "eeglab_sample").glob("*.set"))
    raw = mne.io.read_raw_eeglab(path, preload=True, verbose="error")
    known = set(mne.channels.make_standard_montage("standard_1005").ch_names)
    raw.pick([name for name in raw.ch_names if name in known])
    shown = [
        float(at)
        for at, what in zip(raw.annotations.onset, raw.annotations.description, strict=True)
        if what == "square"
    ]
    pressed = [
        float(at) for at, what in zip(raw.annotations.onset, raw.annotations.description, strict=True) if what == "rt"
    ]
    onsets, times = [], []
    for at in shown:
        after = [press - at for press in pressed if 0 < press - at < 2]
        if after:
            onsets.append(at)
            times.append(after[0])
    values = resample_poly(raw.get_data().T * 1e6, 25, 32)[: TASK_S * RATE_HZ]
    return values, list(raw.ch_names), onsets, times


def _response_target(samples: int, onsets_s: list[float], times_s: list[float]) -> Target:
    values = np.full((samples, 1), np.nan, dtype=np.float32)
    free = 0
    for onset, seconds in zip(onsets_s, times_s, strict=True):
        first = round((onset + WINDOW_S[0]) * RATE_HZ)
        if first >= free and first + SAMPLES <= samples:
            values[first : first + SAMPLES] = seconds
            free = first + SAMPLES + 1
    return Target(values=values, unit="s", columns=("response_time",), time_s=np.arange(samples) / RATE_HZ)


def _on_net(values: Array, names: list[str], *, montage: str, subject: str, **more: Any) -> Recording:
    """Lay channels on the net of 128 electrodes, and a flat Cz."""
    net = mne.channels.make_standard_montage("GSN-HydroCel-129")
    places = net.get_positions()["ch_pos"]
    electrodes = [name for name in places if name != "Cz"]
    recorded = mne.channels.make_standard_montage(montage).get_positions()["ch_pos"]
    here = _directions([recorded[name] for name in names])
    there = _directions([places[name] for name in electrodes])
    distance = np.linalg.norm(there[:, None] - here, axis=2)
    near = distance <= np.sort(distance, axis=1)[:, [2]]
    weight = near / (distance + 0.05)
    laid = values @ (weight / weight.sum(axis=1, keepdims=True)).T
    return Recording(
        dataset="net",
        subject=f"lab:{subject}",
        session="",
        run="",
        task="rest",
        species="Homo sapiens",
        modality=Modality.EEG,
        channels=Channels(
            id=(*electrodes, "Cz"),
            position=np.array([places[name] for name in (*electrodes, "Cz")]),
            position_unit="m",
            space="head",
        ),
        clock=Clock(id=subject),
        signal=Signal(values=np.column_stack([laid, np.zeros(len(laid))]), sampling_rate_hz=RATE_HZ, units="uV"),
        **more,
    )


def _directions(places: list[Array]) -> Array:
    stacked = np.array(places)
    directed: Array = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return directed
