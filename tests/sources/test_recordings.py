"""The rule that makes recordings of files."""

from __future__ import annotations

import pytest

from neurofm.catalog import RecordingRule
from neurofm.errors import UserError
from neurofm.recording import ManifestRecording
from neurofm.sources import recordings_of


def made(paths: list[str], **rule: object) -> tuple[ManifestRecording, ...]:
    return recordings_of(paths, RecordingRule.model_validate(rule), namespace="lab", where="data/catalog/x.yaml")


def test_labels_make_id_and_qualified_subject() -> None:
    paths = ["b/sub-2_run-1.nii", "a/sub-1_run-2.nii", "a/sub-1_run-1.nii", "README"]
    recordings = made(paths, pattern=r".*/sub-(?P<subject>\d)_run-(?P<run>\d)\.nii", task="rest")
    assert [recording.id for recording in recordings] == [
        "sub-1_task-rest_run-1",
        "sub-1_task-rest_run-2",
        "sub-2_task-rest_run-1",
    ]
    first = recordings[0]
    assert (first.subject, first.run, first.task, first.files) == (
        "lab:1",
        "1",
        "rest",
        {"main": "a/sub-1_run-1.nii"},
    )


def test_two_spellings_of_one_animal_come_out_alike() -> None:
    here = made(["CSH_ZAD_024/x.npy"], pattern="(?P<subject>[^/]+)/x.npy", roles={}, respell={"_": "-"})
    there = made(["sub-CSH-ZAD-024.nwb"], pattern="sub-(?P<subject>.+).nwb", respell={"_": "-"})
    assert here[0].subject == there[0].subject == "lab:CSH-ZAD-024"
    assert here[0].id == "sub-CSH_ZAD_024"


def test_the_number_of_one_animal_is_not_found_in_that_of_another() -> None:
    respell = {"session1": "Cori", "session12": "Lederberg", "2": "Moniz", "Cori": "never: what came out is left alone"}
    paths = [f"{name}.nwb" for name in ("session1", "session12", "session11", "session2")]
    subjects = {one.id: one.subject for one in made(paths, pattern=r"(?P<subject>.+)\.nwb", respell=respell)}
    assert subjects == {
        "sub-session1": "lab:Cori",
        "sub-session11": "lab:session11",
        "sub-session12": "lab:Lederberg",
        "sub-session2": "lab:sessionMoniz",
    }


def test_order_of_files_does_not_matter() -> None:
    paths = [f"{subject}.nwb" for subject in "dacb"]
    assert made(paths, pattern=r"(?P<subject>.)\.nwb") == made(sorted(paths), pattern=r"(?P<subject>.)\.nwb")


def test_side_files_belong_to_their_subject() -> None:
    paths = ["sub-1/eeg.vhdr", "sub-1/eeg.eeg", "sub-2/eeg.vhdr", "sub-2/eeg.eeg", "participants.tsv", "notes.txt"]
    one, two = made(paths, pattern=r"sub-(?P<subject>\d)/eeg\.vhdr", extra=r"(sub-(?P<subject>\d)/.+|[^/]+\.tsv)")
    assert one.extra == ("participants.tsv", "sub-1/eeg.eeg")
    assert two.extra == ("participants.tsv", "sub-2/eeg.eeg")


def test_role_is_filled_in_from_labels() -> None:
    (recording,) = made(
        ["s1_bold.nii", "s1_parc.nii"], pattern=r"s(?P<subject>\d)_bold\.nii", roles={"labels": "s{subject}_parc.nii"}
    )
    assert recording.files == {"main": "s1_bold.nii", "labels": "s1_parc.nii"}


@pytest.mark.parametrize(
    ("paths", "rule", "said"),
    [
        (["a.txt", "b.txt"], {"pattern": r"(?P<subject>.)\.nwb"}, "matches none of the 2 files (seen: a.txt, b.txt)"),
        ([], {"pattern": r"(?P<subject>.)\.nwb"}, "matches none of the 0 files (seen: none)"),
        (["a.nwb"], {"pattern": r"a\.nwb"}, "no subject for a.nwb"),
        (["x1.npy", "x2.npy"], {"pattern": r"(?P<subject>x).\.npy"}, "one recording, sub-x, of two files: x1.npy and"),
        (["a b.nwb"], {"pattern": r"(?P<subject>.+)\.nwb"}, "the subject 'a b' of a b.nwb is not fit"),
        (["d/a.nwb"], {"pattern": r"(?P<subject>.+)\.nwb"}, "the subject 'd/a' of d/a.nwb is not fit"),
        (["-a.nwb"], {"pattern": r"(?P<subject>.+)\.nwb"}, "the subject '-a' of -a.nwb is not fit"),
        (["a.n"], {"pattern": r"(?P<subject>.)\.n", "roles": {"labels": "{run}.n"}}, "cannot be filled in for a.n"),
        (["a.n"], {"pattern": r"(?P<subject>.)\.n", "roles": {"labels": "{subject}.m"}}, "a.n needs a.m, which is not"),
    ],
)
def test_what_makes_no_recordings_is_said(paths: list[str], rule: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        made(paths, **rule)
    assert said in str(caught.value)
    assert str(caught.value).startswith("data/catalog/x.yaml: ")
