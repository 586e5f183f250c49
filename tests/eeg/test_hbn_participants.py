"""Participants of release 1: what is known of them, which tasks they have, and who is left out."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from neurofm.catalog import load_entry
from neurofm.eeg.hbn.exclusions import excluded_reason
from neurofm.eeg.hbn.participants import (
    FACTORS,
    SCALARS,
    Availability,
    Participant,
    participant,
    read_participants,
    read_quality_table,
)
from neurofm.recording import Modality, Unreadable
from neurofm.splits import Candidate, SplitSettings, make_splits
from tests.conftest import PROJECT

ACCEPT = (Availability.AVAILABLE,)
SPLIT = SplitSettings(
    seed=1,
    folds=1,
    test_fraction=0.15,
    validation_fraction=0.1765,
    min_subjects=5,
    blocks=9,
    calibration_fraction=0.3,
)


@pytest.fixture(scope="session")
def children(hbn: Path) -> dict[str, Participant]:
    return read_participants(hbn / "participants.tsv")


def test_what_is_known_of_release_1(children: dict[str, Participant]) -> None:
    assert len(children) == 136
    assert {child.release for child in children.values()} == {"R1"}
    assert Counter(child.sex for child in children.values()) == {"M": 90, "F": 46}
    assert all(child.age is not None and 5 <= child.age <= 22 for child in children.values())
    assert all(child.commercial_use for child in children.values())
    without = [child for child in children.values() if None in child.factors.values()]
    assert len(without) == 4
    assert all(set(child.factors.values()) == {None} for child in without)
    first = children["NDARAC904DMU"]
    assert first.scalars() == {
        "age": 11.3386,
        "sex": "F",
        "p_factor": -0.603,
        "attention": -0.446,
        "internalizing": 1.248,
        "externalizing": 0.325,
    }
    assert tuple(first.scalars()) == SCALARS


def test_flags_of_availability(children: dict[str, Participant], contrast_files: list[Path]) -> None:
    flags = Counter(
        child.available(task="contrastChangeDetection", run=run) for child in children.values() for run in "123"
    )
    assert flags == {Availability.AVAILABLE: 294, Availability.UNAVAILABLE: 107, Availability.CAUTION: 7}
    assert {child.available(task="RestingState") for child in children.values()} == {Availability.AVAILABLE}
    assert children["NDARAC904DMU"].available(task="somethingElse") is None
    # The flags agree with the files that are there.
    there = Counter(path.name[4:16] for path in contrast_files)
    for child in {path.parts[-3][4:] for path in contrast_files}:
        said = [children[child].available(task="contrastChangeDetection", run=run) for run in "123"]
        assert there[child] == sum(word is not Availability.UNAVAILABLE for word in said)


def test_a_row_of_another_study_is_a_participant_of_whom_little_is_known() -> None:
    stranger = participant({"gender": "F", "age": "n/a", "group": 3})
    assert stranger.scalars() == {"age": None, "sex": None, **dict.fromkeys(FACTORS)}
    assert (stranger.release, stranger.commercial_use, dict(stranger.availability)) == ("", None, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name\tage\nsub-a\t3\n", "no column 'participant_id'; it has name, age"),
        ("participant_id\tage\nsub-a\t3\nsub-a\t4\n", "a is in it twice"),
        ("", "No columns"),
    ],
)
def test_a_damaged_table_names_itself(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "participants.tsv").write_text(text)
    with pytest.raises(Unreadable, match=rf"participants\.tsv: {told}"):
        read_participants(tmp_path / "participants.tsv")


def test_quality_table_has_commas(tmp_path: Path) -> None:
    path = tmp_path / "RestingState_quality_table.tsv"
    # As MATLAB's writetable makes it in the release's own code (rawFile_quality_pInfo.m): row names come first.
    path.write_text(
        "Row,data_pnts,event_cnt,key_events_exist,quality_checks\n"
        "NDARAC904DMU,201737,45,1,n/a\nNDARAG143ARJ,192755,14,0,flat channel\n"
    )
    table = read_quality_table(path)
    assert list(table.loc["NDARAC904DMU"]) == [201737.0, 45.0, True, ""]
    assert list(table.loc["NDARAG143ARJ"]) == [192755.0, 14.0, False, "flat channel"]
    path.write_text(path.read_text().replace(",", "\t"))
    with pytest.raises(Unreadable, match="no column 'data_pnts'"):
        read_quality_table(path)


def test_who_is_left_out(children: dict[str, Participant]) -> None:
    row = children["NDARAC904DMU"]

    def reason(subject: str, task: str = "RestingState", run: str = "") -> str:
        return excluded_reason(subject, row, task=task, run=run, lists=("challenge-2025",), accept=ACCEPT)

    assert reason("hbn:NDARAC904DMU") == ""
    assert reason("hbn:NDARWV769JM7").startswith("on the list challenge-2025: too few channels or too short (https://")
    assert reason("sub-NDARBA381JGH")
    assert not excluded_reason("hbn:NDARWV769JM7", row, task="RestingState", run="", lists=(), accept=ACCEPT)
    assert (
        reason("hbn:NDARAC904DMU", "seqLearning6target") == "participants.tsv says `unavailable` of seqLearning6target"
    )
    careful = next(child for child in children.values() if child.available(task="symbolSearch") == "caution")
    judge = partial(excluded_reason, "hbn:x", careful, task="symbolSearch", run="", lists=())
    assert "`caution`" in judge(accept=ACCEPT)
    assert not judge(accept=(*ACCEPT, Availability.CAUTION))


def candidate(dataset: str, label: str) -> Candidate:
    return Candidate(
        dataset=dataset,
        recording=f"{label}_RestingState",
        subject=f"{load_entry(dataset, root=PROJECT).subject_namespace}:{label}",
        modality=Modality.EEG,
        samples=35_000,
        sampling_rate_hz=100.0,
        support_s=3.3,
    )


def test_releases_are_split_by_participant(children: dict[str, Participant]) -> None:
    labels = sorted(children)
    releases = {"hbn-r1": labels[:100], "hbn-r2": labels[100:]}
    splits = make_splits(
        [candidate(dataset, label) for dataset, some in releases.items() for label in some],
        settings=SPLIT,
        window_samples=dict.fromkeys(Modality, 200),
    )
    (fold,) = splits.folds
    roles: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for entry in fold.recordings:
        assert entry.kind == "subject"
        for role, subjects in roles.items():
            if getattr(entry, role):
                subjects.add(entry.subject)
    assert sum(map(len, roles.values())) == 136  # nobody is in two
    np.testing.assert_allclose([len(roles[role]) / 136 for role in roles], [0.70, 0.15, 0.15], atol=0.01)


def test_a_participant_in_two_releases_is_not_scored_in_one_and_learned_from_in_the_other(
    children: dict[str, Participant],
) -> None:
    labels = sorted(children)[:20]
    both = [candidate(dataset, label) for dataset in ("hbn-r1", "hbn-r2") for label in labels]
    (fold,) = make_splits(both, settings=SPLIT, window_samples=dict.fromkeys(Modality, 200)).folds
    roles: dict[str, set[str]] = {}
    for entry in fold.recordings:
        role = next(name for name in ("train", "validation", "test") if getattr(entry, name))
        roles.setdefault(entry.subject, set()).add(role)
    assert len(fold.recordings) == 40
    assert {len(own) for own in roles.values()} == {1}
    assert {role for own in roles.values() for role in own} == {"train", "validation", "test"}
