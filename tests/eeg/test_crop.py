"""Stretches between events: what is kept, what is masked, and where it then begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.eeg import as_state, crop
from neurofm.eeg.crop import Crop
from neurofm.recording import Events, Unreadable
from tests.eeg.recordings import eegmat, hbn_events, tiled

REST = Crop(starts=("instructed_toOpenEyes", "instructed_toCloseEyes"), ends=("break cnt",))
CLOSED = Crop(starts=("instructed_toCloseEyes",), ends=("instructed_toOpenEyes", "break cnt"))


@pytest.fixture(scope="module")
def events(shared_data: Path) -> Events:
    # 352 s of rest, and then half a minute of another task.
    return hbn_events(shared_data, "sub-NDARAC904DMU")


def test_other_tasks_in_a_file_of_rest_are_cut(shared_data: Path, events: Events) -> None:
    native = replace(tiled(eegmat(shared_data, "00_1"), samples=405 * 500), events=events)
    before = as_state(native)
    after = crop.step(before, settings=REST)
    # From the first instruction at sample 23920 to the break at 176184.
    np.testing.assert_array_equal(after.raw.get_data(), before.raw.get_data()[:, 23920:176184])
    assert after.start_s == 23920 / 500
    assert not after.masked.any()
    assert after.quality["kept_spans_s"] == "47.840-352.368"
    assert after.quality["kept_s"] == pytest.approx(304.528)
    assert after.quality["cropped_s"] == pytest.approx(405 - 304.528)
    assert not any(label.startswith("dot_") for label in after.raw.annotations.description)
    assert after.raw.annotations.onset[:2] == pytest.approx([0.0, 20.0])


def test_between_two_stretches_time_goes_on_masked(shared_data: Path, events: Events) -> None:
    native = replace(tiled(eegmat(shared_data, "00_1"), samples=405 * 500), events=events)
    after = crop.step(as_state(native), settings=CLOSED)
    # Five times 40 s of closed eyes, with 20 s of open eyes between them.
    assert str(after.quality["kept_spans_s"]).split()[:2] == ["67.840-107.840", "127.840-167.830"]
    assert len(after.masked) == len(after.raw.times) == 173918 - 33920
    assert after.masked[40 * 500 : 60 * 500].all()
    assert not after.masked[: 40 * 500].any()
    assert (~after.masked).sum() / 500 == pytest.approx(float(str(after.quality["kept_s"])))


def test_a_stretch_without_end_goes_on_to_the_last_sample(shared_data: Path, events: Events) -> None:
    native = replace(tiled(eegmat(shared_data, "00_1"), samples=100 * 500), events=events)
    after = crop.step(as_state(native), settings=REST)
    assert after.quality["kept_spans_s"] == "47.840-100.000"


def test_a_recording_without_the_event(shared_data: Path, events: Events) -> None:
    native = replace(tiled(eegmat(shared_data, "00_1"), samples=100 * 500), events=events)
    with pytest.raises(Unreadable, match=r"no event 'rest_start' to crop at; its events: .*resting_start"):
        crop.step(as_state(native), settings=Crop(starts=("rest_start",)))
    with pytest.raises(Unreadable, match="its events: none"):
        crop.step(as_state(replace(native, events=None)), settings=REST)
