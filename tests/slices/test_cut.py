"""Cut: the beginning of a real recording's shard, with all that belongs to it and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.catalog import read_yaml
from neurofm.preprocess import Common, preprocess_recording
from neurofm.preprocess.spikes import ModalitySettings
from neurofm.recording import Recording
from neurofm.shards import Provenance, Shard, read_shard, write_shard
from neurofm.slices.cut import cut_shard
from tests.conftest import PROJECT
from tests.movers import mover
from tests.pictures import film_of, stimulus_of

SAMPLES = 15_000
PROVENANCE = Provenance(
    archive="registry",
    source_id="pynapple",
    version="1",
    files=(("a.nwb", "sha256:" + "0" * 64),),
    licence="MIT",
    citation="-",
    libraries={"numpy": "2.4"},
)


@pytest.fixture(scope="module")
def whole(sample_recording: Callable[..., Recording], tmp_path_factory: pytest.TempPathFactory) -> Path:
    params = read_yaml(PROJECT / "params.yaml")["preprocess"]
    recording = preprocess_recording(
        sample_recording("a2929-hd"),
        settings=ModalitySettings(**params["spikes"]),
        common=Common(**params["common"]),
    )
    path = tmp_path_factory.mktemp("shards") / "whole.zarr.zip"
    write_shard(recording, provenance=PROVENANCE, path=path)
    return path


@pytest.fixture(scope="module")
def cut(whole: Path) -> Shard:
    path = whole.with_name("cut.zarr.zip")
    cut_shard(whole, samples=SAMPLES, path=path)
    return read_shard(path)


def test_samples_targets_and_spikes_end_together(whole: Path, cut: Shard) -> None:
    before = read_shard(whole)
    assert len(before.stored) > SAMPLES
    np.testing.assert_array_equal(cut.stored, before.stored[:SAMPLES])
    np.testing.assert_array_equal(cut.valid, before.valid[:SAMPLES])
    assert cut.recording.targets.keys() == before.recording.targets.keys() != set()
    for name, target in cut.recording.targets.items():
        np.testing.assert_array_equal(target.values, before.recording.targets[name].values[:SAMPLES])
    spikes, all_spikes = cut.recording.spikes, before.recording.spikes
    assert spikes is not None
    assert all_spikes is not None
    end_s = cut.start_s + SAMPLES / cut.sampling_rate_hz
    assert spikes.stop_s == end_s
    np.testing.assert_array_equal(spikes.time_s, all_spikes.time_s[all_spikes.time_s < end_s])


def test_it_says_where_it_comes_from(whole: Path, cut: Shard) -> None:
    before = read_shard(whole)
    for name in ("subject", "source", "clock", "pipeline", "licence", "citation", "sampling_rate_hz"):
        assert cut.attrs[name] == before.attrs[name]


def test_the_same_cut_has_the_same_bytes(whole: Path, cut: Shard) -> None:
    again = whole.with_name("again.zarr.zip")
    cut_shard(whole, samples=SAMPLES, path=again)
    assert again.read_bytes() == whole.with_name("cut.zarr.zip").read_bytes()
    longer = whole.with_name("longer.zarr.zip")
    cut_shard(whole, samples=SAMPLES + 1, path=longer)
    assert longer.read_bytes() != again.read_bytes()


def test_a_run_with_confounds_keeps_what_lies_beside_its_signal(tmp_path: Path, shared_data: Path) -> None:
    whole, cut = tmp_path / "whole.zarr.zip", tmp_path / "cut.zarr.zip"
    moved = mover(shared_data, number=0, motion=1.0)
    write_shard(moved, provenance=PROVENANCE, path=whole)
    cut_shard(whole, samples=50, path=cut)
    before, after = (read_shard(path, extra=True).recording for path in (whole, cut))
    assert before.noise.keys() == after.noise.keys() != set()
    for name, noise in after.noise.items():
        np.testing.assert_array_equal(noise.values, before.noise[name].values[:50])
    part = before.extra_signals["uncleaned"].values[:50]
    assert np.abs(after.extra_signals["uncleaned"].values - part).max() < 0.01 * part.std()


def test_frames_that_were_not_shown_by_then_are_left_out(tmp_path: Path, shared_data: Path) -> None:
    whole, cut = tmp_path / "whole.zarr.zip", tmp_path / "cut.zarr.zip"
    moved = mover(shared_data, number=0, motion=1.0)
    assert moved.signal is not None
    seen = stimulus_of(film_of(shared_data, frames=60)[::-1], moved.signal.time_s)
    # The thirtieth frame first, so that frames must be numbered anew.
    seen = replace(seen, shown=np.where(seen.shown >= 0, (seen.shown + 30) % 60, -1).astype(np.int32))
    write_shard(replace(moved, stimulus=seen), provenance=PROVENANCE, path=whole)
    cut_shard(whole, samples=50, path=cut)
    kept = read_shard(cut, extra=True).recording.stimulus
    assert kept is not None
    assert len(kept.frames) == 20  # one for two of the 40 samples after the first ten
    np.testing.assert_array_equal(kept.shown >= 0, seen.shown[:50] >= 0)
    shown = kept.shown >= 0
    np.testing.assert_array_equal(kept.frames[kept.shown[shown]], seen.frames[seen.shown[:50][shown]])
