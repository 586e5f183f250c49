"""Digests as the archives publish them, against the programs that make them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from neurofm.fetch.digests import dandi_part_bytes, digests_of, matches, s3_part_bytes
from neurofm.recording import FIRST_USE
from tests.servers.fixtures import s3_fixture  # noqa: F401  # a fixture
from tests.servers.seaweed import SeaweedServer

_MIB = 1 << 20


@pytest.fixture
def recording(shared_data: Path) -> Path:
    """Return a real EEG recording of a few megabytes."""
    return max((shared_data / "eeg" / "eegmat").rglob("*.edf"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    ("kind", "command"), [("sha256", "sha256sum"), ("md5", "md5sum"), ("blake2b", "b2sum"), ("s3-etag", "md5sum")]
)
def test_plain_digests_are_those_of_coreutils(recording: Path, kind: str, command: str) -> None:
    value = subprocess.run([command, recording], capture_output=True, text=True, check=True).stdout.split()[0]
    size = recording.stat().st_size
    assert matches(recording, f"{kind}:{value}", size=size)
    wrong = value[:-1] + ("0" if value[-1] != "0" else "1")
    assert not matches(recording, f"{kind}:{wrong}", size=size)
    assert not matches(recording, f"{kind}:{value}", size=size + 1)


def test_a_git_blob_is_what_git_calls_it(recording: Path) -> None:
    command = ["git", "hash-object", "--no-filters", str(recording)]
    value = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert matches(recording, f"git-sha1:{value}", size=recording.stat().st_size)


@pytest.mark.parametrize("part_mib", [5, 8])
def test_an_etag_in_parts_is_that_of_the_server(
    s3: SeaweedServer, tmp_path: Path, recording: Path, part_mib: int
) -> None:
    content = (recording.read_bytes() * 40)[: 17 * _MIB + 123]
    path = tmp_path / "large"
    path.write_bytes(content)
    bucket = f"digests-{part_mib}"
    s3.make_bucket(bucket)
    etag = s3.put_parts(bucket, "large", content, part_bytes=part_mib * _MIB).etag
    assert "-" in etag
    assert matches(path, f"s3-etag:{etag}", size=len(content))
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not matches(path, f"s3-etag:{etag}", size=len(content))


def test_dandis_parts_grow_only_where_there_would_be_too_many() -> None:
    assert dandi_part_bytes(1) == 64 * _MIB
    assert dandi_part_bytes(640_000 * _MIB) == 64 * _MIB
    assert dandi_part_bytes(640_000 * _MIB + 1) == 65 * _MIB


def test_one_part_of_dandi_is_the_md5_of_an_md5(recording: Path) -> None:
    md5 = hashlib.md5(recording.read_bytes())
    value = hashlib.md5(md5.digest()).hexdigest()
    assert matches(recording, f"dandi-etag:{value}-1", size=recording.stat().st_size)


@pytest.mark.parametrize(("mib", "parts"), [(17, 3), (17, 4), (500, 63), (1500, 2)])
def test_candidates_for_parts_give_that_many_parts(mib: int, parts: int) -> None:
    size = mib * _MIB
    for part in s3_part_bytes(size, parts):
        assert -(-size // part) == parts


def test_first_use_asks_for_size_and_gives_a_sha256(recording: Path) -> None:
    size = recording.stat().st_size
    assert matches(recording, FIRST_USE, size=size)
    assert not matches(recording, FIRST_USE, size=size - 1)
    (found,) = digests_of(recording, FIRST_USE, size=size)
    assert found.rpartition(":")[2] == hashlib.sha256(recording.read_bytes()).hexdigest()


def test_a_link_is_no_file(recording: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.edf"
    link.symlink_to(recording)
    assert not matches(link, FIRST_USE, size=recording.stat().st_size)
