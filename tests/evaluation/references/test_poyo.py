"""POYO decodes a direction that is known, and learns nothing from what is scored."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.errors import UserError
from neurofm.evaluation.decoding import Decoded, decode, target_patches
from neurofm.evaluation.references import References, check_references, libraries
from neurofm.evaluation.references.poyo import PoyoDecoder, _Spikes
from neurofm.evaluation.samples import cut
from neurofm.evaluation.scores import ratio
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.windows import RecordingView, WindowSettings
from tests.evaluation.conftest import poison
from tests.evaluation.references.circle import tuned_units

WINDOW, PATCH = 50, 5
SIZES = WindowSettings(window_samples=WINDOW, patch_samples=PATCH)


@pytest.mark.long
def test_a_direction_is_decoded(settings: EvaluateSettings) -> None:
    pytest.importorskip("torch_brain", reason="torch_brain is not installed")
    view = tuned_units()
    asked = settings.model_copy(update={"references": {"poyo": 60}})
    kept: list[Decoded] = []
    scores, seconds = decode(
        view,
        "direction",
        encode=lambda _view, z: z[:, ::PATCH],
        settings=asked,
        window_samples=WINDOW,
        patch_samples=PATCH,
        keep=kept.append,
        decoders=References.of([view], settings=asked, window=SIZES).decoders,
    )
    values = {score.model: ratio(score.gain, score.total) for score in scores}
    assert set(seconds) == set(values) == {one.model for one in kept}
    assert values["null"] < 0.05
    assert values["poyo"] > 0.8


def test_decoding_is_blind_to_what_is_scored_and_comes_out_the_same(settings: EvaluateSettings) -> None:
    pytest.importorskip("torch_brain", reason="torch_brain is not installed")
    view = tuned_units()
    changed = replace(poison(view), targets={"direction": np.where(_tested(view), 9.0, view.targets["direction"])})
    asked = cut(view, view.roles.train, window_samples=WINDOW).take(slice(0, 3))
    target = partial(target_patches, target="direction", patch_samples=PATCH)
    decoded = []
    for one in (view, changed):
        fit, judge = (cut(one, part, window_samples=WINDOW) for part in (one.roles.train, one.roles.validation))
        decoder = PoyoDecoder(steps=2, settings=settings, patch_samples=PATCH)
        decoded.append(decoder.decode(fit, judge, asked, target=target))
    assert decoded[0].shape == (3, WINDOW // PATCH, 2)
    assert decoded[0].tobytes() == decoded[1].tobytes()


def test_spikes_lie_evenly_in_their_bins() -> None:
    view = tuned_units()
    windows = cut(view, view.roles.test, window_samples=WINDOW)
    counts = windows.values()
    spikes = _Spikes.of(windows)
    assert (np.diff(spikes.time) >= 0).all()
    found = np.zeros(counts.reshape(-1, counts.shape[2]).shape)
    np.add.at(found, (spikes.time.astype(int), spikes.unit - 1), 1)
    np.testing.assert_array_equal(found, counts.reshape(found.shape))
    two = int(np.flatnonzero(found[:, 0] == 2)[0])
    own = spikes.time[(spikes.unit == 1) & (spikes.time.astype(int) == two)]
    np.testing.assert_allclose(own - two, [0.25, 0.75])


def test_spikes_of_samples_that_are_not_fit_for_use_are_not_seen() -> None:
    view = tuned_units()
    first = view.roles.test[0].start
    valid = view.valid.copy()
    valid[first + 3 : first + 9] = False
    spikes = _Spikes.of(cut(replace(view, valid=valid), view.roles.test, window_samples=WINDOW))
    whole = _Spikes.of(cut(view, view.roles.test, window_samples=WINDOW))
    lost = (whole.time >= 3) & (whole.time < 9)
    assert lost.any()
    np.testing.assert_array_equal(spikes.time, whole.time[~lost])
    np.testing.assert_array_equal(spikes.unit, whole.unit[~lost])


def test_a_library_that_is_missing_or_of_another_series_is_said(
    settings: EvaluateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings.model_copy(update={"references": {"poyo": 1}})
    monkeypatch.setattr(libraries, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match="`poyo` needs the package torch_brain, which is not installed"):
        check_references(asked)
    monkeypatch.setattr(libraries, "find_spec", lambda name: name)
    monkeypatch.setattr(libraries, "version", lambda _name: "0.2.1")
    with pytest.raises(UserError, match=r"`poyo` needs torch_brain 0\.1, and 0\.2\.1 is installed"):
        check_references(asked)
    monkeypatch.setattr(libraries, "version", lambda _name: "0.1.2")
    check_references(asked)


def _tested(view: RecordingView) -> npt.NDArray[np.bool_]:
    tested = np.zeros((len(view.valid), 1), dtype=np.bool_)
    for part in view.roles.test:
        tested[part.start : part.stop] = True
    return tested
