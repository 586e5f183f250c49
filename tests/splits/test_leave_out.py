"""A fold per site or animal: nobody of it is learned from in its fold."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from neurofm.catalog import Overlaps
from neurofm.errors import UserError
from neurofm.evaluation.audit import fold_leaks
from neurofm.evaluation.folds import left_out_of
from neurofm.recording import Modality
from neurofm.splits import Candidate, Fold, FoldRecording, Splits, SplitSettings, make_splits

WINDOWS = dict.fromkeys(Modality, 64)
BY_SITE = SplitSettings(seed=1, folds=3, leave_out="site")
BY_ANIMAL = SplitSettings(seed=1, folds=3, leave_out="subject")
BY_DATASET = SplitSettings(seed=1, folds=4, leave_out="dataset")


def _person(dataset: str, number: int, *, site: str = "", modality: Modality = Modality.EEG) -> Candidate:
    return Candidate(
        dataset=dataset,
        recording=f"r{number}",
        subject=f"{dataset}:{number}",
        modality=modality,
        samples=4000,
        sampling_rate_hz=10.0,
        support_s=1.0,
        attributes={"site": site} if site else {},
    )


def _split(candidates: list[Candidate], settings: SplitSettings) -> Splits:
    return make_splits(candidates, settings=settings, window_samples=WINDOWS)


def _scored(fold: Fold, dataset: str = "") -> set[str]:
    return {one.subject for one in fold.recordings if one.test and one.dataset.startswith(dataset)}


def test_a_site_is_left_out_of_all_datasets_at_once() -> None:
    first = [_person("one", number, site="ABC"[number % 3]) for number in range(12)]
    second = [_person("two", number, site="CD"[number % 2]) for number in range(8)]
    splits = _split([*first, *second, *(_person("three", number) for number in range(6))], BY_SITE)
    assert len(splits.folds) == 3
    assert left_out_of(splits) == {"one": "one site left out, 3 folds", "two": "one site left out, 2 folds"}
    sites = {one.subject: str(one.attributes["site"]) for one in first + second}
    held = [{sites[who] for who in _scored(fold) if who in sites} for fold in splits.folds]
    # D shares a fold with A or B, which no dataset has beside it.
    assert sorted(map(len, held)) == [1, 1, 2]
    assert set.union(*held) == set("ABCD")
    assert {"C", "D"} not in held
    for fold, out in zip(splits.folds, held, strict=True):
        learned = {
            sites[one.subject] for one in fold.recordings if one.subject in sites and (one.train or one.validation)
        }
        assert not learned & out
        chosen = [one.subject for one in fold.recordings if one.validation]
        assert {who.partition(":")[0] for who in chosen} == {"one", "two", "three"}
    # Without the column a dataset is split as ever, in as many folds.
    assert set.union(*(_scored(fold, "three") for fold in splits.folds)) == {f"three:{number}" for number in range(6)}


def _learners(fold: Fold) -> list[FoldRecording]:
    return [one for one in fold.recordings if not one.test]


def test_of_few_animals_one_is_left_out_and_the_others_are_chosen_on_at_other_times() -> None:
    sessions = [
        replace(_person("mice", mouse, modality=Modality.SPIKES), recording=f"m{mouse}s{session}")
        for mouse, session in product(range(3), range(2))
    ]
    splits = _split(sessions, BY_ANIMAL)
    assert [_scored(fold) for fold in splits.folds] == [{f"mice:{mouse}"} for mouse in range(3)]
    for fold in splits.folds:
        assert [one.kind for one in fold.recordings if one.test] == ["subject"] * 2
        for one in _learners(fold):
            assert one.kind == "time"
            assert one.train
            assert one.validation
            gap = 64 + 10
            assert not any(a.meets(b, gap=gap) for a, b in product(one.train, one.validation))


def test_runs_of_few_people_are_chosen_on_as_a_whole() -> None:
    splits = _split([_person("runs", number, modality=Modality.FMRI) for number in range(3)], BY_ANIMAL)
    for fold in splits.folds:
        assert sorted(bool(one.validation) for one in _learners(fold)) == [False, True]
        assert all(one.kind == "subject" for one in fold.recordings)


def test_datasets_of_many_subjects_go_k_fold_beside_those_of_few() -> None:
    many = [_person("many", number) for number in range(30)]
    splits = _split([*many, *(_person("mice", number) for number in range(4))], BY_ANIMAL)
    assert [len(_scored(fold, "many")) for fold in splits.folds] == [8, 8, 7, 7]
    assert [len(_scored(fold, "mice")) for fold in splits.folds] == [1, 1, 1, 1]


def test_a_column_that_nobody_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"no dataset has 2 to 20 values of 'site' .*the most that one has is 1.* Mend"):
        _split([_person("one", number, site="A") for number in range(9)], BY_SITE)


def _people(dataset: str, count: int, *, modality: Modality = Modality.EEG) -> list[Candidate]:
    return [_person(dataset, number, modality=modality) for number in range(count)]


def test_a_dataset_is_left_out_whole_of_every_modality_that_has_another() -> None:
    three = [*_people("one", 8), *_people("two", 6), *_people("three", 2)]
    spikes = [*_people("mouse", 1, modality=Modality.SPIKES), *_people("rat", 1, modality=Modality.SPIKES)]
    splits = _split([*three, *spikes, *_people("runs", 7, modality=Modality.FMRI)], BY_DATASET)
    eeg, animals = "one dataset left out, 1 of 3 folds", "one dataset left out, 1 of 2 folds"
    assert left_out_of(splits) == {"mouse": animals, "one": eeg, "rat": animals, "three": eeg, "two": eeg}
    sizes = {"one": 8, "two": 6, "three": 2, "mouse": 1, "rat": 1}
    out = [{one.dataset for one in fold.recordings if one.test and one.dataset != "runs"} for fold in splits.folds]
    assert sorted(map(sorted, out)) == [["mouse", "one"], ["rat", "three"], ["two"]]
    for fold, names in zip(splits.folds, out, strict=True):
        for one in fold.recordings:
            if one.dataset in names:
                assert (one.kind, one.train, one.validation) == ("subject", (), ())
                assert one.calibration[0].stop <= one.test[0].start
        for name in sizes.keys() - names:
            own = [one for one in fold.recordings if one.dataset == name]
            assert len(own) == sizes[name]
            assert any(one.train for one in own)
            assert any(one.validation for one in own)
            assert not any(one.test for one in own)
        assert {name: len(_scored(fold, name)) for name in names} == {name: sizes[name] for name in names}
    # The only dataset of its modality is split as ever, in as many folds.
    assert [len(_scored(fold, "runs")) for fold in splits.folds] == [3, 2, 2]


def test_whoever_is_in_the_dataset_that_is_left_out_is_not_learned_from_in_another() -> None:
    """By a shared id, by `known.yaml`, or recorded at once by another modality."""
    shared = [replace(one, subject=f"one:{place}") for place, one in enumerate(_people("two", 6)) if place < 2]
    candidates = [*_people("one", 6), *shared, *_people("two", 6)[2:], *_people("three", 6)]
    at_once = [
        replace(one, subject=f"one:{place}") for place, one in enumerate(_people("fields", 3, modality=Modality.MEG))
    ]
    known = Overlaps.parse({"known": [{"subjects": ["one:5", "three:0"], "why": "x"}]}, where="", mend="")
    splits = make_splits([*candidates, *at_once], settings=BY_DATASET, window_samples=WINDOWS, overlaps=known)
    absent = {
        fold.recordings[place].dataset: sorted(
            {f"{one.dataset}/{one.recording}" for one in [*candidates, *at_once]}
            - {one.name for one in fold.recordings}
        )
        for fold in splits.folds
        for place in [next(place for place, one in enumerate(fold.recordings) if one.test)]
    }
    assert absent == {
        "one": ["fields/r0", "fields/r1", "fields/r2", "three/r0", "two/r0", "two/r1"],
        "two": ["fields/r0", "fields/r1", "one/r0", "one/r1"],
        "three": ["one/r5"],
    }
    for number, fold in enumerate(splits.folds):
        assert len({one.dataset for one in fold.recordings if one.test}) == 1
        assert sum(bool(one.test) for one in fold.recordings) == 6
        assert not fold_leaks(fold, number=number, same=splits.same, gaps={}, contents={})
    assert {(out.dataset, out.trains) for out in splits.left_out} == {("fields", True)}
    assert splits.left_out[0].reason.startswith("shares subjects with a dataset that is left out whole")


def test_a_dataset_that_is_not_scored_is_learned_from_in_every_fold() -> None:
    quiet = [replace(one, score=False) for one in _people("quiet", 3)]
    splits = _split([*_people("one", 6), *quiet], BY_DATASET)
    (fold,) = splits.folds
    assert len(_scored(fold)) == 6
    assert {one.dataset for one in fold.recordings if one.train} == {"quiet"}


def test_a_dataset_beside_which_there_is_no_other_is_refused() -> None:
    with pytest.raises(UserError, match=r"no modality has 2 to 20 datasets .*the most that one has is 1"):
        _split([*_people("one", 6), *_people("runs", 6, modality=Modality.FMRI)], BY_DATASET)
    copies = [replace(one, subject=f"one:{place}") for place, one in enumerate(_people("copy", 4))]
    with pytest.raises(UserError, match="without one and its subjects nothing of eeg is left to learn from"):
        _split([*_people("one", 6), *copies], BY_DATASET)
