"""Splits leak nothing: not a subject, not a window, not a raw sample."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofm.catalog import Overlap, Overlaps
from neurofm.errors import UserError
from neurofm.recording import Modality
from neurofm.splits import (
    Candidate,
    Fold,
    FoldRecording,
    Kind,
    Segment,
    Splits,
    SplitSettings,
    audit,
    make_splits,
)

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


def _roles(fold: Fold) -> dict[str, set[str]]:
    """Roles of every subject, over all datasets."""
    roles: dict[str, set[str]] = {}
    for entry in fold.recordings:
        found = {role for role in ("train", "validation", "test") if getattr(entry, role)}
        roles[entry.subject] = roles.get(entry.subject, set()) | found
    return roles


def test_a_subject_of_two_datasets_has_one_role_in_both() -> None:
    both = _subjects(6) + _subjects(9, dataset="other")
    splits = _split(both)
    for fold in splits.folds:
        assert len(fold.recordings) == 15
        assert all(len(roles) == 1 for roles in _roles(fold).values())
    assert sum(bool(entry.test) for fold in splits.folds for entry in fold.recordings) == 15
    # The same label given by other people is another subject, and the datasets are split by themselves.
    apart = _split(_subjects(6) + _subjects(6, dataset="other", namespace="elsewhere"))
    (alone, *_) = _split(_subjects(6)).folds
    assert tuple(one for one in apart.folds[0].recordings if one.dataset == "rest") == alone.recordings


def test_a_subject_known_under_two_ids_has_one_role_under_one_id() -> None:
    both = _subjects(6) + _subjects(6, dataset="other", namespace="elsewhere")
    known = Overlaps(known=(Overlap(namespaces=("elsewhere", "lab"), why="the same people"),))
    splits = make_splits(both, settings=SETTINGS, window_samples=WINDOWS, overlaps=known)
    assert set(_roles(splits.folds[0])) == {f"elsewhere:{index:02d}" for index in range(6)}
    assert all(len(roles) == 1 for fold in splits.folds for roles in _roles(fold).values())
    assert splits.same["elsewhere:03"] == ("lab:03",)
    # Alone, a dataset keeps its own ids, and its split, and says what else its subjects are called.
    alone = make_splits(_subjects(6), settings=SETTINGS, window_samples=WINDOWS, overlaps=known)
    assert alone.folds == _split(_subjects(6)).folds
    assert alone.same["lab:03"] == ("elsewhere:03",)


def test_what_is_not_scored_trains_only_where_its_subject_is_not_held_out() -> None:
    unscored = [replace(one, dataset="other", score=False, score_note="resampled") for one in _subjects(9)]
    splits = _split(_subjects(6) + unscored)
    for fold in splits.folds:
        held = {one.subject for one in fold.recordings if one.dataset == "rest" and not one.train}
        others = {one.subject: one for one in fold.recordings if one.dataset == "other"}
        assert held
        assert set(others) == {f"lab:{index:02d}" for index in range(9)} - held
        assert all(one.train and not one.test for one in others.values())


def test_copies_of_a_session_are_not_split_in_time_twice() -> None:
    copy = replace(_session(30_000), dataset="tables", session="monday")
    splits = _split([replace(_session(), session="monday"), copy])
    assert [(out.dataset, out.trains) for out in splits.left_out] == [("tables", False)]
    assert "may be the same session as session/one" in splits.left_out[0].reason
    assert {entry.dataset for entry in splits.folds[0].recordings} == {"session"}
    # Another day of the same animal takes part, and so does the copy that is scored where the other is not.
    assert not _split([replace(_session(), session="monday"), replace(copy, session="friday")]).left_out
    first = replace(_session(), session="monday", score=False)
    assert {out.dataset: out.trains for out in _split([first, copy]).left_out} == {"session": False}


def test_the_same_samples_take_part_once() -> None:
    people = [replace(one, content=f"digest {index % 6}") for index, one in enumerate(_subjects(7))]
    splits = _split(people)
    assert [(out.recording, out.reason) for out in splits.left_out] == [
        ("sub-06", "holds the same samples as rest/sub-00")
    ]
    assert {entry.recording for entry in splits.folds[0].recordings} == {f"sub-{index:02d}" for index in range(6)}


def test_sessions_are_held_out_where_subjects_are_few() -> None:
    days = [replace(_session(), recording=f"day-{day}", session=str(day)) for day in range(6)]
    days += [replace(days[5], recording="day-5b")]
    chosen = SETTINGS.model_copy(update={"min_sessions": 6})
    splits = _split(days, chosen)
    scored = [entry.recording for fold in splits.folds for entry in fold.recordings if entry.test]
    assert sorted(scored) == sorted(one.recording for one in days)
    for fold in splits.folds:
        roles = {
            entry.recording: {r for r in ("train", "validation", "test") if getattr(entry, r)}
            for entry in fold.recordings
        }
        assert roles["day-5"] == roles["day-5b"]
        assert {"train", "validation", "test"} == set.union(*roles.values())
        assert all(entry.kind == "session" and entry.session for entry in fold.recordings)
    # Fewer than that, or not named: in time.
    for others in (days[:5], [replace(one, session="") for one in days]):
        assert {entry.kind for entry in _split(others, chosen).folds[0].recordings} == {"time"}


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


def test_the_audit_sees_a_subject_and_a_session_on_both_sides() -> None:
    whole = (Segment(start=0, stop=100),)

    def entry(recording: str, kind: Kind, *, session: str = "", held: bool = False) -> FoldRecording:
        return FoldRecording(
            dataset="d",
            recording=recording,
            subject="lab:a",
            session=session,
            modality=Modality.CALCIUM,
            kind=kind,
            calibration=(),
            **{"test" if held else "train": whole},
        )

    def of(*entries: FoldRecording) -> Splits:
        return Splits(seed=1, folds=(Fold(recordings=entries),), left_out=())

    audit(of(entry("r", "session", session="1", held=True), entry("s", "session", session="2")))
    with pytest.raises(UserError, match=r"session lab:a, session 1 is held out in fold 0 as d/r .* from as d/s"):
        audit(of(entry("r", "session", session="1", held=True), entry("s", "session", session="1")))
    with pytest.raises(UserError, match=r"subject lab:a is held out in fold 0 as d/r and learned from as d/s"):
        audit(of(entry("r", "subject", held=True), entry("s", "time")))


def test_without_further_words_it_is_70_15_15() -> None:
    (fold,) = _split(_subjects(100), SplitSettings(seed=1)).folds
    counts = [sum(bool(getattr(entry, role)) for entry in fold.recordings) for role in ("train", "validation", "test")]
    assert counts == [70, 15, 15]
