"""What happened in a trial of an animal never seen is decoded from what may be looked at, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.errors import UserError
from neurofm.evaluation import trial_decoder, trial_task
from neurofm.evaluation.comparisons import compare
from neurofm.evaluation.row import NULL
from neurofm.evaluation.scoreboard import make_rows, summarise
from neurofm.evaluation.settings import EvaluateSettings, TrialClass
from neurofm.evaluation.trial_decoder import UNKNOWN, LabelledTrials, TrialDecoder
from neurofm.evaluation.trial_statistics import TrialStatistics, describe_trials
from neurofm.evaluation.trial_task import (
    AVERAGE,
    LOGISTIC,
    TRIALS,
    RecordedTrials,
    check_columns,
    decode_trials,
    fit_logistic,
    shown_of,
    trial_scores,
)
from neurofm.evaluation.trials import Trials, classes_of, names_of, read_trials
from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Channels, Clock, EventColumn, Events, ManifestRecording, Modality, Recording, Signal
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.splits import Fold, FoldRecording, Splits
from tests.evaluation.conftest import SETTINGS
from tests.test_decoding_bars import STEINMETZ
from tests.views import spans

ROOT = Path(__file__).resolve().parents[2]
SIDE = TrialClass(larger_of=("left", "right"))
TRIAL_SAMPLES, PATCHES = 20, 4


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn for a moment."""
    for name, value in {"_STEPS": 60, "_VALIDATED_EVERY": 20, "_MEMBERS": 2, "_RATE": 1e-2}.items():
        monkeypatch.setattr(trial_decoder, name, value)


def animal(seed: int, *, trials: int = 60, units: int = 30) -> LabelledTrials:
    """Units of region `a` fire more in class 0, those of `b` in class 1, and those of `c` in neither."""
    rng = np.random.default_rng(seed)
    region = rng.choice(["a", "b", "c"], size=units)
    label = rng.integers(2, size=trials)
    rate = rng.uniform(0.5, 3, size=units) * np.where((region == "a") & (label[:, None] == 0), 1.8, 1.0)
    rate = rate * np.where((region == "b") & (label[:, None] == 1), 1.8, 1.0)
    counts = rng.poisson(rate[..., None], size=(trials, units, PATCHES)).astype(np.float32)
    return LabelledTrials(counts=counts, label=label, region=region.tolist())


def hidden(one: LabelledTrials) -> LabelledTrials:
    return replace(one, label=np.full_like(one.label, UNKNOWN))


@pytest.fixture(scope="module")
def new_animal() -> LabelledTrials:
    return animal(9)


def decoder_of(seeds: Sequence[int]) -> TrialDecoder:
    return TrialDecoder.learn([animal(seed) for seed in seeds], classes=2, seed=1)


def test_regions_met_in_other_animals_tell_without_a_label_and_labels_tell_more(new_animal: LabelledTrials) -> None:
    decoder = decoder_of([1, 2, 3, 4])
    asked = animal(9, trials=160)
    truth, seen = asked.label[60:], asked.at(np.arange(160) < 60)

    def share(seen: LabelledTrials) -> float:
        return float(
            (
                decoder.evidence(seen, describe_trials(seen.counts)).probability(asked.counts[60:]).argmax(axis=1)
                == truth
            ).mean()
        )

    unlabelled = share(hidden(seen))
    assert unlabelled > 0.75
    assert share(seen) >= unlabelled - 0.03
    # Where regions say nothing, labels alone speak.
    nameless = replace(seen, region=[""] * len(seen.region))
    assert share(hidden(nameless)) < 0.7
    assert share(nameless) > 0.75


def test_the_order_of_units_and_of_what_may_be_looked_at_makes_no_difference(new_animal: LabelledTrials) -> None:
    decoder = decoder_of([1, 2])
    shown = replace(new_animal, label=np.where(np.arange(60) < 20, new_animal.label, UNKNOWN))
    described = describe_trials(shown.counts)
    order = np.random.default_rng(0).permutation(len(shown.region))
    turned = replace(shown, counts=shown.counts[:, order], region=[shown.region[unit] for unit in order])
    here = decoder.evidence(shown, described).probability(new_animal.counts)
    there = decoder.evidence(turned, describe_trials(turned.counts)).probability(new_animal.counts[:, order])
    np.testing.assert_allclose(here, there, atol=1e-4)
    assert here.std() > 0.01
    again = decoder_of([1, 2]).evidence(shown, described)
    np.testing.assert_array_equal(decoder.evidence(shown, described).weights, again.weights)


def recorded(one: LabelledTrials, *, name: str, test: bool) -> RecordedTrials:
    """Trials end to end; of a tested one the first 40 are calibration."""
    edge, end = 40 * TRIAL_SAMPLES, len(one.label) * TRIAL_SAMPLES
    start = np.arange(len(one.label)) * TRIAL_SAMPLES
    roles = FoldRecording(
        dataset="mice",
        recording=name,
        subject=f"lab:{name}",
        modality=Modality.SPIKES,
        kind="subject",
        calibration=spans([(0, edge if test else end)]),
        test=spans([(edge, end)] if test else []),
    )
    trials = Trials(
        counts=one.counts,
        span=np.stack([start, start + TRIAL_SAMPLES], axis=1),
        region=one.region,
        columns={"left": (1 - one.label).astype(np.float64), "right": one.label.astype(np.float64)},
    )
    return RecordedTrials(roles=roles, trials=trials)


def test_what_is_scored_changes_no_fitted_number(monkeypatch: pytest.MonkeyPatch, new_animal: LabelledTrials) -> None:
    fitted: list[npt.NDArray[Any]] = []
    evidence, logistic = TrialDecoder.evidence, fit_logistic

    def kept_evidence(self: TrialDecoder, seen: LabelledTrials, statistics: TrialStatistics) -> Any:
        found = evidence(self, seen, statistics)
        fitted.extend([found.weights, found.statistics.mean, found.statistics.sd])
        return found

    def kept_logistic(shown: LabelledTrials, statistics: TrialStatistics, *, classes: int) -> Any:
        readout = logistic(shown, statistics, classes=classes)
        fitted.extend([readout.mean, readout.weights, readout.intercept])
        return readout

    monkeypatch.setattr(TrialDecoder, "evidence", kept_evidence)
    monkeypatch.setattr(trial_task, "fit_logistic", kept_logistic)
    monkeypatch.setattr(trial_task, "SEEDS", 2)
    rng = np.random.default_rng(0)
    scored = np.arange(60) >= 40
    others = [recorded(animal(seed), name=f"m{seed}", test=False) for seed in (1, 2)]

    def scores_of(one: LabelledTrials) -> tuple[list[npt.NDArray[Any]], float]:
        fitted.clear()
        found, _ = decode_trials(
            [*others, recorded(one, name="m9", test=True)], name="side", wanted=SIDE, number=0, seed=1
        )
        return list(fitted), float(sum(score.gain.sum() for score in found))

    counts = new_animal.counts.copy()
    counts[scored] = rng.poisson(5, size=counts[scored].shape)
    label = np.where(scored, 1 - new_animal.label, new_animal.label)
    numbers, sum_of_scores = scores_of(new_animal)
    same, other_sum = scores_of(replace(new_animal, counts=counts, label=label))
    assert len(numbers) == len(same) == 3 * (1 + 2 + 2 + 1) + 3 * (2 + 2 + 1)
    for one, two in zip(numbers, same, strict=True):
        np.testing.assert_array_equal(one, two)
    assert sum_of_scores != other_sum
    # And that this test can fail: calibration is learned from.
    label[0] = 1 - label[0]
    changed, _ = scores_of(replace(new_animal, label=label))
    assert not all(np.array_equal(one, two) for one, two in zip(numbers, changed, strict=True))


def test_labels_are_nested_and_in_proportion() -> None:
    seen = replace(animal(1, trials=100), label=np.repeat([0, 1], [80, 20]))
    few, some = (shown_of(seen, share=share, classes=2, seed=(0, 0)).label for share in (0.05, 0.2))
    assert np.bincount(few[few != UNKNOWN]).tolist() == [4, 1]
    assert np.bincount(some[some != UNKNOWN]).tolist() == [16, 4]
    assert (some[few != UNKNOWN] != UNKNOWN).all()
    assert (shown_of(seen, share=0.0, classes=2, seed=(0, 0)).label == UNKNOWN).all()


def test_columns_become_classes() -> None:
    columns: dict[str, EventColumn] = {
        "left": np.array([1.0, 0.0, 0.5, np.nan]),
        "right": np.array([0.0, 1.0, 0.5, 1.0]),
        "went": ("x", "", "y", "x"),
    }
    assert names_of(columns, SIDE) == ["left", "right", "neither", ""]
    assert names_of(columns, TrialClass(column="went")) == ["x", "", "y", "x"]
    assert names_of(columns, TrialClass(column="right")) == ["0", "1", "0.5", "1"]
    many = Trials(
        counts=np.zeros((12, 1, 1), np.float32),
        span=np.zeros((12, 2), np.int64),
        region=[""],
        columns={"t": np.arange(12.0)},
    )
    with pytest.raises(UserError, match=r"trial_classes\.when.* 12 values of 't'"):
        classes_of([many], TrialClass(column="t"), name="when")
    assert names_of({"x": np.array([-0.0, 0.0])}, TrialClass(column="x")) == ["0", "0"]
    with pytest.raises(UserError, match=r"larger_of.*'went' holds texts"):
        names_of(columns, TrialClass(larger_of=("left", "went")))
    for wrong in ({}, {"column": "a", "larger_of": ["a", "b"]}, {"larger_of": ["a", "a"]}, {"larger_of": ["a", ""]}):
        with pytest.raises(ValueError, match="larger_of"):
            TrialClass.model_validate(wrong)


def test_a_class_that_an_animal_lacks_in_what_is_scored_makes_no_row_nan(new_animal: LabelledTrials) -> None:
    one_class = replace(new_animal, label=np.where(np.arange(60) < 40, new_animal.label, 0))
    others = [recorded(animal(seed), name=f"m{seed}", test=False) for seed in (1, 2)]
    tested = recorded(one_class, name="m9", test=True)
    scores, _ = decode_trials([*others, tested], name="side", wanted=SIDE, number=0, seed=1)
    settings = EvaluateSettings.parse(SETTINGS, where="", mend="")
    rows = make_rows(scores, folds=1, settings=settings)
    assert {row.model for row in rows} == {NULL, TRIALS, LOGISTIC, AVERAGE}
    assert all(np.isfinite([row.value, row.null, row.ci_low, row.ci_high]).all() for row in rows)


def test_a_recording_of_one_trial_spoils_nothing(new_animal: LabelledTrials) -> None:
    learned = [animal(1), animal(2, trials=1)]
    seen = hidden(new_animal)
    evidence = TrialDecoder.learn(learned, classes=2, seed=1).evidence(seen, describe_trials(seen.counts))
    assert np.isfinite(evidence.weights).all()


def write_columns(folder: Path, name: str, columns: dict[str, EventColumn]) -> FoldRecording:
    """Write a shard of one unit and two trials with these columns."""
    onset = np.array([0.0, 0.5])
    recording = Recording(
        dataset="mice",
        subject=f"lab:{name}",
        session="",
        run="",
        task="",
        species="Mus musculus",
        modality=Modality.SPIKES,
        channels=Channels(id=("u",), position=np.full((1, 3), np.nan), position_unit="", space="", quality={}),
        clock=Clock(id=name),
        signal=Signal(values=np.ones((50, 1), dtype=np.uint8), sampling_rate_hz=50.0, units="count"),
        events=Events(onset_s=onset, duration_s=np.full(2, 0.4), label=("trial",) * 2, columns=columns),
    )
    said = Provenance(archive="local", source_id="", version="", files=(), licence="", citation="", libraries={})
    write_shard(recording, provenance=said, path=folder / "mice" / f"{name}.zarr.zip")
    return FoldRecording(
        dataset="mice",
        recording=name,
        subject=f"lab:{name}",
        modality=Modality.SPIKES,
        kind="subject",
        calibration=spans([(0, 25)]),
        test=spans([(25, 50)]),
    )


def test_a_column_that_nobody_has_is_refused_and_who_lacks_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = np.arange(2.0)
    told = write_columns(tmp_path, "a", {"left": number, "right": number})
    other = write_columns(tmp_path, "b", {"right": number, "went": ("x", "y")})
    splits = Splits(seed=1, folds=(Fold(recordings=(told,)), Fold(recordings=(other,))), left_out=())

    def check(splits: Splits, **wanted: TrialClass) -> str:
        settings = EvaluateSettings.parse(SETTINGS, where="", mend="").model_copy(update={"trial_classes": wanted})
        check_columns(splits, shards=tmp_path, settings=settings)
        return capsys.readouterr().err

    assert check(splits, common=TrialClass(column="right")) == ""
    assert check(splits, side=SIDE) == (
        "evaluate.trial_classes.side: 1 of 2 recordings of spikes lack 'left' and 'right' and take no part: mice/b\n"
    )
    for wrong in (TrialClass(column="lfet"), TrialClass(larger_of=("left", "went"))):
        with pytest.raises(UserError, match=r"trial_classes\.side: no .* their columns are left, right, went\. Mend: "):
            check(splits, side=wrong)
    # Its trials have no columns.
    bare = write_columns(tmp_path, "c", {})
    with pytest.raises(UserError, match="under `trials` in the catalogue"):
        check(Splits(seed=1, folds=(Fold(recordings=(bare,)),), left_out=()), side=SIDE)


@pytest.fixture(scope="module")
def sessions(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of three real sessions."""
    params, shards = load_params(ROOT), tmp_path_factory.mktemp("shards")
    (shards / "mice").mkdir()
    for session in (1, 7, 17):
        entry = ManifestRecording(id="r", subject=f"steinmetz:{session}", files={"main": f"session{session}.rds"})
        source = ReaderInput(
            dataset="mice",
            modality=Modality.SPIKES,
            species="any",
            root=shared_data / "ephys/steinmetz2019_rds",
            entry=entry,
        )
        recording = preprocess_recording(
            read_recording("trials", source, STEINMETZ),
            settings=params.preprocess.spikes,
            common=params.preprocess.common,
        )
        said = Provenance(archive="local", source_id="", version="", files=(), licence="", citation="", libraries={})
        write_shard(recording, provenance=said, path=shards / "mice" / f"s{session}.zarr.zip")
    return shards


def test_spikes_of_a_trial_are_counted(sessions: Path) -> None:
    shard = read_shard(sessions / "mice" / "s1.zarr.zip")
    trials = read_trials(shard)
    assert trials is not None
    assert trials.counts.shape == (114, int(shard.usable.sum()), 4)
    first, stop = trials.span[5]
    assert trials.counts[5].sum() == shard.values(first, stop)[:, shard.usable].sum()
    assert trials.counts[5, :, 1].sum() == shard.values(first + 5, first + 10)[:, shard.usable].sum()
    # A trial with samples that are not fit for use takes no part.
    shard.valid[first] = False
    fewer = read_trials(shard)
    assert fewer is not None
    assert len(fewer.counts) == 113
    # Nor does one whose end is not known.
    events = shard.recording.events
    assert events is not None
    shard.valid[:] = True
    events.duration_s[7] = np.nan
    fewer = read_trials(shard)
    assert fewer is not None
    assert len(fewer.counts) == 113


def test_a_real_mouse_left_out_has_its_rows(sessions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_decoder, "_STEPS", 20)
    monkeypatch.setattr(trial_task, "SEEDS", 2)
    settings = EvaluateSettings.parse(
        {**SETTINGS, "trial_classes": {"side": {"larger_of": ["contrast_left", "contrast_right"]}}}, where="", mend=""
    )

    def entry(session: int) -> FoldRecording:
        whole = len(read_shard(sessions / "mice" / f"s{session}.zarr.zip").valid)
        seen = round(0.8 * whole) if session == 17 else whole
        return FoldRecording(
            dataset="mice",
            recording=f"s{session}",
            subject=f"steinmetz:{session}",
            modality=Modality.SPIKES,
            kind="subject",
            calibration=spans([(0, seen)]),
            test=spans([(seen, whole)] if session == 17 else []),
        )

    fold = Fold(recordings=tuple(map(entry, (1, 7, 17))))
    scores, seconds = trial_scores(fold, shards=sessions, number=0, settings=settings)
    rows = make_rows(scores, folds=1, settings=settings)
    assert {row.unit for row in rows} == {"share of trials"}
    found = {(row.task, row.model): row.value for row in rows}
    models = {NULL, TRIALS, LOGISTIC, AVERAGE}
    tasks = {f"trial:side@{share}%": models for share in (5, 20, 100)} | {"trial:side@0%": {NULL, TRIALS}}
    assert found.keys() == {(task, model) for task, own in tasks.items() for model in own}
    assert found["trial:side@0%", NULL] == pytest.approx(1 / 3, abs=1e-5)
    assert found["trial:side@100%", LOGISTIC] > 0.5
    assert found["trial:side@100%", TRIALS] > 0.5
    assert {task for _, task, _ in seconds} == tasks.keys()
    differences = compare(rows, scores=scores, traits={}, settings=settings).differences
    assert {one.ours for one in differences} == {TRIALS}
    assert summarise(rows)["mice"]["trial:side@100%"]["balanced_accuracy"].keys() >= models
    nothing = settings.model_copy(update={"trial_classes": {}})
    assert trial_scores(fold, shards=sessions, number=0, settings=nothing) == ([], {})
