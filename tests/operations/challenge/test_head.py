"""The read-out: what it can learn from real EEG it learns, and of what is not there it says the mean."""

from __future__ import annotations

import numpy as np
import pytest

from neurofm.errors import UserError
from neurofm.evaluation.challenge import nrmse
from neurofm.operations.challenge.examples import Role, challenge_recordings, examples
from neurofm.operations.challenge.fitting import read_splits
from neurofm.operations.challenge.head import Learned, fit_head
from tests.operations.hydrocel import HydroCel


@pytest.fixture(scope="module")
def windows(hydrocel: HydroCel) -> Learned:
    """Log SD of 20 channels of every window of six people; the truth is a channel that is not among them."""
    entries = challenge_recordings(read_splits(hydrocel.splits), fold=0, shards=hydrocel.shards)
    roles: list[Role] = ["train", "validation", "test"]
    parts = list(examples(entries, "externalizing", shards=hydrocel.shards, roles=roles))
    spread = np.concatenate([np.log(part.windows[:, :128].std(axis=2).astype(np.float64)) for part in parts])
    subject = np.concatenate([np.full(len(part.truth), part.subject) for part in parts])
    return Learned(features=spread[:, :100:5], truth=spread[:, 12], subject=subject)


def _part(learned: Learned, people: list[int]) -> Learned:
    kept = np.isin(learned.subject, np.unique(learned.subject)[people])
    return Learned(features=learned.features[kept], truth=learned.truth[kept], subject=learned.subject[kept])


def test_a_channel_is_told_from_its_neighbours(windows: Learned) -> None:
    fit, held = _part(windows, [0, 1, 2, 3]), _part(windows, [4, 5])
    for validation in (_part(windows, [3]), None):
        head = fit_head(fit, validation, what="a channel")
        assert head.penalty < 1
        assert nrmse(held.truth, held.features @ head.weight + head.bias) < 0.5
    assert (head.low, head.high) == (fit.truth.min(), fit.truth.max())
    assert head.mean == pytest.approx(fit.truth.mean())


def test_of_what_is_not_there_it_says_the_mean(windows: Learned) -> None:
    fit = _part(windows, [0, 1, 2, 3])
    rng = np.random.default_rng(1)
    heads = [
        fit_head(Learned(features=fit.features, truth=rng.permutation(fit.truth), subject=fit.subject), None, what="it")
        for _ in range(11)
    ]
    # Now and then chance looks like something, in all five parts.
    assert np.median([head.penalty for head in heads]) >= 10
    assert np.median([np.std(fit.features @ head.weight) for head in heads]) < 0.2 * np.std(fit.truth)


def test_too_little_is_refused(windows: Learned) -> None:
    few = Learned(features=windows.features[:5], truth=windows.truth[:5], subject=windows.subject[:5])
    with pytest.raises(UserError, match="5 windows with 5 different answers"):
        fit_head(few, None, what="x")
    same = Learned(features=windows.features, truth=np.ones(len(windows.truth)), subject=windows.subject)
    with pytest.raises(UserError, match="1 different answers"):
        fit_head(same, None, what="x")
