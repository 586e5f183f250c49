"""Windows: every sample counts once; what judges is never what is fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurofm.errors import UserError
from neurofm.evaluation.samples import Windows, apart, chunks, cut, learning_windows, masks, rounds
from neurofm.evaluation.settings import EvaluateSettings
from tests.evaluation.conftest import WINDOW, Roles, spans, view_of

VALUES = np.random.default_rng(0).normal(size=(500, 5))


def _samples(parts: list[Windows]) -> set[tuple[str, int]]:
    """Recording and number of every sample in the windows, counted or not."""
    return {
        (part.view.name, sample)
        for part in parts
        for start in part.start.tolist()
        for sample in range(start, start + 20)
    }


def test_every_valid_sample_counts_once() -> None:
    view = view_of(VALUES, train=[(0, 95), (200, 300)])
    valid = view.valid.copy()
    valid[30:40] = False
    windows = cut(replace(view, valid=valid), spans([(0, 95), (200, 215)]), window_samples=WINDOW)
    counted = (windows.start[:, None] + np.arange(WINDOW))[windows.counted]
    assert sorted(counted.tolist()) == [*range(30), *range(40, 95)]
    assert (windows.z[1, 10:] == 0).all()


@pytest.mark.parametrize(
    ("roles", "fit", "tuning"),
    [
        ({"train": [(0, 200)], "validation": [(220, 300)]}, range(200), range(220, 300)),
        ({"train": [(0, 200)]}, range(160), range(160, 200)),
        ({"calibration": [(0, 100)], "test": [(120, 500)]}, range(80), range(80, 100)),
    ],
    ids=["as the split says", "no validation", "calibration only"],
)
def test_what_is_fitted_and_tuned_on(roles: Roles, fit: range, tuning: range) -> None:
    view = view_of(VALUES, **roles)
    fitted, tuned = learning_windows([view], window_samples=WINDOW)
    assert _samples(fitted) == {(view.name, sample) for sample in fit}
    assert _samples(tuned) == {(view.name, sample) for sample in tuning}


def test_what_tunes_is_apart_from_the_calibration_that_it_is_the_end_of() -> None:
    unseen = view_of(VALUES, calibration=[(0, 60), (70, 110)], test=[(120, 500)])
    _, (tuning,) = learning_windows([unseen], window_samples=WINDOW)
    assert tuning.start.tolist() == [90]
    before = apart(tuning)
    assert before.view.roles.calibration == spans([(0, 60), (70, 90)])
    np.testing.assert_array_equal(before.z, tuning.z)
    assert unseen.roles.calibration == spans([(0, 60), (70, 110)])
    # The last window overlaps the one before it: what that one counts may be known.
    longer = view_of(VALUES, calibration=[(0, 45)], test=[(60, 500)])
    _, (tuning,) = learning_windows([longer], window_samples=WINDOW)
    assert tuning.start.tolist() == [25]
    assert apart(tuning).view.roles.calibration == spans([(0, 40)])
    # Where nothing valid lies before them, there is nothing to know them by but themselves.
    longer.valid[:40] = False
    assert apart(tuning).view.roles.calibration == spans([(0, 45)])
    # A validation recording's calibration is apart as it is.
    known = view_of(VALUES, calibration=[(0, 100)], validation=[(120, 500)])
    assert apart(cut(known, known.roles.validation, window_samples=WINDOW)).view is known


def test_too_little_to_tune_on_is_said() -> None:
    view = view_of(VALUES, train=[(0, 30)], test=[(60, 200)])
    with pytest.raises(UserError, match=r"calcium/r: fewer than two windows.*window_samples"):
        learning_windows(
            [replace(view, roles=view.roles.model_copy(update={"train": spans([(0, 20)])}))], window_samples=20
        )


@pytest.mark.parametrize("recordings", [1, 6])
def test_chunks_are_a_partition(recordings: int) -> None:
    fit = [
        cut(view_of(VALUES, name=f"r{i}", train=[(0, 400)]), spans([(0, 400)]), window_samples=20)
        for i in range(recordings)
    ]
    parts = chunks(fit)
    assert len(parts) == 4
    assert sum(len(_samples(part)) for part in parts) == len(set().union(*map(_samples, parts)))
    assert set().union(*map(_samples, parts)) == _samples(fit)


def test_no_round_is_judged_by_what_it_was_fitted_on() -> None:
    view = view_of(VALUES, train=[(0, 200)], validation=[(220, 300)])
    (fit,), (tuning,) = learning_windows([view], window_samples=WINDOW)
    pairs = rounds(fit, tuning)
    assert len(pairs) == 5
    assert pairs[0] == (fit, tuning)
    for fitted, judge in pairs:
        assert not _samples([fitted]) & _samples([judge])


def test_recordings_of_one_channel_set_share_masks(settings: EvaluateSettings) -> None:
    views = [view_of(VALUES, name=name, channel_set="atlas", train=[(0, 100)]) for name in "ab"]
    one, other = (masks(view, settings) for view in views)
    for (visible, hidden), (same_visible, same_hidden) in zip(one, other, strict=True):
        assert visible.tolist() == same_visible.tolist()
        assert hidden.tolist() == same_hidden.tolist()
        assert sorted([*visible, *hidden]) == [0, 1, 2, 3, 4]
    assert sorted(np.concatenate([hidden for _, hidden in one]).tolist()) == [0, 1, 2, 3, 4]
