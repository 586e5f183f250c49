"""Manifests on disk: read and written a file at a time, and the same as if they were not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.recording import Manifest, ManifestFile, ManifestRecording
from neurofm.sources import manifest_file, read_manifest, write_manifest

FILES = tuple(
    ManifestFile(path=path, size=size, digest="md5:" + 32 * "0", origin="s3://b/k", version_id=version_id)
    for size, (path, version_id) in enumerate([("sub-01/a } ],.set", ""), ('sub-02/"ä" {.set', "v"), ("x", "")])
)
RECORDINGS = (
    ManifestRecording(id="sub-01", subject="n:01", files={"main": "sub-01/a } ],.set"}, extra=("x",)),
    ManifestRecording(id="sub-02", subject="n:02", files={"main": 'sub-02/"ä" {.set'}, task="rest"),
)
WHOLE = Manifest(dataset="d", archive="s3", source_id="b", version='1",\n', files=FILES, recordings=RECORDINGS)
EMPTY = WHOLE.model_copy(update={"files": (), "recordings": ()})


@pytest.mark.parametrize("manifest", [WHOLE, EMPTY])
def test_layout_is_that_of_json_and_both_ways_read_the_same(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    write_manifest(manifest, path)
    content = manifest.model_dump(mode="json")
    assert path.read_text() == json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1) + "\n"
    assert manifest_file._parts_of(path) is not None
    assert read_manifest(path) == manifest
    path.write_text(json.dumps(content))
    assert manifest_file._parts_of(path) is None
    assert read_manifest(path) == manifest


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"size": 1', '"size": "1"', "files.1.size"),
        ('"size": 1', '"size": -1', "files.1.size"),
        ('"path": "x"', '"path": "../x"', "files.2.path"),
        ('"origin": "s3://b/k"', '"origin2": "s3://b/k"', "files.0.origin"),
        (' "dataset": "d",\n', "", "dataset"),
        (' "dataset": "d",\n', ' "dataset": "d",\n "more": 1,\n', "more"),
        ("\n}\n", "\n}\n{", "(whole file)"),
        ("\n}\n", "\n", "(whole file)"),
        (" ],\n", "", "(whole file)"),
        ('"id": "sub-02"', '"id": "../sub-02"', "recordings.1.id"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    write_manifest(WHOLE, path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1) if old != "\n}\n" else text.removesuffix(old) + new)
    with pytest.raises(UserError, match="neurofm run manifest --dataset d") as caught:
        read_manifest(path)
    assert f"`{key}`" in str(caught.value)


def test_bytes_that_are_no_text_are_said(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_bytes(b'{\n "dataset": "\xff\xfe"\n}\n')
    with pytest.raises(UserError, match=r"d\.json"):
        read_manifest(tmp_path / "d.json")
    with pytest.raises(UserError, match="no such file"):
        read_manifest(tmp_path / "e.json")
