"""Dandisets: versions, digests, zarr assets and embargo, against the archive's own interface and its own client."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurofm.catalog import DandiSource
from neurofm.errors import UserError
from neurofm.fetch import fetch_files
from neurofm.fetch.ask import Ask
from neurofm.fetch.digests import matches
from neurofm.fetch.hosts import FetchSite, Hosts, S3Place
from neurofm.fetch.ledger import DatasetKey, Ledger
from neurofm.recording.manifest import FIRST_USE
from neurofm.sources import dandi
from neurofm.sources.listing import Listing
from tests.servers.clients import client_python
from tests.servers.dandi import BUCKET, Asset, DandiServer, Dandiset, dandi_server

PUBLISHED = "0.240827.1809"
NWB = "sub-A2929/sub-A2929_ses-200711_behavior+ecephys.nwb"

_CLIENT = """
import json, sys
from pathlib import Path
from dandi.dandiapi import DandiAPIClient

api, dandiset, version, folder = sys.argv[1:]
listed = {}
with DandiAPIClient(api) as client:
    for asset in client.get_dandiset(dandiset, version).get_assets(order="path"):
        metadata = asset.get_raw_metadata()
        if asset.asset_type.name == "ZARR":
            for entry in asset.iterfiles():
                name = f"{asset.path}/{entry}"
                listed[name] = {"size": entry.size, "digest": f"s3-etag:{entry.digest.value}"}
            continue
        target = Path(folder) / asset.path
        target.parent.mkdir(parents=True, exist_ok=True)
        asset.download(target)
        digest = f"sha256:{metadata['digest']['dandi:sha2-256']}"
        listed[asset.path] = {"size": asset.size, "digest": digest}
print(json.dumps(listed))
"""


def recordings(shared_data: Path) -> list[Asset]:
    """Return a real session in NWB, its position table, and a Miniscope trace as a zarr."""
    ephys = shared_data / "ephys" / "neurosuite_A2929-200711"
    zarr = shared_data / "calcium" / "minian_placecell_1d"
    store = min(path for path in zarr.rglob("C.zarr") if path.is_dir())
    files = {
        file.relative_to(store).as_posix(): (hashlib.md5(file.read_bytes()).hexdigest(), file.stat().st_size)
        for file in store.rglob("*")
        if file.is_file()
    }
    return [
        Asset(path=NWB, source=ephys / "A2929-200711.nwb"),
        Asset(path="sub-A2929/epochs.csv", source=ephys / "Epoch_TS.csv"),
        Asset(path="sub-ca1/traces.zarr", source=store, checksum=dandi.zarr_checksum(files)),
    ]


@pytest.fixture
def server(shared_data: Path) -> Iterator[DandiServer]:
    assets = recordings(shared_data)
    fresh = [replace(assets[0], sha256=False), *assets[1:]]
    ripples = shared_data / "ephys" / "neurosuite_A2929-200711" / "A2929-200711.evt.py.rip"
    draft = [Asset(path="sub-A2929/ripples.evt", source=ripples)]
    secret = Dandiset(id="000999", versions={"draft": draft}, embargoed=True)
    sets = [
        Dandiset(id="000044", versions={"draft": fresh}),
        Dandiset(
            id="000728",
            versions={"draft": fresh, "0.230101.0101": assets[:1], PUBLISHED: assets},
            doi=f"10.48324/dandi.000728/{PUBLISHED}",
        ),
        secret,
    ]
    # Two items on a page, so that every listing takes several.
    with dandi_server(sets, page_size=2) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dandi.API_KEY, raising=False)


def site_of(server: DandiServer) -> FetchSite:
    hosts = Hosts(dandi_api=server.api, buckets={BUCKET: S3Place(endpoint=server.store)})
    return FetchSite(hosts=hosts, attempts=2, longest_pause_s=0.0)


def listing_of(server: DandiServer, tmp_path: Path, **source: Any) -> Listing:
    settings = DandiSource.parse({"archive": "dandi", **source}, where="test", mend="")
    with Ask(site_of(server)) as ask:
        return dandi.list_files(settings, ask=ask, work=tmp_path)


@pytest.mark.parametrize(("version", "fixed"), [(PUBLISHED, True), ("draft", False), ("latest", False)])
def test_only_a_published_version_is_fixed(version: str, fixed: bool) -> None:  # noqa: FBT001
    source = DandiSource(archive="dandi", dandiset="000728", version=version)
    assert dandi.is_fixed(source) is fixed


def test_published_version_lists_sha256_and_objects(server: DandiServer, shared_data: Path, tmp_path: Path) -> None:
    listing = listing_of(server, tmp_path, dandiset="000728", version=PUBLISHED, include=["**/*.{nwb,csv}"])
    assert [file.path for file in listing.files] == ["sub-A2929/epochs.csv", NWB]
    for file, asset in zip(listing.files, recordings(shared_data)[1::-1], strict=True):
        assert file.path == asset.path
        assert matches(asset.source, file.digest, size=file.size)
        assert file.digest.startswith("sha256:")
        assert file.origin == f"s3://{BUCKET}/{asset.key}"


def test_facts_come_from_the_version(server: DandiServer, tmp_path: Path) -> None:
    listing = listing_of(server, tmp_path, dandiset="000728", version=PUBLISHED)
    assert listing.facts == {
        "licence": "CC-BY-4.0",
        "doi": f"10.48324/dandi.000728/{PUBLISHED}",
        "species": "Mus musculus",
        "expect.subjects": 2,
    }
    some = listing_of(server, tmp_path, dandiset="000728", version=PUBLISHED, include=["**/*.nwb"])
    assert "expect.subjects" not in some.facts  # the archive counts subjects whose files the globs leave out


@pytest.mark.parametrize(("dandiset", "resolved"), [("000728", PUBLISHED), ("000044", "draft")])
def test_latest_is_written_down(server: DandiServer, tmp_path: Path, dandiset: str, resolved: str) -> None:
    assert listing_of(server, tmp_path, dandiset=dandiset, version="latest").version == resolved


def test_etag_is_demanded_where_sha256_is_not_there_yet(server: DandiServer, shared_data: Path, tmp_path: Path) -> None:
    (file,) = listing_of(server, tmp_path, dandiset="000044", version="draft", include=["**/*.nwb"]).files
    assert file.digest.startswith("dandi-etag:")
    assert matches(recordings(shared_data)[0].source, file.digest, size=file.size)


def test_zarr_is_listed_chunk_by_chunk(server: DandiServer, shared_data: Path, tmp_path: Path) -> None:
    listing = listing_of(server, tmp_path, dandiset="000728", version=PUBLISHED, include=["**/*.zarr"])
    store = recordings(shared_data)[2].source
    expected = {f"sub-ca1/traces.zarr/{file.relative_to(store)}" for file in store.rglob("*") if file.is_file()}
    assert {file.path for file in listing.files} == expected
    assert len(expected) > server.page_size  # so that it took several pages
    for file in listing.files:
        assert matches(store / file.path.removeprefix("sub-ca1/traces.zarr/"), file.digest, size=file.size)


def test_zarr_that_is_being_written_is_refused(server: DandiServer, tmp_path: Path) -> None:
    dandiset = server.dandisets["000728"]
    *others, zarr = dandiset.versions[PUBLISHED]
    stale = f"{'0' * 32}-{zarr.checksum.partition('-')[2]}"
    dandiset.versions[PUBLISHED] = [*others, replace(zarr, checksum=stale)]
    with pytest.raises(UserError, match="its files have the checksum"):
        listing_of(server, tmp_path, dandiset="000728", version=PUBLISHED)


def test_embargo_names_the_variable(server: DandiServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"000999 is under embargo.*set DANDI_API_KEY"):
        listing_of(server, tmp_path, dandiset="000999", version="draft")


def test_wrong_key_is_said_and_not_shown(server: DandiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dandi.API_KEY, "wrong-and-secret")
    with pytest.raises(UserError, match="may not read it") as error:
        listing_of(server, tmp_path, dandiset="000999", version="draft")
    assert "wrong-and-secret" not in str(error.value)


def test_embargoed_file_is_asked_for_at_the_interface(
    server: DandiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dandi.API_KEY, server.key)
    (file,) = listing_of(server, tmp_path, dandiset="000999", version="draft").files
    assert file.origin.startswith(f"{server.api}/assets/")
    assert file.origin.endswith("/download/")
    assert server.key not in file.origin


def test_key_goes_to_no_other_host(server: DandiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dandi.API_KEY, server.key)
    with dandi_server([]) as stranger:
        server.links = stranger.url  # what `next` names is not followed
        listing = listing_of(server, tmp_path, dandiset="000728", version=PUBLISHED)
        assert len(listing.files) > server.page_size
        assert stranger.requests == []
    assert {key for _, key in server.requests} == {f"token {server.key}"}


def test_version_that_changes_while_it_is_listed_is_refused(
    server: DandiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dandiset = server.dandisets["000728"]
    listed = type(server).listed

    def shrinking(self: DandiServer, asset: Asset, *, metadata: bool) -> dict[str, Any]:
        dandiset.versions["draft"] = list(dandiset.versions["draft"])[:2]
        return listed(self, asset, metadata=metadata)

    monkeypatch.setattr(type(server), "listed", shrinking)
    with pytest.raises(UserError, match="changed while it was listed"):
        listing_of(server, tmp_path, dandiset="000728", version="draft")


def test_hostile_path_is_refused(server: DandiServer, tmp_path: Path) -> None:
    dandiset = server.dandisets["000044"]
    hostile = replace(dandiset.versions["draft"][1], path="../../etc/passwd")
    dandiset.versions["draft"] = [hostile]
    with pytest.raises(UserError, match="hostile path"):
        listing_of(server, tmp_path, dandiset="000044", version="draft")


def test_unknown_version_says_so(server: DandiServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"HTTP 404 for /api/dandisets/000728/versions/0\.999999\.9999/"):
        listing_of(server, tmp_path, dandiset="000728", version="0.999999.9999")


@pytest.mark.parametrize(
    ("urls", "place"),
    [
        (["https://dandiarchive.s3.amazonaws.com/blobs/a/b/c"], "dandiarchive/blobs/a/b/c"),
        (["https://dandiarchive.s3.us-east-2.amazonaws.com/zarr/x/"], "dandiarchive/zarr/x/"),
        (["https://api.dandiarchive.org/api/assets/x/download/", "http://mirror:9000/copy/blobs/a"], "copy/blobs/a"),
        (["https://api.dandiarchive.org/api/assets/x/download/"], None),
    ],
)
def test_object_is_found_in_every_spelling(urls: list[str], place: str | None) -> None:
    assert dandi._s3_place(urls) == place


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        ({"dandi:sha2-256": "a" * 64, "dandi:dandi-etag": f"{'b' * 32}-1"}, f"sha256:{'a' * 64}"),
        ({"dandi:dandi-etag": f"{'b' * 32}-3"}, f"dandi-etag:{'b' * 32}-3"),
        ({"dandi:dandi-etag": "b" * 32}, f"s3-etag:{'b' * 32}"),
        ({}, FIRST_USE),
    ],
)
def test_strongest_digest_wins(digests: dict[str, str], expected: str) -> None:
    assert dandi._digest(digests) == expected


def test_assets_are_fetched_from_the_object_store(server: DandiServer, shared_data: Path, tmp_path: Path) -> None:
    listing = listing_of(server, tmp_path, dandiset="000044", version="draft")  # a dandi-etag, a SHA-256, and chunks
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        who = DatasetKey(dataset="hc-11", archive="dandi", version=listing.version)
        summary = fetch_files(
            listing.files,
            who=who,
            folder=tmp_path / "raw",
            ledger=ledger,
            site=site_of(server),
            work=tmp_path / "work",
            title="fetch hc-11",
        )
    assert (summary.failed, summary.quarantined) == ({}, {})
    one, two, zarr = recordings(shared_data)
    for asset in (one, two):
        assert (tmp_path / "raw" / asset.path).read_bytes() == asset.source.read_bytes()
    for name, source in zarr.zarr_files.items():
        assert (tmp_path / "raw" / zarr.path / name).read_bytes() == source.read_bytes()
    # Bytes come straight from the bucket: the interface is asked for lists only.
    assert not [path for path, _ in server.requests if "/download" in path]


def test_official_client_lists_and_downloads_the_same(server: DandiServer, shared_data: Path, tmp_path: Path) -> None:
    python = client_python("dandi")
    command = [str(python), "-c", _CLIENT, server.api, "000728", PUBLISHED, str(tmp_path / "theirs")]
    # Its settings and caches go to a home of their own; its look for a newer version stays off.
    home = {"HOME": str(tmp_path), "DANDI_NO_ET": "1", "DANDI_CACHE": "ignore", "NO_ET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | home)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = listing_of(server, tmp_path, dandiset="000728", version=PUBLISHED).files
    assert {file.path: {"size": file.size, "digest": file.digest} for file in ours} == theirs
    for asset in recordings(shared_data)[:2]:
        assert (tmp_path / "theirs" / asset.path).read_bytes() == asset.source.read_bytes()


def test_our_etag_and_zarr_checksum_are_those_of_the_official_packages(shared_data: Path) -> None:
    asset, _, zarr = recordings(shared_data)
    script = (
        "import sys; from pathlib import Path; from dandi.support.digests import get_dandietag, get_zarr_checksum;"
        "print(get_dandietag(sys.argv[1]).as_str(), get_zarr_checksum(Path(sys.argv[2])))"
    )
    command = [str(client_python("dandi")), "-c", script, str(asset.source), str(zarr.source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"NO_ET": "1"})
    etag, checksum = done.stdout.split()
    assert matches(asset.source, f"dandi-etag:{etag}", size=asset.size)
    assert checksum == zarr.checksum
