"""A registry entry becomes a manifest without asking anybody."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from neurofm.catalog import CatalogEntry, RegistrySource, load_entry
from neurofm.errors import UserError
from neurofm.sources import build_manifest, read_manifest, write_manifest

ROOT = Path(__file__).resolve().parents[2]


def test_manifest_needs_no_network_and_pins_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    manifest = build_manifest(load_entry("ds205-bold", root=ROOT), root=ROOT)
    (recording,) = manifest.recordings
    main = manifest.by_path[recording.files["main"]]
    assert main.size == 11161811
    assert main.origin == (
        "pypi://nireports/26.0.0/nireports-26.0.0.tar.gz#nireports-26.0.0/nireports/tests/data/" + main.path
    )
    assert recording.files["labels"].endswith("_bold_parc.nii.gz")


def test_bids_recording_takes_its_side_files() -> None:
    (recording,) = build_manifest(load_entry("tiny-bids-eeg", root=ROOT), root=ROOT).recordings
    names = {Path(path).name for path in recording.extra}
    assert {"participants.tsv", "sub-01_ses-eeg_task-rest_eeg.eeg", "sub-01_ses-eeg_electrodes.tsv"} <= names
    assert "make_tiny_bids_dataset.py" not in names
    assert recording.files["main"] not in recording.extra


def test_manifest_file_is_canonical_and_comes_back(tmp_path: Path) -> None:
    manifest = build_manifest(load_entry("hcp-rest", root=ROOT), root=ROOT)
    write_manifest(manifest, tmp_path / "one.json")
    write_manifest(read_manifest(tmp_path / "one.json"), tmp_path / "two.json")
    content = (tmp_path / "one.json").read_bytes()
    assert content == (tmp_path / "two.json").read_bytes()
    assert content.endswith(b"}\n")
    assert content.index(b'"archive"') < content.index(b'"dataset"') < content.index(b'"version"')


@pytest.mark.parametrize(
    ("content", "said"), [(b"{}", "required key"), (b"no", "Invalid JSON"), (None, "no such file")]
)
def test_broken_manifest_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a2929-hd.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"a2929-hd\.json") as caught:
        read_manifest(path)
    assert said in str(caught.value)
    assert "neurofm run manifest --dataset a2929-hd" in str(caught.value)


def test_two_members_at_one_path_are_refused() -> None:
    entry = load_entry("a2929-hd", root=ROOT)
    assert isinstance(entry.source, RegistrySource)
    twice = entry.source.model_copy(update={"files": entry.source.files * 2})
    doubled: CatalogEntry = entry.model_copy(update={"source": twice})
    with pytest.raises(UserError, match=r"two members are put at A2929-200711\.nwb"):
        build_manifest(doubled, root=ROOT)
