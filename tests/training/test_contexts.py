"""What describes a recording never saw the targets that it helps to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurofm.splits import Segment
from neurofm.training.contexts import Context
from neurofm.training.recordings import training_recordings
from neurofm.training.scoring import validation_items
from neurofm.training.settings import PretrainSettings
from neurofm.training.tuning import CoreChoices, choose_cores
from neurofm.windows import RecordingView, WindowsSettings


def _corrupted(view: RecordingView, segments: Sequence[Segment]) -> RecordingView:
    stored = view.stored[:].copy()
    rng = np.random.default_rng(5)
    for segment in segments:
        part = stored[segment.start : segment.stop]
        part[...] = rng.integers(0, 200, size=part.shape)
    return replace(view, stored=stored)


def _same(one: Context, other: Context) -> bool:
    pairs = [
        (one.identity, other.identity),
        (one.core.ss, other.core.ss),
        (one.core.xs, other.core.xs),
        (one.scale.mean, other.scale.mean),
    ]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def choices(views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings) -> CoreChoices:
    return choose_cores(views, settings=settings, windows=windows)


@pytest.mark.parametrize("which", [0, 1])
def test_targets_of_an_episode_change_nothing_that_it_is_described_by(
    which: int,
    views: list[RecordingView],
    choices: CoreChoices,
    settings: PretrainSettings,
    windows: WindowsSettings,
) -> None:
    before = training_recordings(views, choices=choices, settings=settings, windows=windows)[which]
    for number, episode in enumerate(before.source.episodes):
        changed = [_corrupted(view, episode.targets) if view.name == before.view.name else view for view in views]
        after = training_recordings(changed, choices=choices, settings=settings, windows=windows)[which]
        same = [_same(one, other) for one, other in zip(before.contexts, after.contexts, strict=True)]
        assert same[number]
        assert not all(same), "the other episodes are described by these samples, so the corruption is real"


def test_validation_contexts_see_calibration_only(
    views: list[RecordingView], choices: CoreChoices, settings: PretrainSettings, windows: WindowsSettings
) -> None:
    before = validation_items(views, choices=choices, settings=settings, windows=windows)
    changed = [_corrupted(view, (*view.roles.validation, *view.roles.test)) for view in views]
    after = validation_items(changed, choices=choices, settings=settings, windows=windows)
    assert len(before) == 6
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.batch.query.identity, other.batch.query.identity)
        assert torch.equal(one.batch.query.correlations, other.batch.query.correlations)
        assert not torch.equal(one.truth, other.truth)


def test_recordings_of_one_atlas_are_described_with_help_from_each_other_but_not_by_scored_subjects(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings, choices: CoreChoices
) -> None:
    scored = [index for index, view in enumerate(views) if not view.roles.train]
    changed = [
        _corrupted(view, [Segment(start=0, stop=len(view.stored))]) if index in scored else view
        for index, view in enumerate(views)
    ]
    before = training_recordings(views, choices=choices, settings=settings, windows=windows)
    after = training_recordings(changed, choices=choices, settings=settings, windows=windows)
    for one, other in zip(before, after, strict=True):
        assert all(_same(a, b) for a, b in zip(one.contexts, other.contexts, strict=True))
