"""`neurofm shards`: sizes, damage by name, and setting aside so that one recording is made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from neurofm.cli import app
from neurofm.errors import UserError
from neurofm.recording import Manifest, ManifestFile, ManifestRecording
from neurofm.shards import read_shard, write_shard
from neurofm.shards.packed import PackedShard
from neurofm.sources import write_manifest
from tests.pictures import film_of, stimulus_of
from tests.shards.film import PROVENANCE, recording_of, write_film

DATASET = "hcp-rest"
UNITS = ("sub-1", "sub-2", "sub-3")


@pytest.fixture
def shards(project: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A dataset of three shards in the project that is worked in."""
    monkeypatch.chdir(project)
    files = tuple(
        ManifestFile(path=f"{unit}.mat", size=1, digest=f"sha256:{1:064x}", origin=f"s3://b/{unit}") for unit in UNITS
    )
    recordings = tuple(ManifestRecording(id=unit, subject=f"a:{unit}", files={"main": f"{unit}.mat"}) for unit in UNITS)
    manifest = Manifest(
        dataset=DATASET, archive="registry", source_id="x", version="1", files=files, recordings=recordings
    )
    write_manifest(manifest, project / "data" / "manifests" / f"{DATASET}.json")
    paths = [Path("data") / "shards" / DATASET / f"{unit}.zarr.zip" for unit in UNITS]
    for path in paths:
        write_film(path, shared_data=shared_data)
    return paths


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["shards", *arguments])


def damage(path: Path, array: str = "signal") -> None:
    """Flip a bit in the second chunk of an array."""
    signal = PackedShard(path).array(array)
    content = bytearray(path.read_bytes())
    content[signal.offset + int(signal.index[1, 0]) + 30] ^= 1
    path.write_bytes(bytes(content))


def test_stats_say_what_zarr_says(shards: list[Path]) -> None:
    whole = read_shard(shards[0])
    hours = 3 * len(whole.stored) / whole.sampling_rate_hz / 3600
    told = typed("stats", DATASET).stdout
    line = next(line for line in told.splitlines() if line.startswith(DATASET)).split()
    assert line[1:4] == ["3", f"{hours:.2f}", "116"]
    assert f"{3 * whole.stored.nbytes / 1000:.0f} kB" in told


def test_whole_shards_are_said_to_be_whole(shards: list[Path]) -> None:
    assert typed("verify").stdout.strip() == "3 shards are whole."
    assert typed("repair").stdout.strip() == "Nothing to repair."


def test_damage_is_named_and_only_its_shard_is_set_aside(shards: list[Path]) -> None:
    damage(shards[1])
    verified = typed("verify", DATASET)
    assert verified.exit_code == 2
    assert verified.stderr.strip() == f"error: {shards[1]}: signal: chunk 1 has another checksum"
    assert "2 (1 damaged)" not in typed("stats").stdout  # its table of contents is whole
    repaired = typed("repair", DATASET)
    assert repaired.stdout.strip().endswith("Next: dvc repro")
    assert [path.exists() for path in shards] == [True, False, True]
    assert (Path(".neurofm") / "damaged" / DATASET / shards[1].name).is_file()
    assert typed("verify").exit_code == 0


def test_frames_shown_are_counted_and_their_damage_is_named(shards: list[Path], shared_data: Path) -> None:
    assert "frames" not in typed("stats").stdout
    film, recording = film_of(shared_data), recording_of(shared_data)
    assert recording.signal is not None
    seen = replace(recording, stimulus=stimulus_of(film, recording.signal.time_s))
    write_shard(seen, provenance=PROVENANCE, path=shards[0])
    told = typed("stats").stdout
    assert "frames" in told
    assert "1.2 MB" in told  # 1452 of 40 x 20
    assert typed("verify").exit_code == 0
    damage(shards[0], "stimulus/frames")
    assert typed("verify").stderr.strip() == f"error: {shards[0]}: stimulus/frames: chunk 1 has another checksum"
    typed("repair")
    assert [path.exists() for path in shards] == [False, True, True]


def test_a_cut_shard_is_counted_and_said(shards: list[Path]) -> None:
    shards[2].write_bytes(shards[2].read_bytes()[:-50])
    assert "2 (1 damaged)" in typed("stats", DATASET).stdout
    assert "sub-3.zarr.zip: not a whole shard" in typed("verify").stderr


def test_nothing_made_yet_and_an_unknown_dataset_are_one_line(shards: list[Path]) -> None:
    error = typed("verify", "nowhere").exception
    assert isinstance(error, UserError)
    assert "no dataset 'nowhere'" in str(error)
    for path in shards:
        path.unlink()
    error = typed("stats").exception
    assert isinstance(error, UserError)
    assert str(error).splitlines()[0].startswith("no shards of any dataset are here")
