"""CEBRA's embedding tells where a mouse's head points, and knows nothing of what is scored."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.evaluation.decoding import decode
from neurofm.evaluation.references import References, check_references
from neurofm.evaluation.references.cebra import CebraEmbedding
from neurofm.evaluation.samples import learning_windows
from neurofm.evaluation.scores import ratio
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.windows import WindowSettings
from tests.evaluation.conftest import poison
from tests.evaluation.references.mouse import awake_mouse

pytestmark = pytest.mark.long

WINDOW, PATCH = 100, 5
SIZES = WindowSettings(window_samples=WINDOW, patch_samples=PATCH)
STEPS = 60


def test_head_direction_is_decoded(settings: EvaluateSettings, shared_data: Path) -> None:
    pytest.importorskip("cebra", reason="CEBRA is not installed")
    asked = settings.model_copy(update={"references": {"cebra": STEPS}})
    view = awake_mouse(shared_data)
    scores, seconds = decode(
        view,
        "head_direction",
        encode=lambda _view, z: z[:, ::PATCH],
        settings=asked,
        window_samples=WINDOW,
        patch_samples=PATCH,
        embeddings=References.of([view], settings=asked, window=SIZES).embeddings,
    )
    values = {score.model: ratio(score.gain, score.total) for score in scores}
    assert set(seconds) == set(values)
    assert values["cebra"] > values["null"] + 0.5


def test_an_embedding_is_blind_to_what_is_scored_and_comes_out_the_same(
    settings: EvaluateSettings, shared_data: Path
) -> None:
    pytest.importorskip("cebra", reason="CEBRA is not installed")
    view = awake_mouse(shared_data)
    changed = poison(replace(view, targets={}))
    embedded = []
    for one in (view, changed):
        (fit,), _ = learning_windows([one], window_samples=WINDOW)
        features = CebraEmbedding(steps=3, settings=settings, patch_samples=PATCH).learn(fit)
        embedded.append(features(fit.take(slice(0, 10))))
    assert embedded[0].shape == (10, WINDOW // PATCH, 8)
    assert embedded[0].tobytes() == embedded[1].tobytes()


def test_without_the_library_its_absence_is_said(
    settings: EvaluateSettings, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cebra", None)
    view = awake_mouse(shared_data)
    (fit,), _ = learning_windows([view], window_samples=WINDOW)
    with pytest.raises(UserError, match="`cebra` needs the package cebra, which is not installed"):
        CebraEmbedding(steps=1, settings=settings, patch_samples=PATCH).learn(fit)
    assert References.of([view], settings=settings, window=SIZES).embeddings == []


def test_its_absence_is_said_before_anything_is_scored(
    settings: EvaluateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cebra", None)
    check_references(settings.model_copy(update={"references": {"ndt": 1}}))
    with pytest.raises(UserError, match="`cebra` needs the package cebra, which is not installed"):
        check_references(settings.model_copy(update={"references": {"ndt": 1, "cebra": 1}}))
