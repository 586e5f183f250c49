"""Splits leak nothing: not a subject, not a window, not a raw sample."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofm.errors import UserError
from neurofm.recording import Modality
from neurofm.splits import Candidate, Fold, FoldRecording, Segment, Splits, SplitSettings, audit, make_splits

WINDOWS = dict.fromkeys(Modality, 64)
SETTINGS = SplitSettings(
    seed=1,
    folds=3,
    test_fraction=0.15,
    validation_fraction=0.2,
    min_subjects=5,
    blocks=9,
    calibration_fraction=0.3,
)


def _subjects(count: int, *, dataset: str = "rest", namespace: str = "lab", samples: int = 1200) -> list[Candidate]:
    return [
        Candidate(
            dataset=dataset,
            recording=f"sub-{index:02d}",
            subject=f"{namespace}:{index:02d}",
            modality=Modality.FMRI,
            samples=samples,
            sampling_rate_hz=1 / 0.72,
            support_s=864.0,
        )
        for index in range(count)
    ]


def _session(samples: int = 20_000, *, support_s: float = 1.0, subject: str = "lab:mouse") -> Candidate:
    return Candidate(
        dataset="session",
        recording="one",
        subject=subject,
        modality=Modality.CALCIUM,
        samples=samples,
        sampling_rate_hz=10.0,
        support_s=support_s,
    )


def _split(candidates: list[Candidate], chosen: SplitSettings = SETTINGS) -> Splits:
    return make_splits(candidates, settings=chosen, window_samples=WINDOWS)


def test_every_subject_is_scored_once_and_never_by_a_model_that_met_it() -> None:
    splits = _split(_subjects(7))
    scored = [entry.subject for fold in splits.folds for entry in fold.recordings if entry.test]
    assert sorted(scored) == [f"lab:{index:02d}" for index in range(7)]
    for fold in splits.folds:
        roles = [{role for role in ("train", "validation", "test") if getattr(e, role)} for e in fold.recordings]
        assert all(len(role) == 1 for role in roles)
        assert {"train", "validation", "test"} == set.union(*roles)


def test_an_unseen_subject_is_scored_after_its_calibration() -> None:
    for fold in _split(_subjects(6)).folds:
        for entry in fold.recordings:
            if not entry.train:
                (calibration,), (scored,) = entry.calibration, entry.test or entry.validation
                assert (calibration.start, calibration.stop, scored.start, scored.stop) == (0, 360, 360, 1200)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(700, 60_000),
    support_s=st.floats(0, 20),
    folds=st.integers(1, 4),
    blocks=st.integers(3, 15),
)
def test_time_blocks_keep_their_distance_and_cover_the_recording(
    samples: int, support_s: float, folds: int, blocks: int
) -> None:
    chosen = SETTINGS.model_copy(update={"folds": folds, "blocks": blocks})
    splits = _split([_session(samples, support_s=support_s)], chosen)
    gap = 64 + round(support_s * 10)
    scored = 0
    for fold in splits.folds:
        (entry,) = fold.recordings
        if entry.kind == "train-only":
            assert splits.left_out
            return
        pieces = sorted(
            [(s.start, s.stop, role) for role in ("train", "validation", "test") for s in getattr(entry, role)]
        )
        assert {role for *_, role in pieces} == {"train", "validation", "test"}
        assert entry.calibration == entry.train
        for (_, stop, role), (start, _, other) in pairwise(pieces):
            assert role != other
            assert start - stop == gap
        assert all(stop - start >= 64 for start, stop, _ in pieces)
        scored += sum(segment.stop - segment.start for segment in entry.test)
    if folds > 1:
        assert scored > samples / 4


def test_fmri_is_never_split_within_a_run() -> None:
    splits = _split(_subjects(3))
    assert [out.trains for out in splits.left_out] == [True] * 3
    assert all(entry.kind == "train-only" and not entry.test for fold in splits.folds for entry in fold.recordings)


def test_short_and_excluded_recordings_are_named() -> None:
    short = replace(_session(50), recording="short")
    flat = replace(_session(), recording="flat", excluded_reason="every channel is constant")
    unscored = replace(_session(), recording="unscored", score=False, score_note="one subject")
    splits = _split([short, flat, unscored])
    assert [(out.recording, out.trains) for out in splits.left_out] == [
        ("flat", False),
        ("short", False),
        ("unscored", True),
    ]
    assert "6.4 s" in splits.left_out[1].reason
    assert {entry.recording for entry in splits.folds[0].recordings} == {"unscored"}


def test_a_subject_in_two_datasets_stops_the_split() -> None:
    with pytest.raises(UserError, match=r"lab:0\d is held out"):
        _split(_subjects(6) + _subjects(6, dataset="other"))
    # The same label given by other people is another subject.
    _split(_subjects(6) + _subjects(6, dataset="other", namespace="elsewhere"))


def test_one_fold_holds_out_shares() -> None:
    chosen = SETTINGS.model_copy(update={"folds": 1})
    (fold,) = _split(_subjects(40), chosen).folds

    def count(role: str) -> int:
        return sum(bool(getattr(entry, role)) for entry in fold.recordings)

    assert (count("test"), count("validation"), count("train")) == (6, 7, 27)


def test_adding_a_subject_keeps_the_order_of_the_others(tmp_path: Path) -> None:
    def order(splits: Splits) -> list[FoldRecording]:
        return [entry for entry in splits.folds[0].recordings if entry.test]

    assert _split(_subjects(7)) == _split(list(reversed(_subjects(7))))
    assert order(_split(_subjects(7))) != order(_split(_subjects(7), SETTINGS.model_copy(update={"seed": 2}))) or order(
        _split(_subjects(7))
    ) != order(_split(_subjects(7), SETTINGS.model_copy(update={"seed": 3})))
    splits = _split(_subjects(7))
    splits.write(tmp_path / "splits.json")
    assert Splits.read(tmp_path / "splits.json") == splits


@pytest.mark.parametrize("test", [(40, 60), (90, 120), (0, 100)])
def test_the_audit_sees_samples_that_serve_two_roles(test: tuple[int, int]) -> None:
    def splits(start: int, stop: int) -> Splits:
        learned = (Segment(start=0, stop=100),)
        entry = FoldRecording(
            dataset="d",
            recording="r",
            subject="lab:a",
            modality=Modality.CALCIUM,
            kind="time",
            calibration=learned,
            train=learned,
            test=(Segment(start=start, stop=stop),),
        )
        return Splits(seed=1, folds=(Fold(recordings=(entry,)),), left_out=())

    audit(splits(100, 120))
    with pytest.raises(UserError, match="learns from and scores the same samples"):
        audit(splits(*test))
