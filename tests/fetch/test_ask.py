"""Small questions to an archive: patience, pages of listings, and what is no answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from neurofm.errors import UserError
from neurofm.fetch.ask import Ask, S3Object
from neurofm.fetch.hosts import FetchSite, Hosts
from tests.servers.fixtures import files_fixture, s3_fixture  # noqa: F401  # fixtures
from tests.servers.http_files import Fault, FileServer
from tests.servers.seaweed import SeaweedServer

SITE = FetchSite(attempts=3, timeout_s=2.0, longest_pause_s=0.01)


@pytest.fixture
def ask() -> Iterator[Ask]:
    with Ask(SITE) as ask:
        yield ask


@pytest.mark.parametrize("status", [408, 429, 500, 503, 522])
def test_busy_hosts_are_asked_again(ask: Ask, files: FileServer, status: int) -> None:
    files.files = {"/a": b'{"x": 1}'}
    files.script["/a"] = [Fault(status=status), Fault(stop_at=0)]
    assert ask.json(f"{files.url}/a") == {"x": 1}
    assert len(files.asked) == 3


def test_patience_ends(ask: Ask, files: FileServer) -> None:
    files.always["/a"] = Fault(status=503)
    with pytest.raises(UserError, match=r"no answer after 3 attempts \(HTTP 503\)"):
        ask.json(f"{files.url}/a")
    assert len(files.asked) == 3


@pytest.mark.parametrize(("status", "said"), [(401, "refused"), (403, "refused"), (404, "404 for /a"), (400, "400")])
def test_refusals_are_not_repeated(ask: Ask, files: FileServer, status: int, said: str) -> None:
    files.always["/a"] = Fault(status=status)
    with pytest.raises(UserError, match=said):
        ask.content(f"{files.url}/a?token=5ecret")
    assert len(files.asked) == 1


def test_a_page_is_no_json(ask: Ask, files: FileServer) -> None:
    files.files = {"/a": b"<html></html>"}
    files.kinds["/a"] = "text/html"
    with pytest.raises(UserError, match="text/html, not JSON"):
        ask.json(f"{files.url}/a")


def test_redirects_are_bounded(ask: Ask, files: FileServer) -> None:
    files.always["/a"] = Fault(status=302, headers={"Location": "/a"})
    with pytest.raises(UserError, match="no answer"):
        ask.content(f"{files.url}/a")


@pytest.mark.parametrize("how", ["site", "environment"])
def test_offline_asks_nobody(files: FileServer, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "environment":
        monkeypatch.setenv("NEUROFM_OFFLINE", "1")
    with Ask(SITE.model_copy(update={"offline": how == "site"})) as ask, pytest.raises(UserError, match="offline"):
        ask.content(f"{files.url}/a")
    assert files.asked == []


def test_a_real_bucket_is_listed_to_its_end(s3: SeaweedServer) -> None:
    s3.make_bucket("listed")
    stored = [s3.put("listed", f"sub-{number:02}/a b.edf", b"x" * number) for number in range(1, 6)]
    with Ask(SITE.model_copy(update={"hosts": Hosts(s3=s3.url)})) as ask:
        found = list(ask.objects("listed", "sub-"))
        assert found == [S3Object(key=one.key, size=one.size, etag=one.etag) for one in stored]
        assert list(ask.objects("listed", "nothing/")) == []
        assert ask.object_content("listed", "sub-03/a b.edf") == b"xxx"
        assert ask.size(f"{s3.url}/listed/sub-03/a%20b.edf") == 3


@pytest.mark.parametrize("body", [b"<html>", b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'])
def test_what_is_no_listing_is_refused(files: FileServer, body: bytes) -> None:
    files.files = {"/b": body}
    with Ask(SITE.model_copy(update={"hosts": Hosts(s3=files.url)})) as ask, pytest.raises(UserError):
        list(ask.objects("b", ""))
