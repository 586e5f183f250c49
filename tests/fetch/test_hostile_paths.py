"""Names and links that lead out of the raw folder: nothing outside is written, read or believed."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from neurofm.errors import UserError
from neurofm.fetch import FetchSummary
from neurofm.recording import ManifestFile
from neurofm.sources import read_manifest
from tests.servers.fixtures import (  # noqa: F401  # fixtures are found by their names
    Fetching,
    edf_fixture,
    fetching_fixture,
    files_fixture,
    served,
    sha256,
    wanted,
)
from tests.servers.http_files import Fault, FileServer

HOSTILE = [
    "../planted.edf",
    "sub-01/../../planted.edf",
    "/planted.edf",
    "sub-01//../../planted.edf",
    "..",
    ".",
    "",
    "sub-01/..",
    "sub-01\\..\\..\\planted.edf",
    "sub-01/\nplanted.edf",
    "sub-01/\x00planted.edf",
    "~/../planted.edf",
    "./sub-01/eeg.edf",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_manifest_with_a_hostile_path_is_refused(path: str, tmp_path: Path) -> None:
    file = {"path": path, "size": 3, "digest": sha256(b"abc"), "origin": "http://127.0.0.1/a"}
    manifest = {
        "dataset": "d",
        "archive": "http",
        "source_id": "d",
        "version": "1",
        "files": [file],
        "recordings": [],
    }
    place = tmp_path / "d.json"
    place.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="files"):
        read_manifest(place)


@pytest.mark.parametrize("path", ["../planted.edf", "sub-01/../../planted.edf", "ABSOLUTE", "sub-01/..", ".", ""])
def test_a_hostile_path_that_came_past_the_manifest_writes_nothing(
    path: str, files: FileServer, fetching: Fetching, edf: bytes, tmp_path: Path
) -> None:
    """The second lock: a manifest made in memory, without its checks."""
    files.files = {"/a.edf": edf}
    outside = tmp_path / "planted.edf"
    hostile = ManifestFile.model_construct(
        path=str(outside) if path == "ABSOLUTE" else path,
        size=len(edf),
        digest=sha256(edf),
        origin=f"{files.url}/a.edf",
        version_id="",
    )
    fetched = _fetch(fetching, [hostile])
    assert fetched is None or set(fetched.quarantined) | set(fetched.failed) == {hostile.path}
    assert not outside.exists()
    assert fetching.present() == {}
    assert edf not in [place.read_bytes() for place in tmp_path.rglob("*") if place.is_file()]


@pytest.mark.parametrize("name", [".neurofm.part", ".eeg.edf.part", ".part"])
def test_names_of_unfinished_files_do_not_collide_with_real_ones(
    name: str, files: FileServer, fetching: Fetching, edf: bytes
) -> None:
    """A dataset that has ``.eeg.edf.part`` beside ``eeg.edf`` must not have one written into the other."""
    files.files = {"/eeg.edf": edf, f"/{name}": edf[::-1]}
    files.script["/eeg.edf"] = [Fault(stop_at=100_000)]
    fetched = _fetch(fetching, served(files))
    eeg = fetching.raw / "eeg.edf"
    assert not eeg.exists() or eeg.read_bytes() == edf
    if fetched is not None and not {**fetched.quarantined, **fetched.failed}:
        assert (fetching.raw / name).read_bytes() == edf[::-1]


def test_a_folder_that_is_a_link_is_not_followed(
    files: FileServer, fetching: Fetching, edf: bytes, tmp_path: Path
) -> None:
    files.files = {"/sub-01/eeg.edf": edf, "/sub-02/eeg.edf": edf}
    outside = tmp_path / "outside"
    outside.mkdir()
    fetching.raw.mkdir()
    (fetching.raw / "sub-01").symlink_to(outside)
    fetched = _fetch(fetching, served(files))
    assert list(outside.iterdir()) == []
    _whole_or_said(fetching, fetched, "sub-01/eeg.edf", edf)


def test_a_folder_that_is_a_link_is_not_believed(
    files: FileServer, fetching: Fetching, edf: bytes, tmp_path: Path
) -> None:
    """The right bytes lie behind the link: they are not the dataset's, and can change without it."""
    files.files = {"/sub-01/eeg.edf": edf}
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "eeg.edf").write_bytes(edf)
    fetching.raw.mkdir()
    (fetching.raw / "sub-01").symlink_to(outside)
    fetched = _fetch(fetching, served(files))
    assert (outside / "eeg.edf").read_bytes() == edf
    assert fetched is None or fetched.kept_files == 0
    _whole_or_said(fetching, fetched, "sub-01/eeg.edf", edf)


@pytest.mark.parametrize("content", [b"precious", None], ids=["another file", "the right file"])
def test_a_file_that_is_a_link_is_replaced_not_written_through(
    files: FileServer, fetching: Fetching, edf: bytes, tmp_path: Path, content: bytes | None
) -> None:
    files.files = {"/eeg.edf": edf}
    precious = tmp_path / "precious"
    precious.write_bytes(content or edf)
    fetching.raw.mkdir()
    (fetching.raw / "eeg.edf").symlink_to(precious)
    fetched = _fetch(fetching, served(files))
    assert precious.read_bytes() == (content or edf)
    _whole_or_said(fetching, fetched, "eeg.edf", edf)


def test_an_unfinished_file_that_is_a_link_is_not_written_through(
    files: FileServer, fetching: Fetching, edf: bytes, tmp_path: Path
) -> None:
    files.files = {"/eeg.edf": edf, "/other.edf": edf}
    files.script["/eeg.edf"] = [Fault(stop_at=100_000)] * 8
    manifest = served(files)
    fetching.fetch(manifest, attempts=1)
    (part,) = fetching.parts()
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    part.unlink()
    part.symlink_to(precious)
    files.script.clear()
    fetched = _fetch(fetching, manifest)
    assert precious.read_bytes() == b"precious"
    _whole_or_said(fetching, fetched, "eeg.edf", edf)
    assert (fetching.raw / "other.edf").read_bytes() == edf


def test_a_link_in_the_quarantine_is_not_followed(
    files: FileServer, fetching: Fetching, edf: bytes, tmp_path: Path
) -> None:
    files.files = {"/sub-01/eeg.edf": edf}
    manifest = served(files)
    files.files["/sub-01/eeg.edf"] = b"9" + edf[1:]
    outside = tmp_path / "outside"
    outside.mkdir()
    fetching.quarantine.mkdir(parents=True)
    (fetching.quarantine / "sub-01").symlink_to(outside)
    _fetch(fetching, manifest)
    assert list(outside.iterdir()) == []
    assert fetching.present() == {}


def test_a_folder_stands_where_a_file_belongs(files: FileServer, fetching: Fetching, edf: bytes) -> None:
    files.files = {"/eeg.edf": edf, "/other.edf": edf}
    (fetching.raw / "eeg.edf" / "mine").mkdir(parents=True)
    (fetching.raw / "eeg.edf" / "mine" / "notes.txt").write_text("mine")
    fetched = _fetch(fetching, served(files))
    assert fetched is None or (fetching.raw / "other.edf").read_bytes() == edf
    if (fetching.raw / "eeg.edf").is_dir():
        assert fetched is None or "eeg.edf" in {**fetched.failed, **fetched.quarantined}
    else:
        assert (fetching.raw / "eeg.edf").read_bytes() == edf


def test_a_file_stands_where_a_folder_belongs(files: FileServer, fetching: Fetching, edf: bytes) -> None:
    files.files = {"/sub-01/eeg.edf": edf, "/other.edf": edf}
    fetching.raw.mkdir()
    (fetching.raw / "sub-01").write_text("a file")
    fetched = _fetch(fetching, served(files))
    _whole_or_said(fetching, fetched, "sub-01/eeg.edf", edf)


def test_two_files_that_cannot_lie_together(files: FileServer, fetching: Fetching, edf: bytes) -> None:
    """``a`` and ``a/b``: buckets can hold both, a disk cannot."""
    files.files = {"/a": edf, "/a/b": edf[::-1], "/other.edf": edf}
    fetched = _fetch(fetching, served(files))
    assert fetched is None or (fetching.raw / "other.edf").read_bytes() == edf
    if fetched is not None:
        assert len({**fetched.failed, **fetched.quarantined}.keys() & {"a", "a/b"}) == 1


def test_a_very_long_name_is_a_name(files: FileServer, fetching: Fetching, edf: bytes) -> None:
    """255 bytes are allowed: the unfinished file's longer name must not be in the way."""
    name = f"{'x' * 251}.edf"
    files.files = {f"/{name}": edf}
    assert fetching.fetch(served(files)).failed == {}
    assert fetching.present() == {name: edf}


def test_names_in_other_scripts_and_with_odd_characters(files: FileServer, fetching: Fetching, edf: bytes) -> None:
    names = ["sub-Zoë/eeg.edf", "sub 01/a b.edf", "100%.edf", "a+b.edf", "a#b.edf", "a?b.edf", "日本.edf", "-rf"]
    files.files = {f"/{name}": edf[number:] for number, name in enumerate(names)}
    manifest = [wanted(f"{files.url}/{quote(name)}", files.files[f"/{name}"], path=name) for name in names]
    assert fetching.fetch(manifest).fetched_files == len(names)
    assert fetching.present() == {path[1:]: content for path, content in files.files.items()}


def _fetch(fetching: Fetching, manifest: list[ManifestFile]) -> FetchSummary | None:
    """Fetch; None where the whole fetch is refused, in words."""
    try:
        return fetching.fetch(manifest)
    except UserError:
        return None


def _whole_or_said(fetching: Fetching, fetched: FetchSummary | None, path: str, content: bytes) -> None:
    """Either the plain file is there, or it was said that it is not; other files do not suffer."""
    place = fetching.raw / path
    plain = place.is_file() and not place.is_symlink() and place.resolve().is_relative_to(fetching.raw.resolve())
    if plain:
        assert place.read_bytes() == content
    else:
        assert fetched is None or path in {**fetched.failed, **fetched.quarantined}
