"""Numbers behind figures: what was computed comes back, and the projections are what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from neurofm.evaluation.confusions import confusions_of
from neurofm.evaluation.connectomes import Connectomes
from neurofm.evaluation.decoding import Decoded
from neurofm.evaluation.difference import Difference, Differences
from neurofm.evaluation.findings import (
    TRAINING_MEAN,
    Confusion,
    Embedding,
    Findings,
    classes_of,
    plane,
    read_findings,
    write_findings,
)
from neurofm.evaluation.samples import cut
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.trait_scores import Predictions
from neurofm.evaluation.tunings import Tunings
from neurofm.recording import Modality
from neurofm.splits import Segment
from tests.evaluation.conftest import WINDOW, view_of


def test_findings_come_back_as_they_were(tmp_path: Path) -> None:
    confusion = Confusion(
        dataset="d",
        modality="eeg",
        task="trait:sex",
        model="neurofm-tangent",
        ours=True,
        unit="subject",
        subjects=9,
        classes=("f", "m"),
        counts=np.array([[4.0, 1.0], [0.0, 4.0]]),
    )
    embedding = Embedding(
        dataset="",
        modality="",
        recording="",
        fold=0,
        point="window",
        explained=np.array([0.5, 0.25]),
        xy=np.arange(6.0).reshape(3, 2),
        held_out=np.array([0.0, 1.0, 1.0]),
        labels=("dataset", "head_direction"),
        classes=(("a", "b"), ()),
        values=np.array([[0.0, 1.0, np.nan], [10.0, 350.0, 5.0]]),
    )
    for name in ("one.npz", "two.npz"):
        write_findings(Findings(confusions=(confusion,), embeddings=(embedding,)), tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    found = read_findings(tmp_path / "one.npz")
    assert (found.tunings, found.connectomes) == ((), ())
    for made, came in ((confusion, found.confusions[0]), (embedding, found.embeddings[0])):
        for field in fields(made):
            before, after = getattr(made, field.name), getattr(came, field.name)
            if isinstance(before, np.ndarray):
                np.testing.assert_array_equal(before, after)
            else:
                assert before == after, field.name


def test_the_plane_is_that_of_the_largest_components() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 5)) * [1.0, 9.0, 3.0, 0.1, 0.1] + 7.0
    xy, explained = plane(features)
    values, vectors = np.linalg.eigh(np.cov(features, rowvar=False))
    np.testing.assert_allclose(explained, values[::-1][:2] / values.sum())
    expected = (features - features.mean(axis=0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(xy), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(plane(features[:1])[0], [[0.0, 0.0]])


def test_classes_are_sorted_and_empty_is_unknown() -> None:
    classes, which = classes_of(["ca1", "", "adn", "ca1"])
    assert classes == ("adn", "ca1")
    np.testing.assert_array_equal(which, [1, np.nan, 0, 1])


def _traits(predicted: np.ndarray) -> Predictions:
    people = len(predicted)
    return Predictions(
        model="neurofm-tangent",
        groups=("a", "b", "c"),
        subject=tuple(f"s{number}" for number in range(people)),
        truth=(np.arange(people) % 3).astype(np.float64),
        fold=np.zeros((1, people), dtype=np.int64),
        predicted=np.eye(3)[predicted][None],
        null=np.full((1, people, 3), 1 / 3),
    )


def test_groups_are_counted_as_they_were_taken() -> None:
    ours, theirs = _traits(np.array([0, 1, 2, 0, 2, 2])), _traits(np.array([0, 0, 0, 0, 0, 0]))
    traits = {("d", "fmri", "group", "neurofm-tangent"): ours, ("d", "fmri", "group", "connectivity"): theirs}
    one = Difference.model_validate(
        {
            "name": "d",
            "dataset": "d",
            "modality": "fmri",
            "task": "trait:group",
            "metric": "balanced_accuracy",
            "unit": "",
            "split": "",
            "ours": "neurofm-tangent",
            "baseline": "connectivity",
            "value": 0.1,
            "ci_low": 0.0,
            "ci_high": 0.2,
            "ci_unit": "subject",
            "n": 6,
            "p": 0.5,
            "p_holm": 0.5,
        }
    )
    found = confusions_of(Differences(comparisons=1, differences=(one,)), scores=(), traits=traits)
    assert [each.model for each in found] == ["neurofm-tangent", "connectivity"]
    np.testing.assert_array_equal(found[0].counts, [[2, 0, 0], [0, 1, 1], [0, 0, 2]])
    np.testing.assert_array_equal(found[1].counts, [[2, 0, 0]] * 3)
    assert found[0].classes == ("a", "b", "c")


def test_a_connectome_comes_back_from_what_predicts_it(settings: EvaluateSettings) -> None:
    rng = np.random.default_rng(1)
    loadings = rng.normal(size=(3, 8))
    latent = rng.normal(size=(400, 3)) @ loadings
    view = view_of(latent + rng.normal(size=latent.shape), modality=Modality.FMRI, train=[(0, 200)], test=[(200, 400)])
    test, fit = (cut(view, segments, window_samples=WINDOW) for segments in (view.roles.test, view.roles.train))
    gathered = Connectomes(settings=settings)
    gathered.add_training([test], [fit])
    shown = np.stack([latent[start : start + WINDOW] for start in test.start.tolist()])
    gathered.add(test, shown, model="neurofm")
    gathered.add(test, np.zeros_like(shown), model="null")
    gathered.add(test, rng.normal(size=shown.shape), model="noise")
    (found,) = gathered.finish()
    r = dict(zip(found.models, found.r[:, 0], strict=True))
    expected = [np.atleast_2d(np.corrcoef(one, rowvar=False)) for one in (test.z[test.counted], latent[200:])]
    np.testing.assert_allclose(found.measured, expected[0], atol=1e-6)
    np.testing.assert_allclose(found.reconstructed, expected[1], atol=1e-9)
    edges = np.triu_indices(8, k=1)
    assert r["neurofm"] == pytest.approx(np.corrcoef(expected[0][edges], expected[1][edges])[0, 1], abs=1e-6)
    assert r["neurofm"] > 0.95
    assert r[TRAINING_MEAN] > 0.9
    assert np.isnan(r["null"])
    assert abs(r["noise"]) < 0.5


def _decoded(angle: np.ndarray, guess: Callable[[np.ndarray], np.ndarray]) -> Decoded:
    counts = np.where(np.abs((angle - 90 + 180) % 360 - 180) < 20, 3.0, 0.0)[:, None]
    both = np.stack([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))], axis=1)
    view = view_of(
        counts.repeat(2, axis=1),
        modality=Modality.SPIKES,
        targets={"head_direction": both.astype(np.float32)},
        train=[(0, 40)],
        test=[(0, len(angle))],
    )
    test = cut(view, [Segment(start=0, stop=len(angle))], window_samples=WINDOW)
    shape = (len(test), WINDOW, 2)
    turned = np.deg2rad(guess(angle))
    return Decoded(
        model="neurofm-probe",
        target="head_direction",
        test=test,
        patch_samples=1,
        truth=both.reshape(shape),
        counted=np.ones(shape[:2], dtype=np.bool_),
        predicted=(0.4 * np.stack([np.cos(turned), np.sin(turned)], axis=1)).reshape(shape),
    )


def test_tuning_turns_with_what_was_decoded() -> None:
    angle = np.linspace(0, 3600, 2000, endpoint=False) % 360
    tunings = Tunings()
    tunings.add(_decoded(angle, lambda at: at + 30))
    (found,) = tunings.finish()
    assert found.median_error == pytest.approx(30)
    assert found.patches == 2000
    for curves, peak in ((found.measured, 90), (found.recovered, 120)):
        mean = np.average(np.exp(1j * np.deg2rad(found.centre)), weights=curves[:, 0])
        assert np.rad2deg(np.angle(mean)) == pytest.approx(peak, abs=2)
    # Three spikes in each bin of 100 ms.
    assert found.measured.max() == pytest.approx(30.0)
    assert np.all(found.r > found.r_shifted)
