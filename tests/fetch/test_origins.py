"""From an origin to the request that brings the file, and what becomes of its secrets."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite, Hosts, S3Place
from neurofm.fetch.origins import MirrorOrigin, Origins
from neurofm.fetch.request import NoRequest, Request
from neurofm.recording import ManifestFile
from tests.servers.fixtures import files_fixture  # noqa: F401  # a fixture
from tests.servers.http_files import FileServer, Page

SITE = FetchSite(
    hosts=Hosts(
        s3="http://127.0.0.1:1",
        allen_api="http://127.0.0.1:2/",
        crcns="http://127.0.0.1:3/index.php",
        buckets={"openneuro.org": S3Place(endpoint="http://127.0.0.1:4", bucket="copy")},
    )
)


@pytest.fixture(autouse=True)
def no_logins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CRCNS_USERNAME", "CRCNS_PASSWORD", "DANDI_API_KEY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def at(origin: str, *, version_id: str = "") -> ManifestFile:
    return ManifestFile(path="a", size=1, digest="first-use", origin=origin, version_id=version_id)


@pytest.mark.parametrize(
    ("origin", "version_id", "url"),
    [
        ("s3://ibl/data/a b+c.npy", "", "http://127.0.0.1:1/ibl/data/a%20b%2Bc.npy"),
        ("s3://openneuro.org/ds1/a.set", "v=1/2", "http://127.0.0.1:4/copy/ds1/a.set?versionId=v%3D1%2F2"),
        ("allen://api/v2/file/1", "", "http://127.0.0.1:2/api/v2/file/1"),
        ("allen:///api/v2/file/1", "", "http://127.0.0.1:2/api/v2/file/1"),
        ("https://zenodo.org/a?x=1", "", "https://zenodo.org/a?x=1"),
    ],
)
def test_public_files_are_asked_for_without_secrets(origin: str, version_id: str, url: str) -> None:
    request = Origins(SITE).request(at(origin, version_id=version_id))
    assert (request.url, request.form, request.has_secrets) == (url, None, False)


@pytest.mark.parametrize("origin", ["ftp://host/a", "nonsense", "http:///a", "file"])
def test_what_cannot_be_asked_for_is_said(origin: str) -> None:
    with pytest.raises(NoRequest):
        Origins(SITE).request(at(origin))


def test_netrc_serves_the_named_host_and_not_by_default(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine lab.example login me password secret\ndefault login x password y\n")
    (tmp_path / "netrc").chmod(0o600)
    basic = base64.b64encode(b"me:secret").decode()
    assert Origins(SITE).request(at("https://lab.example/a")).headers == {"Authorization": f"Basic {basic}"}
    assert not Origins(SITE).request(at("https://other.example/a")).has_secrets


def test_a_broken_netrc_is_said_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine lab.example login me pass secret\n")
    with pytest.raises(UserError, match="not readable as netrc") as caught:
        Origins(SITE).request(at("https://lab.example/a"))
    assert "secret" not in str(caught.value)


def test_requests_do_not_print_what_they_hold() -> None:
    request = Request(url="https://host/a?sig=secret", headers={"Authorization": "secret"}, form={"password": "secret"})
    assert "secret" not in repr(request)
    assert request.host == "host"


SECRETIVE = Request(
    url="https://a.example/x/y",
    headers={"Authorization": "s", "X-Amz-Date": "s", "Cookie": "s", "Accept": "*/*"},
    form={"password": "s"},
)


def test_the_same_host_gets_what_was_sent_before() -> None:
    onward = SECRETIVE.redirected("../z", keep_form=True)
    assert onward.url == "https://a.example/z"
    assert (onward.headers, onward.form) == (SECRETIVE.headers, SECRETIVE.form)


@pytest.mark.parametrize("location", ["https://b.example/z", "https://a.example:8443/z", "//b.example/z"])
def test_another_place_gets_no_secret(location: str) -> None:
    onward = SECRETIVE.redirected(location, keep_form=True)
    assert (onward.headers, onward.form, onward.has_secrets) == ({"Accept": "*/*"}, None, False)


@pytest.mark.parametrize("location", ["http://a.example/z", "ftp://a.example/z", "file:///etc/passwd"])
def test_secrets_do_not_go_in_the_clear(location: str) -> None:
    with pytest.raises(NoRequest):
        SECRETIVE.redirected(location, keep_form=True)


def test_origins_of_mirrors_are_taken_apart() -> None:
    origin = MirrorOrigin.parse("git://openneuro/ds000001@abc/sub-01/eeg/a b.json")
    assert (origin.mirror, origin.accession, origin.blob) == ("openneuro", "ds000001", "abc:sub-01/eeg/a b.json")


@pytest.mark.parametrize("origin", ["git://elsewhere/ds1@abc/a", "git://openneuro/ds1/a", "git://openneuro/ds1@abc"])
def test_other_mirrors_are_refused(origin: str) -> None:
    with pytest.raises(NoRequest):
        MirrorOrigin.parse(origin)


@pytest.fixture
def graphql(files: FileServer) -> FileServer:
    answer = b'{"data": {"snapshot": {"files": [{"filename": "a", "urls": ["http://h/a?sig=1"]}, {"filename": "b"}]}}}'
    files.route = lambda _: Page(body=answer, kind="application/json")
    return files


def test_addresses_are_minted_once_for_a_snapshot_and_anew_when_refused(graphql: FileServer) -> None:
    origins = Origins(FetchSite(hosts=Hosts(openneuro_graphql=f"{graphql.url}/crn/graphql"), attempts=1))
    file = at("openneuro://ds000001/1.0.0/a")
    assert origins.blocks(file)
    request = origins.request(file)
    assert request.url == "http://h/a?sig=1"
    origins.request(file)
    assert (origins.requests, len(graphql.asked)) == (1, 1)
    assert origins.renew(file, Request(url="http://h/a?sig=0"))  # renewed by another file already
    origins.request(file)
    assert len(graphql.asked) == 1
    assert origins.renew(file, request)
    origins.request(file)
    assert (origins.requests, len(graphql.asked)) == (2, 2)
    assert not origins.renew(at("s3://b/k"), request)


def test_a_file_without_an_address_is_said(graphql: FileServer) -> None:
    origins = Origins(FetchSite(hosts=Hosts(openneuro_graphql=graphql.url), attempts=1))
    with pytest.raises(NoRequest, match=r"ds000001 1\.0\.0"):
        origins.request(at("openneuro://ds000001/1.0.0/b"))
