"""Which runs of BOLD are kept out and why, and how much of an atlas they cover."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.errors import UserError
from neurofm.params import load_params
from neurofm.preprocess import Common
from neurofm.preprocess._exclusion import Exclude, exclusion_reason
from neurofm.preprocess.fmri import ModalitySettings, preprocess
from neurofm.recording import Recording
from neurofm.recording.recording import Confounds

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = load_params(PROJECT).preprocess.fmri
GOOD = {
    "fd_mean_mm": 0.2,
    "fd_outlier_fraction": 0.1,
    "usable_minutes": 10.0,
    "tsnr_median": 200.0,
    "covered_fraction": 1.0,
    "dof_left": 200,
}
BROKEN = {
    "fd_mean_mm": (0.8342, "mean framewise displacement 0.8342 mm, more than 0.5 mm (max_mean_fd_mm)"),
    "fd_outlier_fraction": (0.625, "share of volumes with motion 0.625, more than 0.5 (max_fd_outlier_fraction)"),
    "usable_minutes": (1.5, "usable time 1.5 min, less than 2 min (min_usable_minutes)"),
    "tsnr_median": (12.0, "median tSNR of parcels 12, less than 20 (min_tsnr)"),
    "covered_fraction": (0.75, "share of parcels that are covered 0.75, less than 0.8 (min_covered_fraction)"),
    "dof_left": (9, "degrees of freedom left 9, less than 10 (min_dof_left)"),
}
OFF = Exclude(
    max_mean_fd_mm=None,
    max_fd_outlier_fraction=None,
    min_usable_minutes=None,
    min_tsnr=None,
    min_covered_fraction=None,
    min_dof_left=None,
)


@pytest.mark.parametrize("measure", BROKEN)
def test_each_limit_alone(measure: str) -> None:
    value, reason = BROKEN[measure]
    assert exclusion_reason(GOOD | {measure: value}, exclude=SETTINGS.exclude) == reason
    assert exclusion_reason(GOOD | {measure: value}, exclude=OFF) == ""


def test_all_that_applies_is_said_and_what_was_not_measured_is_not_held_against_a_run() -> None:
    everything = {measure: value for measure, (value, _) in BROKEN.items()}
    reason = exclusion_reason(everything, exclude=SETTINGS.exclude)
    assert reason == "; ".join(words for _, words in BROKEN.values())
    assert exclusion_reason({"tsnr_median": None}, exclude=SETTINGS.exclude) == ""
    at_the_limit = {"fd_mean_mm": 0.5, "usable_minutes": 2.0, "tsnr_median": 20.0, "dof_left": 10}
    assert exclusion_reason(at_the_limit, exclude=SETTINGS.exclude) == ""


@pytest.mark.parametrize("dataset", ["hcp-rest", "gw-rest", "ds205-bold"])
def test_the_datasets_of_the_pipeline_stay_in(
    sample_recording: Callable[..., Recording], common: Common, dataset: str
) -> None:
    done = preprocess(sample_recording(dataset), settings=SETTINGS, common=common)
    assert "excluded_reason" not in done.quality
    left, lost = done.quality["dof_left"], done.quality["dof_lost"]
    assert isinstance(left, int)
    assert done.signal is not None
    assert lost == 2 + int(str(done.quality["regressors"]))
    assert left + lost == len(done.signal.values)
    # Without a table nothing is said of motion, and without coverage nothing of that.
    assert not [name for name in done.quality if name.startswith("fd_")]
    assert ("coverage_min" in done.quality) is (dataset == "ds205-bold")


def test_head_motion_keeps_a_real_run_out(sample_recording: Callable[..., Recording], common: Common) -> None:
    native = sample_recording("ds205-bold")
    assert native.signal is not None
    # The six parameters alone: the head nods once by 0.01 rad, and drifts by a hundredth of a millimetre a volume.
    volumes = len(native.signal.values)
    parameters = np.zeros((volumes, 6))
    parameters[:, 0] = 0.01 * np.arange(volumes)
    parameters[40:, 3] = 0.01
    table = Confounds(columns=("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"), values=parameters)
    settings = SETTINGS.model_copy(
        update={"strategy": "none", "exclude": Exclude(max_mean_fd_mm=0.01, max_fd_outlier_fraction=0.0)}
    )
    done = preprocess(replace(native, confounds=table), settings=settings, common=common)
    assert done.quality["fd_max_mm"] == pytest.approx(0.51)
    assert done.quality["fd_mean_mm"] == pytest.approx(0.01 + 0.5 / 81)
    assert done.quality["fd_outlier_fraction"] == pytest.approx(1 / 81)
    assert done.quality["excluded_reason"] == (
        "mean framewise displacement 0.01617 mm, more than 0.01 mm (max_mean_fd_mm); "
        "share of volumes with motion 0.01235, more than 0 (max_fd_outlier_fraction)"
    )
    np.testing.assert_allclose(done.noise["framewise_displacement"].values[41, 0], 0.01, rtol=1e-5)


def test_coverage_decides_which_parcels_are_used(sample_recording: Callable[..., Recording], common: Common) -> None:
    native = sample_recording("ds205-bold")
    assert native.signal is not None
    values = np.array(native.signal.values, dtype=np.float64)
    values[:, 4] = np.nan
    coverage = np.ones(values.shape[1])
    coverage[[3, 4, 5, 6]] = 0.49, 0.0, 0.5, np.nan
    recording = replace(
        native,
        signal=replace(native.signal, values=values),
        channels=replace(native.channels, quality={"coverage": coverage}),
    )
    done = preprocess(recording, settings=SETTINGS, common=common)
    assert np.flatnonzero(done.channels.quality["usable"] == 0).tolist() == [3, 4]
    np.testing.assert_array_equal(done.channels.quality["coverage"], coverage)
    assert done.signal is not None
    assert not done.signal.values[:, [3, 4]].any()
    assert np.isnan(done.channels.quality["tsnr"][[3, 4]]).all()
    whole = preprocess(native, settings=SETTINGS, common=common).signal
    assert whole is not None
    np.testing.assert_array_equal(np.delete(done.signal.values, [3, 4], 1), np.delete(whole.values, [3, 4], 1))
    assert {name: done.quality[name] for name in ("parcels_low_coverage", "parcels_absent")} == {
        "parcels_low_coverage": 1,
        "parcels_absent": 1,
    }
    assert done.quality["coverage_min"] == 0
    assert done.quality["coverage_median"] == 1
    assert done.quality["covered_fraction"] == pytest.approx(108 / 110)
    strict = SETTINGS.model_copy(update={"exclude": Exclude(min_covered_fraction=0.99)})
    assert preprocess(recording, settings=strict, common=common).quality["excluded_reason"] == (
        "share of parcels that are covered 0.9818, less than 0.99 (min_covered_fraction)"
    )


def test_settings_that_contradict_themselves() -> None:
    with pytest.raises(UserError, match="global_signal"):
        ModalitySettings.parse(
            {"highpass_hz": 0.008, "strategy": "none", "global_signal": True}, where="here", mend="mend"
        )


def test_params_name_every_setting_and_steps_hold_them_flat(
    sample_recording: Callable[..., Recording], common: Common
) -> None:
    plain = SETTINGS.model_dump(mode="json")
    assert ModalitySettings.parse(json.loads(json.dumps(plain)), where="here", mend="mend") == SETTINGS
    assert ModalitySettings(highpass_hz=0.008) == SETTINGS
    assert SETTINGS.model_fields_set == set(plain)
    assert SETTINGS.scrub.model_fields_set == set(plain["scrub"])
    assert SETTINGS.exclude.model_fields_set == set(plain["exclude"])
    off = ModalitySettings.parse(plain | {"exclude": OFF.model_dump()}, where="here", mend="mend")
    assert off.exclude == OFF
    step = preprocess(sample_recording("ds205-bold"), settings=SETTINGS, common=common).steps[-1]
    assert all(isinstance(value, str | int | float | bool | None) for value in step.params.values())
    assert step.params["scrub.fd_threshold_mm"] == 0.5
    assert step.params["exclude.min_dof_left"] == 10
    assert step.params["high_pass"] == "2 cosines below 0.008 Hz"
