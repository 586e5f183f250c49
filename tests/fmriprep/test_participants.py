"""Who is there, what is to be processed of them, and why somebody cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.fmriprep import FmriprepOptions, choose_participants, find_participants
from tests.fmriprep.conftest import add


def find(bids: Path, **given: Any) -> dict[str, list[str]]:
    """Stems of everybody's runs; who cannot be processed has their reason instead."""
    found = find_participants(bids, options=FmriprepOptions.parse(given, where="test", mend=""))
    return {one.label: [one.missing] if one.missing else [run.stem for run in one.runs] for one in found}


def test_runs_of_everybody(bids: Path) -> None:
    found = {one.label: one for one in find_participants(bids, options=FmriprepOptions())}
    assert [run.stem for run in found["01"].runs] == [
        "sub-01_task-nback_acq-fast_dir-AP",
        "sub-01_task-rest_run-01",
        "sub-01_task-rest_run-02",
    ]
    echoes, magnitude = found["02"].runs
    assert (str(echoes.folder), echoes.stem) == ("sub-02/ses-a/func", "sub-02_ses-a_task-rest")
    assert len(echoes.files) == 3
    assert magnitude.stem == "sub-02_ses-b_task-rest_part-mag"
    assert [one.sessions for one in found.values()] == [0, 2]
    assert [path.name for path in found["02"].anatomical] == ["sub-02_ses-a_T1w.nii.gz"]
    assert [one.missing for one in found.values()] == ["", ""]


def test_selection_by_task_session_and_filter(bids: Path) -> None:
    rest = ["sub-01_task-rest_run-01", "sub-01_task-rest_run-02"]
    assert find(bids, task="rest")["01"] == rest
    assert find(bids, bids_filters={"bold": {"run": "2"}})["01"] == rest[1:]
    assert find(bids, bids_filters={"bold": {"run": "*"}})["01"] == rest
    assert find(bids, bids_filters={"bold": {"run": None}})["01"] == ["sub-01_task-nback_acq-fast_dir-AP"]
    assert find(bids, bids_filters={"bold": {"run": [None, "01"]}})["01"] == [
        "sub-01_task-nback_acq-fast_dir-AP",
        rest[0],
    ]
    assert find(bids, sessions=["a"])["02"] == ["sub-02_ses-a_task-rest"]
    (why,) = find(bids, sessions=["b"])["02"]
    assert why.startswith("sub-02: no T1-weighted image")
    # As fMRIPrep: a filter of BOLD alone leaves the anatomical image of the other session.
    assert find(bids, bids_filters={"bold": {"session": "b"}})["02"] == ["sub-02_ses-b_task-rest_part-mag"]
    (why,) = find(bids, task="nback")["02"]
    assert why.startswith("sub-02: no BOLD of the task 'nback' (func/*_bold.nii.gz) among what is selected. Mend: ")


def test_each_reason_and_the_others_go_on(bids: Path) -> None:
    names = {
        "no-T1w": ["sub-03/func/sub-03_task-rest_bold.nii.gz"],
        "no BOLD": ["sub-04/anat/sub-04_T1w.nii.gz"],
        "twice": [
            "sub-05/anat/sub-05_T1w.nii.gz",
            "sub-05/func/sub-05_task-rest_bold.nii.gz",
            "sub-05/func/sub-05_task-rest_bold.nii",
        ],
        "empty": ["sub-06/anat/sub-06_T1w.nii.gz", "sub-06/func/sub-06_task-rest_bold.nii.gz"],
        "link": ["sub-07/anat/sub-07_T1w.nii.gz"],
        "taskless": ["sub-08/anat/sub-08_T1w.nii.gz", "sub-08/func/sub-08_bold.nii.gz"],
        "odd": ["sub-$x/anat/a_T1w.nii.gz"],
    }
    add(bids, [name for some in names.values() for name in some])
    (bids / names["empty"][1]).write_bytes(b"")
    (bids / "sub-07/func").mkdir()
    (bids / "sub-07/func/sub-07_task-rest_bold.nii.gz").symlink_to("../../.git/annex/objects/MD5E-s1--x")
    found = find(bids)
    assert found["01"][0] == "sub-01_task-nback_acq-fast_dir-AP"
    assert {label: reason[0].partition(" Mend: ")[0] for label, reason in found.items() if label > "02"} == {
        "03": "sub-03: no T1-weighted image (anat/*_T1w.nii.gz) among what is selected.",
        "04": "sub-04: no BOLD (func/*_bold.nii.gz) among what is selected.",
        "05": "sub-05/func/sub-05_task-rest_bold.nii and sub-05/func/sub-05_task-rest_bold.nii.gz: the same run.",
        "06": "sub-06/func/sub-06_task-rest_bold.nii.gz: empty.",
        "07": "sub-07/func/sub-07_task-rest_bold.nii.gz: only a link, without its content.",
        "08": "sub-08/func/sub-08_bold.nii.gz: no task in its name.",
    }
    assert found["$x"][0].startswith("'sub-$x': no BIDS name of a participant.")


def test_an_engine_that_needs_no_anatomical_image_has_other_reasons(bids: Path) -> None:
    add(bids, ["sub-03/func/sub-03_task-rest_bold.nii.gz", "sub-04/func/sub-04_bold.nii.gz"])
    found = find_participants(bids, options=FmriprepOptions(), needs_anatomical=False)
    reasons = {one.label: one.problem for one in found if one.label > "02"}
    assert reasons == {"03": "", "04": "sub-04/func/sub-04_bold.nii.gz: no task in its name."}


def test_precomputed_anatomy_stands_for_the_image(bids: Path, tmp_path: Path) -> None:
    add(bids, ["sub-03/func/sub-03_task-rest_bold.nii.gz"])
    smriprep = tmp_path / "smriprep"
    add(smriprep, ["sub-03/anat/sub-03_space-MNI_desc-preproc_T1w.nii.gz"])
    assert "no T1-weighted" in find(bids, derivatives={"smriprep": str(smriprep)})["03"][0]
    add(smriprep, ["sub-03/anat/sub-03_desc-preproc_T1w.nii.gz"])
    assert find(bids, derivatives={"smriprep": str(smriprep)})["03"] == ["sub-03_task-rest"]


def test_names_are_looked_up_before_anything_starts(bids: Path) -> None:
    found = find_participants(bids, options=FmriprepOptions())
    assert [one.label for one in choose_participants(["sub-02", "01"], found)] == ["01", "02"]
    assert choose_participants([], found) == found
    with pytest.raises(UserError, match=r"no participant '0l' in the BIDS folder\. Mend: did you mean 02 or 01"):
        choose_participants(["0l"], found)
    with pytest.raises(UserError, match=r"no participant 'x'.+did you mean 01, 02"):
        choose_participants(["x"], found)
    with pytest.raises(UserError, match="'01' is named 2 times"):
        choose_participants(["01", "sub-01"], found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no dataset_description.json"),
        ("{", "not readable"),
        ('{"Name": "n"}', "`BIDSVersion`|'BIDSVersion' is missing"),
        (json.dumps({"Name": "n", "BIDSVersion": "1", "DatasetType": "derivative"}), "of type 'derivative'"),
    ],
)
def test_a_folder_that_is_no_raw_bids(bids: Path, content: str | None, said: str) -> None:
    path = bids / "dataset_description.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=said):
        find(bids)


def test_a_table_that_has_somebody_twice(bids: Path) -> None:
    (bids / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-02\t31\nsub-01\t32\n")
    with pytest.raises(UserError, match="'sub-01' stands there 2 times"):
        find(bids)


def test_nobody_there(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "n", "BIDSVersion": "1"}')
    with pytest.raises(UserError, match="there are no participants"):
        find(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01/func/sub-02_task-rest_run-9_bold.nii.gz",
        "sub-01/func/task-rest_run-9_bold.nii.gz",
        "sub-01/func/sub-01_ses-x_task-rest_run-9_bold.nii.gz",
        "sub-01/ses-x/func/sub-01_task-rest_run-9_bold.nii.gz",
        "sub-01/ses-x/func/sub-01_ses-y_task-rest_run-9_bold.nii.gz",
        "sub-01/anat/sub-02_T1w.nii.gz",
    ],
)
def test_an_image_that_another_one_s_name_is_given_to(bids: Path, name: str) -> None:
    """Its outputs would be taken for the other's."""
    add(bids, [name])
    problems = {one.label: one.problem for one in find_participants(bids, options=FmriprepOptions())}
    assert problems["01"] == f"{name}: its name is not of {' and '.join(name.split('/')[:-2])}."
    assert not problems["02"]
