"""CRCNS: a login form in front of real Neurosuite recordings laid out as hc-3."""

from __future__ import annotations

import hashlib
import logging
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurofm.catalog import CrcnsSource
from neurofm.errors import UserError
from neurofm.fetch import FetchSummary, fetch_files
from neurofm.fetch.ask import Ask
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.ledger import DatasetKey, Ledger
from neurofm.recording.manifest import FIRST_USE
from neurofm.sources import crcns
from neurofm.sources.listing import Listing
from tests.servers.crcns import CrcnsServer, crcns_server, lay_out_hc3

SESSION = "A2929/A2929-200711.tar.gz"
TABLES = "hc3-metadata-tables"


@pytest.fixture
def session(shared_data: Path) -> Path:
    """Folder of a real session in Neurosuite's files."""
    return shared_data / "ephys" / "neurosuite_A2929-200711"


@pytest.fixture
def server(tmp_path: Path, session: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CrcnsServer]:
    lay_out_hc3(session, tmp_path / "archive", checksums=True)
    with crcns_server(tmp_path / "archive") as running:
        log_in(monkeypatch, running.username, running.password)
        monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
        yield running


def log_in(monkeypatch: pytest.MonkeyPatch, username: str, password: str) -> None:
    for name, value in (("CRCNS_USERNAME", username), ("CRCNS_PASSWORD", password)):
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)


def site_of(server: CrcnsServer) -> FetchSite:
    return FetchSite(hosts=Hosts(crcns=server.url), attempts=3, longest_pause_s=0.01)


def listing_of(server: CrcnsServer, **source: Any) -> Listing:
    settings = {"archive": "crcns", "dataset": "hc-3", "version": "2014", **source}
    with Ask(site_of(server)) as ask:
        return crcns.list_files(CrcnsSource.parse(settings, where="test", mend=""), ask=ask, work=Path())


def fetch(server: CrcnsServer, listing: Listing, home: Path) -> FetchSummary:
    who = DatasetKey(dataset="crcns-hc-3", archive="crcns", version=listing.version)
    with Ledger.open(home / "ledger.sqlite") as ledger:
        return fetch_files(
            listing.files,
            who=who,
            folder=home / "raw",
            ledger=ledger,
            site=site_of(server),
            work=home / ".neurofm",
            title="fetch crcns-hc-3",
        )


def archive_of(server: CrcnsServer) -> Path:
    return server.root / "hc-3" / SESSION


def test_never_fixed_by_its_version() -> None:
    assert not crcns.is_fixed(CrcnsSource(archive="crcns", dataset="hc-3", version="2014"))


def test_lists_with_the_archives_own_checksums(server: CrcnsServer) -> None:
    listing = listing_of(server, include=["*/*.tar.gz", f"{TABLES}/*.csv"])
    assert [file.path for file in listing.files] == [
        SESSION,
        f"{TABLES}/hc3-files.csv",
        f"{TABLES}/hc3-session.csv",
    ]
    for file in listing.files:
        content = (server.root / "hc-3" / file.path).read_bytes()
        assert (file.size, file.digest) == (len(content), f"md5:{hashlib.md5(content).hexdigest()}")
        assert file.origin == f"crcns://hc-3/{file.path}"
    assert (listing.source_id, listing.version) == ("hc-3", "2014")


def test_without_checksums_the_first_fetch_takes_them(server: CrcnsServer) -> None:
    (server.root / "hc-3" / "checksums.md5").unlink()
    assert {file.digest for file in listing_of(server).files} == {FIRST_USE}


def test_only_folders_that_the_globs_need_are_asked_for(server: CrcnsServer) -> None:
    listing_of(server, include=[f"{TABLES}/*.csv"])
    assert server.asked == ["hc-3", "hc-3/checksums.md5", f"hc-3/{TABLES}"]


@pytest.mark.parametrize(
    ("folder", "include", "expected"),
    [
        ("ec013.15", ("ec013.*/*.tar.gz",), True),
        ("ec013.15", ("*.csv",), False),
        ("ec013.15", ("**",), True),
        ("ec013.15", ("hc3-*/**", "ec*/a/b"), True),
        ("ec013.15/deep", ("ec013.*/*.tar.gz",), False),
        ("data", ("{data/a,b}/**",), True),
        ("README", ("README",), True),
    ],
)
def test_which_folders_a_glob_reaches(folder: str, include: tuple[str, ...], expected: bool) -> None:  # noqa: FBT001
    assert crcns._may_hold(folder, include) is expected


def test_rounded_sizes_are_made_exact_without_the_bytes(server: CrcnsServer) -> None:
    server.sizes = "rounded"
    big = archive_of(server).with_name("big.tar.gz")
    big.write_bytes(archive_of(server).read_bytes() * 40)  # 20 MB: more than loopback's buffers swallow
    listing = listing_of(server, include=["*/*.tar.gz"])
    assert {file.path: file.size for file in listing.files} == {
        SESSION: archive_of(server).stat().st_size,
        "A2929/big.tar.gz": big.stat().st_size,
    }
    # The server counts once it has noticed that nobody listens any more.
    until = time.monotonic() + 30
    while "hc-3/A2929/big.tar.gz" not in server.sent and time.monotonic() < until:
        time.sleep(0.01)
    assert server.sent["hc-3/A2929/big.tar.gz"] < big.stat().st_size


def test_files_listed_without_a_size_are_told_from_folders(server: CrcnsServer) -> None:
    server.sizes = "none"
    (file,) = listing_of(server, include=["*/*.tar.gz"]).files
    assert (file.path, file.size) == (SESSION, archive_of(server).stat().st_size)


def test_size_that_nobody_tells_is_said(server: CrcnsServer) -> None:
    server.sizes, server.announces_length = "rounded", False
    with pytest.raises(UserError, match=f"does not tell the exact size of hc-3/{SESSION}"):
        listing_of(server, include=["*/*.tar.gz"])


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("{md5}  ./A2929/x.tar.gz", "A2929/x.tar.gz"),
        ("{md5} *A2929/x.tar.gz", "A2929/x.tar.gz"),
        ("{md5}  hc-3/A2929/x.tar.gz", "A2929/x.tar.gz"),
    ],
)
def test_spellings_of_checksums(line: str, path: str) -> None:
    md5 = "0123456789ABCDEF" * 2
    text = f"# a comment\n{line.format(md5=md5)}\n"
    assert dict(crcns._checksums(text, folder="", dataset="hc-3")) == {path: md5.lower()}
    inner = dict(crcns._checksums(f"{md5}  x.tar.gz\n", folder="A2929", dataset="hc-3"))
    assert inner == {"A2929/x.tar.gz": md5.lower()}


def test_login_is_asked_for_by_name(server: CrcnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch, "", "")
    with pytest.raises(UserError, match="set CRCNS_USERNAME and CRCNS_PASSWORD"):
        listing_of(server)
    log_in(monkeypatch, server.username, "")
    with pytest.raises(UserError, match="set CRCNS_PASSWORD"):
        listing_of(server)


def test_login_may_come_from_netrc(server: CrcnsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server.password = "from-netrc"
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine crcns.org login {server.username} password from-netrc\n")
    netrc.chmod(0o600)
    log_in(monkeypatch, "", "")
    monkeypatch.setenv("NETRC", str(netrc))
    assert listing_of(server).files


def test_refused_login_comes_as_a_page_and_is_understood(server: CrcnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(monkeypatch, server.username, "wrong-and-secret")
    with pytest.raises(UserError, match=r"refuses the login.*CRCNS_USERNAME and CRCNS_PASSWORD") as error:
        listing_of(server)
    assert "wrong-and-secret" not in str(error.value)


def test_busy_archive_is_asked_again(server: CrcnsServer) -> None:
    server.faults = [503, 429]
    assert listing_of(server).files
    server.faults = [503] * 3
    with pytest.raises(UserError, match=r"no answer after 3 attempts \(HTTP 503\)"):
        listing_of(server)


def test_password_is_not_sent_on(server: CrcnsServer, session: Path, tmp_path: Path) -> None:
    lay_out_hc3(session, tmp_path / "other", checksums=False)
    with crcns_server(tmp_path / "other") as other:
        server.redirect = other.url
        with pytest.raises(UserError, match="HTTP 307"):
            listing_of(server)
        assert other.asked == []
        assert other.most_at_once == 0


@pytest.mark.parametrize("dataset", ["hc-99", "pfc-5"])
def test_unknown_set_is_said(server: CrcnsServer, dataset: str) -> None:
    with pytest.raises(UserError, match=f"lists nothing in {dataset}"):
        listing_of(server, dataset=dataset)


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a%0Ab"])
def test_hostile_names_are_refused(server: CrcnsServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    page = f'<h3>Contents of hc-3</h3><a href="/project/crcns/download/hc-3/{name}">x</a> (5)'
    monkeypatch.setattr(CrcnsServer, "page", lambda *_: page)
    with pytest.raises(UserError, match="hostile path"):
        listing_of(server)


def test_folders_without_end_are_not_followed(server: CrcnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    deeper = '<a href="/project/crcns/download/{fn}/again">again</a> <a href="/x/{fn}/file">file</a> (3)'
    monkeypatch.setattr(CrcnsServer, "page", lambda _, fn, __: deeper.format(fn=fn))
    (server.root / "hc-3" / "/".join(["again"] * 30)).mkdir(parents=True)
    assert 1 < len(listing_of(server).files) < 30


def test_offline_nobody_is_asked(server: CrcnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROFM_OFFLINE", "1")
    with pytest.raises(UserError, match="this run is offline"):
        listing_of(server)
    assert server.asked == []


def test_fetched_session_is_the_real_one(
    server: CrcnsServer, session: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    listing = listing_of(server)
    summary = fetch(server, listing, tmp_path / "home")
    assert (summary.failed, summary.quarantined) == ({}, {})
    assert server.most_at_once == 1

    with tarfile.open(tmp_path / "home" / "raw" / SESSION) as tar:
        names = [member.name for member in tar if member.isfile()]
        assert "A2929-200711/A2929-200711.res.1" in names
        for name in names:
            packed = tar.extractfile(name)
            assert packed is not None
            assert packed.read() == (session / Path(name).name).read_bytes()

    asked = len(server.asked)
    again = fetch(server, listing, tmp_path / "home")
    assert (again.fetched_files, len(server.asked)) == (0, asked)

    kept = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    said = caplog.text + repr(listing) + repr(summary)
    assert server.password not in said
    assert server.password.encode() not in kept


def test_first_use_is_held_to_later(server: CrcnsServer, tmp_path: Path) -> None:
    (server.root / "hc-3" / "checksums.md5").unlink()
    listing = listing_of(server, include=["*/*.tar.gz"])
    home = tmp_path / "home"
    assert fetch(server, listing, home).failed == {}
    content = archive_of(server).read_bytes()
    with Ledger.open(home / "ledger.sqlite") as ledger:
        (row,) = ledger.rows("crcns-hc-3")
    assert row.sha256 == hashlib.sha256(content).hexdigest()

    (home / "raw" / SESSION).unlink()
    archive_of(server).write_bytes(content[:-1] + b"X")  # as long, and not the same
    summary = fetch(server, listing, home)
    assert list(summary.quarantined) == [SESSION]
    assert not (home / "raw" / SESSION).exists()


def test_login_that_ends_between_listing_and_fetch_is_no_data(
    server: CrcnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = listing_of(server, include=["*/*.tar.gz"])
    log_in(monkeypatch, server.username, "changed")
    with pytest.raises(UserError, match="CRCNS_PASSWORD"):
        fetch(server, listing, tmp_path / "home")
    assert not (tmp_path / "home" / "raw" / SESSION).exists()
