"""Faults between here and a real S3 server: cuts, overwritten objects, turned bytes, addresses that ran out."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.ledger import FileState
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import digest_in_groups
from tests.servers import http_files
from tests.servers.fixtures import (  # noqa: F401  # fixtures are found by their names
    PATIENCE,
    Fetching,
    edf_fixture,
    files_fixture,
    nwb_fixture,
    s3_fixture,
    s3_site_fixture,
    sha256,
    uncollected_fixture,
    wanted,
)
from tests.servers.http_files import FileServer, Page
from tests.servers.proxy import Exchange, Fault, Proxy, in_turn
from tests.servers.seaweed import SeaweedServer

HALF = 400_000
XML = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>'


@pytest.mark.parametrize("how", ["cut", "end"])
def test_twenty_cuts_cost_next_to_nothing(
    s3: SeaweedServer,
    s3_site: FetchSite,
    nwb: bytes,
    tmp_path: Path,
    how: str,
) -> None:
    bucket = f"cuts-{how}"
    s3.make_bucket(bucket, versioned=True)
    stored = s3.put_parts(bucket, "sub-01/session.nwb", nwb)
    assert stored.etag.endswith("-2")
    file = ManifestFile(
        path="sub-01/session.nwb",
        size=stored.size,
        digest=f"s3-etag:{stored.etag}",
        origin=stored.origin,
        version_id=stored.version_id,
    )
    draw = random.Random(7)
    most = len(nwb) // 20
    faults = [
        Fault(cut_after=after) if how == "cut" else Fault(end_after=after)
        for after in (draw.randrange(1, most) for _ in range(20))
    ]
    with Proxy(s3.address) as proxy:
        proxy.script = in_turn(faults)
        here = Fetching(home=tmp_path, site=_by(s3_site, proxy.url))
        summary = here.fetch([file], attempts=30)
        assert summary.failed == {}
        assert here.present() == {"sub-01/session.nwb": nwb}
        assert proxy.body_bytes() <= 1.01 * len(nwb)
        assert proxy.requests() == 21


def test_the_pinned_version_is_fetched_although_it_was_overwritten(
    s3: SeaweedServer,
    s3_site: FetchSite,
    edf: bytes,
    tmp_path: Path,
) -> None:
    """Overwritten between two tries: an address with its version goes on with the old one."""
    s3.make_bucket("versions", versioned=True)
    old = s3.put("versions", "eeg.edf", edf)
    file = ManifestFile(
        path="eeg.edf", size=old.size, digest=f"s3-etag:{old.etag}", origin=old.origin, version_id=old.version_id
    )

    def overwrite(exchange: Exchange) -> Fault | None:
        if proxy.requests() > 1:
            return None
        s3.put("versions", "eeg.edf", b"new" + edf)
        return Fault(cut_after=HALF)

    with Proxy(s3.address) as proxy:
        proxy.script = overwrite
        here = Fetching(home=tmp_path, site=_by(s3_site, proxy.url))
        here.fetch([file])
        assert here.present() == {"eeg.edf": edf}
        assert proxy.body_bytes() <= 1.01 * len(edf)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("signed", [False, True])
def test_groups_of_the_pinned_version_come_although_it_was_overwritten(
    *, s3: SeaweedServer, nwb: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: bool
) -> None:
    bucket = f"groups-{signed}".lower()
    s3.make_bucket(bucket, versioned=True)
    old = s3.put(bucket, "session.nwb", nwb)
    s3.put(bucket, "session.nwb", b"new" + nwb)
    digest = digest_in_groups(f"s3-etag:{old.etag}", ["units"])
    file = ManifestFile(path="session.nwb", size=old.size, digest=digest, origin=old.origin, version_id=old.version_id)
    for name, value in (s3.environment if signed else {}).items():
        monkeypatch.setenv(name, value)
    with Proxy(s3.address) as proxy:
        proxy.script = in_turn([Fault(cut_after=1000), Fault(cut_after=1000)])
        place = s3.place(url=proxy.url, signed=signed)
        here = Fetching(home=tmp_path, site=PATIENCE.model_copy(update={"hosts": Hosts(buckets={bucket: place})}))
        assert here.fetch([file]).failed == {}
        assert proxy.body_bytes() < 0.7 * len(nwb)
    with h5py.File(io.BytesIO(nwb)) as whole, h5py.File(here.raw / "session.nwb") as part:
        np.testing.assert_array_equal(part["units/spike_times"][()], whole["units/spike_times"][()])


def test_an_object_that_was_overwritten_is_not_mixed(
    s3: SeaweedServer,
    s3_site: FetchSite,
    edf: bytes,
    tmp_path: Path,
) -> None:
    """Without versions; SeaweedFS does not know If-Range, so that only the ETag of its 206 tells."""
    s3.make_bucket("plain")
    s3.put("plain", "eeg.edf", edf[5_000:])
    file = wanted("s3://plain/eeg.edf", edf)

    def overwrite(exchange: Exchange) -> Fault | None:
        if proxy.requests() > 1:
            return None
        return Fault(cut_after=HALF)

    with Proxy(s3.address) as proxy:
        proxy.script = overwrite
        here = Fetching(home=tmp_path, site=_by(s3_site, proxy.url))
        failed = here.fetch([file], attempts=1)
        assert set(failed.failed) == {"eeg.edf"}
        s3.put("plain", "eeg.edf", edf)
        here.fetch([file])
        assert here.present() == {"eeg.edf": edf}


def test_a_byte_that_turns_on_the_way_is_noticed(
    s3: SeaweedServer,
    s3_site: FetchSite,
    nwb: bytes,
    tmp_path: Path,
) -> None:
    s3.make_bucket("turned")
    stored = s3.put_parts("turned", "session.nwb", nwb)
    file = ManifestFile(path="session.nwb", size=stored.size, digest=f"s3-etag:{stored.etag}", origin=stored.origin)
    with Proxy(s3.address) as proxy:
        proxy.script = in_turn([Fault(corrupt_at=6_000_000)])
        here = Fetching(home=tmp_path, site=_by(s3_site, proxy.url))
        here.fetch([file])
        assert here.present() == {"session.nwb": nwb}
        assert proxy.requests() == 2


def test_a_stalled_and_a_slow_connection_are_told_apart(
    s3: SeaweedServer,
    s3_site: FetchSite,
    edf: bytes,
    tmp_path: Path,
) -> None:
    s3.make_bucket("slow")
    s3.put("slow", "eeg.edf", edf)
    with Proxy(s3.address) as proxy:
        proxy.script = in_turn([Fault(stall_after=HALF), Fault(delay_s=0.3)])
        here = Fetching(home=tmp_path, site=_by(s3_site, proxy.url))
        here.fetch([wanted("s3://slow/eeg.edf", edf)])
        assert here.present() == {"eeg.edf": edf}
        assert proxy.requests() == 2
        assert proxy.body_bytes() == len(edf)


def test_a_server_that_is_away_for_a_while(
    s3: SeaweedServer,
    s3_site: FetchSite,
    edf: bytes,
    tmp_path: Path,
) -> None:
    """Connections are refused: the file fails, is asked for by the next run, and comes."""
    s3.make_bucket("away")
    s3.put("away", "eeg.edf", edf)
    file = wanted("s3://away/eeg.edf", edf)
    with Proxy(s3.address) as proxy:
        nobody = proxy.url
    here = Fetching(home=tmp_path, site=_by(s3_site, nobody))
    summary = here.fetch([file])
    assert set(summary.failed) == {"eeg.edf"}
    assert here.states() == {"eeg.edf": FileState.FAILED}
    back = Fetching(home=tmp_path, site=s3_site)
    assert back.fetch([file]).fetched_files == 1
    assert back.present() == {"eeg.edf": edf}


def test_an_address_that_ran_out_between_tries_is_minted_anew(
    files: FileServer,
    s3: SeaweedServer,
    edf: bytes,
    tmp_path: Path,
) -> None:
    """OpenNeuro's GraphQL gives addresses that S3 believes for a while; the first ones here have run out already."""
    s3.make_bucket("private", versioned=True)
    names = [f"sub-{number:02}_eeg.edf" for number in range(5)]
    contents = {name: edf[number:] for number, name in enumerate(names)}
    s3.put_files("private", contents)
    mints: list[int] = []

    def graphql(request: object) -> Page:
        seconds = 600 if mints else -10
        mints.append(seconds)
        return Page(
            kind="application/json", body=_snapshot(names, lambda name: s3.presigned("private", name, seconds=seconds))
        )

    files.route = graphql
    here = _openneuro(tmp_path, files)
    summary = here.fetch([_minted(name, content) for name, content in contents.items()])
    assert (summary.failed, summary.quarantined) == ({}, {})
    assert here.present() == contents
    assert mints == [-10, 600]


def test_an_address_that_runs_out_in_the_middle_goes_on_where_it_was(
    files: FileServer,
    edf: bytes,
    tmp_path: Path,
) -> None:
    files.files = {"/eeg.edf": edf}
    minted = 0

    def route(request: object) -> str | Page:
        nonlocal minted
        path = getattr(request, "path", "")
        if path == "/crn/graphql":
            minted += 1
            return Page(
                kind="application/json",
                body=_snapshot(["eeg.edf"], lambda _: f"{files.url}/eeg.edf?signature={minted}"),
            )
        signed = getattr(request, "query", {}).get("signature")
        return Page(status=403, kind="application/xml", body=XML) if signed == "1" and files.sent else path

    files.route = route
    files.script["/eeg.edf"] = [http_files.Fault(stop_at=HALF)]
    here = _openneuro(tmp_path, files)
    here.fetch([_minted("eeg.edf", edf)])
    assert here.present() == {"eeg.edf": edf}
    assert minted == 2
    assert files.sent["/eeg.edf"] <= 1.01 * len(edf)


def test_an_address_that_is_refused_however_often_it_is_minted(
    files: FileServer,
    edf: bytes,
    tmp_path: Path,
) -> None:
    minted = 0

    def route(request: object) -> Page:
        nonlocal minted
        if getattr(request, "path", "") != "/crn/graphql":
            return Page(status=403, kind="application/xml", body=XML)
        minted += 1
        return Page(
            kind="application/json", body=_snapshot(["eeg.edf"], lambda _: f"{files.url}/eeg.edf?signature={minted}")
        )

    files.route = route
    here = _openneuro(tmp_path, files)
    summary = here.fetch([_minted("eeg.edf", edf)])
    assert set(summary.quarantined) == {"eeg.edf"}
    assert minted <= 3


def _snapshot(names: list[str], url: Callable[[str], str]) -> bytes:
    found = [{"filename": name, "urls": [url(name)]} for name in names]
    return json.dumps({"data": {"snapshot": {"files": found}}}).encode()


def _minted(name: str, content: bytes) -> ManifestFile:
    return ManifestFile(
        path=name, size=len(content), digest=sha256(content), origin=f"openneuro://ds000001/1.0.0/{name}"
    )


def _openneuro(home: Path, server: FileServer) -> Fetching:
    here = Fetching(home=home)
    hosts = here.site.hosts.model_copy(update={"openneuro_graphql": f"{server.url}/crn/graphql"})
    here.site = here.site.model_copy(update={"hosts": hosts})
    return here


def _by(site: FetchSite, url: str) -> FetchSite:
    """Reach every bucket by a proxy."""
    return site.model_copy(update={"hosts": site.hosts.model_copy(update={"s3": url})})
