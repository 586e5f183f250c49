"""Trials of contrast changes: 20 children of release 1, the same from EEGDash, and tables where rows are missing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neurofm.eeg.hbn.events import read_events
from neurofm.eeg.hbn.trials import own_trials, response_targets, response_windows, trial_table
from tests.eeg.conftest import column_of
from tests.servers.clients import client_python

INSIDE = Path(__file__).with_name("inside_eegdash.py")


def run_of(path: Path) -> str:
    found = re.search(r"_run-(\d+)_", path.name)
    assert found
    return found[1]


@pytest.fixture(scope="session")
def tables(contrast_files: list[Path]) -> dict[Path, pd.DataFrame]:
    return {path: trial_table(read_events(path)) for path in contrast_files}


def events_of(*rows: tuple[float, str] | tuple[float, str, str]) -> pd.DataFrame:
    filled = [(*row, "")[:3] for row in rows]
    return pd.DataFrame(filled, columns=["onset", "value", "feedback"])


def test_response_times_of_twenty_children(tables: dict[Path, pd.DataFrame]) -> None:
    trials = pd.concat(tables.values())
    assert len(tables) == 43
    assert len(trials) == 1248
    answered = trials["response_time_s"].dropna()
    assert len(answered) == 1118
    assert answered.mean() == pytest.approx(1.614, abs=5e-4)
    assert answered.std() == pytest.approx(0.500, abs=5e-4)
    assert trials["verdict"].value_counts().to_dict() == {"correct": 970, "missed": 130, "wrong": 97, "late": 51}


def test_feedback_is_whether_the_side_was_right(tables: dict[Path, pd.DataFrame]) -> None:
    trials = pd.concat(tables.values())
    judged = trials[trials["verdict"].isin(["correct", "wrong"])]
    assert ((judged["press"] == judged["side"]) == (judged["verdict"] == "correct")).all()
    # Feedback comes when the target has ended.
    assert judged["response_time_s"].max() < 2.41


def test_every_run_has_its_24_trials_once(tables: dict[Path, pd.DataFrame]) -> None:
    own = {path: own_trials(trials, run=run_of(path)) for path, trials in tables.items()}
    assert {len(trials) for trials in own.values()} == {24}
    assert all(trials["side"].value_counts().to_dict() == {"left": 12, "right": 12} for trials in own.values())
    assert sum(trials["response_time_s"].notna().sum() for trials in own.values()) == 922
    twice = 0
    for path, trials in tables.items():
        for block in set(trials["block"]) - {int(run_of(path))}:
            again = trials[trials["block"] == block].reset_index(drop=True)
            other = own[path.with_name(path.name.replace(f"run-{run_of(path)}", f"run-{block}"))]
            shift = again["target_s"] - other["target_s"]
            assert np.ptp(shift) < 0.003  # one sample at 500 Hz
            assert (again["verdict"] == other["verdict"]).all()
            twice += len(again)
    assert twice == 216


def test_eegdash_finds_the_same_trials(contrast_files: list[Path], tables: dict[Path, pd.DataFrame]) -> None:
    done = subprocess.run(
        [str(client_python("eegdash")), "-I", str(INSIDE), *map(str, contrast_files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    differences: dict[str, int] = dict.fromkeys(
        ("no target", "late, and theirs a miss", "pressed as the next trial began, and theirs a miss"), 0
    )
    compared = 0
    for path, theirs in zip(contrast_files, json.loads(done.stdout), strict=True):
        ours = {trial.start_s: trial for trial in tables[path].itertuples()}
        matched = set()
        for their in theirs:
            if their["stimulus_onset"] is None:
                # A start that the pause after a block cut off.
                assert their["trial_start_onset"] not in ours
                differences["no target"] += 1
                continue
            our = ours[their["trial_start_onset"]]
            matched.add(our.start_s)
            assert our.target_s == their["stimulus_onset"]
            if their["response_onset"] is None and our.verdict != "missed":
                if our.verdict == "late":
                    differences["late, and theirs a miss"] += 1
                else:
                    assert our.press_s == their["trial_stop_onset"]
                    differences["pressed as the next trial began, and theirs a miss"] += 1
                continue
            compared += 1
            assert our.press == (their["response_type"] or "").removesuffix("_buttonPress")
            assert our.verdict == {True: "correct", False: "wrong", None: "missed"}[their["correct"]]
            expected = np.nan if their["rt_from_stimulus"] is None else their["rt_from_stimulus"]
            assert our.response_time_s == pytest.approx(expected, abs=1e-9, nan_ok=True)
        assert matched == set(ours)
    assert compared == 1196
    assert list(differences.values()) == [9, 51, 1]


def test_presses_that_answer_nothing() -> None:
    trials = trial_table(
        events_of(
            (1.0, "contrastChangeB2_start"),
            (2.0, "left_buttonPress", "non_target"),  # before any trial
            (3.0, "contrastTrial_start"),
            (3.5, "right_buttonPress", "non_target"),
            (5.0, "left_target"),
            (6.0, "left_buttonPress", "smiley_face"),
            (6.5, "right_buttonPress", "non_target"),
            (7.4, "contrastTrial_start"),
            (10.0, "right_target"),
            (14.0, "right_buttonPress", "non_target"),  # beyond the limit
        )
    )
    assert trials["block"].tolist() == [2, 2]
    assert trials["response_time_s"].tolist()[0] == 1.0
    assert trials["verdict"].tolist() == ["correct", "missed"]
    assert trials["early_presses"].tolist() == [1, 0]
    assert trials["presses"].tolist() == [2, 0]


@pytest.mark.parametrize("stop", ["break cnt", "boundary", "9999", "video_start", "contrastChangeB3_start"])
def test_no_press_is_taken_from_beyond_a_pause(stop: str) -> None:
    trials = trial_table(events_of((0.0, "left_target"), (1.0, stop), (1.5, "left_buttonPress", "smiley_face")))
    assert trials["verdict"].tolist() == ["interrupted"]
    assert trials["response_time_s"].isna().all()
    assert trials["start_s"].isna().all()


def test_a_table_without_trials_is_an_empty_one() -> None:
    trials = trial_table(events_of((0.0, "break cnt"), (1.0, "left_buttonPress")))
    assert len(trials) == 0
    assert len(response_windows(trials, stop_s=10.0)) == 0


def test_windows_of_the_challenge(tables: dict[Path, pd.DataFrame], contrast_files: list[Path]) -> None:
    trials = own_trials(tables[contrast_files[0]], run="1")
    windows = response_windows(trials, stop_s=np.inf)
    np.testing.assert_allclose(windows["window_start_s"] - windows["target_s"], 0.5)
    np.testing.assert_allclose(windows["window_stop_s"] - windows["target_s"], 2.5)
    assert len(windows) == trials["response_time_s"].notna().sum()
    last = float(windows["window_stop_s"].iloc[-1])
    assert len(response_windows(trials, stop_s=last - 0.01)) == len(windows) - 1
    time_s = np.arange(int((last + 10) * 100)) / 100
    targets = response_targets(windows, time_s=time_s)
    seconds, correct = (column_of(targets[name]) for name in ("response_time", "response_correct"))
    assert np.isfinite(seconds).sum() == 200 * len(windows)
    inside = np.searchsorted(time_s, windows["window_start_s"] + 1.0)
    np.testing.assert_allclose(seconds[inside], windows["response_time_s"].astype(np.float32))
    judged = windows["verdict"].map({"correct": 1.0, "wrong": 0.0, "late": np.nan})
    assert judged.isna().sum() == 2
    np.testing.assert_array_equal(correct[inside], judged)
