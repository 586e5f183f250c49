"""Each dataset of the catalogue is held to what its entry declares; a broken entry is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from neurofm.catalog import RegistrySource, load_entry
from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.readers import reader_options
from neurofm.sources import build_manifest

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = sorted(
    path.stem
    for path in (ROOT / "data" / "catalog").glob("*.yaml")
    if isinstance(load_entry(path.stem, root=ROOT).source, RegistrySource)
)


@pytest.mark.parametrize("dataset", REGISTRY)
def test_entry_makes_the_recordings_it_declares(dataset: str) -> None:
    entry = load_entry(dataset, root=ROOT)
    manifest = build_manifest(entry, root=ROOT)
    assert len({recording.subject for recording in manifest.recordings}) == entry.expect.subjects
    assert len(manifest.recordings) == entry.expect.recordings
    assert all(recording.subject.startswith(f"{entry.subject_namespace}:") for recording in manifest.recordings)
    assert entry.score or entry.score_note


@pytest.mark.parametrize("dataset", REGISTRY)
def test_entry_options_are_the_readers(dataset: str) -> None:
    entry = load_entry(dataset, root=ROOT)
    reader_options(entry.reader, entry.reader_options, where=dataset)


@pytest.mark.parametrize("dataset", REGISTRY)
def test_files_are_what_the_entry_pins(dataset: str, sample_raw: Callable[[str], Path]) -> None:
    folder = sample_raw(dataset)
    manifest = build_manifest(load_entry(dataset, root=ROOT), root=ROOT)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {file.path for file in manifest.files}
    assert {file.path: file.digest for file in manifest.files} == {
        path: f"sha256:{sha256_of(folder / path)}" for path in there
    }


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("licence: MIT\n", "", "`licence`: required key is missing"),
        ("licence: MIT\n", "licence: ''\n", "`licence`"),
        ("reader: nwb\n", "reader: nwb\nreaders: nwb\n", "`readers`: unknown key"),
        ("id: a2929-hd\n", "id: other\n", "`id` is 'other'"),
        ("size: 7200244\n", "size: 7.2 MB\n", "`source.registry.files.0.size`"),
        ("path: A2929-200711.nwb", "path: ../A2929-200711.nwb", "'../A2929-200711.nwb' is not a plain relative path"),
        ("path: A2929-200711.nwb", "path: /etc/passwd", "'/etc/passwd' is not a plain relative path"),
        ("member: pynapple-0.11.4/", "member: pynapple-0.11.4/../../", "is not a plain relative path"),
        ("(?P<session>", "(?P<session", "not a regular expression"),
        ("modality: spikes", "modality: spike", "`modality`"),
        ("archive: registry", "archive: ftp", "`source`"),
    ],
)
def test_broken_entry_is_refused_in_one_line(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = (ROOT / "data" / "catalog" / "a2929-hd.yaml").read_text()
    assert old in text
    folder = tmp_path / "data" / "catalog"
    folder.mkdir(parents=True)
    (folder / "a2929-hd.yaml").write_text(text.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_entry("a2929-hd", root=tmp_path)
    assert named in str(caught.value)
    assert "a2929-hd.yaml" in str(caught.value)


def test_missing_entry_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing-there\.yaml: no such file"):
        load_entry("nothing-there", root=tmp_path)
