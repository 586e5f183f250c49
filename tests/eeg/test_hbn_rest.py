"""Rest of HBN-EEG: blocks with eyes open and closed, and files that run on into other tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neurofm.eeg.hbn.events import REST, foreign_labels, read_events
from neurofm.eeg.hbn.rest import eyes_blocks, eyes_target, rest_span
from neurofm.recording import Unreadable
from tests.eeg.conftest import column_of

RUNS_ON = "sub-NDARAC904DMU"
"""The one of the 20 whose file goes on with seqLearning after a pause."""


def length_of(path: Path) -> float:
    described = json.loads(path.with_name(path.name.replace("events.tsv", "eeg.json")).read_text())
    return float(described["RecordingDuration"])


def test_five_blocks_of_each_in_every_child(rest_files: list[Path]) -> None:
    assert len(rest_files) == 20
    for path in rest_files:
        blocks = eyes_blocks(read_events(path), stop_s=length_of(path))
        assert blocks.label == ("eyes_open", "eyes_closed") * 5, path.name
        expected = np.tile([20.0, 40.0], 5)
        np.testing.assert_allclose(blocks.duration_s, expected, atol=0.01)


def test_the_file_that_runs_on_is_found_and_cut_at_the_pause(rest_files: list[Path]) -> None:
    foreign = {path.name[:16]: foreign_labels(read_events(path), task=REST) for path in rest_files}
    assert [child for child, labels in foreign.items() if labels] == [RUNS_ON]
    assert {"dot_no1_ON", "learningBlock_1", "seqLearning_start"} <= set(foreign[RUNS_ON])
    assert rest_span(read_events(rest_files[0])) == (1.288, 352.368)


def test_another_task_ends_rest_without_a_pause() -> None:
    events = pd.DataFrame(
        [
            (0.0, "video_start"),
            (1.0, "instructed_toOpenEyes"),
            (5.0, "resting_start"),
            (10.0, "instructed_toOpenEyes"),
            (30.0, "instructed_toCloseEyes"),
            (60.0, "dot_no3_ON"),
            (70.0, "instructed_toOpenEyes"),
        ],
        columns=["onset", "value"],
    )
    assert rest_span(events) == (5.0, 60.0)
    blocks = eyes_blocks(events, stop_s=200.0)
    assert blocks.label == ("eyes_open",)  # the closed one is cut short at 30 of 40 s
    assert rest_span(events[events["value"] != "resting_start"]) is None
    assert eyes_blocks(events[events["value"] != "resting_start"], stop_s=200.0).label == ()


def test_a_recording_that_ends_early_has_fewer_blocks(rest_files: list[Path]) -> None:
    events = read_events(rest_files[1])
    whole = eyes_blocks(events, stop_s=length_of(rest_files[1]))
    assert len(eyes_blocks(events, stop_s=float(whole.onset_s[-1]) + 20.0).label) == 9


def test_target_over_time(rest_files: list[Path]) -> None:
    blocks = eyes_blocks(read_events(rest_files[1]), stop_s=length_of(rest_files[1]))
    time_s = np.arange(int(length_of(rest_files[1]) * 500)) / 500
    target = eyes_target(blocks, time_s=time_s, settle_s=2.0)
    values = column_of(target)
    assert len(values) == len(time_s)
    assert (values == 1).sum() / 500 == pytest.approx(5 * 38, abs=0.1)
    assert (values == 0).sum() / 500 == pytest.approx(5 * 18, abs=0.1)
    assert np.isnan(values[time_s < blocks.onset_s[0] + 2.0]).all()
    assert np.isnan(values[time_s >= blocks.onset_s[-1] + blocks.duration_s[-1]]).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"events\.tsv: No columns"),
        ("onset\tduration\n1\t0\n", r"events\.tsv: no column 'value'; it has onset, duration"),
        ("onset\tvalue\n1\ta\nn/a\tb\n", r"events\.tsv: line 3: onset 'n/a' is no number"),
    ],
)
def test_a_damaged_events_table_names_itself(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "events.tsv"
    path.write_text(text)
    with pytest.raises(Unreadable, match=told):
        read_events(path)


def test_rows_out_of_order_are_sorted(tmp_path: Path) -> None:
    path = tmp_path / "events.tsv"
    path.write_text("onset\tvalue\n3\tc\n1\ta\n1\tb\n")
    events = read_events(path)
    assert events["value"].tolist() == ["a", "b", "c"]
    assert events["feedback"].tolist() == [""] * 3
