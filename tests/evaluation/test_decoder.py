"""A recurrent read-out sees what a patch alone does not say, and leaves the linear one alone where it does not help."""

from __future__ import annotations

import numpy as np
import pytest

from neurofm.evaluation.decoder import Floats, Patches, decode_recurrently

WINDOWS, PATCHES = 64, 6


def _turning(seed: int) -> Patches:
    """A hidden state that only its steps are seen of: the sum over patches, which no patch says alone."""
    steps = np.random.default_rng(seed).normal(size=(WINDOWS, PATCHES, 1))
    return Patches(features=steps, values=steps.cumsum(axis=1), counted=np.ones((WINDOWS, PATCHES), dtype=bool))


def _noise(seed: int) -> Patches:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(WINDOWS, PATCHES, 3))
    values = features @ np.ones((3, 1)) + rng.normal(size=(WINDOWS, PATCHES, 1))
    return Patches(features=features, values=values, counted=np.ones((WINDOWS, PATCHES), dtype=bool))


def _r2(patches: Patches, decoded: Floats) -> float:
    return 1 - float(np.sum((patches.values - decoded) ** 2) / np.sum((patches.values - patches.values.mean()) ** 2))


def test_what_only_the_order_of_patches_says_is_decoded() -> None:
    fit, judge, test = (_turning(seed) for seed in range(3))
    linear, recurrent = (
        _r2(test, decode_recurrently(fit, [(fit, judge)], test.features, penalty=1e-3, steps=steps))
        for steps in (0, 40)
    )
    assert linear < 0.4
    assert recurrent > linear + 0.3


def test_where_nothing_helps_the_linear_read_out_stays() -> None:
    fit, judge, test = (_noise(seed) for seed in range(3))
    linear, recurrent = (
        _r2(test, decode_recurrently(fit, [(fit, judge)], test.features, penalty=1e-3, steps=steps))
        for steps in (0, 30)
    )
    assert recurrent == pytest.approx(linear, abs=0.02)


def test_patches_that_do_not_count_teach_nothing() -> None:
    fit, judge = _noise(0), _noise(1)
    fit.counted[:, ::2] = False
    before = decode_recurrently(fit, [(fit, judge)], judge.features, penalty=1e-3, steps=20)
    fit.values[:, ::2] = 1e3
    assert (decode_recurrently(fit, [(fit, judge)], judge.features, penalty=1e-3, steps=20) == before).all()


def test_one_block_that_judges_badly_does_not_silence_the_others() -> None:
    fit, judge, other, test = (_turning(seed) for seed in range(4))
    asleep = Patches(features=judge.features, values=np.zeros_like(judge.values), counted=judge.counted)
    alone, together = (
        _r2(test, decode_recurrently(fit, tried, test.features, penalty=1e-3, steps=40))
        for tried in ([(fit, asleep)], [(fit, asleep), (fit, other), (other, fit)])
    )
    assert alone < 0.4 < together - 0.2
