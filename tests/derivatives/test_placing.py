"""A participant's files reach the dataset whole or not at all, whenever the moving is interrupted."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from neurofm.derivatives.placing import Staged, hand_on_people, index_path, merge_common, remove_strangers
from neurofm.recording import Unreadable
from neurofm.units import read_index

OWN = (
    *("sub-1/anat/sub-1_desc-preproc_T1w.nii.gz", "sub-1/func/sub-1_task-rest_bold.nii.gz", "sub-1.html"),
    *(
        "sub-1_anat.html",
        "sourcedata/freesurfer/sub-1/surf/lh.pial.T1",
        "sourcedata/freesurfer/sub-1_ses-a/mri/aseg.mgz",
    ),
)
COMMON = ("dataset_description.json", "logs/CITATION.md", ".bidsignore")
KEY = "f" * 64


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return tmp_path / "derivatives"


def _staged(tmp_path: Path, label: str = "1", *, key: str = KEY, text: str = "new") -> Staged:
    staged = Staged(folder=tmp_path / "staged", label=label, key=key)
    names = [name.replace("sub-1", f"sub-{label}") for name in OWN]
    for name in (*names, *COMMON, "sourcedata/freesurfer/fsaverage/label"):
        path = staged.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{label} {name} {text}")
    link = staged.output / "sourcedata" / "freesurfer" / f"sub-{label}" / "surf" / "lh.pial"
    link.symlink_to("lh.pial.T1")
    link.with_name("lh.nowhere").symlink_to("/opt/freesurfer/nothing")
    return staged


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _expected(label: str = "1") -> set[str]:
    names = {name.replace("sub-1", f"sub-{label}") for name in OWN}
    names |= {f"sourcedata/freesurfer/sub-{label}/surf/lh.pial"}
    return names | {f"logs/sub-{label}/{name}" for name in (*COMMON, "files.json")}


def test_files_are_in_place_under_their_names_and_links_are_files(tmp_path: Path, made: Path) -> None:
    for label in ("1", "10"):
        staged = _staged(tmp_path, label)
        assert not staged.is_complete
        staged.complete()
        assert staged.is_complete
        index = staged.place(made)
        assert {file.path for file in index.files} == _expected(label) - {f"logs/sub-{label}/files.json"}
        staged.remove()
    pial = made / "sourcedata" / "freesurfer" / "sub-1" / "surf" / "lh.pial"
    assert not pial.is_symlink()
    assert pial.read_text() == pial.with_name("lh.pial.T1").read_text()
    assert _names(tmp_path / "staged") == set()
    merge_common(made, ["1", "10"])
    remove_strangers(made, ["1", "10"])
    everybody = _expected("1") | _expected("10") | {*COMMON, "sourcedata/freesurfer/fsaverage/label"}
    assert _names(made) == everybody
    assert (made / "dataset_description.json").read_text().startswith("1 ")
    # Whoever left is gone whole, and what is common stays as the others have it.
    remove_strangers(made, ["10"])
    merge_common(made, ["10"])
    assert _names(made) == _expected("10") | {*COMMON, "sourcedata/freesurfer/fsaverage/label"}
    assert (made / "dataset_description.json").read_text().startswith("10 ")
    remove_strangers(made, [])
    assert list(made.iterdir()) == []


@pytest.mark.parametrize("moved", [0, 1, 4, 9])
def test_moving_that_is_interrupted_goes_on(
    tmp_path: Path, made: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _staged(tmp_path, key="a" * 64, text="old")
    extra = old.output / "sub-1" / "func" / "sub-1_task-gone_bold.nii.gz"
    extra.write_text("of other options")
    old.complete()
    old.place(made)
    old.remove()
    new = _staged(tmp_path)
    new.complete()
    left, replace = moved, Path.replace

    def stop(path: Path, target: Path) -> Path:
        nonlocal left
        if path.is_relative_to(made):
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            new.place(made)
    # Without an index, what lies there is nobody's.
    assert read_index(index_path(made, "1")) is None
    assert new.is_complete
    new.place(made)
    assert _names(made) == _expected() | {"sourcedata/freesurfer/fsaverage/label"}
    assert all((made / name).read_text().endswith(" new") for name in OWN)


def test_a_file_that_is_in_neither_place_is_no_success(tmp_path: Path, made: Path) -> None:
    staged = _staged(tmp_path)
    staged.complete()
    (staged.output / OWN[1]).unlink()
    with pytest.raises(Unreadable, match=r"sub-1: sub-1/func/sub-1_task-rest_bold.nii.gz was lost"):
        staged.place(made)
    assert read_index(index_path(made, "1")) is None
    assert not staged.is_complete  # else no other try could ever succeed


@pytest.mark.parametrize("disk", ["the same", "another"])
def test_what_was_placed_by_half_and_then_swept_away_is_placed_again(
    tmp_path: Path, made: Path, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is killed while it places (memory, a full disk, walltime) does not end the stage."""
    if disk == "another":

        def refuse(*_: object) -> None:
            raise OSError(errno.EXDEV, "another disk")

        monkeypatch.setattr(os, "link", refuse)
    staged = _staged(tmp_path)
    staged.complete()
    with monkeypatch.context() as patch:
        patch.setattr("neurofm.derivatives.placing.sync_folder", _full)
        with pytest.raises(OSError, match="full"):
            staged.place(made)
    assert (made / OWN[1]).is_file()
    remove_strangers(made, [])
    assert list(made.iterdir()) == []
    staged.place(made)
    staged.place(made)  # killed after the index, before `remove`
    staged.remove()
    assert _names(made) == _expected() | {"sourcedata/freesurfer/fsaverage/label"}


def test_removal_that_is_interrupted_runs_no_engine_again(tmp_path: Path, made: Path) -> None:
    staged = _staged(tmp_path)
    staged.complete()
    index = staged.place(made)
    shutil.rmtree(staged.output / "sub-1")  # killed here
    assert staged.is_complete
    assert staged.place(made) == index
    staged.remove()
    assert _names(tmp_path / "staged") == set()
    assert not list(index.wrong(made))


def _full(folder: Path) -> None:
    raise OSError(errno.ENOSPC, f"{folder}: full")


def test_a_link_out_of_the_outputs_brings_no_file_of_this_machine(tmp_path: Path, made: Path) -> None:
    """It led to a file of the container's; what has the same path here is another one."""
    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    staged = _staged(tmp_path)
    (staged.output / "sub-1" / "anat" / "sub-1_T1w.json").symlink_to(secret)
    staged.complete()
    assert "sub-1/anat/sub-1_T1w.json" not in {file.path for file in staged.place(made).files}
    assert _names(made) == _expected() | {"sourcedata/freesurfer/fsaverage/label"}


@pytest.mark.parametrize("name", ["sub-2/func/bold.nii.gz", "sub-10.html", "sourcedata/freesurfer/sub-2/mri/aseg.mgz"])
def test_another_participant_s_file_is_refused(tmp_path: Path, name: str) -> None:
    staged = _staged(tmp_path)
    (staged.output / name).parent.mkdir(parents=True, exist_ok=True)
    (staged.output / name).write_text("whose?")
    with pytest.raises(Unreadable, match=f"sub-1: the engine wrote {name}, which is another participant's"):
        staged.complete()
    assert not staged.is_complete


def test_what_freesurfer_brings_for_all_is_that_of_the_newest_image(tmp_path: Path, made: Path) -> None:
    for text in ("old", "new"):
        staged = _staged(tmp_path, text=text)
        staged.complete()
        staged.place(made)
        staged.remove()
    assert (made / "sourcedata/freesurfer/fsaverage/label").read_text().endswith(" new")


def test_what_was_begun_with_another_key_is_removed(tmp_path: Path) -> None:
    other, ten = _staged(tmp_path, key="a" * 64), _staged(tmp_path, "10", key="a" * 64)
    other.complete()
    here = _staged(tmp_path)
    here.remove_others()
    assert {path.name for path in (tmp_path / "staged").iterdir()} == {here.name, ten.name}


def test_the_table_of_participants_is_that_of_the_raw_dataset(tmp_path: Path, made: Path) -> None:
    raw = tmp_path / "raw"
    for folder in (raw, made):
        folder.mkdir()
    table = raw / "participants.tsv"
    for text in ("participant_id\tage\nsub-1\t20\n", "participant_id\tage\nsub-1\t21\n"):
        table.write_text(text)
        hand_on_people(raw, made)
        remove_strangers(made, ())
        assert (made / "participants.tsv").read_text() == text
    table.unlink()
    hand_on_people(raw, made)
    assert not list(made.iterdir())
