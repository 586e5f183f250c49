"""How a file is gone on with, and when it is given up: what is sent, kept and written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.fetch import crew, landing
from neurofm.fetch.endings import Endings
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.landing import Landing, Part, Unsafe, is_part_of, part_of, settle
from neurofm.fetch.ledger import FileState
from neurofm.fetch.transfer import Transfer
from neurofm.fetch.waiting import pause_s, retry_after_s
from neurofm.recording import ManifestFile
from tests.servers.fixtures import (  # noqa: F401  # fixtures are found by their names
    Fetching,
    edf_fixture,
    fetching_fixture,
    files_fixture,
    served,
    sha256,
    wanted,
)
from tests.servers.http_files import Fault, FileServer

LARGE = bytes(range(256)) * 6000  # 1.5 MB: its validator is written down as it begins


@pytest.fixture
def small_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the recordings of the tests count as large."""
    monkeypatch.setattr(landing, "SMALL_BYTES", 0)


@pytest.mark.parametrize("size", [1000, 400_000, 1_536_000])
def test_a_broken_file_is_gone_on_with_by_the_next_run(files: FileServer, fetching: Fetching, size: int) -> None:
    content = LARGE[:size]
    files.files = {"/a.bin": content}
    files.always["/a.bin"] = Fault(stop_at=size // 2)
    first = fetching.fetch(served(files), attempts=1)
    assert set(first.failed) == {"a.bin"}
    (part,) = fetching.parts()
    assert part.read_bytes() == content[: size // 2]
    row = fetching.rows()["a.bin"]
    assert (row.state, row.bytes) == (FileState.FAILED, size // 2)
    assert row.validator.startswith('"')
    files.always.clear()
    files.forget()
    second = fetching.fetch(served(files))
    assert second.fetched_bytes == size - size // 2
    (request,) = files.asked
    assert request.headers["range"] == f"bytes={size // 2}-"
    assert request.headers["if-range"] == row.validator
    assert fetching.present() == {"a.bin": content}


def test_a_versioned_address_needs_no_if_range(files: FileServer, fetching: Fetching) -> None:
    files.files = {"/b/a.bin": LARGE}
    files.script["/b/a.bin"] = [Fault(stop_at=1000)]
    file = wanted("s3://b/a.bin", LARGE).model_copy(update={"version_id": "v1"})
    fetching.fetch([file], hosts=Hosts(s3=files.url))
    assert [request.query for request in files.asked] == [{"versionId": "v1"}] * 2
    assert files.asked[1].headers["range"] == "bytes=1000-"
    assert "if-range" not in files.asked[1].headers


def test_what_a_run_needs_to_go_on_is_written_before_the_bytes(
    files: FileServer, fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.files = {"/a.bin": LARGE}
    begin = Endings.begin
    seen: list[tuple[FileState, bool, int]] = []

    def look(self: Endings, part: Part) -> None:
        begin(self, part)
        row = fetching.rows()["a.bin"]  # through a connection of its own: what another process would see
        seen.append((row.state, row.validator != "", len(fetching.parts())))

    monkeypatch.setattr(Endings, "begin", look)
    fetching.fetch(served(files))
    assert seen == [(FileState.PARTIAL, True, 0)]
    assert fetching.present() == {"a.bin": LARGE}


def test_progress_makes_up_for_tries(files: FileServer, fetching: Fetching) -> None:
    files.files = {"/a.bin": LARGE}
    files.script["/a.bin"] = [Fault(stop_at=70_000) for _ in range(15)]
    assert fetching.fetch(served(files), attempts=2).failed == {}
    assert fetching.present() == {"a.bin": LARGE}


def test_starting_over_is_no_progress(files: FileServer, fetching: Fetching) -> None:
    files.files = {"/a.bin": LARGE}
    files.always["/a.bin"] = Fault(stop_at=70_000, ignore_range=True)
    assert "tries" in fetching.fetch(served(files), attempts=3).failed["a.bin"]
    assert len(files.asked) <= 5


def test_a_dead_host_is_not_asked_for_every_file(
    files: FileServer, fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_GIVEN_UP_FILES", 5)
    files.files = {f"/{number:03}.bin": b"%d" % number for number in range(60)}
    files.always = {path: Fault(status=503) for path in files.files}
    summary = fetching.fetch(served(files), attempts=2, connections_per_host=2)
    assert len(summary.failed) == 60
    assert len(files.asked) <= 2 * (5 + 2)
    assert sum("not asked for" in reason for reason in summary.failed.values()) >= 60 - 7
    files.always.clear()
    assert fetching.fetch(served(files)).fetched_files == 60


def test_quarantined_files_are_asked_for_when_told_to(
    files: FileServer, fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.files = {"/a.bin": b"abc"}
    files.script["/a.bin"] = [Fault(status=403)]
    manifest = served(files)
    assert "403" in fetching.fetch(manifest).quarantined["a.bin"]
    assert "403" in fetching.fetch(manifest).quarantined["a.bin"]
    assert len(files.asked) == 1
    monkeypatch.setenv("NEUROFM_RETRY", f"other,{fetching.who.dataset}")
    assert fetching.fetch(manifest).fetched_files == 1


@pytest.mark.parametrize(("scheme", "most"), [("http", 1), ("other", 6)])
def test_some_archives_are_asked_one_by_one(
    files: FileServer, fetching: Fetching, monkeypatch: pytest.MonkeyPatch, scheme: str, most: int
) -> None:
    monkeypatch.setattr(crew, "_CONNECTIONS", {scheme: 1})
    files.files = {f"/{number}.bin": LARGE for number in range(6)}
    bring = Transfer.bring
    running: list[int] = [0]

    async def counted(self: Transfer, part: Part) -> None:
        running.append(running[-1] + 1)
        try:
            await bring(self, part)
        finally:
            running.append(running[-1] - 1)

    monkeypatch.setattr(Transfer, "bring", counted)
    assert fetching.fetch(served(files), connections_per_host=6).fetched_files == 6
    assert max(running) == most


def test_interrupted_work_is_kept(
    files: FileServer, fetching: Fetching, edf: bytes, small_is_small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends everything ends it for others in good order."""
    monkeypatch.delenv("CRCNS_USERNAME", raising=False)
    monkeypatch.setenv("NETRC", str(fetching.home / "none"))
    files.files = {"/a.edf": edf}
    files.always["/a.edf"] = Fault(stall_at=500_000)
    manifest = [*served(files), wanted("crcns://hc-3/b.eeg", edf)]
    with pytest.raises(UserError, match="CRCNS_USERNAME"):
        fetching.fetch(manifest, timeout_s=5.0)
    assert fetching.states().get("a.edf") == FileState.PARTIAL
    assert fetching.present() == {}


# --- The place where files come down.


@pytest.fixture
def raw(tmp_path: Path) -> Landing:
    (tmp_path / "raw").mkdir()
    return Landing(tmp_path / "raw", aside=tmp_path / "aside")


@pytest.mark.parametrize("path", ["", ".", "..", "../a", "/a", "a/../b", "a\\b", ".a.part", "sub/.a.edf.part"])
def test_places_that_are_not_for_files(raw: Landing, path: str) -> None:
    with pytest.raises(Unsafe):
        raw.target(path)


def test_links_on_the_way_are_refused_and_the_root_may_be_one(raw: Landing, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (raw.folder / "sub-01").symlink_to(tmp_path / "outside")
    with pytest.raises(Unsafe, match="link"):
        raw.target("sub-01/eeg/a.edf")
    (tmp_path / "by-link").symlink_to(raw.folder)
    assert Landing(tmp_path / "by-link", aside=raw.aside).target("a.edf") == tmp_path / "by-link" / "a.edf"


def test_unfinished_files_belong_to_known_ones(raw: Landing) -> None:
    long = "x" * 252
    name = part_of(raw.folder / long).name
    assert len(name) < 255
    assert is_part_of("sub/.a.edf.part", {"sub/a.edf"})
    assert is_part_of("sub/a.edf", {"sub/a.edf"})
    assert is_part_of(name, {long})
    assert not is_part_of("sub/.b.edf.part", {"sub/a.edf"})
    assert not is_part_of("a.edf", {"sub/a.edf"})


def parts_of(raw: Landing, contents: dict[str, bytes]) -> Iterator[Part]:
    for path, content in contents.items():
        file = ManifestFile(path=path, size=len(content), digest=sha256(content), origin="test")
        yield Part(raw.target(path), file, digest=file.digest)


def test_small_files_touch_the_disk_only_when_settled(raw: Landing) -> None:
    contents = {"sub-01/a": b"abc", "sub-01/b": b"", "c": b"defg"}
    parts = list(parts_of(raw, contents))
    for part in parts:
        part.take([contents[part.file.path]])
        assert part.is_right()
    assert list(raw.folder.iterdir()) == []
    settle(parts)
    found = {p.relative_to(raw.folder).as_posix(): p.read_bytes() for p in raw.folder.rglob("*") if p.is_file()}
    assert found == contents


def test_what_an_earlier_run_left_is_hashed_again(raw: Landing) -> None:
    (part,) = parts_of(raw, {"a": b"abcdef"})
    part.path.write_bytes(b"abc")
    again = Part(part.target, part.file, digest=part.digest, there=3)
    again.take([b"def"])
    assert again.is_right()
    part.path.write_bytes(b"abX")
    other = Part(part.target, part.file, digest=part.digest, there=3)
    other.take([b"def"])
    assert not other.is_right()
    assert other.prefix_is_old


# --- Patience.


def test_pauses_grow_and_are_bounded() -> None:
    site = FetchSite(longest_pause_s=10.0)
    for attempt, most in ((1, 1.0), (2, 2.0), (3, 4.0), (9, 10.0)):
        assert most / 2 <= pause_s(attempt, site=site) <= most
    assert pause_s(1, site=site, asked_s=7.0) == 7.0
    assert pause_s(1, site=site, asked_s=3600.0) == 10.0


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("", 0.0), ("soon", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("-3", 0.0)]
)
def test_retry_after_in_either_spelling(value: str, seconds: float) -> None:
    assert retry_after_s(value) == seconds
