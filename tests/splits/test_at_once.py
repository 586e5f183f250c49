"""What was recorded at once is cut at the same seconds, whatever its rate, length and filters."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from neurofm.errors import UserError
from neurofm.recording import SHARED_CLOCK, Modality
from neurofm.shards import Moment
from neurofm.splits import Candidate, FoldRecording, Role, Splits, SplitSettings, make_splits

SETTINGS = SplitSettings(seed=1, folds=3)
WINDOWS = {Modality.EEG: 200, Modality.MEG: 200, Modality.SPIKES: 100, Modality.FMRI: 64}


def _recorded(
    modality: Modality, *, rate_hz: float, support_s: float, begin_s: float, end_s: float, clock: str = "one"
) -> Candidate:
    return Candidate(
        dataset=str(modality),
        recording="sub-01",
        subject="lab:01",
        modality=modality,
        samples=round((end_s - begin_s) * rate_hz),
        sampling_rate_hz=rate_hz,
        support_s=support_s,
        moment=Moment(clock=clock, begin_s=begin_s, end_s=end_s),
    )


EEG = _recorded(Modality.EEG, rate_hz=100.0, support_s=3.3, begin_s=-4.0, end_s=300.0)
SPIKES = _recorded(Modality.SPIKES, rate_hz=50.0, support_s=0.02, begin_s=0.0, end_s=310.5)
FMRI = _recorded(Modality.FMRI, rate_hz=0.5, support_s=125.0, begin_s=0.0, end_s=300.0)


def _of(splits: Splits, fold: int, one: Candidate) -> FoldRecording:
    return next(entry for entry in splits.folds[fold].recordings if entry.name == one.name)


def _apart_s(splits: Splits, fold: int) -> float:
    """Least seconds between what one of two is scored on and the other is learned from."""

    def spans(one: Candidate, role: Role) -> list[tuple[float, float]]:
        assert one.moment is not None
        parts = getattr(_of(splits, fold, one), role)
        return [(one.moment.begin_s + s.start / one.sampling_rate_hz, s.stop - s.start) for s in parts]

    least = float("inf")
    for one, two in ((EEG, SPIKES), (SPIKES, EEG)):
        for (a, n), (b, m) in product(spans(one, "test"), spans(two, "train")):
            least = min(least, max(b - (a + n / one.sampling_rate_hz), a - (b + m / two.sampling_rate_hz)))
    return least


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_no_second_is_learned_from_in_one_and_scored_in_the_other(fold: int) -> None:
    together = make_splits([EEG, SPIKES], settings=SETTINGS, window_samples=WINDOWS)
    # A window, the longer one, and the filters' support, the longer one.
    assert _apart_s(together, fold) >= 2.0 + 3.3 - 0.05
    assert all(_of(together, fold, one).test for one in (EEG, SPIKES))
    for one in (EEG, SPIKES):
        last = max(
            part.stop for role in ("train", "validation", "test") for part in getattr(_of(together, fold, one), role)
        )
        assert last <= one.samples


def test_what_shares_a_part_of_the_time_takes_no_part_where_it_has_nothing_to_learn_from() -> None:
    eeg = _recorded(Modality.EEG, rate_hz=100.0, support_s=0.0, begin_s=0.0, end_s=600.0)
    short = _recorded(Modality.SPIKES, rate_hz=50.0, support_s=0.0, begin_s=140.0, end_s=180.0)
    splits = make_splits([eeg, short], settings=SETTINGS, window_samples=WINDOWS)
    for fold in splits.folds:
        assert fold.recordings[0].test
        for entry in fold.recordings:
            assert entry.calibration == entry.train != ()
            assert not entry.test or entry.validation
    # All of it lies in one block.
    assert [len(fold.recordings) for fold in splits.folds].count(1) >= 1
    (out,) = splits.left_out
    assert (out.dataset, out.trains) == ("spikes", any(len(fold.recordings) == 2 for fold in splits.folds))
    assert out.reason.startswith("shares too little time")


def test_recordings_of_one_moment_that_are_learned_from_in_all_folds_are_cut_alike() -> None:
    held = replace(EEG, recording="sub-02", subject="lab:02", moment=None)
    settings = SETTINGS.model_copy(update={"leave_out": "subject"})
    splits = make_splits([EEG, SPIKES, held], settings=settings, window_samples=WINDOWS)
    fold = next(
        number for number, one in enumerate(splits.folds) if any(e.name == held.name for e in one.recordings if e.test)
    )
    eeg, spikes = (_of(splits, fold, one) for one in (EEG, SPIKES))
    assert (eeg.kind, spikes.kind) == ("time", "time")
    for part in eeg.validation:
        begin_s, end_s = part.start / 100.0 - 4.0, part.stop / 100.0 - 4.0
        assert all(end_s <= s.start / 50.0 or s.stop / 50.0 <= begin_s for s in spikes.train)
        assert any(abs(begin_s - s.start / 50.0) < 0.05 for s in spikes.validation)


@pytest.mark.parametrize(("leave_out", "role"), [(None, "test"), (None, "validation"), ("subject", "validation")])
def test_what_is_not_scored_is_not_learned_from_while_what_was_recorded_with_it_is_judged(
    leave_out: str | None, role: Role
) -> None:
    quiet = replace(EEG, score=False)
    held = replace(SPIKES, recording="sub-02", subject="lab:02", moment=None)
    settings = SETTINGS.model_copy(update={"leave_out": leave_out})
    splits = make_splits([quiet, SPIKES, held], settings=settings, window_samples=WINDOWS)
    folds = [number for number, one in enumerate(splits.folds) if any(e.name == quiet.name for e in one.recordings)]
    judged = [number for number in folds if getattr(_of(splits, number, SPIKES), role)]
    assert judged
    for fold in judged:
        eeg, spikes = _of(splits, fold, quiet), _of(splits, fold, SPIKES)
        assert eeg.train == eeg.calibration != ()
        assert not eeg.validation + eeg.test
        for part, learned in product(getattr(spikes, role), eeg.train):
            begin_s, end_s = part.start / 50.0, part.stop / 50.0
            assert learned.stop / 100.0 - 4.0 <= begin_s or end_s <= learned.start / 100.0 - 4.0
    (out,) = (out for out in splits.left_out if out.dataset == "eeg")
    assert (out.reason, out.trains) == ("the catalogue says `score: false`", True)


def test_what_is_not_scored_is_learned_from_whole_where_nothing_of_its_moment_is() -> None:
    quiet = replace(EEG, score=False), replace(SPIKES, score=False)
    splits = make_splits(quiet, settings=SETTINGS, window_samples=WINDOWS)
    for fold, one in product(range(3), quiet):
        (part,) = _of(splits, fold, one).train
        assert (part.start, part.stop) == (0, one.samples)


def test_what_is_not_scored_is_not_learned_from_while_a_session_of_its_moment_is_held_out() -> None:
    quiet = replace(EEG, score=False)  # Of a dataset that names no sessions.
    days = [
        replace(SPIKES, recording=f"ses-{day}", session=f"{day}", moment=SPIKES.moment if day == 0 else None)
        for day in range(6)
    ]
    settings = SETTINGS.model_copy(update={"min_sessions": 6})
    splits = make_splits([quiet, *days], settings=settings, window_samples=WINDOWS)
    held = [not _of(splits, fold, days[0]).train for fold in range(3)]
    learned = [any(entry.name == quiet.name for entry in fold.recordings) for fold in splits.folds]
    assert True in held
    assert False in held
    assert learned == [not one for one in held]


def test_two_of_a_kind_at_one_moment_are_refused_where_the_catalogue_says_so() -> None:
    assert EEG.moment is not None
    again = replace(EEG, recording="sub-01_run-2")
    make_splits([EEG, again, SPIKES], settings=SETTINGS, window_samples=WINDOWS)
    eeg, again, spikes = (
        replace(one, moment=replace(EEG.moment, clock=f"{SHARED_CLOCK}lab/01")) for one in (EEG, again, SPIKES)
    )
    make_splits([eeg, again], settings=SETTINGS, window_samples=WINDOWS)
    with pytest.raises(
        UserError, match=r"eeg/sub-01 and eeg/sub-01_run-2 .* name `run` in `recordings.pattern` of eeg"
    ):
        make_splits([eeg, again, spikes], settings=SETTINGS, window_samples=WINDOWS)


def test_by_themselves_they_would_be_cut_otherwise() -> None:
    assert SPIKES.moment is not None
    other = replace(SPIKES, moment=replace(SPIKES.moment, clock="another"))
    alone = make_splits([EEG, other], settings=SETTINGS, window_samples=WINDOWS)
    assert min(_apart_s(alone, fold) for fold in range(3)) < 0


def test_what_lies_beside_fmri_that_is_whole_is_whole() -> None:
    splits = make_splits([EEG, FMRI], settings=SETTINGS, window_samples=WINDOWS)
    assert [entry.kind for fold in splits.folds for entry in fold.recordings] == ["train-only"] * 6
    assert {out.recording: out.reason for out in splits.left_out if out.dataset == "eeg"}["sub-01"].startswith(
        "recorded at once with fMRI"
    )


def test_one_alone_is_cut_as_it_always_was() -> None:
    with_moment, without = (
        make_splits([one], settings=SETTINGS, window_samples=WINDOWS) for one in (EEG, replace(EEG, moment=None))
    )
    assert with_moment == without
