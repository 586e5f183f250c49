"""A folder of the user's becomes a manifest of the files that are in it now."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.sources import build_manifest

ROOT = Path(__file__).resolve().parents[2]


def entry_of(folder: str) -> CatalogEntry:
    facts = {
        "id": "mine",
        "title": "mine",
        "modality": "fmri",
        "reader": "tables",
        "source": {"archive": "local", "path": folder},
        "recordings": {"pattern": r"series/sub-(?P<subject>\w+)_.*AAL.*\.npy", "extra": r"participants\.tsv"},
        "subject_namespace": "mine",
        "species": "Homo sapiens",
        "licence": "PDDL",
        "redistribute": True,
        "citation": "Richardson 2018",
    }
    return CatalogEntry.parse(facts, where="test", mend="")


@pytest.fixture
def folder(tmp_path: Path, shared_data: Path) -> Path:
    """Three real subjects of ds000228, both atlases."""
    source = shared_data / "fmri" / "ds000228_pixar_rois"
    target = tmp_path / "pixar"
    (target / "series").mkdir(parents=True)
    shutil.copy(source / "participants.tsv", target)
    for path in sorted((source / "timeseries").glob("*.npy"))[:6]:
        shutil.copy(path, target / "series")
    return target


def test_only_what_recordings_use_is_listed(folder: Path, tmp_path: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("[core]")
    manifest = build_manifest(entry_of("pixar"), root=tmp_path)
    assert len(manifest.recordings) == 3
    assert [file.path for file in manifest.files] == sorted(
        ["participants.tsv", *(f"series/{path.name}" for path in folder.glob("series/*AAL*"))]
    )
    for file in manifest.files:
        assert (file.size, file.digest) == (
            (folder / file.path).stat().st_size,
            f"sha256:{sha256_of(folder / file.path)}",
        )


def test_new_subject_and_changed_byte_are_noticed(folder: Path, tmp_path: Path) -> None:
    before = build_manifest(entry_of(str(folder)), root=tmp_path)
    first = folder / before.recordings[0].files["main"]
    shutil.copy(first, folder / "series" / "sub-new_AAL.npy")
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    after = build_manifest(entry_of(str(folder)), root=tmp_path)
    assert {r.subject for r in after.recordings} - {r.subject for r in before.recordings} == {"mine:new"}
    path = before.recordings[0].files["main"]
    assert after.by_path[path].digest != before.by_path[path].digest


def test_missing_folder_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`source\.path`: .*nowhere is not a folder.* Mend: "):
        build_manifest(entry_of("nowhere"), root=tmp_path)


def test_missing_folder_of_gated_data_says_how_to_apply(tmp_path: Path) -> None:
    entry = load_entry("embarc", root=ROOT)
    with pytest.raises(UserError, match=r"embarc is not a folder.* Mend: .*https://nda\.nih\.gov.*\.\./data/embarc"):
        build_manifest(entry, root=tmp_path)


def test_only_chosen_subjects_are_hashed(folder: Path, tmp_path: Path) -> None:
    whole = build_manifest(entry_of(str(folder)), root=tmp_path)
    chosen = build_manifest(entry_of(str(folder)), root=tmp_path, max_subjects=1)
    assert len(chosen.recordings) == 1
    assert [file.path for file in chosen.files] == ["participants.tsv", chosen.recordings[0].files["main"]]
    left_out = next(recording for recording in whole.recordings if recording not in chosen.recordings)
    (folder / left_out.files["main"]).unlink()
    (folder / left_out.files["main"]).symlink_to("not-fetched")
    assert build_manifest(entry_of(str(folder)), root=tmp_path, max_subjects=1) == chosen


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.npy").write_bytes(b"1")
    target = outside if kind == "folder" else outside / "secret.npy"
    (folder / "series" / "sub-x_AAL.npy").symlink_to(target)
    with pytest.raises(UserError, match=r"sub-x_AAL\.npy is a link that leads out"):
        build_manifest(entry_of(str(folder)), root=tmp_path)


def test_links_in_a_circle_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "series" / "a.npy").symlink_to("b.npy")
    (folder / "series" / "b.npy").symlink_to("a.npy")
    with pytest.raises(UserError, match=r"a\.npy is a link that leads nowhere or in a circle.* Mend: ") as caught:
        build_manifest(entry_of(str(folder)), root=tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_link_inside_the_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    # As git-annex and DataLad keep files.
    (folder / ".git").mkdir()
    main = min(folder.glob("series/*AAL*"))
    digest = sha256_of(main)
    main.rename(folder / ".git" / "object")
    main.symlink_to(os.path.relpath(folder / ".git" / "object", main.parent))
    manifest = build_manifest(entry_of(str(folder)), root=tmp_path)
    assert manifest.by_path[f"series/{main.name}"].digest == f"sha256:{digest}"


def test_file_that_is_not_there_behind_its_link_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "series" / "sub-x_AAL.npy").symlink_to("not-fetched")
    with pytest.raises(UserError, match=r"sub-x_AAL\.npy: No such file"):
        build_manifest(entry_of(str(folder)), root=tmp_path)


@pytest.mark.parametrize("name", ["sub-x_AAL\n.npy", "sub-x\\_AAL.npy"])
def test_hostile_name_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "series" / name).write_bytes(b"1")
    with pytest.raises(UserError, match="not a plain relative path"):
        build_manifest(entry_of(str(folder)), root=tmp_path)
