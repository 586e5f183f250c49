"""From shards and models to the scoreboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.errors import UserError
from neurofm.evaluation.evaluate import evaluate
from neurofm.evaluation.examples import read_examples
from neurofm.evaluation.findings import TRAINING_MEAN
from neurofm.evaluation.scoreboard import Scoreboard, summarise
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Channels, Clock, Modality, Recording, Signal, Target
from neurofm.shards import Provenance, write_shard
from neurofm.splits import Candidate, Splits, SplitSettings, make_splits
from neurofm.training.pretrain import pretrain_all_folds
from neurofm.training.settings import PretrainSettings
from neurofm.windows import WindowsSettings
from tests.evaluation.conftest import SETTINGS, WINDOW

SUBJECTS, SUBJECT_SAMPLES, SPIKE_SAMPLES = 6, 200, 2400
PROVENANCE = Provenance(
    archive="local", source_id="x", version="1", files=(), licence="CC0-1.0", citation="x", libraries={}
)
WINDOWS = WindowsSettings.parse(
    {str(modality): {"window_samples": WINDOW, "patch_samples": 5} for modality in Modality}, where="", mend=""
)
PRETRAIN = PretrainSettings.parse(
    {
        "seed": 1,
        "steps": 8,
        "batch_windows": 4,
        "learning_rate": 0.002,
        "weight_decay": 0.01,
        "warmup_steps": 2,
        "hidden_fraction_min": 0.2,
        "hidden_fraction_max": 0.5,
        "episodes": 2,
        "shares": {"spikes": 0.5, "calcium": 0.0, "miniscope": 0.0, "fmri": 0.5, "eeg": 0.0},
        "validate_every_steps": 4,
        "validation_windows": 8,
        "patience": 10,
        "ema_decay": 0.9,
        "mask_groups": 3,
        "residual_gains": [0.0, 0.5],
        "core": {
            "smoothing_samples": [0.0, 1.0, 4.0],
            "ridge": [0.001, 0.1],
            "prior_samples": [0.0, 100.0],
            "rate_floors": [0.1],
        },
        "model": {"backbone": "transformer", "width": 16, "layers": 1, "heads": 2, "dropout": 0.1},
    },
    where="pretrain",
    mend="",
)


class _Trained(NamedTuple):
    splits: Splits
    shards: Path
    models: Path

    def evaluate(
        self,
        *,
        splits: Splits | None = None,
        shards: Path | None = None,
        traits: Sequence[str] = (),
        workers: int = 1,
        **changed: int | dict[str, int] | list[int] | dict[str, dict[str, str]],
    ) -> Scoreboard:
        return evaluate(
            splits or self.splits,
            shards=shards or self.shards,
            models=self.models,
            settings=EvaluateSettings.parse({**SETTINGS, "traits": list(traits), **changed}, where="", mend=""),
            windows=WINDOWS,
            workers=workers,
        )


def _values(name: str) -> npt.NDArray[np.float64]:
    """A direction seen by tuned units, or three latents seen by an atlas, louder in every other window."""
    rng = np.random.default_rng(len(name) + sum(map(ord, name)))
    if name == "hd":
        drive = np.cos(_angle()[:, None] - np.linspace(0, 2 * np.pi, 9, endpoint=False))
        return rng.poisson(np.exp(1.5 * drive - 1)).astype(np.float64)
    loadings = np.random.default_rng(0).normal(size=(3, 8))
    latents = rng.normal(size=(SUBJECT_SAMPLES, 3)) @ loadings + 0.7 * rng.normal(size=(SUBJECT_SAMPLES, 8))
    return latents * (1 + _state()[:, None])


def _state() -> npt.NDArray[np.float64]:
    return (np.arange(SUBJECT_SAMPLES) // WINDOW % 2).astype(np.float64)


def _angle() -> npt.NDArray[np.float64]:
    return np.cumsum(0.1 * np.random.default_rng(8).normal(size=SPIKE_SAMPLES))


def _write(folder: Path, candidate: Candidate, values: npt.NDArray[np.float64]) -> None:
    spikes = candidate.modality is Modality.SPIKES
    times = np.arange(len(values)) / candidate.sampling_rate_hz
    direction = np.stack([np.cos(_angle()), np.sin(_angle())], axis=1)
    if spikes:
        target = Target(values=direction.astype(np.float32), unit="1", columns=("cos", "sin"), time_s=times)
    else:
        target = Target(values=_state()[:, None].astype(np.float32), unit="", columns=("eyes_closed",), time_s=times)
    channels = values.shape[1]
    recording = Recording(
        dataset=candidate.dataset,
        subject=candidate.subject,
        session="",
        run="",
        task="",
        species="Mus musculus",
        modality=candidate.modality,
        channels=Channels(
            id=tuple(f"c{index}" for index in range(channels)),
            position=np.full((channels, 3), np.nan),
            position_unit="",
            space="atlas",
            quality={"usable": np.ones(channels)},
        ),
        clock=Clock(id=candidate.recording),
        signal=Signal(
            values=values.astype(np.uint8) if spikes else values,
            sampling_rate_hz=candidate.sampling_rate_hz,
            units="count" if spikes else "1",
        ),
        targets={"head_direction" if spikes else "eyes_closed": target},
        scalars={"age": 20 + int(candidate.recording.removeprefix("s"))} if candidate.dataset == "rest" else {},
    )
    path = folder / candidate.dataset / f"{candidate.recording}.zarr.zip"
    write_shard(recording, provenance=PROVENANCE, path=path)


def _candidates() -> list[Candidate]:
    spikes = Candidate(
        dataset="cells",
        recording="hd",
        subject="lab:m",
        modality=Modality.SPIKES,
        samples=SPIKE_SAMPLES,
        sampling_rate_hz=50.0,
        support_s=0.0,
    )
    subjects = [
        Candidate(
            dataset="rest",
            recording=f"s{number}",
            subject=f"lab:s{number}",
            modality=Modality.FMRI,
            samples=SUBJECT_SAMPLES,
            sampling_rate_hz=0.5,
            support_s=0.0,
        )
        for number in range(SUBJECTS)
    ]
    return [spikes, *subjects]


def _write_all(folder: Path, change: Callable[[Candidate, npt.NDArray[np.float64]], None] | None = None) -> Path:
    for candidate in _candidates():
        values = _values(candidate.recording)
        if change is not None:
            change(candidate, values)
        _write(folder, candidate, values)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> _Trained:
    root = tmp_path_factory.mktemp("project")
    shards = _write_all(root / "shards")
    chosen = SplitSettings(
        seed=1,
        folds=2,
        test_fraction=0.2,
        validation_fraction=0.3,
        min_subjects=5,
        blocks=8,
        calibration_fraction=0.3,
    )
    splits = make_splits(_candidates(), settings=chosen, window_samples=dict.fromkeys(Modality, WINDOW))
    pretrain_all_folds(
        splits,
        shards=shards,
        settings=PRETRAIN,
        windows=WINDOWS,
        runs=root / "runs",
        out=root / "models",
        workers=1,
    )
    return _Trained(splits, shards, root / "models")


@pytest.fixture(scope="module")
def board(trained: _Trained) -> Scoreboard:
    return trained.evaluate()


def _models(board: Scoreboard, dataset: str, task: str, metric: str) -> Sequence[str]:
    return [row.model for row in board.rows if (row.dataset, row.task, row.metric) == (dataset, task, metric)]


def test_columns_of_trials_that_nobody_has_are_refused_before_anything_is_scored(trained: _Trained) -> None:
    nowhere = trained._replace(models=Path("nowhere"))
    with pytest.raises(UserError, match=r"evaluate\.trial_classes\.side: .*'sides'; they have no columns"):
        nowhere.evaluate(trial_classes={"side": {"column": "sides"}})


def test_every_model_is_scored_on_every_task(board: Scoreboard) -> None:
    ours = ["neurofm", "neurofm-linear-core"]
    spikes = ["factor_analysis", "factor_analysis_glm", "gaussian", *ours, "null", "poisson_glm", "ppca", "ridge"]
    fmri = ["gaussian", "gaussian_calibrated", *ours, "null", "ppca", "ridge"]
    probes = ["neurofm-probe", "null", "ridge_counts", "ridge_counts_smoothed"]
    assert _models(board, "cells", "masked_reconstruction", "R2") == spikes
    assert _models(board, "cells", "masked_reconstruction", "bits_per_spike") == spikes
    assert _models(board, "rest", "masked_reconstruction", "R2") == fmri
    assert _models(board, "cells", "decoding:head_direction", "R2") == probes
    for metric in ("balanced_accuracy", "auc"):
        classifiers = ["logistic_power", "neurofm-probe", "null"]
        assert _models(board, "rest", "classification:eyes_closed", metric) == classifiers
    assert {(row.dataset, task) for row in board.rows for task in board.timings[row.dataset]} == {
        ("cells", "masked_reconstruction"),
        ("cells", "decoding:head_direction"),
        ("rest", "masked_reconstruction"),
        ("rest", "classification:eyes_closed"),
    }


def test_scores_make_sense(board: Scoreboard) -> None:
    summary = summarise(board.rows)
    bits = summary["cells"]["masked_reconstruction"]["bits_per_spike"]
    assert bits["null"] == 0
    r2 = summary["rest"]["masked_reconstruction"]["R2"]
    decoded = summary["cells"]["decoding:head_direction"]["R2"]
    for values in (bits, r2, decoded):
        null = values.pop("null")
        distance = values.pop("neurofm_minus_best_baseline")
        assert min(values.values()) > null + 0.1
        assert max(values.values()) < 1.5
        assert abs(distance) < 0.3
    for metric in ("balanced_accuracy", "auc"):
        classified = summary["rest"]["classification:eyes_closed"][metric]
        assert classified["null"] == 0.5
        assert classified["logistic_power"] > 0.8


def test_ours_is_compared_with_the_best_baseline_of_every_task(board: Scoreboard) -> None:
    summary = summarise(board.rows)
    compared = {(one.dataset, one.task, one.metric): one for one in board.differences.differences}
    scored = {(row.dataset, row.task, row.metric) for row in board.rows}
    # One difference must not count twice.
    assert set(compared) == {one for one in scored if one[2] != "correlation"} < scored
    assert board.differences.comparisons == len(compared)
    for (dataset, task, metric), one in compared.items():
        expected = summary[dataset][task][metric]["neurofm_minus_best_baseline"]
        assert one.value == pytest.approx(expected, abs=2e-6)
        assert one.p <= one.p_holm <= 1


def test_findings_are_those_of_what_was_scored(trained: _Trained, board: Scoreboard) -> None:
    found = board.findings
    (connectome,) = found.connectomes
    assert (connectome.dataset, len(connectome.subjects)) == ("rest", SUBJECTS)
    r = dict(zip(connectome.models, connectome.r, strict=True))
    assert {"neurofm", "ridge", "null", TRAINING_MEAN} < set(r)
    assert np.isnan(r["null"]).all(), "it predicts the same of every channel"
    assert r["neurofm"].mean() > 0.8
    ours, baseline = found.confusions
    assert (ours.ours, baseline.ours, ours.classes) == (True, False, ("not eyes closed", "eyes closed"))
    # Seven scored windows of each subject: three in one state and four in the other, in turn.
    np.testing.assert_array_equal(ours.counts.sum(axis=1), baseline.counts.sum(axis=1))
    assert ours.counts.sum() == 7 * SUBJECTS
    balanced = summarise(board.rows)["rest"]["classification:eyes_closed"]["balanced_accuracy"]
    for one in (ours, baseline):
        shares = np.diag(one.counts) / one.counts.sum(axis=1)
        assert shares.mean() == pytest.approx(balanced[one.model], abs=0.02), "which is a mean over subjects"
    points = {(one.dataset, one.point): one for one in found.embeddings}
    assert set(points) == {("", "window"), ("rest", "window"), ("cells", "patch")}
    together = points["", "window"]
    assert together.classes == (("cells", "rest"),)
    test = {entry.recording for entry in trained.splits.folds[0].recordings if entry.test and entry.dataset == "rest"}
    rest = points["rest", "window"]
    assert rest.labels == ("subject", "eyes_closed")
    held = {rest.classes[0][int(which)] for which in rest.values[0][rest.held_out == 1]}
    assert held == test
    np.testing.assert_array_equal(np.unique(rest.values[1]), [0, 1])


def test_tuning_is_recovered_from_embeddings(board: Scoreboard) -> None:
    (tuning,) = board.findings.tunings
    assert (tuning.dataset, tuning.target, tuning.is_angle, tuning.unit) == (
        "cells",
        "head_direction",
        True,
        "spikes/s",
    )
    assert tuning.median_error < 30
    assert np.median(tuning.r) > 0.9
    assert abs(np.median(tuning.r_shifted)) < 0.4
    # Unit 0 is tuned to 0 degrees, and fires on average exp(0.5) spikes a bin there, of 20 ms.
    peak = tuning.centre[np.nanargmax(tuning.measured[:, 0])]
    assert min(peak, 360 - peak) < 45
    assert np.nanmax(tuning.measured[:, 0]) == pytest.approx(50 * np.exp(0.5), rel=0.25)


def test_every_subject_is_scored_once(board: Scoreboard) -> None:
    rows = [row for row in board.rows if row.dataset == "rest"]
    assert {(row.n, row.ci_unit, row.split) for row in rows} == {(SUBJECTS, "subject", "2-fold by subject")}
    assert all(row.ci_low <= row.value <= row.ci_high for row in board.rows)


def test_scores_are_the_same_to_the_byte_however_many_processes_score(
    trained: _Trained, board: Scoreboard, tmp_path: Path
) -> None:
    written = []
    for run, made in (("one", board), ("two", trained.evaluate(workers=2))):
        made.write(metrics=tmp_path / run, reports=tmp_path / run)
        tables = (
            "scoreboard.json",
            "scoreboard.csv",
            "summary.json",
            "differences.json",
            "few_shot.json",
            "calibration.csv",
        )
        names = (*tables, "reconstructions.npz", "findings.npz")
        written.append([(tmp_path / run / name).read_bytes() for name in names])
    assert written[0] == written[1]
    examples = read_examples(tmp_path / "one" / "reconstructions.npz")
    assert [example.dataset for example in examples] == ["cells", "rest"]
    for example in examples:
        ours, best = example.reconstructions
        assert ours == "neurofm"
        assert not best.startswith("neurofm")
        assert example.truth.shape == example.reconstructions[best].shape == (WINDOW, 3)


def test_traits_are_rows_beside_the_others(
    trained: _Trained, board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurofm.evaluation.attributes.LEAST_SUBJECTS", SUBJECTS // 2)
    monkeypatch.setattr("neurofm.evaluation.few_shot_networks.SEEDS", 2)
    made = trained.evaluate(traits=["age"], few_shot=True, few_shot_steps=2, calibration_s=[10])
    assert made.rows[: len(board.rows)] == board.rows
    added = made.rows[len(board.rows) :]
    models = ["connectivity", "neurofm-embedding", "neurofm-tangent", "null", "tangent_connectivity"]
    assert sorted((row.metric, row.model) for row in added) == sorted(product(("R2", "r"), models))
    assert {(row.dataset, row.task, row.n) for row in added} == {("rest", "trait:age", SUBJECTS)}
    assert set(made.timings["rest"]["trait:age"]) >= {model for model in models if model != "null"}
    assert "neurofm_minus_best_baseline" in summarise(made.rows)["rest"]["trait:age"]["r"]
    assert made.differences.comparisons == board.differences.comparisons + 2
    # And so they are with few labels, beside the same network from scratch.
    assert not board.few_shot
    curves = {(row.task, row.model) for row in made.few_shot}
    ours = {"neurofm", "neurofm-network", "neurofm-scratch"}
    assert {model for task, model in curves if task == "trait:age"} == (
        ours | {"connectivity", "tangent_connectivity", "neurofm-tangent"}
    )
    assert {model for task, model in curves if task == "decoding:head_direction"} == ours | {"counts"}
    # Networks that learn themselves have fewer draws, and 10 % of the labels.
    assert {(row.protocol, row.seeds) for row in made.few_shot} == {
        *(("knn", 5), ("linear_probe", 5), ("fine_tune", 2), ("lora", 2)),
    }
    tasks = ("trait:age", "decoding:head_direction", "classification:eyes_closed")
    learned = {(row.task, row.model, row.labels) for row in made.few_shot if row.protocol == "lora"}
    assert learned == set(product(tasks, ("neurofm-network", "neurofm-scratch"), ["10 %"]))
    assert "neurofm-network fine_tune" in made.timings["rest"]["trait:age"]
    # And what is not learned from is reconstructed after a shorter look at it.
    assert {(row.dataset, row.calibration) for row in made.calibration} == {("rest", "10 s"), ("rest", "all")}
    assert not board.calibration


def test_an_example_shows_what_was_recorded(trained: _Trained, board: Scoreboard) -> None:
    (entry,) = (entry for entry in trained.splits.folds[0].recordings if entry.dataset == "cells")
    start = entry.test[0].start
    example = board.examples[0]
    channels = [int(name.removeprefix("c")) for name in example.channels]
    np.testing.assert_array_equal(example.truth, _values("hd")[start : start + WINDOW][:, channels])
    assert example.start_s == start / 50.0


def test_a_subject_that_the_model_saw_is_not_scored(trained: _Trained) -> None:
    turned = trained.splits.model_copy(update={"folds": tuple(reversed(trained.splits.folds))})
    with pytest.raises(UserError, match=r"model of fold 0 was trained on .* \(and \d more\)\. Mend: .*allow_overlap"):
        trained.evaluate(splits=turned)
    people = tuple(one for one in turned.folds[0].recordings if one.dataset == "rest")
    turned = turned.model_copy(update={"folds": (turned.folds[0].model_copy(update={"recordings": people}),)})
    board = trained.evaluate(splits=turned, allow_overlap=True, bootstrap_samples=100)
    for row in board.rows:
        assert ("trained on" in row.leak) == row.model.startswith("neurofm")
    assert re.fullmatch(
        r"trained on [1-3] of 3 subjects", next(row.leak for row in board.rows if row.model == "neurofm")
    )


def test_mixing_up_the_channels_of_what_is_scored_ruins_the_score(trained: _Trained, tmp_path: Path) -> None:
    first = trained.splits.model_copy(update={"folds": trained.splits.folds[:1]})
    tests = {entry.recording: entry.test for entry in first.folds[0].recordings}

    def scramble(candidate: Candidate, values: npt.NDArray[np.float64]) -> None:
        rng = np.random.default_rng(0)
        for segment in tests[candidate.recording]:
            rng.shuffle(values[segment.start : segment.stop].T)

    before = trained.evaluate(splits=first)
    after = trained.evaluate(splits=first, shards=_write_all(tmp_path / "shards", scramble))
    clean, scrambled = (summarise(made.rows)["rest"]["masked_reconstruction"]["R2"] for made in (before, after))
    assert scrambled["ridge"] < clean["ridge"] - 0.2
    assert scrambled["neurofm"] < clean["neurofm"] - 0.2


def test_references_are_rows_beside_the_others(trained: _Trained) -> None:
    board = trained.evaluate(references={"ndt": 2, "lfads": 2, "brainlm": 1})
    found = {
        model: {(row.dataset, row.task, row.metric) for row in board.rows if row.model == model}
        for model in ("ndt", "lfads", "brainlm")
    }
    rest = {("rest", "masked_reconstruction", metric) for metric in ("R2", "correlation")}
    cells = {("cells", "masked_reconstruction", metric) for metric in ("R2", "correlation", "bits_per_spike")}
    assert found == {"ndt": cells, "lfads": cells, "brainlm": rest}
    assert board.timings["cells"]["masked_reconstruction"].keys() > {"ndt", "lfads"}


def test_a_dataset_never_seen_is_scored_whole_after_each_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two datasets of one atlas and two of spikes, each left out once: both nulls are beside ours at every point."""
    cells, *people = _candidates()
    other = [replace(one, dataset="other", subject=f"other:{one.recording}") for one in people[3:]]
    candidates = [*people[:3], *other, cells, replace(cells, dataset="more", subject="more:m")]
    for one in candidates:
        values = _values(one.recording)
        _write(tmp_path / "shards", one, values[:, ::-1] if one.dataset == "more" else values)
    chosen = SplitSettings(seed=1, leave_out="dataset")
    splits = make_splits(candidates, settings=chosen, window_samples=dict.fromkeys(Modality, WINDOW))
    brief = PRETRAIN.model_copy(update={"steps": 2})
    pretrain_all_folds(
        splits,
        shards=tmp_path / "shards",
        settings=brief,
        windows=WINDOWS,
        runs=tmp_path / "runs",
        out=tmp_path / "models",
        workers=1,
    )
    board = _Trained(splits, tmp_path / "shards", tmp_path / "models").evaluate(calibration_s=[5])
    assert {row.split for row in board.rows} == {"one dataset left out, 1 of 2 folds"}
    assert not any(row.leak for row in board.rows)
    assert not any(row.leak for row in board.calibration)
    for dataset, metric in (("rest", "R2"), ("other", "R2"), ("cells", "bits_per_spike"), ("more", "bits_per_spike")):
        for point in ("5 s", "all"):
            wanted = (dataset, metric, point)
            own = [row for row in board.calibration if (row.dataset, row.metric, row.calibration) == wanted]
            assert {row.model for row in own} >= {"neurofm", "null", "null_train", "ridge", "gaussian"}
    told = [line for line in capsys.readouterr().err.splitlines() if "not decoded" in line]
    assert [line.split()[1] for line in told] == ["cells", "more"]
