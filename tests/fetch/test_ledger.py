"""The ledger remembers, survives its own loss, and is never believed over the bytes on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neurofm.fetch import DatasetKey, FileState, Ledger
from neurofm.recording import ManifestFile

WHO = DatasetKey(dataset="rest", archive="http", version="1.0")


def _file(number: int, *, digest: str = "") -> ManifestFile:
    value = digest or f"{number:064x}"
    return ManifestFile(
        path=f"sub-{number:02d}.edf", size=100 + number, digest=f"sha256:{value}", origin=f"https://host/{number}"
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


def _states(ledger: Ledger) -> dict[str, str]:
    return {row.path: str(row.state) for row in ledger.rows("rest")}


def test_known_files_keep_their_state_and_gone_ones_leave(ledger: Ledger) -> None:
    ledger.plan(WHO, map(_file, range(3)))
    ledger.record(WHO, _file(1), FileState.VERIFIED, bytes=101, sha256="ab")
    ledger.plan(WHO, map(_file, range(1, 4)))
    assert _states(ledger) == {"sub-01.edf": "verified", "sub-02.edf": "planned", "sub-03.edf": "planned"}


def test_a_file_whose_pin_changed_is_planned_anew(ledger: Ledger) -> None:
    ledger.plan(WHO, [_file(1)])
    ledger.record(WHO, _file(1), FileState.QUARANTINED, reason="HTTP 403")
    ledger.plan(WHO, [_file(1, digest="f" * 64)])
    assert _states(ledger) == {"sub-01.edf": "planned"}


def test_counts_are_of_files_and_of_their_whole_sizes(ledger: Ledger) -> None:
    ledger.plan(WHO, map(_file, range(4)))
    ledger.record(WHO, _file(2), FileState.PARTIAL, bytes=7)
    counts = ledger.counts("rest")
    assert counts[FileState.PLANNED] == (3, 100 + 101 + 103)
    assert counts[FileState.PARTIAL] == (1, 102)
    assert counts[FileState.VERIFIED] == (0, 0)
    assert ledger.datasets() == ("rest",)


def test_a_sha256_that_was_taken_once_is_kept(ledger: Ledger) -> None:
    ledger.record(WHO, _file(1), FileState.VERIFIED, sha256="ab")
    ledger.record(WHO, _file(1), FileState.CONSUMED, receipt="sub-01")
    row = ledger.row(WHO, _file(1))
    assert row is not None
    assert (row.state, row.sha256, row.receipt) == (FileState.CONSUMED, "ab", "sub-01")
    assert ledger.row(WHO, _file(2)) is None


def test_retry_releases_what_failed_or_was_set_aside_and_nothing_else(ledger: Ledger) -> None:
    ledger.plan(WHO, map(_file, range(3)))
    ledger.record(WHO, _file(0), FileState.FAILED, reason="503")
    ledger.record(WHO, _file(1), FileState.QUARANTINED, reason="403")
    ledger.record(WHO, _file(2), FileState.VERIFIED)
    assert ledger.retry("rest") == 2
    assert _states(ledger) == {"sub-00.edf": "planned", "sub-01.edf": "planned", "sub-02.edf": "verified"}


def test_two_versions_of_one_dataset_do_not_mix(ledger: Ledger) -> None:
    ledger.plan(WHO, [_file(1)])
    ledger.record(WHO, _file(1), FileState.VERIFIED)
    newer = DatasetKey(dataset="rest", archive="http", version="1.1")
    ledger.plan(newer, [_file(1)])
    assert ledger.row(WHO, _file(1)) is None
    row = ledger.row(newer, _file(1))
    assert row is not None
    assert row.state is FileState.PLANNED


def test_others_see_what_was_written_and_nothing_is_lost_between_them(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    def write(start: int) -> None:
        with Ledger.open(path) as mine:
            for number in range(start, start + 200):
                mine.record(WHO, _file(number), FileState.VERIFIED)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(0, 800, 200)))
    with Ledger.open(path) as after:
        assert after.counts("rest")[FileState.VERIFIED][0] == 800
        assert len(list(after.rows("rest"))) == 800


def test_rows_come_in_pages_without_gaps(ledger: Ledger) -> None:
    ledger.plan(WHO, map(_file, range(2_345)))
    assert len({row.path for row in ledger.rows("rest")}) == 2_345


@pytest.mark.parametrize("damage", [b"", b"not a database at all, but long enough to be read as one" * 40])
def test_a_damaged_ledger_is_set_aside_and_made_anew(
    tmp_path: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as before:
        before.plan(WHO, [_file(1)])
    for tail in ("", "-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    path.write_bytes(damage)
    with Ledger.open(path) as after:
        assert after.datasets() == ()
        after.plan(WHO, [_file(1)])
        assert _states(after) == {"sub-01.edf": "planned"}
    if damage:
        assert "a new one is made" in capsys.readouterr().err
        assert list(tmp_path.glob("ledger.sqlite.damaged-*"))


def test_another_schema_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with Ledger.open(path) as opened:
        assert opened.datasets() == ()
    assert "another version of neurofm (schema 99)" in capsys.readouterr().err
