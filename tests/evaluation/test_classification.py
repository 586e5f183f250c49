"""Eyes open against eyes closed, on EEGBCI S003: two minutes of real EEG, in stretches as if of several people.

And asleep against awake, on the spikes of A2929.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.classification import (
    BANDS_HZ,
    band_power,
    classify,
    labelled_windows,
    log_power,
    not_classified,
    not_classified_said,
)
from neurofm.evaluation.filter_bank import filter_bank_windows
from neurofm.evaluation.samples import cut
from neurofm.evaluation.scoreboard import make_rows, summarise
from neurofm.evaluation.scores import TileScores, ratio
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.preprocess.common import align_target
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Modality
from neurofm.splits import Kind
from neurofm.windows import RecordingView
from tests.evaluation.conftest import Roles, view_of

FS, WINDOW, PATCH = 100, 200, 20
MODELS = {"null", "logistic_power", "logistic_band_power", "filter_bank_tangent", "neurofm-probe"}
Scores = dict[tuple[str, str], TileScores]


@pytest.fixture(scope="session")
def minutes(shared_data: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """[time, channel] of the back of the head in 50 uV, eyes open and eyes closed."""
    found = []
    for run in (1, 2):
        path = shared_data / "eeg" / "eegbci_S003" / f"S003R0{run}.edf"
        raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
        raw.pick([name for name in raw.ch_names if name.startswith(("O", "PO", "P", "C"))])
        raw.filter(1.0, 40.0, verbose="error").resample(FS, verbose="error")
        found.append(raw.get_data().T * 1e6 / 50)
    return found[0], found[1]


def view_from(
    minutes: tuple[npt.NDArray[np.float64], ...], *, start_s: float, seconds: float, name: str, role: str, kind: Kind
) -> RecordingView:
    """Stretches of both minutes after each other, with a second between that is in neither state."""
    span = slice(round(start_s * FS), round((start_s + seconds) * FS))
    values = np.concatenate([minute[span] for minute in minutes])
    length = len(values)
    eyes = np.repeat(np.array([[0.0], [1.0]], dtype=np.float32), length // 2, axis=0)
    eyes[length // 2 - FS : length // 2] = np.nan
    roles: Roles = {role: [(0, length)]}
    view = view_of(
        values,
        modality=Modality.EEG,
        name=name,
        channel_set="eeg-net",
        kind=kind,
        calibration=[(0, length)],
        targets={"eyes_closed": eyes},
        **roles,
    )
    return replace(view, sampling_rate_hz=float(FS))


@pytest.fixture
def people(minutes: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> list[RecordingView]:
    # From 40 to 50 s this subject's alpha fails although the eyes are closed: that stretch is learned from.
    plan = ((0, "train"), (40, "train"), (20, "train"), (30, "validation"), (10, "test"), (50, "test"))
    return [
        view_from(minutes, start_s=start, seconds=10, name=f"p{number}", role=role, kind="subject")
        for number, (start, role) in enumerate(plan)
    ]


def encode(view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """An encoder that gives how strong each patch of the eight channels furthest back is."""
    assert z.shape[2] == len(view.channel_ids)
    patches: npt.NDArray[np.float32] = np.abs(z[..., -8:]).reshape(len(z), -1, PATCH, 8).mean(axis=2)
    return patches


def classified(views: list[RecordingView], settings: EvaluateSettings) -> list[TileScores]:
    scores, seconds = classify(views, "eyes_closed", encode=encode, settings=settings, window_samples=WINDOW)
    assert set(seconds) == {score.model for score in scores}
    return scores


def test_closed_eyes_are_recognised_in_people_never_seen(
    people: list[RecordingView], settings: EvaluateSettings
) -> None:
    scores = classified(people, settings)
    assert {score.roles.recording for score in scores} == {"p4", "p5"}
    assert {score.model for score in scores} == MODELS
    rows = {(row.metric, row.model): row for row in make_rows(scores, folds=1, settings=settings)}
    for metric in ("balanced_accuracy", "auc"):
        assert rows[metric, "null"].value == 0.5
        best = rows[metric, "logistic_band_power"]
        assert best.value > 0.8
        assert (best.task, best.null, best.n, best.ci_unit) == ("classification:eyes_closed", 0.5, 2, "subject")
        assert best.ci_low <= best.value <= best.ci_high
        assert rows[metric, "neurofm-probe"].value > 0.5
        assert rows[metric, "filter_bank_tangent"].value > 0.8
    of_task = summarise(list(rows.values()))["eeg"]["classification:eyes_closed"]
    assert "neurofm_minus_best_baseline" in of_task["auc"]


def test_only_windows_in_one_state_count(people: list[RecordingView], settings: EvaluateSettings) -> None:
    score = next(score for score in classified(people, settings) if score.roles.recording == "p4")
    # 9 s of one state give 4 windows of 2 s, 10 s of the other 5: one window lies over the border.
    assert score.total.sum(axis=0).tolist() == [4.0, 5.0]
    people[4].valid[0] = False
    score = next(score for score in classified(people, settings) if score.roles.recording == "p4")
    assert score.total.sum(axis=0).tolist() == [3.0, 5.0]


def test_every_model_is_blind_to_the_test_labels(people: list[RecordingView], settings: EvaluateSettings) -> None:
    def values() -> dict[tuple[str, str, str], float]:
        return {
            (score.model, score.metric, score.roles.recording): ratio(score.gain, score.total)
            for score in classified(people, settings)
        }

    before = values()
    for view in people[4:]:
        view.targets["eyes_closed"][:] = 1 - view.targets["eyes_closed"]
    after = values()
    assert {model for model, *_ in before} == MODELS
    for key, value in before.items():
        assert value + after[key] == pytest.approx(1.0), key


def test_labels_of_an_unseen_subjects_calibration_are_not_learned_from(
    people: list[RecordingView], settings: EvaluateSettings
) -> None:
    assert classified(people[3:], settings) == []


def test_nothing_is_learned_from_one_state_alone(people: list[RecordingView], settings: EvaluateSettings) -> None:
    for view in people[:3]:
        view.targets["eyes_closed"][view.targets["eyes_closed"] == 1] = np.nan
    assert classified(people, settings) == []


def test_a_subject_in_one_state_alone_is_not_scored(people: list[RecordingView], settings: EvaluateSettings) -> None:
    people[5].targets["eyes_closed"][:] = 1
    scores = classified(people, settings)
    assert {score.roles.recording for score in scores} == {"p4"}
    found = not_classified(people, "eyes_closed", scores)
    assert found == {("eeg", "eyes_closed", "eeg/p5")}
    # The same recording in another fold counts once.
    (line,) = not_classified_said(found | not_classified(people, "eyes_closed", scores)).splitlines()
    assert line.startswith("evaluate: eeg has 1 scored recordings with eyes_closed that are not classified")
    assert not not_classified(people, "awake", [])
    assert not not_classified_said(set())


def test_validation_in_one_state_is_replaced_by_cross_validation(
    people: list[RecordingView], settings: EvaluateSettings
) -> None:
    people[3].targets["eyes_closed"][:] = np.nan
    scores = [score for score in classified(people, settings) if score.model == "logistic_band_power"]
    assert min(ratio(score.gain, score.total) for score in scores) > 0.7


def test_one_recording_split_in_time_has_no_roc_across_people(
    minutes: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], settings: EvaluateSettings
) -> None:
    parts = [
        view_from(minutes, start_s=start, seconds=seconds, name="one", role=role, kind="time")
        for start, seconds, role in ((0, 30, "train"), (30, 10, "validation"), (40, 20, "test"))
    ]
    scores = classified(parts, settings)
    assert {score.metric for score in scores} == {"balanced_accuracy"}
    best = next(score for score in scores if score.model == "logistic_band_power")
    # Alpha fails for half of the time that is scored.
    assert ratio(best.gain, best.total) > 0.75


@pytest.fixture(scope="module")
def mouse(sample_source: Callable[..., ReaderInput]) -> RecordingView:
    """A2929, ten minutes asleep, then ten awake, in the roles that a split in time of three folds gives it."""
    options = {"states": {"awake": {"ones": ["wake"], "zeros": ["sleep"]}}}
    recording = read_recording("nwb", sample_source("a2929-hd"), options)
    assert recording.spikes is not None
    edges = [np.arange(60_001) / 50, np.arange(len(recording.channels.id) + 1)]
    counts = np.histogram2d(recording.spikes.time_s, recording.spikes.channel, edges)[0]
    begins_s = edges[0][:-1].astype(np.float64)
    awake = align_target(recording.targets["awake"], begins_s, max_gap_s=0.5, centre_offset_s=0.01)
    return view_of(
        (counts - counts.mean(axis=0)) / counts.std(axis=0),
        modality=Modality.SPIKES,
        name="mouse",
        train=[(6717, 19950), (26717, 39950), (53383, 60000)],
        validation=[(46717, 53283)],
        test=[(0, 6617), (20050, 26617), (40050, 46617)],
        targets={"awake": awake.values.astype(np.float32)},
    )


def test_awake_is_told_from_asleep_in_the_same_animal(mouse: RecordingView, settings: EvaluateSettings) -> None:
    scores, _ = classify([mouse], "awake", encode=encode, settings=settings, window_samples=100)
    rows = {row.model: row for row in make_rows(scores, folds=1, settings=settings)}
    assert set(rows) == {"null", "logistic_power", "neurofm-probe"}
    assert {(row.metric, row.ci_unit) for row in rows.values()} == {("balanced_accuracy", "time block")}
    assert rows["null"].value == 0.5
    assert rows["logistic_power"].value > 0.9
    # 6617 and 6567 samples asleep make 66 and 65 whole windows, 6567 awake 65.
    assert next(iter(scores)).total.sum(axis=0).tolist() == [131.0, 65.0]


def test_what_a_single_recording_is_cross_validated_on_has_both_states(mouse: RecordingView) -> None:
    # Validation is awake; of four stretches one after the other none has both states.
    parts = [cut(mouse, segments, window_samples=100) for segments in (mouse.roles.train, mouse.roles.validation)]
    learn, judge = (labelled_windows([part], "awake", log_power) for part in parts)
    assert not judge.has_both
    assert all(learn.of(learn.chunk == held).has_both for held in range(4))
    for state in (True, False):
        assert np.all(np.diff(learn.chunk[learn.state == state]) >= 0)


def test_band_power_is_the_logarithm_of_power_in_a_band(people: list[RecordingView]) -> None:
    windows = cut(people[0], people[0].roles.train, window_samples=WINDOW)
    tone = np.sin(2 * np.pi * 10 * np.arange(WINDOW) / FS)[None, :, None]
    channels = windows.z.shape[2]
    loud = replace(windows, z=(windows.z + 20 * tone).astype(np.float32))
    risen = (band_power(loud) - band_power(windows)).reshape(len(windows), 5, channels).mean(axis=(0, 2))
    assert risen.argmax() == 2  # 8 to 13 Hz
    assert risen[2] > 3
    assert abs(risen[3]) < 0.5
    twice = band_power(replace(windows, z=2 * windows.z)) - band_power(windows)
    np.testing.assert_allclose(twice, np.log(4), atol=0.05)


def test_a_filter_bank_learns_from_training_windows_alone(people: list[RecordingView]) -> None:
    train, test = (
        cut(view, view.roles.train + view.roles.test, window_samples=WINDOW) for view in (people[0], people[4])
    )
    features = filter_bank_windows([train], bands_hz=BANDS_HZ)
    alone = features(test.take(slice(0, 1)))
    np.testing.assert_allclose(alone, features(test)[:1], rtol=1e-9)
    louder = features(replace(test, z=2 * test.z)) - features(test)
    components = np.cumsum(np.arange(20, 0, -1))[:-1]
    diagonal = louder.reshape(len(test), 5, -1)[..., [0, *components]]
    # The matrices' logarithms grow by log 4 on the diagonal, wherever the reference is.
    np.testing.assert_allclose(diagonal, np.log(4), rtol=1e-6)


def test_a_band_that_ends_at_half_the_sampling_rate_is_left_out(people: list[RecordingView]) -> None:
    view = replace(people[0], sampling_rate_hz=80.0)
    train = cut(view, view.roles.train, window_samples=WINDOW)
    found = filter_bank_windows([train], bands_hz=BANDS_HZ)(train)
    np.testing.assert_array_equal(found, filter_bank_windows([train], bands_hz=BANDS_HZ[:4])(train))
