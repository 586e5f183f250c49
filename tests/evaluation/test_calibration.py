"""Calibration curves: of what is scored nothing but its first seconds is known, and more of them help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.evaluation.baselines import GaussianCalibrated, Null
from neurofm.evaluation.calibration import Amount, CalibrationTask, clipped, mean_elsewhere
from neurofm.evaluation.calibration_row import NULL_TRAIN, CalibrationRow
from neurofm.evaluation.row import NULL, OURS
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.splits import Candidate, FoldRecording, SplitSettings, make_splits
from neurofm.windows import RecordingView
from tests.evaluation.conftest import SETTINGS, Roles, poison, spans, view_of
from tests.evaluation.pixar import people

SHORT = EvaluateSettings.parse(
    {**SETTINGS, "smoothing_samples": [0.0, 1.0], "calibration_s": [10, 60]}, where="evaluate", mend=""
)
WINDOW = 32


class _Ours(GaussianCalibrated):
    name = OURS


def _rows(views: list[RecordingView]) -> dict[tuple[str, str], CalibrationRow]:
    task = CalibrationTask(settings=SHORT)
    model = _Ours(settings=SHORT, window_samples=WINDOW)
    model.fit(views)
    task.add(views, ours=[model], window_samples=WINDOW)
    joined = CalibrationTask(settings=SHORT)
    joined.join(task)
    return {(row.calibration, row.model): row for row in joined.rows()}


@pytest.fixture(scope="module")
def views(shared_data: Path) -> list[RecordingView]:
    return people(shared_data, each=6)[0]


def test_more_of_a_person_helps_and_their_mean_is_not_that_of_the_others(views: list[RecordingView]) -> None:
    rows = _rows(views)
    assert {name for name, _ in rows} == {"10 s", "60 s", "all"}
    assert [rows[name, OURS].seconds for name in ("10 s", "60 s", "all")] == [10, 60, 100]
    baselines = {"ridge", "ppca", "gaussian", "gaussian_calibrated"}
    assert {model for _, model in rows} == {NULL, NULL_TRAIN, OURS} | baselines
    assert {row.n for row in rows.values()} == {4}
    assert rows["10 s", OURS].value < rows["all", OURS].value
    assert rows["10 s", NULL].value < rows["all", NULL].value <= 0, "the mean of five volumes is a poor one"
    assert rows["10 s", NULL_TRAIN].value == rows["all", NULL_TRAIN].value
    ours = rows["all", OURS]
    assert ours.minus_linear == pytest.approx(ours.value - rows["all", ours.linear].value, abs=1e-5)
    assert rows["all", ours.linear].minus_linear is None


def test_a_short_calibration_is_all_that_is_looked_at(views: list[RecordingView]) -> None:
    """Whatever comes after it, up to what is scored, changes no prediction: errors alone follow."""
    person = next(view for view in views if view.roles.test)
    short, other = (clipped(view, Amount(seconds=60.0)) for view in (person, poison(person)))
    assert short.roles.calibration == spans([(0, 30)])
    np.testing.assert_array_equal(short.normaliser.mean, other.normaliser.mean)
    np.testing.assert_allclose(short.normaliser.mean, person.values(0, 30).mean(axis=0), atol=1e-6)


def test_trials_are_stretches_without_invalid_samples() -> None:
    rng = np.random.default_rng(0)
    view = view_of(rng.poisson(1.0, size=(400, 6)).astype(np.float64), modality=Modality.SPIKES, train=[(0, 300)])
    view.valid[9::10] = False
    assert Amount(trials=4).of(view) == spans([(0, 40)])
    assert Amount(seconds=2.0).of(view) == spans([(0, 22)])
    assert Amount().of(view) == spans([(0, 300)])
    assert [Amount(trials=20).name, Amount(seconds=10.0).name, Amount().name] == ["20 trials", "10 s", "all"]


def test_spikes_of_an_unseen_session_are_scored_against_one_mean_rate() -> None:
    rng = np.random.default_rng(1)
    drive = np.sin(np.arange(1200) / 9)[:, None] * np.linspace(-1, 1, 9)
    view = view_of(
        rng.poisson(np.exp(drive - 0.5)).astype(np.float64),
        modality=Modality.SPIKES,
        kind="session",
        calibration=[(0, 700)],
        test=[(700, 1200)],
    )
    task = CalibrationTask(settings=SHORT)
    task.add([view], ours=[Null()], window_samples=WINDOW)
    rows = {(row.calibration, row.metric, row.model): row for row in task.rows()}
    assert rows["all", "bits_per_spike", NULL].value == pytest.approx(0.0, abs=1e-9)
    assert rows["10 s", "bits_per_spike", NULL].value < 0
    assert rows["60 s", "bits_per_spike", "gaussian"].value > 0.05
    assert rows["all", "bits_per_spike", "factor_analysis"].value > 0.05
    assert not any(model == NULL_TRAIN for _, _, model in rows), "nobody has these units in common"


def test_a_unit_that_is_silent_at_first_is_expected_to_fire_at_some_time() -> None:
    """Whatever floor is chosen while it is silent, it is taken to fire as half a spike in what was looked at."""
    rng = np.random.default_rng(2)
    counts = rng.poisson(0.5, size=(1200, 9)).astype(np.float64)
    counts[:100, 0] = 0
    rows = {}
    for floor in (0.01, 0.5):
        settings = SHORT.model_copy(update={"rate_floors": (floor,)})
        task = CalibrationTask(settings=settings)
        view = view_of(counts, modality=Modality.SPIKES, kind="session", calibration=[(0, 700)], test=[(700, 1200)])
        task.add([view], ours=[Null()], window_samples=WINDOW)
        rows[floor] = {(row.calibration, row.metric, row.model): row.value for row in task.rows()}
    assert rows[0.01]["10 s", "bits_per_spike", NULL] == rows[0.5]["10 s", "bits_per_spike", NULL]


def test_a_baseline_of_some_montages_alone_is_not_compared_with_ours(views: list[RecordingView]) -> None:
    """A person whose channels nobody else has: `gaussian_calibrated` is not there for that one."""
    alone = next(view for view in views if view.roles.test)
    roles = alone.roles.model_copy(update={"recording": "other", "subject": "lab:other"})
    task = CalibrationTask(settings=SHORT)
    for some in (views, [replace(alone, recording="other", subject="lab:other", channel_set="other", roles=roles)]):
        model = _Ours(settings=SHORT, window_samples=WINDOW)
        model.fit(some)
        task.add(some, ours=[model], window_samples=WINDOW)
    rows = {(row.calibration, row.model): row for row in task.rows()}
    assert rows["all", "gaussian_calibrated"].n < rows["all", OURS].n
    assert rows["all", OURS].linear != "gaussian_calibrated"


def test_less_than_a_window_and_less_than_a_sample_can_be_looked_at() -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(0.5, size=(1200, 9)).astype(np.float64)
    view = view_of(counts, modality=Modality.SPIKES, kind="session", calibration=[(0, 700)], test=[(700, 1200)])
    task = CalibrationTask(settings=SHORT.model_copy(update={"calibration_s": (0.01, 1.0)}))
    task.add([view], ours=[Null()], window_samples=WINDOW)
    rows = {(row.calibration, row.metric, row.model): row for row in task.rows()}
    assert {rows[name, "R2", NULL].seconds for name in ("0.01 s", "1 s", "all")} == {0.1, 1.0, 70.0}
    assert all(np.isfinite(row.value) for row in rows.values())


def _left_out_whole(modality: Modality, *, channel_set: str) -> list[RecordingView]:
    """Two datasets of three recordings, of which the first fold leaves out ``a``, as views of that fold."""
    candidates = [
        Candidate(
            dataset=dataset,
            recording=f"{dataset}{number}",
            subject=f"{dataset}:{number}",
            modality=modality,
            samples=1200,
            sampling_rate_hz=10.0,
            support_s=0.0,
        )
        for dataset in "ab"
        for number in range(3)
    ]
    settings = SplitSettings(seed=1, leave_out="dataset", calibration_fraction=0.6)
    splits = make_splits(candidates, settings=settings, window_samples=dict.fromkeys(Modality, WINDOW))

    def view(entry: FoldRecording, seed: int) -> RecordingView:
        rng = np.random.default_rng(seed)
        drive = np.sin(np.arange(1200) / 9 + seed)[:, None] * np.linspace(-1, 1, 9)
        spikes = modality is Modality.SPIKES
        values = rng.poisson(np.exp(drive)).astype(np.float64) if spikes else drive + rng.normal(2.0, 1.0, drive.shape)
        roles: Roles = {
            role: [(s.start, s.stop) for s in getattr(entry, role)] for role in ("train", "validation", "test")
        }
        made = view_of(
            values,
            modality=modality,
            name=entry.recording,
            dataset=entry.dataset,
            channel_set=channel_set or entry.recording,
            kind=entry.kind,
            calibration=[(s.start, s.stop) for s in entry.calibration],
            **roles,
        )
        return replace(made, roles=entry, subject=entry.subject)

    return [view(entry, seed) for seed, entry in enumerate(splits.folds[0].recordings)]


def test_a_dataset_never_seen_has_a_curve_with_ours_baselines_and_both_nulls() -> None:
    views = _left_out_whole(Modality.FMRI, channel_set="atlas")
    assert {view.dataset for view in views if view.roles.test} == {"a"}
    rows = _rows(views)
    assert {row.dataset for row in rows.values()} == {"a"}
    assert {name for name, _ in rows} == {"10 s", "60 s", "all"}
    for name in ("10 s", "60 s", "all"):
        assert {model for own, model in rows if own == name} >= {OURS, NULL, NULL_TRAIN, "ridge", "gaussian_calibrated"}
    assert {row.n for row in rows.values()} == {3}
    assert rows["10 s", NULL].value < rows["all", NULL].value
    assert rows["all", "gaussian"].value > rows["all", NULL].value + 0.1
    assert rows["10 s", NULL_TRAIN].value == rows["all", NULL_TRAIN].value


def test_units_that_nobody_else_has_are_expected_at_the_mean_rate_of_others_units() -> None:
    views = _left_out_whole(Modality.SPIKES, channel_set="")
    expected = mean_elsewhere(views, Modality.SPIKES)
    learned = [view for view in views if view.roles.train]
    rates_hz = [view.normaliser.mean.mean() * view.sampling_rate_hz for view in learned]
    assert expected == pytest.approx(np.mean(rates_hz))
    # As many spikes in bins of half the length are twice as many a second.
    faster = [
        replace(view, sampling_rate_hz=2 * view.sampling_rate_hz) if view is learned[0] else view for view in views
    ]
    assert mean_elsewhere(faster, Modality.SPIKES) == pytest.approx(np.mean([2 * rates_hz[0], *rates_hz[1:]]))
    assert mean_elsewhere(views, Modality.EEG) is None
    task = CalibrationTask(settings=SHORT)
    for view in views:
        task.add([view], ours=[Null()], window_samples=WINDOW, elsewhere=expected)
    rows = {(row.calibration, row.metric, row.model): row for row in task.rows()}
    for metric in ("R2", "bits_per_spike"):
        assert rows["10 s", metric, NULL_TRAIN].n == 3
        assert rows["10 s", metric, NULL_TRAIN].value == rows["all", metric, NULL_TRAIN].value
        assert rows["all", metric, NULL_TRAIN].value < rows["all", metric, NULL].value
