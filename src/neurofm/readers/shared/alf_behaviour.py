"""What an IBL mouse did, in ALF files: trials, wheel, pupil, tracked body parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurofm.readers.shared.alf_tree import SessionTree, load
from neurofm.readers.shared.sorted_spikes import check_rising, check_trials
from neurofm.recording import EventColumn, Events, Target, Unreadable

Floats = npt.NDArray[np.float64]

TRIAL_COLUMNS = {
    "choice": "choice",
    "feedbackType": "feedback",
    "contrastLeft": "contrast_left",
    "contrastRight": "contrast_right",
    "probabilityLeft": "probability_left",
    "rewardVolume": "reward_volume",
}
"""IBL's names and ours. Choice: 1 turned the wheel anticlockwise (stimulus on the left), -1 clockwise, 0 neither."""
_AFTER_STIMULUS = {
    "response_times": "response_time",
    "feedback_times": "feedback_time",
    "firstMovement_times": "first_movement_time",
    "goCue_times": "go_cue_time",
}
"""Times on the session's clock that become seconds after the stimulus came on."""
_WHEEL_HZ = 250.0
_WHEEL_LOWPASS_HZ = 20.0
_WHEEL_ORDER = 8
_CAMERAS = ("leftCamera", "rightCamera")
_POSE = ("lightningPose", "dlc")
"""Trackers; where a session has both, the first counts (IBL's newer one)."""


def read_trials(tree: SessionTree, *, onset: str) -> tuple[Events | None, int]:
    """Read the trials of all of a session's tasks, in the order of time.

    Parameters
    ----------
    tree
        The session.
    onset
        Which time an event begins at: ``intervals`` (the trial's own beginning) or a column of times such as
        ``stimOn_times``. It lasts to the end of its trial.

    Returns
    -------
    events
        One per trial, labelled ``trial``; None where the session has no trials.
    timeless
        Trials that have no such time: they are left out.

    Raises
    ------
    Unreadable
        If columns differ in length, trials overlap or lack `onset`.
    """
    collections = list(dict.fromkeys(file.collection for file in tree.find("trials")))
    parts = []
    for collection in collections:
        files = tree.find("trials", collection=collection)
        parts.append(_table(load(files), name=f"{collection}/{files[0].name}", onset=onset))
    if not parts:
        return None, 0
    trials = pd.concat(parts, ignore_index=True)
    known = np.isfinite(trials[["onset", "stop"]].to_numpy()).all(axis=1)
    trials, timeless = trials[known], int((~known).sum())
    if len(collections) > 1:  # tasks of one session, one after the other
        trials = trials.sort_values("start", kind="stable")
    name = ", ".join(f"{collection}/_ibl_trials" for collection in collections)
    check_trials(trials["start"].to_numpy(), trials["stop"].to_numpy(), name=name)
    if len(trials) == 0:
        return None, timeless
    begins = trials["onset"].to_numpy(dtype=np.float64)
    columns: dict[str, EventColumn] = {
        str(column): tuple(trials[column]) if column == "stimulus" else trials[column].to_numpy(dtype=np.float64)
        for column in trials.columns
        if column not in {"onset", "start", "stop"}
    }
    return Events(
        onset_s=begins,
        duration_s=np.maximum(trials["stop"].to_numpy(dtype=np.float64) - begins, 0.0),
        label=("trial",) * len(trials),
        columns=columns,
    ), timeless


def _table(trials: Mapping[str, Any], *, name: str, onset: str) -> pd.DataFrame:
    if "intervals" not in trials or np.shape(trials["intervals"])[1:] != (2,):
        raise Unreadable(f"{name}: trials without `intervals`, so that it is not known when they were")
    intervals = np.asarray(trials["intervals"], dtype=np.float64)
    columns: dict[str, Any] = {"start": intervals[:, 0], "stop": intervals[:, 1]}

    def numbers(attribute: str) -> Floats:
        values = np.asarray(trials[attribute], dtype=np.float64).ravel()
        if len(values) != len(intervals):
            raise Unreadable(f"{name}: {len(values)} values of {attribute} for {len(intervals)} trials")
        return values

    if onset != "intervals" and onset not in trials:
        raise Unreadable(f"{name}: trials have no {onset!r} (reader option `trial_onset`)")
    columns["onset"] = intervals[:, 0] if onset == "intervals" else numbers(onset)
    columns |= {ours: numbers(theirs) for theirs, ours in TRIAL_COLUMNS.items() if theirs in trials}
    if "stimOn_times" in trials:
        stimulus_s = numbers("stimOn_times")
        columns["stimulus_on_s"] = stimulus_s
        columns |= {ours: numbers(theirs) - stimulus_s for theirs, ours in _AFTER_STIMULUS.items() if theirs in trials}
    if {"contrast_left", "contrast_right"} <= columns.keys():
        # The side that has no stimulus has no contrast; a contrast of 0 still has a side.
        columns["stimulus"] = [
            "left" if np.isfinite(left) and not np.isfinite(right) else "right" if np.isfinite(right) else ""
            for left, right in zip(columns["contrast_left"], columns["contrast_right"], strict=True)
        ]
    return pd.DataFrame(columns)


def read_wheel(tree: SessionTree) -> dict[str, Target]:
    """Return ``wheel_velocity`` in rad/s at 250 Hz, anticlockwise positive; nothing where there is no wheel.

    The encoder writes a sample only when the wheel turns, so its position is interpolated between samples; it is
    smoothed by an order 8 Butterworth filter at 20 Hz, both ways, and differentiated, as IBL's own analyses do
    (``brainbox.behavior.wheel.velocity_filtered``, at 1000 Hz).

    Raises
    ------
    Unreadable
        If timestamps go back, or are not as many as positions.
    """
    from scipy.signal import butter, sosfiltfilt  # noqa: PLC0415  # a second, and only where there is a wheel

    files = {attribute: tree.find("wheel", attribute) for attribute in ("timestamps", "position")}
    if not all(files.values()):
        return {}
    name = files["timestamps"][0].name
    wheel = load([files["timestamps"][0], files["position"][0]])
    time_s = np.asarray(wheel["timestamps"], dtype=np.float64)
    position = np.asarray(wheel["position"], dtype=np.float64)
    if time_s.shape != position.shape or time_s.ndim != 1:
        raise Unreadable(f"{name}: {len(time_s)} timestamps of the wheel for {len(position)} positions")
    check_rising(time_s, name=name, what="timestamps of the wheel")
    grid_s = np.arange(time_s[0], time_s[-1], 1 / _WHEEL_HZ) if len(time_s) else np.empty(0)
    if len(grid_s) <= _WHEEL_HZ:  # less than a second: nothing to filter
        return {}
    sos = butter(_WHEEL_ORDER, _WHEEL_LOWPASS_HZ, fs=_WHEEL_HZ, output="sos")
    smooth = sosfiltfilt(sos, np.interp(grid_s, time_s, position))
    velocity = np.gradient(smooth, 1 / _WHEEL_HZ)[:, None].astype(np.float32)
    return {"wheel_velocity": Target(values=velocity, unit="rad/s", columns=("wheel_velocity",), time_s=grid_s)}


def read_cameras(tree: SessionTree, *, min_likelihood: float) -> dict[str, Target]:
    """Return ``pupil`` (diameter) and ``pose_<camera>_<part>`` (x, y) in pixels of the side cameras, where there are.

    Parameters
    ----------
    tree
        The session.
    min_likelihood
        Places of which the tracker is less sure than this are left out (NaN).

    Raises
    ------
    Unreadable
        If a camera's times go back, or are not as many as its frames.
    """
    targets: dict[str, Target] = {}
    for camera in _CAMERAS:
        if not (times := tree.find(camera, "times")):
            continue
        time_s = np.asarray(load(times[:1])["times"], dtype=np.float64).ravel()
        check_rising(time_s, name=times[0].name, what="times of the frames")
        for tracker in ("features", *_POSE):
            frame = tree.one(camera, tracker)
            if not isinstance(frame, pd.DataFrame):
                continue
            if len(frame) != len(time_s):
                raise Unreadable(f"{times[0].name}: {len(time_s)} times for {len(frame)} frames of {tracker}")
            found = (
                _pupil(frame, time_s)
                if tracker == "features"
                else _parts(frame, time_s, camera=camera, min_likelihood=min_likelihood)
            )
            targets = found | targets  # what was found before counts
    return targets


def _pupil(frame: pd.DataFrame, time_s: Floats) -> dict[str, Target]:
    for column in ("pupilDiameter_smooth", "pupilDiameter_raw"):
        if column in frame.columns:
            values = frame[column].to_numpy(dtype=np.float64)[:, None]
            return {"pupil": Target(values=values, unit="px", columns=("diameter",), time_s=time_s)}
    return {}


def _parts(frame: pd.DataFrame, time_s: Floats, *, camera: str, min_likelihood: float) -> dict[str, Target]:
    targets = {}
    for column in map(str, frame.columns):
        part = column.removesuffix("_likelihood")
        if part == column or not {f"{part}_x", f"{part}_y"} <= set(frame.columns):
            continue
        values = frame[[f"{part}_x", f"{part}_y"]].to_numpy(dtype=np.float64, copy=True)
        values[~(frame[column].to_numpy(dtype=np.float64) >= min_likelihood)] = np.nan
        name = f"pose_{camera.removesuffix('Camera')}_{part}"
        targets[name] = Target(values=values, unit="px", columns=("x", "y"), time_s=time_s)
    return targets
