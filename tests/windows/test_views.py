"""Windows: nothing that is fitted looks at what is scored; every scored sample is scored once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurofm.recording import Channels, Clock, Modality, Recording, Signal
from neurofm.shards import Provenance, write_shard
from neurofm.splits import Segment, Splits, SplitSettings, find_candidates, make_splits
from neurofm.windows import RecordingView, channel_groups, fit_normaliser, load_views, tiles
from tests.splits.test_make import SETTINGS, WINDOWS

PROVENANCE = Provenance(
    archive="local", source_id="x", version="1", files=(), licence="CC0-1.0", citation="x", libraries={}
)


def _write(folder: Path, *, values: np.ndarray, modality: Modality, dataset: str = "d") -> None:
    channels = values.shape[1]
    recording = Recording(
        dataset=dataset,
        subject="lab:a",
        session="",
        run="",
        task="",
        species="Mus musculus",
        modality=modality,
        channels=Channels(
            id=tuple(f"c{index}" for index in range(channels)),
            position=np.full((channels, 3), np.nan),
            position_unit="",
            quality={"usable": np.ones(channels)},
        ),
        clock=Clock(id="d/one"),
        signal=Signal(values=values, sampling_rate_hz=10.0, units="dF/F"),
    )
    write_shard(recording, provenance=PROVENANCE, path=folder / dataset / "one.zarr.zip")


@pytest.fixture
def views(tmp_path: Path) -> list[RecordingView]:
    values = np.random.default_rng(0).normal(loc=3.0, scale=2.0, size=(6000, 4))
    values[:, 3] = 1.0
    _write(tmp_path, values=values, modality=Modality.CALCIUM)
    return load_views(_splits(tmp_path), fold=0, shards=tmp_path)


def _splits(folder: Path, chosen: SplitSettings = SETTINGS) -> Splits:
    entry = type("Entry", (), {"id": "d", "score": True, "score_note": ""})()
    return make_splits(find_candidates([entry], shards=folder), settings=chosen, window_samples=WINDOWS)


def test_normaliser_is_fitted_on_calibration_only(views: list[RecordingView]) -> None:
    (view,) = views
    assert view.usable.tolist() == [True, True, True, False]
    z = np.concatenate(view.z_segments(view.roles.calibration))
    np.testing.assert_allclose(z[:, :3].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(z[:, :3].std(axis=0), 1, atol=1e-3)
    assert (z[:, 3] == 0).all()


def test_corrupting_every_scored_sample_changes_nothing_that_is_fitted(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 5, size=(6000, 4)).astype(np.uint8)
    _write(tmp_path, values=values, modality=Modality.SPIKES)
    splits = _splits(tmp_path)
    before = [view.normaliser for fold in range(3) for view in load_views(splits, fold=fold, shards=tmp_path)]
    for fold, normaliser in enumerate(before):
        poisoned = values.copy()
        for segment in splits.folds[fold].recordings[0].test:
            poisoned[segment.start : segment.stop] = 255 - poisoned[segment.start : segment.stop]
        _write(tmp_path, values=poisoned, modality=Modality.SPIKES)
        (view,) = load_views(splits, fold=fold, shards=tmp_path)
        assert view.normaliser.mean.tobytes() == normaliser.mean.tobytes()
        assert view.normaliser.sd.tobytes() == normaliser.sd.tobytes()
        # The test itself can fail: the same corruption of a calibration segment is seen.
        first = splits.folds[fold].recordings[0].calibration[0]
        poisoned[first.start : first.stop] = 200
        _write(tmp_path, values=poisoned, modality=Modality.SPIKES)
        (view,) = load_views(splits, fold=fold, shards=tmp_path)
        assert view.normaliser.mean.tobytes() != normaliser.mean.tobytes()


def test_invalid_samples_count_for_nothing(views: list[RecordingView]) -> None:
    (view,) = views
    valid = view.valid.copy()
    valid[5:10] = False
    marked = replace(view, valid=valid)
    assert (marked.z(0, 20)[5:10] == 0).all()
    np.testing.assert_array_equal(marked.z(0, 20)[:5], view.z(0, 20)[:5])


def test_normaliser_of_nothing_is_harmless() -> None:
    normaliser = fit_normaliser([np.empty((0, 3))], usable=np.ones(3, dtype=bool))
    assert not normaliser.usable.any()
    assert (normaliser.sd == 1).all()


@given(
    bounds=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 400)), min_size=1, max_size=4),
    window=st.integers(1, 80),
)
def test_tiles_score_every_sample_once(bounds: list[tuple[int, int]], window: int) -> None:
    segments, start = [], 0
    for gap, length in bounds:
        segments.append(Segment(start=start + gap, stop=start + gap + length))
        start += gap + length
    scored: list[int] = []
    for tile in tiles(segments, window_samples=window):
        assert tile.stop - tile.start == window
        assert any(segment.start <= tile.start and tile.stop <= segment.stop for segment in segments)
        scored += range(tile.score_from, tile.stop)
    whole = [
        s for segment in segments if segment.stop - segment.start >= window for s in range(segment.start, segment.stop)
    ]
    assert scored == whole


def test_each_usable_channel_is_hidden_once_and_masks_are_shared() -> None:
    usable = np.array([True] * 10 + [False] * 2 + [True] * 3)
    groups = channel_groups(usable, groups=3, recording="d/one", seed=1)
    assert sorted(np.concatenate(groups).tolist()) == np.flatnonzero(usable).tolist()
    again = channel_groups(usable, groups=3, recording="d/one", seed=1)
    assert all((a == b).all() for a, b in zip(groups, again, strict=True))
    other = channel_groups(usable, groups=3, recording="d/two", seed=1)
    assert any(a.tolist() != b.tolist() for a, b in zip(groups, other, strict=True))
    assert len(channel_groups(np.array([True, False]), groups=3, recording="x", seed=1)) == 1


def test_a_channel_silent_in_calibration_is_left_out() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(500, 5)) * np.array([1.0, 2.0, 0.5, 0.01, 0.0])
    normaliser = fit_normaliser([samples], usable=np.array([True, True, True, True, True]))
    assert normaliser.usable.tolist() == [True, True, True, False, False]
