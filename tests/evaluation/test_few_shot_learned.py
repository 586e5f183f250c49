"""Networks that learn from few labels: they find what is there, from nothing but the labels that are shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neurofm.evaluation.few_shot_learned import Labelled, Question, by_unit, learn
from neurofm.model.identity import IDENTITY_FEATURES
from neurofm.model.neurofm import Visible
from neurofm.model.settings import ModelSettings
from neurofm.model.whole_channels import Network, network_of
from neurofm.recording import Modality
from neurofm.training.settings import Mode

PATCH, PATCHES, CHANNELS, WINDOWS = 5, 4, 6, 40
MODEL = ModelSettings(backbone="transformer", width=16, layers=1, heads=2, dropout=0.1)


def _network() -> Network:
    torch.manual_seed(3)
    return network_of(MODEL, patch_samples=dict.fromkeys(Modality, PATCH))


def _labelled(*, seed: int, per_patch: bool) -> Labelled:
    """Two rhythms, of which a window holds one; or a level that each patch has."""
    rng = np.random.default_rng(seed)
    group = np.arange(WINDOWS) % 2
    level = rng.normal(size=(WINDOWS, PATCHES))
    rhythm = np.sin(np.arange(PATCH * PATCHES) * np.where(group, 2.4, 0.4)[:, None])
    shown = np.repeat(level, PATCH, axis=1) if per_patch else rhythm
    values = torch.from_numpy(shown[..., None] + 0.3 * rng.normal(size=(*shown.shape, CHANNELS))).float()
    seen = Visible(
        modality=Modality.EEG,
        sampling_rate_hz=50.0,
        values=values,
        smoothed=values,
        identity=torch.ones(CHANNELS, IDENTITY_FEATURES),
    )
    truth = level[..., None] if per_patch else group[:, None, None].astype(np.float64)
    counted = np.ones(truth.shape[:2], dtype=np.bool_)
    return Labelled(seen=seen, unit=np.arange(WINDOWS), values=truth, counted=counted)


def _answers(learned: Labelled, asked: Labelled, *, mode: Mode, question: Question) -> npt.NDArray[np.float64]:
    return learn(_network(), [learned], range(16), mode=mode, question=question, seed=0)(asked)


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_groups_and_numbers_are_learned(mode: Mode) -> None:
    states, levels = (_labelled(seed=0, per_patch=per_patch) for per_patch in (False, True))
    probability = _answers(states, _labelled(seed=1, per_patch=False), mode=mode, question=_question(groups=2))
    np.testing.assert_allclose(probability.sum(axis=-1), 1.0)
    assert ((probability[:, 0, 1] > 0.5) == states.values[:, 0, 0]).mean() > 0.9
    asked = _labelled(seed=1, per_patch=True)
    found = _answers(levels, asked, mode=mode, question=_question(groups=0))
    assert ((found - asked.values) ** 2).mean() < 0.3 * asked.values.var()


def _question(*, groups: int) -> Question:
    return Question(groups=groups, per_patch=not groups, steps=40)


def test_only_the_labels_that_are_shown_are_learned_from() -> None:
    learned, asked = (_labelled(seed=seed, per_patch=False) for seed in (0, 1))
    turned = learned.values.copy()
    turned[16:] = 1 - turned[16:]
    first, second, third = (
        _answers(replace(learned, values=values), asked, mode="full", question=_question(groups=2))
        for values in (learned.values, turned, 1 - learned.values)
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - third).max() > 0.5


def test_of_two_labels_none_says_when_to_stop() -> None:
    learned = _labelled(seed=0, per_patch=False)
    predict = learn(_network(), [learned], [0, 1], mode="full", question=_question(groups=2), seed=0)
    assert predict(learned)[0, 0, 0] > 0.9


def test_answers_are_averaged_over_the_windows_of_a_person() -> None:
    part = _labelled(seed=0, per_patch=False)
    people = [replace(part, unit=np.repeat([0, 1], WINDOWS // 2)), replace(part, unit=np.full(WINDOWS, 1))]
    answers = [np.full((WINDOWS, 1, 1), value) for value in (0.0, 3.0)]
    found = by_unit(people, answers)
    assert {unit: value.tolist() for unit, value in found.items()} == {0: [0.0], 1: [2.0]}
