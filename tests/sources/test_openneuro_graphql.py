"""OpenNeuro by its GraphQL interface where the git mirror cannot be had, with the official client as the judge."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from neurofm.catalog import LATEST
from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite, Hosts, S3Place
from neurofm.sources.annex import Place
from neurofm.sources.listing import Listing
from neurofm.sources.openneuro_graphql import public_place
from tests.servers.clients import client_python
from tests.servers.openneuro import OpenNeuroServer, openneuro_server
from tests.servers.openneuro_archive import FILM, HBN, REST, Archive, contents, fetched, hbn_archive, listing_of

_CLIENT = """
import sys
import openneuro._download as client

url, accession, tag, folder = sys.argv[1:]
client.gql_url = url
client.download(dataset=accession, tag=tag, target_dir=folder, max_retries=0)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Archive]:
    with hbn_archive(tmp_path_factory.mktemp("openneuro"), shared_data=shared_data) as running:
        yield running


@pytest.fixture
def server(archive: Archive) -> Iterator[OpenNeuroServer]:
    with openneuro_server(archive.host, s3=archive.server.url) as running:
        yield running


@pytest.fixture
def site(archive: Archive, server: OpenNeuroServer, tmp_path: Path) -> FetchSite:
    """A site from which no git host is reached."""
    return archive.site(host=tmp_path / "nothing", graphql=server.graphql)


def essence(listing: Listing) -> list[tuple[str, int, str]]:
    return [(file.path, file.size, file.digest) for file in listing.files]


def test_both_ways_list_the_same(
    archive: Archive, server: OpenNeuroServer, site: FetchSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_git = listing_of(archive.site(), tmp_path, version="1.0.1")
    assert not server.asked
    by_question = listing_of(site, tmp_path / "b", version="1.0.1")
    assert "no git mirror" in capsys.readouterr().err
    assert len(server.asked) == 1
    assert essence(by_question) == essence(by_git)
    assert by_question.resolved == by_git.resolved
    assert by_question.version == by_git.version
    assert {name: by_git.facts[name] for name in ("licence", "doi")} == by_question.facts
    of_git = {file.path: file for file in by_git.files}
    for file in by_question.files:
        # Equal files share one key, and OpenNeuro names the object that was exported last.
        twins = {
            path
            for path, content in archive.versions["1.0.1"].items()
            if content == archive.versions["1.0.1"][file.path]
        }
        assert file.origin in {f"s3://openneuro.org/{HBN}/{path}" for path in twins}
        assert file.version_id
        if file.path.endswith((".set", ".edf")) and len(twins) == 1:
            assert (file.origin, file.version_id) == (of_git[file.path].origin, of_git[file.path].version_id)


def test_files_are_had_without_git(archive: Archive, tmp_path: Path, site: FetchSite) -> None:
    listing = listing_of(site, tmp_path, version="1.0.1", include=("sub-*/eeg/*RestingState*", "*.tsv", "sourcedata/*"))
    summary = fetched(listing.files, site=site, home=tmp_path)
    assert not summary.failed
    assert not summary.quarantined
    expected = {file.path: archive.versions["1.0.1"][file.path] for file in listing.files}
    assert contents(tmp_path / "raw") == expected
    assert FILM in expected
    assert set(REST) <= set(expected)


def test_official_client_gets_the_same_files(archive: Archive, server: OpenNeuroServer, tmp_path: Path) -> None:
    python = client_python("openneuro-py")
    folder = tmp_path / "client"
    done = subprocess.run(
        [str(python), "-I", "-c", _CLIENT, server.graphql, HBN, "1.0.1", str(folder)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OPENNEURO_SOURCE": "openneuro"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = archive.site()
    listing = listing_of(site, tmp_path, version="1.0.1")
    fetched(listing.files, site=site, home=tmp_path)
    assert contents(folder) == contents(tmp_path / "raw")
    assert contents(folder) == archive.versions["1.0.1"]


def test_latest_is_the_newest_by_version_order(archive: Archive, tmp_path: Path, site: FetchSite) -> None:
    listing = listing_of(site, tmp_path, version=LATEST, include=("CHANGES",))
    assert listing.version == "1.10.0"
    assert listing.resolved == {"commit": archive.commits["1.10.0"]}


def test_the_dropped_field_is_not_asked_for(server: OpenNeuroServer) -> None:
    query = 'query { snapshot(datasetId: "ds005505", tag: "1.0.1") { files(recursive: true) { filename key } } }'
    status, answer = server.answer({"query": query})
    assert status == 400
    assert 'Cannot query field "key"' in answer["errors"][0]["message"]


def test_a_tag_that_moved_is_refused(archive: Archive, tmp_path: Path, site: FetchSite) -> None:
    pinned = archive.commits["1.9.0"]
    with pytest.raises(UserError, match=f"{pinned} when it was pinned, and is {archive.commits['1.0.1']} now"):
        listing_of(site, tmp_path, version="1.0.1", commit=pinned)


@pytest.mark.parametrize("version", ["1.0.1", LATEST])
def test_errors_in_an_answer_are_said(server: OpenNeuroServer, site: FetchSite, tmp_path: Path, version: str) -> None:
    server.failing = "Gateway timeout\n(worker 3)"
    with pytest.raises(UserError, match=r"Gateway timeout \(worker 3\)") as caught:
        listing_of(site, tmp_path, version=version)
    assert "nothing" in str(caught.value)  # the git host, which was tried first
    assert "\n" not in str(caught.value)
    server.failing, server.private = "", {HBN}
    with pytest.raises(UserError, match="You do not have access to read this dataset"):
        listing_of(site, tmp_path, version=version)


def test_a_version_that_is_not_there(site: FetchSite, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no ds005505 7\.7\.7"):
        listing_of(site, tmp_path, version="7.7.7")


def test_nobody_is_asked_offline(server: OpenNeuroServer, tmp_path: Path, site: FetchSite) -> None:
    offline = site.model_copy(update={"offline": True})
    with pytest.raises(UserError, match="offline"):
        listing_of(offline, tmp_path, version="1.0.1")
    assert not server.asked


def test_presigned_addresses_are_not_kept(
    archive: Archive, server: OpenNeuroServer, tmp_path: Path, site: FetchSite
) -> None:
    server.presigned = lambda bucket, name, version: archive.server.presigned(
        bucket, name, seconds=60, version_id=version
    )
    listing = listing_of(site, tmp_path, version="1.0.1", include=("sub-*/eeg/*RestingState*",))
    assert [file.origin for file in listing.files] == [f"openneuro://{HBN}/1.0.1/{file.path}" for file in listing.files]
    kept = json.dumps([file.model_dump(mode="json") for file in listing.files])
    assert not any(word in kept.lower() for word in ("signature", "credential", archive.server.access_key.lower()))
    summary = fetched(listing.files, site=site, home=tmp_path)
    assert not summary.failed
    assert not summary.quarantined
    assert contents(tmp_path / "raw") == {file.path: archive.versions["1.0.1"][file.path] for file in listing.files}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda url: url.replace("versionId=", "versionId%3D"),
        lambda url: url.replace("?versionId=", "%3FversionId%3D"),
        lambda url: f"{url.partition('?')[0].replace('%', '%25')}?{url.partition('?')[2]}",
    ],
    ids=["versionId%3D", "%3FversionId%3D", "encoded-twice"],
)
def test_spoilt_addresses_are_understood(
    server: OpenNeuroServer, tmp_path: Path, spoil: object, site: FetchSite
) -> None:
    right = listing_of(site, tmp_path, version="1.0.1")
    server.spoil = spoil  # type: ignore[assignment]
    assert listing_of(site, tmp_path, version="1.0.1").files == right.files


def test_links_are_left_out(server: OpenNeuroServer, tmp_path: Path, site: FetchSite) -> None:
    link, empty = "1" * 40, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    real = server.answer

    def answer(body: dict[str, object]) -> tuple[int, dict[str, object]]:
        status, said = real(body)
        said["data"]["snapshot"]["files"] = [
            {"filename": "link", "id": link, "size": 0, "urls": []},
            {"filename": "empty", "id": empty, "size": 0, "urls": []},
            {"filename": "strange", "id": "??", "size": 7, "urls": None},
        ]
        return status, said

    server.answer = answer  # type: ignore[method-assign, assignment]
    listing = listing_of(site, tmp_path, version="1.0.1")
    assert essence(listing) == [("empty", 0, f"git-sha1:{empty}"), ("strange", 7, "first-use")]


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ({"filename": "../x", "id": "1" * 40, "size": 1}, "hostile path"),
        ({"filename": "/etc/passwd", "id": "1" * 40, "size": 1}, "hostile path"),
        ({"filename": "x", "id": "URL--http&c%%x", "size": None}, "does not tell the size of x"),
    ],
)
def test_hostile_answers_are_refused(
    server: OpenNeuroServer, tmp_path: Path, listed: dict[str, object], said: str, site: FetchSite
) -> None:
    answer = {"data": {"snapshot": {"id": f"{HBN}:1.0.1", "files": [listed]}}}
    server.answer = lambda _: (200, answer)  # type: ignore[method-assign, assignment]
    with pytest.raises(UserError, match=said):
        listing_of(site, tmp_path, version="1.0.1")


AMAZON = "https://s3.amazonaws.com/openneuro.org/ds005505"
OWN = "ds005505/sub-1/a b.set"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"{AMAZON}/sub-1/a%20b.set?versionId=v.1_", ("openneuro.org", OWN, "v.1_")),
        (f"{AMAZON}/sub-1/a%2520b.set?versionId=v", ("openneuro.org", OWN, "v")),
        (f"{AMAZON}/sub-1/a+b.set?versionId=v", ("openneuro.org", "ds005505/sub-1/a+b.set", "v")),
        (f"{AMAZON}/sub-1/a%20b.set?versionId%3Dv", ("openneuro.org", OWN, "v")),
        (f"{AMAZON}/sub-1/a%20b.set%3FversionId%3Dv", ("openneuro.org", OWN, "v")),
        (f"{AMAZON}/sub-1/a%20b.set", ("openneuro.org", OWN, "")),
        ("http://openneuro.org.s3.amazonaws.com/ds005505/sub-1/a%20b.set?versionId=v", ("openneuro.org", OWN, "v")),
        (f"https://mirror.example:8443/copy/{quote(OWN)}?versionId=v", ("openneuro.org", OWN, "v")),
        (f"{AMAZON}/old/name.set?versionId=v", ("openneuro.org", "ds005505/old/name.set", "v")),
        (f"{AMAZON}/sub-1/a%20b.set?versionId=v&X-Amz-Signature=00", None),
        ("https://openneuro.org/crn/datasets/ds005505/objects/KEY?filename=a", None),
        ("https://elsewhere.example/openneuro.org/ds005505/sub-1/a%20b.set", None),
        ("", None),
    ],
)
def test_public_addresses_become_objects(url: str, place: tuple[str, str, str] | None) -> None:
    hosts = Hosts(buckets={"openneuro.org": S3Place(endpoint="https://mirror.example:8443", bucket="copy")})
    found = public_place(url, path="sub-1/a b.set", accession="ds005505", hosts=hosts)
    expected = place and Place(bucket=place[0], name=place[1], version_id=place[2])
    assert found == expected
