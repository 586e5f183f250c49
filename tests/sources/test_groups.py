"""`source.groups` of an entry: where it is taken, what it makes of a manifest, and a dandiset fetched with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.fetch import FetchSite, fetch_dataset
from neurofm.fetch.hosts import Hosts, S3Place
from neurofm.recording.manifest import groups_of
from neurofm.sources import build_manifest
from tests.servers.dandi import BUCKET, Asset, Dandiset, dandi_server
from tests.servers.fixtures import uncollected_fixture  # noqa: F401  # fixtures are found by their names

DIGEST = "sha256:" + "1" * 64
VERSION = "0.240827.1809"
NWB = "sub-A2929/sub-A2929_ses-200711_behavior+ecephys.nwb"


def entry_of(source: dict[str, Any]) -> CatalogEntry:
    facts = {
        "id": "lab",
        "title": "sessions",
        "modality": "spikes",
        "reader": "nwb",
        "source": source,
        "recordings": {"pattern": "sub-(?P<subject>[^/_]+)[/_].*", "extra": "table.tsv"},
        "subject_namespace": "lab",
        "species": "Mus musculus",
        "licence": "CC-BY-4.0",
        "redistribute": True,
        "citation": "Us 2026",
    }
    return CatalogEntry.parse(facts, where="lab.yaml", mend="-")


def http(*paths: str, digest: str = DIGEST, **more: Any) -> dict[str, Any]:
    files = [{"url": f"https://lab.example/{path}", "path": path, "size": 9, "digest": digest} for path in paths]
    return {"archive": "http", "version": "1", "files": files, **more}


def test_hdf5_files_are_limited_and_others_stay_whole(tmp_path: Path) -> None:
    source = http("sub-1/a.nwb", "sub-2/b.H5", "table.tsv", groups=["units", "intervals", "units"])
    digests = {file.path: file.digest for file in build_manifest(entry_of(source), root=tmp_path).files}
    limited = f"groups:intervals,units@{DIGEST}"
    assert digests == {"sub-1/a.nwb": limited, "sub-2/b.H5": limited, "table.tsv": DIGEST}
    assert groups_of(limited) == ("intervals", "units")
    assert groups_of(DIGEST) == ()


def test_without_the_key_a_manifest_is_as_it_was(tmp_path: Path) -> None:
    for entry in (entry_of(http("sub-1/a.nwb")), entry_of(http("sub-1/a.nwb", groups=[]))):
        (file,) = build_manifest(entry, root=tmp_path).files
        assert file.digest == DIGEST


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (http("sub-1/a.edf", groups=["units"]), "is for HDF5 files, and none of the files ends in .nwb, .h5, .hdf5"),
        (http("sub-1/a.nwb", digest="first-use", groups=["units"]), "needs a published digest to know sub-1/a.nwb by"),
    ],
)
def test_what_cannot_be_had_in_groups_is_said_before_anything_comes(
    tmp_path: Path, source: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        build_manifest(entry_of(source), root=tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        {"archive": "local", "path": "somewhere", "groups": ["units"]},
        {"archive": "crcns", "dataset": "hc-3", "version": "listed", "groups": ["units"]},
    ],
)
def test_sources_that_come_whole_refuse_the_key(source: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"lab\.yaml: `source\.\w+\.groups`: unknown key\."):
        entry_of(source)


@pytest.mark.parametrize("group", ["", "/units", "units/", "../units", "a,b", "a@b", "units\n", ".", "a//b"])
def test_what_is_no_path_of_a_group_is_refused(group: str) -> None:
    with pytest.raises(UserError, match=r"source\.http\.groups\.0"):
        entry_of(http("sub-1/a.nwb", groups=[group]))


def test_groups_in_a_digest_are_no_digest_of_a_file() -> None:
    with pytest.raises(UserError, match=r"files\.0\.digest"):
        entry_of(http("sub-1/a.nwb", digest=f"groups:units@{DIGEST}"))


@pytest.mark.usefixtures("uncollected")
def test_a_dandiset_is_fetched_by_the_groups_that_are_wanted(shared_data: Path, tmp_path: Path) -> None:
    session = shared_data / "ephys" / "neurosuite_A2929-200711" / "A2929-200711.nwb"
    assets = [Asset(path=NWB, source=session)]
    dandiset = Dandiset(id="000728", versions={"draft": assets, VERSION: assets})
    source = {"archive": "dandi", "dandiset": "000728", "version": VERSION, "groups": ["units"]}
    entry = entry_of(source)
    with dandi_server([dandiset], page_size=2) as server:
        hosts = Hosts(dandi_api=server.api, buckets={BUCKET: S3Place(endpoint=server.store)})
        site = FetchSite(hosts=hosts, attempts=2, longest_pause_s=0.0)
        manifest = build_manifest(entry, root=tmp_path, site=site)
        summary = fetch_dataset(entry, manifest, raw=tmp_path / "raw", work=tmp_path / "work", site=site)
    assert (summary.fetched_files, summary.quarantined) == (1, {})
    assert summary.fetched_bytes < session.stat().st_size
    with h5py.File(session) as whole, h5py.File(tmp_path / "raw" / NWB) as part:
        np.testing.assert_array_equal(part["units/spike_times"][()], whole["units/spike_times"][()])
