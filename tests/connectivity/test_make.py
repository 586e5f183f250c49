"""The stage's work: files, exclusions, bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurofm.catalog import CatalogEntry
from neurofm.connectivity.group import Member, group_of, mean_fd, read_group
from neurofm.connectivity.make import make_connectivity
from neurofm.connectivity.makers import UNNAMED, Maker, is_fmriprep, maker_of
from neurofm.connectivity.matrices import BEFORE, CORRELATION, connect
from neurofm.connectivity.settings import ConnectivitySettings
from neurofm.recording import Step
from neurofm.shards import read_shard
from tests.connectivity.conftest import EXCLUDED, RUNS


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, entries: list[CatalogEntry], shards: Path, settings: ConnectivitySettings
) -> Path:
    root = tmp_path_factory.mktemp("made")
    build(root, entries, shards=shards, settings=settings)
    return root


def build(root: Path, entries: list[CatalogEntry], *, shards: Path, settings: ConnectivitySettings) -> None:
    make_connectivity(
        entries,
        shards=shards,
        out=root / "data" / "connectivity",
        metrics=root / "metrics" / "connectivity.json",
        settings=settings,
    )


def facts_of(root: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((root / "metrics" / "connectivity.json").read_bytes())
    return facts


def test_whatever_can_be_used_has_its_matrices(made: Path, shards: Path, settings: ConnectivitySettings) -> None:
    files = sorted((made / "data" / "connectivity" / "moved").iterdir())
    assert [file.name for file in files] == [f"sub-{n:02d}.npz" for n in range(RUNS)]
    shard = read_shard(shards / "moved" / "sub-05.zarr.zip", extra=True)
    expected = connect(shard, settings=settings, where="run")
    with np.load(files[5], allow_pickle=False) as arrays:
        assert set(arrays.files) == {"parcels", "volumes", CORRELATION, BEFORE, "partial_correlation"}
        assert tuple(arrays["parcels"]) == shard.recording.channels.id
        np.testing.assert_array_equal(arrays[BEFORE], expected.matrices[BEFORE])


def test_whatever_cannot_is_named_with_its_reason_and_stops_nothing(made: Path) -> None:
    left_out = facts_of(made)["moved"]["left_out"]
    assert set(left_out) == {"sub-90", "sub-91", "sub-92"}
    assert left_out["sub-90"] == EXCLUDED
    assert "valid volumes, connectivity needs 50" in left_out["sub-91"]
    assert "sub-92.zarr.zip: not a whole" in left_out["sub-92"]


def test_what_the_metrics_say(made: Path) -> None:
    facts = facts_of(made)
    assert set(facts) == {"moved", "plain", "empty"}
    moved, plain, empty = facts["moved"], facts["plain"], facts["empty"]
    assert (moved["recordings"], moved["subjects"], moved["parcels"]) == (RUNS, RUNS, 64)
    assert moved["median_abs_correlation_uncleaned"] > moved["median_abs_correlation"] > 0.1
    assert moved["made_by"]["fMRIPrep 25.2.5"]["recordings"] == RUNS + 2
    assert moved["qcfc"]["recordings"] == RUNS
    before, after = moved["qcfc"]["before"], moved["qcfc"]["after"]
    assert before["share_significant"]["value"] > after["share_significant"]["value"]
    assert moved["qcfc"]["change"]["ci_high"] < 0
    assert after["distance_rho"]["value"] is not None
    assert "0 recordings with framewise displacement, QC-FC needs 10" in plain["qcfc"]["why_not"]
    assert "median_abs_correlation_uncleaned" not in plain
    assert plain["made_by"] == {"not named": {"recordings": 3, "names": [], "description": ""}}
    assert empty["qcfc"] == {"why_not": "no recording has a matrix"}


def test_the_groups_file_is_the_mean_over_recordings(made: Path) -> None:
    folder = made / "data" / "connectivity"
    arrays = read_group(folder / "moved.npz")
    single = [np.load(path)[CORRELATION] for path in sorted((folder / "moved").iterdir())]
    np.testing.assert_allclose(arrays.mean[CORRELATION], np.nanmean(single, axis=0), atol=1e-6)
    assert set(arrays.qcfc) == set(arrays.null) == {CORRELATION, BEFORE}
    edges = arrays.qcfc[BEFORE]
    # Motion's trace was put into every other parcel. Each recording lacks one parcel, so that all edges are known.
    traced, free = (edges[np.ix_(some, some)] for some in (np.arange(0, 64, 2), np.arange(1, 64, 2)))
    assert np.nanmedian(traced) > np.nanmedian(free) + 0.2
    assert set(read_group(folder / "plain.npz").mean) == {CORRELATION}
    assert read_group(folder / "empty.npz").mean == {}


def test_same_bytes_again_and_nothing_stale(
    made: Path, tmp_path: Path, entries: list[CatalogEntry], shards: Path, settings: ConnectivitySettings
) -> None:
    stale = tmp_path / "data" / "connectivity" / "gone" / "sub-01.npz"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"-")
    build(tmp_path, entries, shards=shards, settings=settings)
    files = [path.relative_to(made) for path in sorted(made.rglob("*")) if path.is_file()]
    assert files == [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert all((made / path).read_bytes() == (tmp_path / path).read_bytes() for path in files)


def test_recordings_with_other_parcels_are_kept_apart(shards: Path, settings: ConnectivitySettings) -> None:
    members = []
    for path in sorted((shards / "plain").iterdir()):
        shard = read_shard(path, extra=True)
        members.append(Member.of(shard, connect(shard, settings=settings, where=path.name)))
    strange = replace(members[0], parcels=(*members[0].parcels[:-1], "another"))
    facts = group_of([strange, *members], settings=settings).facts()
    assert (facts["recordings"], facts["other_parcels"]) == (4, 1)


def test_why_there_is_no_qcfc(shards: Path, settings: ConnectivitySettings) -> None:
    shard = read_shard(shards / "moved" / "sub-00.zarr.zip", extra=True)
    one = Member.of(shard, connect(shard, settings=settings, where="run"))
    assert "is the same in all 12" in group_of([one] * 12, settings=settings).why_not
    blank = replace(one, after=np.full_like(one.after, np.nan))
    blanks = [replace(blank, fd_mm=0.1 * n) for n in range(12)]
    assert "no edge is known in 10 recordings" in group_of(blanks, settings=settings).why_not


def test_mean_displacement_is_what_quality_says_or_else_the_mean(shards: Path) -> None:
    recording = read_shard(shards / "moved" / "sub-01.zarr.zip").recording
    said = recording.quality["fd_mean_mm"]
    assert mean_fd(recording.quality, recording.noise) == said
    assert mean_fd({}, recording.noise) == pytest.approx(said, rel=1e-5)
    assert np.isnan(mean_fd({}, {}))


def test_only_fmriprep_is_fmriprep() -> None:
    assert is_fmriprep("fMRIPrep")
    assert not any(map(is_fmriprep, ("stand_in", "neurofm-light", "fMRIPrep-like", "fMRIPrep lookalike", "")))


def test_makers_are_the_steps_before_our_own() -> None:
    def step(name: str, **params: str) -> Step:
        return Step(name=name, version="2", params=params)

    ours = (step("parcellate", atlas="schaefer"), step("regress_confounds", strategy="simple"))
    assert maker_of((step("fMRIPrep"), *ours)) == Maker(names=("fMRIPrep",), title="fMRIPrep 2", description="")
    chain = maker_of((step("fMRIPrep", description="Robust"), step("XCP-D", description="Denoised"), *ours))
    assert (chain.title, chain.description) == ("fMRIPrep 2, then XCP-D 2", "Robust; Denoised")
    assert maker_of((step("stand_in", description="For tests"), ours[1])).names == ("stand_in",)
    assert maker_of(ours) == maker_of(ours[1:]) == maker_of(()) == UNNAMED
