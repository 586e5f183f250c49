"""Which frame was seen at each sample of the signal: on its own times before preprocessing, on the signal's after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.params import load_params
from neurofm.preprocess import Common, preprocess_recording
from neurofm.preprocess.calcium import ModalitySettings, preprocess
from neurofm.preprocess.common import align_stimulus
from neurofm.recording import Modality, Recording, Stimulus, Unreadable
from tests.pictures import film_of
from tests.preprocess.conftest import MakeRecording


@pytest.fixture(scope="module")
def film(shared_data: Path) -> npt.NDArray[np.uint8]:
    return film_of(shared_data, frames=50)


def _course(film: npt.NDArray[np.uint8], time_s: list[float], shown: list[int]) -> Stimulus:
    return Stimulus(frames=film, shown=np.array(shown, dtype=np.int32), time_s=np.array(time_s))


def test_each_sample_has_the_frame_of_its_time(film: npt.NDArray[np.uint8]) -> None:
    course = _course(film, [1.0, 1.5, 2.0, 3.0, 3.25], [7, 8, -1, 9, -1])
    time_s = np.arange(0.0, 4.0, 0.25)
    seen = align_stimulus(course, time_s, span_s=(0.0, 4.0), where="rec")
    assert seen.shown.tolist() == [-1] * 4 + [7, 7, 8, 8] + [-1] * 4 + [9, -1, -1, -1]
    assert seen.shown.dtype == np.int32
    np.testing.assert_array_equal(seen.time_s, time_s)
    # The middle of a bin that begins at 0.75 s lies after the onset.
    middle = align_stimulus(course, time_s, span_s=(0.0, 4.0), where="rec", centre_offset_s=0.25)
    assert middle.shown.tolist() == [*seen.shown.tolist()[1:], -1]


def test_a_film_may_run_on_a_little_but_not_elsewhere(film: npt.NDArray[np.uint8]) -> None:
    time_s = np.arange(0.0, 100.0, 0.5)
    long = _course(film, [0.0, 50.0, 100.5], [0, 1, -1])
    assert align_stimulus(long, time_s, span_s=(0.0, 100.0), where="rec").shown[-1] == 1
    milliseconds = replace(long, time_s=long.time_s * 1000)
    words = r"rec: 1e\+05 of the 1e\+05 s for which the stimulus was shown \(0 to 100500 s\) lie outside"
    with pytest.raises(Unreadable, match=words):
        align_stimulus(milliseconds, time_s, span_s=(0.0, 100.0), where="rec")
    with pytest.raises(Unreadable, match=r"\(-20 to 80.5 s\) lie outside of the recording \(0 to 100 s\)"):
        align_stimulus(replace(long, time_s=long.time_s - 20), time_s, span_s=(0.0, 100.0), where="rec")


@pytest.mark.parametrize(
    ("dataset", "onset_s", "offset_s"),
    [("a0662-2p", 20.0, 0.0), ("a2929-hd", 100.0, 0.5)],
    ids=["fluorescence", "counts, whose time is their bin's left edge"],
)
def test_real_recordings_carry_it_on_their_samples(
    dataset: str,
    onset_s: float,
    offset_s: float,
    sample_recording: Callable[..., Recording],
    film: npt.NDArray[np.uint8],
) -> None:
    recording = sample_recording(dataset)
    edges = onset_s + 0.7 * np.arange(51)
    course = _course(film, edges.tolist(), [*range(50), -1])
    params = load_params(Path(__file__).resolve().parents[2]).preprocess
    settings = params.of(recording.modality)
    blind = preprocess_recording(recording, settings=settings, common=params.common)
    done = preprocess_recording(replace(recording, stimulus=course), settings=settings, common=params.common)
    assert done.signal is not None
    assert done.stimulus is not None
    assert blind.stimulus is None
    at_s = done.signal.time_s + offset_s / done.signal.sampling_rate_hz
    truth = np.full(len(at_s), -1)
    for frame in range(50):
        truth[(at_s >= edges[frame]) & (at_s < edges[frame + 1])] = frame
    np.testing.assert_array_equal(done.stimulus.shown, truth)
    assert set(truth) == {-1, *range(50)}
    assert done.quality["stimulus_fraction"] == pytest.approx((truth >= 0).mean())
    # Nothing else differs, and nothing is said where nothing was shown.
    assert {name: one for name, one in done.quality.items() if name != "stimulus_fraction"} == dict(blind.quality)
    assert done.steps == blind.steps


def test_nothing_is_seen_between_trials(
    make_recording: MakeRecording, common: Common, film: npt.NDArray[np.uint8]
) -> None:
    recording = make_recording(
        Modality.CALCIUM,
        np.sin(np.arange(200.0))[:, None] ** 2,
        rate_hz=10.0,
        units="dF/F",
        stretches=np.array([[0.0, 8.0], [12.0, 20.0]]),
        stimulus=_course(film, [2.0, 19.0, 19.5], [4, 5, -1]),
    )
    done = preprocess(recording, settings=ModalitySettings(neuropil_coefficient=0.7, rate_hz=10.0), common=common)
    assert done.stimulus is not None
    runs = [-1] * 20 + [4] * 60 + [-1] * 40 + [4] * 70 + [5] * 5 + [-1] * 5
    assert (done.stimulus.shown != runs).sum() <= 2  # the sample at which a trial ends belongs to either
    assert done.stimulus.shown[100] == -1
