"""A linear read-out finds a direction that the counts carry, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.decoding import decode, is_decoded, not_decoded, not_decoded_said
from neurofm.evaluation.scores import TileScores, ratio
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import WINDOW, Roles, view_of

ROLES: Roles = {"train": [(0, 4000)], "validation": [(4020, 5000)], "test": [(5020, 7000)]}


def _turning(*, tuned: bool) -> RecordingView:
    """Units with cosine tuning to a slowly turning direction, or without."""
    rng = np.random.default_rng(0)
    angle = np.cumsum(0.08 * rng.normal(size=7000))
    preferred = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    drive = np.cos(angle[:, None] - preferred) if tuned else np.zeros((7000, 12))
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    direction[5100:5140] = np.nan
    counts = rng.poisson(np.exp(drive - 0.5)).astype(np.float64)
    return view_of(counts, modality=Modality.SPIKES, targets={"head_direction": direction}, **ROLES)


def _latents(view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """An encoder that averages the first half of the units over each patch."""
    assert z.shape[1:] == (WINDOW, len(view.channel_ids))
    patches: npt.NDArray[np.float32] = z[..., :6].reshape(len(z), WINDOW // 5, 5, 6).mean(axis=2)
    return patches


def _decode(view: RecordingView, settings: EvaluateSettings) -> dict[str, TileScores]:
    scores, seconds = decode(
        view, "head_direction", encode=_latents, settings=settings, window_samples=WINDOW, patch_samples=5
    )
    assert set(seconds) == {score.model for score in scores}
    return {score.model: score for score in scores}


def test_a_tuned_population_is_decoded(settings: EvaluateSettings) -> None:
    scores = _decode(_turning(tuned=True), settings)
    values = {model: ratio(score.gain, score.total) for model, score in scores.items()}
    assert values["ridge_counts"] > 0.6
    assert values["ridge_counts_smoothed"] > values["ridge_counts"]
    assert 0.02 < values["neurofm-probe"] < values["ridge_counts"]
    assert values["null"] <= 0
    assert scores["null"].task == "decoding:head_direction"


def test_an_untuned_population_is_not(settings: EvaluateSettings) -> None:
    scores = _decode(_turning(tuned=False), settings)
    assert ratio(scores["ridge_counts_smoothed"].gain, scores["ridge_counts_smoothed"].total) < 0.05


def test_patches_where_the_target_was_not_measured_are_left_out(settings: EvaluateSettings) -> None:
    score = _decode(_turning(tuned=True), settings)["ridge_counts"]
    # Samples 5100-5140 are the windows 4 and 5 of the test segment.
    assert (score.total[[4, 5]] == 0).all()
    assert (score.total[[3, 6]] > 0).all()


def test_a_target_not_measured_in_validation_is_still_decoded(settings: EvaluateSettings) -> None:
    view = _turning(tuned=True)
    view.targets["head_direction"][4000:5000] = np.nan
    score = _decode(view, settings)["ridge_counts_smoothed"]
    assert ratio(score.gain, score.total) > 0.6


def test_a_target_never_measured_gives_no_score(settings: EvaluateSettings) -> None:
    view = _turning(tuned=True)
    view.targets["head_direction"][:] = np.nan
    assert _decode(view, settings) == {}


def test_recurrent_decoders_stand_on_what_was_chosen_and_are_blind_to_the_test_targets(
    settings: EvaluateSettings,
) -> None:
    view, turned = _turning(tuned=True), _turning(tuned=True)
    turned.targets["head_direction"][5020:7000] *= -1
    asked = settings.model_copy(update={"decoder_steps": 20})
    before, after = _decode(view, asked), _decode(turned, asked)
    assert set(before) - set(_decode(view, settings)) == {"recurrent_counts", "neurofm-decoder"}
    for model in ("recurrent_counts", "neurofm-decoder"):
        assert ratio(before[model].gain, before[model].total) > 0.6
        assert (before[model].gain + after[model].gain).sum() < 1e-6


@pytest.mark.parametrize("model", ["null", "ridge_counts", "ridge_counts_smoothed", "neurofm-probe"])
def test_decoding_is_blind_to_the_test_targets(model: str, settings: EvaluateSettings) -> None:
    view, turned = _turning(tuned=True), _turning(tuned=True)
    turned.targets["head_direction"][5020:7000] *= -1
    before, after = _decode(view, settings)[model], _decode(turned, settings)[model]
    # The same prediction cannot explain y and -y: (y - p)^2 + (y + p)^2 = 2 y^2 + 2 p^2.
    assert (before.gain + after.gain).sum() < 1e-6
    assert before.total.sum() == pytest.approx(after.total.sum())


def test_what_is_held_out_as_a_whole_is_told_and_not_decoded() -> None:
    target = {"head_direction": np.zeros((100, 2), dtype=np.float32)}
    names: dict[str, Roles] = {
        "a": {"kind": "subject", "calibration": [(0, 30)], "test": [(30, 100)]},
        "b": {"kind": "session", "calibration": [(0, 30)], "test": [(30, 100)]},
        "c": {"kind": "subject", "train": [(0, 100)]},
        "d": {"kind": "time", "train": [(0, 60)], "test": [(60, 100)]},
    }
    views = [
        view_of(np.ones((100, 3)), modality=Modality.SPIKES, name=name, targets=target, **roles)
        for name, roles in names.items()
    ]
    assert [view.recording for view in views if is_decoded(view, "head_direction")] == ["d"]
    found = not_decoded(views, ["head_direction", "position"])
    # The same recordings in another fold count once.
    (line,) = not_decoded_said(found | not_decoded(views[:1], ["head_direction"])).splitlines()
    assert line.startswith("evaluate: spikes has 2 scored recordings with head_direction that are held out by subject")
    assert not not_decoded_said(set())
