"""Children and adults, and their age, are told from how regions go together; no test subject is learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.attributes import Attributes, labelled
from neurofm.evaluation.core_features import described_alike
from neurofm.evaluation.row import NULL
from neurofm.evaluation.series import Series, known_channels
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.trait_scores import Predictions
from neurofm.evaluation.traits import MODELS, OURS_CORE, OURS_NETWORK, TraitTask, make_table, read_out
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import SETTINGS, poison, spans
from tests.evaluation.pixar import people

FMRI = MODELS[Modality.FMRI]
Known = tuple[list[RecordingView], dict[str, Attributes]]


@pytest.fixture(scope="module")
def known(shared_data: Path) -> Known:
    return people(shared_data, each=18)


def _encode(view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A network that says how strong each channel is: [window, 1, channel]."""
    assert z.shape[1:] == (64, len(view.channel_ids))
    return np.asarray(z.std(axis=1, keepdims=True), dtype=np.float32)


def _task(
    views: list[RecordingView], attributes: Mapping[str, Attributes], *, traits: list[str], **more: object
) -> TraitTask:
    task = TraitTask(settings=EvaluateSettings.parse({**SETTINGS, "traits": traits, **more}, where="", mend=""))
    seconds = task.add(views, attributes, encode=_encode, window_samples=64)
    assert set(seconds) == {(key[0], f"trait:{key[2]}", key[3]) for key in task.predictions()}
    return task


def test_unseen_people_are_told_apart(known: Known) -> None:
    task = _task(*known, traits=["group", "age", "nothing"])
    rows = task.rows(folds=1)
    models = sorted([*FMRI, OURS_NETWORK, NULL])
    for trait, metrics in (("group", ("auc", "balanced_accuracy")), ("age", ("r", "R2"))):
        for metric in metrics:
            own = [row for row in rows if (row.task, row.metric) == (f"trait:{trait}", metric)]
            assert sorted(row.model for row in own) == models
            assert all(row.n == 12 and row.ci_unit == "subject" for row in own)
            assert all(row.ci_low <= row.value <= row.ci_high for row in own)
            null = {0.5} if trait == "group" else {0.0}
            assert {row.null for row in own} == null
            values = {row.model: row.value for row in own}
            assert {values[NULL]} == null
            assert values[OURS_CORE] > {"auc": 0.9, "balanced_accuracy": 0.8, "r": 0.6, "R2": 0.2}[metric]
            assert min(values["connectivity"], values["tangent_connectivity"]) > values[NULL] + 0.15
    assert {row.task for row in rows} == {"trait:group", "trait:age"}
    for sets in task.given.values():
        for folds in sets.values():
            folds.append(None)
    assert task.rows(folds=2) == ()  # the second could not learn any of them


def test_people_left_out_alone_are_scored_together(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurofm.evaluation.traits.MODELS", {Modality.FMRI: {OURS_CORE: FMRI[OURS_CORE]}})
    views, attributes = known
    chosen = [*views[:6], *views[18:24]]
    settings = EvaluateSettings.parse({**SETTINGS, "traits": ["group", "age"]}, where="", mend="")
    task = TraitTask(settings=settings)
    for held in chosen:
        fold = [_with_role(view, test=view is held) for view in chosen]
        task.add(fold, attributes, encode=None, window_samples=64)
        if held is chosen[0]:
            assert task.rows(folds=1) == (), "one person by himself is no score"
    rows = task.rows(folds=12, left_out={chosen[0].dataset: "one subject left out, 12 folds"})
    values = {(row.metric, row.model): row.value for row in rows}
    assert {row.n for row in rows} == {12}
    assert {row.split for row in rows} == {"one subject left out, 12 folds"}
    assert values["auc", OURS_CORE] > 0.9
    assert values["r", OURS_CORE] > 0.6
    assert {values[metric, NULL] for metric in ("auc", "balanced_accuracy")} == {0.5}
    assert {values[metric, NULL] for metric in ("r", "R2")} == {0.0}


def _with_role(view: RecordingView, *, test: bool) -> RecordingView:
    every = spans([(0, 168)])
    roles = view.roles.model_copy(update={"train": () if test else every, "test": every if test else ()})
    return replace(view, roles=roles)


def test_labels_that_say_nothing_are_not_predicted(known: Known) -> None:
    views, attributes = known
    drawn = np.random.default_rng(4).permutation([str(attributes[view.name]["group"]) for view in views])
    shuffled = {view.name: {"group": str(label)} for view, label in zip(views, drawn, strict=True)}
    (row,) = (
        row
        for row in _task(views, shuffled, traits=["group"]).rows(folds=1)
        if (row.metric, row.model) == ("auc", OURS_CORE)
    )
    assert row.ci_low < 0.5


@pytest.mark.parametrize("model", sorted(FMRI))
def test_nothing_comes_from_those_who_are_held_out(known: Known, model: str) -> None:
    views, attributes = known
    train = sorted(view.subject for view in views if view.roles.train)
    changed = {
        view.name: attributes[view.name] if view.roles.train else {"age": 99.0 - float(attributes[view.name]["age"])}  # type: ignore[arg-type]
        for view in views
    }
    first, second = (
        make_table(model, FMRI[model], labelled(own, said, trait="age"), train=train)
        for own, said in ((views, attributes), ([poison(view) for view in views], changed))
    )
    assert first.train_features.tobytes() == second.train_features.tobytes()
    assert first.test_features.tobytes() != second.test_features.tobytes()
    seen, unseen = read_out(first), read_out(replace(second, test_features=first.test_features))
    assert seen.predicted.tobytes() == unseen.predicted.tobytes()
    assert seen.null.tobytes() == unseen.null.tobytes()
    assert seen.truth.tobytes() != unseen.truth.tobytes()


def test_one_person_is_predicted_as_among_others(known: Known) -> None:
    views, attributes = known
    train = sorted(view.subject for view in views if view.roles.train)
    held = [view for view in views if view.roles.test]
    for model in ("connectivity", OURS_CORE):
        fit = FMRI[model]
        everyone, alone = (
            _predicted(make_table(model, fit, labelled(own, attributes, trait="age"), train=train))
            for own in (views, [view for view in views if view not in held[1:]])
        )
        np.testing.assert_allclose(alone[held[0].subject], everyone[held[0].subject], rtol=1e-9)


def test_a_person_held_out_is_described_as_the_others_are(known: Known) -> None:
    views, _ = known
    held, learned = (next(view for view in views if bool(view.roles.train) == side) for side in (False, True))
    for view in (held, learned):
        alike = described_alike(view, samples=120)
        assert alike.roles.calibration == spans([(0, 120)])
        np.testing.assert_allclose(alike.z(0, 120).std(axis=0), 1.0, rtol=1e-3)
        later = replace(view, stored=np.concatenate([view.stored[:120], view.stored[120:] + 500]))
        assert described_alike(later, samples=120).normaliser.mean.tobytes() == alike.normaliser.mean.tobytes()
    short = replace(held, valid=np.arange(168) < 90)
    assert described_alike(short, samples=120).roles.calibration == spans([(0, 168)])


@pytest.mark.parametrize("model", ["connectivity", OURS_CORE])
def test_a_longer_recording_is_not_known_by_its_length(known: Known, model: str) -> None:
    views, _ = known
    features = FMRI[model](views[:5])
    shorter = [replace(view, valid=np.arange(len(view.valid)) < 120) for view in views[:5]]
    assert Series.fit([*shorter[:1], *views[1:5]]).samples == 120
    assert Series.fit([replace(views[0], valid=np.arange(168) < 20), *views[1:5]]).samples == 84
    of_short = FMRI[model](shorter)
    assert of_short(views[:1]).tobytes() == of_short(shorter[:1]).tobytes()
    assert of_short(views[:1]).tobytes() != features(views[:1]).tobytes()


def test_a_lost_channel_is_filled_in_from_the_others(known: Known) -> None:
    views, _ = known
    series = Series.fit(views[1:])
    assert len(series.kept) == 64
    lost = _without(views[0], channel=5)
    assert known_channels(lost).sum() == 63
    filled, recorded = series.of(lost), series.of(views[0])
    np.testing.assert_array_equal(np.delete(filled, 5, axis=1), np.delete(recorded, 5, axis=1))
    assert np.corrcoef(filled[:, 5], recorded[:, 5])[0, 1] > 0.5


def test_a_channel_that_most_lack_is_left_out(known: Known) -> None:
    views, _ = known
    series = Series.fit([_without(view, channel=5) for view in views[:4]] + views[4:12])
    assert series.kept.tolist() == [channel for channel in range(64) if channel != 5]


def _predicted(table: object) -> dict[str, float]:
    made: Predictions = read_out(table)  # type: ignore[arg-type]
    return dict(zip(made.subject, made.predicted[0, :, 0].tolist(), strict=True))


def _without(view: RecordingView, *, channel: int) -> RecordingView:
    stored = view.stored[:].copy()
    stored[:, channel] = 0
    return replace(view, stored=stored)


def test_a_network_says_what_its_own_channels_say(known: Known) -> None:
    views, attributes = known
    patterns = {"few": ["c0$", "c1"], "all": ["c"], "none": ["Frontal"], "two": ["c2$", "c3$"]}
    task = _task(views, attributes, traits=["group"], networks=patterns)
    predicted = {(trait, model): found.predicted for (_, _, trait, model), found in task.predictions().items()}
    assert {trait for trait, _ in predicted} == {"group", "group@few", "group@all"}
    # c0, c1 and c10 to c19 by themselves: what the other channels say does not matter.
    changed = [replace(view, stored=np.array(view.stored)) for view in views]
    for view in changed:
        stored = np.asarray(view.stored)
        stored[:, 20:] = np.roll(stored[:, 20:], 7, axis=0)
    alone = _task(changed, attributes, traits=["group"], networks={"few": patterns["few"]})
    for model in FMRI:
        np.testing.assert_array_equal(predicted["group@all", model], predicted["group", model])
        key = (views[0].dataset, "fmri", "group@few", model)
        np.testing.assert_array_equal(alone.predictions()[key].predicted, predicted["group@few", model])
    assert OURS_NETWORK not in {model for trait, model in predicted if trait != "group"}
    rows = [row for row in task.rows(folds=1) if (row.task, row.metric) == ("trait:group@few", "auc")]
    assert {row.model for row in rows} == {*FMRI, NULL}
    assert {row.null for row in rows} == {0.5}
