"""Status says what the ledger knows: how many files, why not, and what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.fetch.ledger import DatasetKey, FileState, Ledger
from neurofm.operations.status import (
    DatasetStatus,
    fetch_status,
    files_not_good,
    release_quarantined,
    status_facts,
    status_lines,
    status_table,
)
from neurofm.operations.tables import console
from neurofm.params import load_params
from neurofm.recording import ManifestFile

FORBIDDEN = "HTTP 403 for {path}"
WRONG = "is sha256:" + "a" * 64 + ", pinned is sha256:{digest}"


def file_of(number: int) -> ManifestFile:
    digest = f"{number:064x}"
    return ManifestFile(
        path=f"sub-{number}/eeg.edf", size=1_000_000, digest=f"sha256:{digest}", origin=f"s3://b/{number}"
    )


@pytest.fixture
def ledger(project: Path) -> Path:
    """hcp-rest (streamed): all states; gw-rest: all verified; `gone`: no longer in params.yaml."""
    files = [file_of(number) for number in range(20)]
    with Ledger.open(project / ".neurofm" / "ledger.sqlite") as ledger:
        who = DatasetKey(dataset="hcp-rest", archive="registry", version="0.6.2")
        ledger.plan(who, files)
        for file in files[:5]:
            ledger.record(who, file, FileState.CONSUMED, receipt="r")
        for file in files[5:8]:
            ledger.record(who, file, FileState.VERIFIED, bytes=file.size)
        ledger.record(who, files[8], FileState.PARTIAL, bytes=1234)
        for file in files[9:11]:
            ledger.record(who, file, FileState.FAILED, reason="HTTP 503 after 6 attempts")
        for file in files[11:14]:
            ledger.record(who, file, FileState.QUARANTINED, reason=FORBIDDEN.format(path=file.path))
        for file in files[14:16]:
            reason = WRONG.format(digest=file.digest.removeprefix("sha256:"))
            ledger.record(who, file, FileState.QUARANTINED, reason=reason)
        for dataset in ("gw-rest", "gone"):
            who = DatasetKey(dataset=dataset, archive="registry", version="1")
            ledger.plan(who, files[:2])
            for file in files[:2]:
                ledger.record(who, file, FileState.VERIFIED, bytes=file.size)
    return project


def of(root: Path, dataset: str) -> DatasetStatus:
    (found,) = fetch_status(load_params(root), root=root, dataset=dataset)
    return found


def test_files_and_bytes_per_state(ledger: Path) -> None:
    found = of(ledger, "hcp-rest")
    assert found.files == {
        FileState.PLANNED: 4,
        FileState.PARTIAL: 1,
        FileState.VERIFIED: 3,
        FileState.CONSUMED: 5,
        FileState.FAILED: 2,
        FileState.QUARANTINED: 5,
    }
    assert found.bytes[FileState.CONSUMED] == 5_000_000
    facts = status_facts(found)
    assert facts["files"]["quarantined"] == 5
    assert facts["group"] == "streamed"


def test_the_commonest_reasons_are_counted_over_files(ledger: Path) -> None:
    assert of(ledger, "hcp-rest").reasons == (
        ("quarantined: HTTP 403 for ..", 3),
        ("failed: HTTP 503 after 6 attempts", 2),
        ("quarantined: is sha256:.., pinned is sha256:..", 2),
    )


def test_what_mends_it_is_said(ledger: Path) -> None:
    lines = status_lines(of(ledger, "hcp-rest"))
    assert lines[-1] == ("hcp-rest: mend: neurofm quarantine release hcp-rest && neurofm run stream --dataset hcp-rest")
    assert status_lines(of(ledger, "gw-rest")) == []
    assert status_lines(of(ledger, "a2929-hd")) == ["a2929-hd: nothing was fetched yet"]


def test_datasets_of_params_and_of_the_ledger_are_listed_once(ledger: Path) -> None:
    names = [item.dataset for item in fetch_status(load_params(ledger), root=ledger)]
    assert names[-1] == "gone"
    assert sorted(names[:-1]) == sorted(load_params(ledger).all_datasets)


def test_files_that_are_not_good_are_listed_with_their_reasons(ledger: Path) -> None:
    rows = list(files_not_good("hcp-rest", root=ledger))
    assert len(rows) == 12
    assert {row.state for row in rows} == set(FileState) - {FileState.VERIFIED, FileState.CONSUMED}
    assert "HTTP 403 for sub-11/eeg.edf" in {row.reason for row in rows}


def test_release_lets_them_be_tried_again(ledger: Path) -> None:
    assert release_quarantined("hcp-rest", root=ledger) == 7
    found = of(ledger, "hcp-rest")
    assert (found.files[FileState.PLANNED], found.files[FileState.QUARANTINED], found.reasons) == (11, 0, ())
    assert "quarantine release" not in " ".join(found.mends)


def test_without_a_ledger_nothing_is_made(project: Path) -> None:
    assert not any(item.known for item in fetch_status(load_params(project), root=project))
    assert list(files_not_good("hcp-rest", root=project)) == []
    for asked in (lambda: of(project, "nobody"), lambda: release_quarantined("hcp-rest", root=project)):
        with pytest.raises(UserError, match="no dataset"):
            asked()
    assert not (project / ".neurofm").exists()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(ledger: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = console()
    with out.capture() as shown:
        out.print(status_table(fetch_status(load_params(ledger), root=ledger), width=out.width))
    lines = shown.get().splitlines()
    assert max(len(line) for line in lines) <= width
    assert lines[0].split() == ["dataset", *FileState]
    assert any(line.split()[:3] == ["hcp-rest", "4", "1"] for line in lines)
