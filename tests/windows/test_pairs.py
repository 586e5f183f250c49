"""A pair is one being at one time by two modalities, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurofm.recording import SHARED_CLOCK, Clock, Modality
from neurofm.shards import read_shard
from neurofm.splits import Segment
from neurofm.windows import RecordingView
from neurofm.windows.pairs import inside, made_at_once, overlap_table, pairs_of, samples_at, times_of
from tests.at_once import AtOnce


@pytest.fixture
def views(at_once: AtOnce) -> list[RecordingView]:
    return at_once.views()


def _later(view: RecordingView, seconds: float) -> RecordingView:
    assert view.moment is not None
    moment = replace(view.moment, begin_s=view.moment.begin_s + seconds, end_s=view.moment.end_s + seconds)
    return replace(view, moment=moment)


def test_eeg_and_meg_of_one_file_are_a_pair(views: list[RecordingView]) -> None:
    (pair,) = pairs_of(views)
    assert (pair.first.modality, pair.second.modality) == (Modality.EEG, Modality.MEG)
    (row,) = overlap_table([pair])
    assert row.overlap_s == pytest.approx(23.98, abs=0.01)
    roles = pair.first.roles
    assert row.test_s == pytest.approx(sum(part.stop - part.start for part in roles.test) / 100, abs=0.02)
    assert min(row.train_s, row.validation_s, row.test_s) > 1
    assert pair.turned().shared("test") == pair.shared("test")


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_both_are_split_alike(at_once: AtOnce, fold: int) -> None:
    eeg, meg = at_once.views(fold)
    assert eeg.roles.test
    for role in ("train", "validation", "test", "calibration"):
        assert getattr(eeg.roles, role) == getattr(meg.roles, role)


@pytest.mark.parametrize(
    "change",
    [
        {"moment": None},
        {"subject": "mne-sample:another"},
        {"modality": Modality.EEG},
    ],
    ids=["no clock", "another being", "the same modality"],
)
def test_anything_else_is_no_pair(views: list[RecordingView], change: dict[str, Any]) -> None:
    eeg, meg = views
    assert pairs_of([eeg, replace(meg, **change)]) == ()


def test_other_clocks_and_other_times_are_no_pair(views: list[RecordingView]) -> None:
    eeg, meg = views
    assert meg.moment is not None
    assert pairs_of([eeg, replace(meg, moment=replace(meg.moment, clock="another"))]) == ()
    assert pairs_of([eeg, _later(meg, 24.0)]) == ()


def test_what_was_cut_otherwise_is_no_pair(views: list[RecordingView]) -> None:
    eeg, meg = views
    whole = (Segment(start=0, stop=len(meg.valid)),)
    learned = replace(meg, roles=meg.roles.model_copy(update={"train": whole, "validation": (), "test": ()}))
    assert pairs_of([eeg, learned]) == ()
    assert len(made_at_once([eeg, learned])) == 1
    # Nor what is learned from here and chosen on there.
    swapped = meg.roles.model_copy(update={"train": meg.roles.validation, "validation": meg.roles.train})
    assert pairs_of([eeg, replace(meg, roles=swapped)]) == ()


def test_a_clock_that_the_catalogue_names_goes_before_the_files(at_once: AtOnce) -> None:
    eeg, meg = (read_shard(path, signal=False) for path in sorted(at_once.shards.glob("*/*.zarr.zip")))
    assert eeg.moment(samples=100) == meg.moment(samples=100)
    named = replace(meg, recording=replace(meg.recording, clock=Clock(id=f"{SHARED_CLOCK}lab/1", offset_s=-2.5)))
    moment = named.moment(samples=200)
    assert moment.clock == f"{SHARED_CLOCK}lab/1"
    assert moment.begin_s == -2.5
    assert moment.end_s == pytest.approx(-0.5, abs=1e-3)
    # What a reader says of a clock that is not named moves nothing.
    own = replace(meg, recording=replace(meg.recording, clock=replace(meg.recording.clock, offset_s=-2.5)))
    assert own.moment(samples=100) == meg.moment(samples=100)
    # Made of nothing that is known, or in another run: a clock of its own.
    bare = replace(meg, attrs={**meg.attrs, "source": {**meg.attrs["source"], "files": []}})
    other = replace(meg, recording=replace(meg.recording, run="2"))
    assert len({one.moment(samples=1).clock for one in (eeg, bare, other, named)}) == 4


def test_samples_are_found_by_the_clock(views: list[RecordingView]) -> None:
    eeg, meg = views
    starts = np.array([0, 100, 250])
    assert samples_at(meg, times_of(eeg, starts)).tolist() == [0, 100, 250]
    assert samples_at(_later(meg, 0.5), times_of(eeg, starts)).tolist() == [-50, 50, 200]
    (train,) = meg.roles.train[:1]
    edge = np.array([train.start - 1, train.start, train.stop - 40, train.stop - 39])
    assert inside(meg, "train", edge, samples=40).tolist() == [False, True, True, False]
