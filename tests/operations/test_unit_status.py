"""How units stand is told from manifest and receipts, also while a stage is at work, and `retry` forgets failures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.operations.tables import console
from neurofm.operations.unit_status import Reason, retry_units, units_facts, units_lines, units_status, units_table
from neurofm.params import load_params
from neurofm.recording import Manifest, ManifestFile, ManifestRecording, UnitStatus
from neurofm.sources import write_manifest
from neurofm.units import Receipt, ReceiptBook, read_receipts

DATASET = "hcp-rest"
UNITS = [f"{DATASET}_sub-{number}" for number in range(8)]
ENDED = {
    UNITS[0]: (UnitStatus.SUCCEEDED, ""),
    UNITS[1]: (UnitStatus.SUCCEEDED, ""),
    UNITS[2]: (UnitStatus.FAILED, f"{UNITS[2]}: not a NIfTI image"),
    UNITS[3]: (UnitStatus.FAILED, f"{UNITS[3]}: not a NIfTI image"),
    UNITS[4]: (UnitStatus.INCOMPLETE, "its process was killed (out of memory?)"),
    UNITS[5]: (UnitStatus.UNAVAILABLE, "quarantined"),
}


@pytest.fixture
def stopped(project: Path) -> Path:
    """A stage that ended six of eight units."""
    files = tuple(
        ManifestFile(path=f"{unit}.nii", size=1, digest=f"sha256:{1:064x}", origin=f"s3://b/{unit}") for unit in UNITS
    )
    recordings = tuple(
        ManifestRecording(id=unit, subject=unit.rpartition("-")[2], files={"main": f"{unit}.nii"}) for unit in UNITS
    )
    manifest = Manifest(
        dataset=DATASET, archive="registry", source_id="x", version="1", files=files, recordings=recordings
    )
    write_manifest(manifest, project / "data" / "manifests" / f"{DATASET}.json")
    book = book_of(project)
    book.gather(Receipt(unit=unit, key="k", status=status, reason=why) for unit, (status, why) in ENDED.items())
    return project


def book_of(project: Path) -> ReceiptBook:
    return ReceiptBook(
        project / "data" / "receipts" / f"{DATASET}.jsonl", running=project / ".neurofm" / "receipts" / DATASET
    )


@pytest.fixture
def at_work(stopped: Path) -> Iterator[Path]:
    """The same, while another process runs four units, of which one has ended."""
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_unit_status import *
book = book_of(Path({str(stopped)!r}))
with book.held():
    book.announce(4)
    book.record(Receipt(unit=UNITS[4], key="k", status=UnitStatus.SUCCEEDED))
    print("at work", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=stopped
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"at work\n"
    yield stopped
    process.communicate()


def test_counts_reasons_and_the_command(stopped: Path) -> None:
    (status,) = units_status(load_params(stopped), root=stopped, dataset=DATASET)
    assert (status.stage, status.units, status.left, status.running) == ("stream", 8, 6, "")
    assert [status.counts[each] for each in UnitStatus] == [2, 2, 1, 1]
    assert status.reasons[0] == Reason(text="failed: ..: not a NIfTI image", units=2, log="")
    lines = units_lines(status)
    assert lines[0] == f"{DATASET}: 2 x failed: ..: not a NIfTI image"
    assert lines[-2] == f"{DATASET}: 1 wait for their files; what mends these stands above"
    assert lines[-1] == f"{DATASET}: 5 to run: neurofm retry {DATASET} && dvc repro"
    assert units_facts(status)["counts"] == {"succeeded": 2, "failed": 2, "incomplete": 1, "unavailable": 1}


def test_a_dataset_that_was_never_run_names_its_stage(project: Path) -> None:
    statuses = {status.dataset: status for status in units_status(load_params(project), root=project)}
    assert set(statuses) == set(load_params(project).all_datasets)
    assert statuses[DATASET].units is None
    assert units_lines(statuses[DATASET]) == []


def test_no_retry_is_promised_where_only_files_are_lacking(stopped: Path) -> None:
    book_of(stopped).gather(
        Receipt(unit=unit, key="k", status=UnitStatus.UNAVAILABLE, reason="quarantined") for unit in UNITS
    )
    (status,) = units_status(load_params(stopped), root=stopped, dataset=DATASET)
    assert (status.left, status.mend) == (8, "")
    assert not any("retry" in line for line in units_lines(status))


def test_of_five_and_more_reasons_the_commonest_are_told(stopped: Path) -> None:
    reasons = [f"reason {number}" for number in range(7) for _ in range(7 - number)]
    book_of(stopped).gather(
        Receipt(unit=unit, key="k", status=UnitStatus.FAILED, reason=reason)
        for unit, reason in zip(UNITS, reasons, strict=False)
    )
    (status,) = units_status(load_params(stopped), root=stopped, dataset=DATASET)
    assert [(reason.text, reason.units) for reason in status.reasons] == [
        ("failed: reason 0", 7),
        ("failed: reason 1", 1),
    ]


def test_the_log_of_a_failure_is_named(stopped: Path) -> None:
    log = ".neurofm/receipts/hcp-rest/slurm/000001-abc/log/7_0_0_log.out"
    book_of(stopped).gather([Receipt(unit=UNITS[0], key="k", status=UnitStatus.FAILED, reason="bad", log=log)])
    (status,) = units_status(load_params(stopped), root=stopped, dataset=DATASET)
    assert units_lines(status)[:2] == [f"{DATASET}: 1 x failed: bad", f"{DATASET}:   log of one: {log}"]
    assert units_facts(status)["reasons"] == [{"reason": "failed: bad", "units": 1, "log": log}]


def test_while_a_stage_is_at_work(at_work: Path) -> None:
    (status,) = units_status(load_params(at_work), root=at_work, dataset=DATASET)
    assert status.running.startswith("process ")
    assert status.seconds_left is not None
    assert status.counts[UnitStatus.SUCCEEDED] == 3
    assert status.mend == ""
    out = console()
    with out.capture() as shown:
        out.print(units_table([status], width=200))
    assert "s left" in shown.get()


def test_retry_forgets_what_did_not_succeed(stopped: Path) -> None:
    assert retry_units(DATASET, root=stopped) == tuple(UNITS[2:6])
    receipts = stopped / "data" / "receipts" / f"{DATASET}.jsonl"
    assert set(read_receipts(receipts)) == {UNITS[0], UNITS[1]}
    before = receipts.stat()
    assert retry_units(DATASET, root=stopped) == ()
    assert receipts.stat().st_mtime_ns == before.st_mtime_ns


def test_retry_of_one_that_succeeded(stopped: Path) -> None:
    assert retry_units(DATASET, root=stopped, unit=UNITS[0]) == (UNITS[0],)
    assert set(read_receipts(stopped / "data" / "receipts" / f"{DATASET}.jsonl")) == set(UNITS[1:6])


def test_retry_of_what_is_not_known(stopped: Path) -> None:
    with pytest.raises(UserError, match="no receipt of a unit 'nobody'"):
        retry_units(DATASET, root=stopped, unit="nobody")
    with pytest.raises(UserError, match="gw-rest: no unit of it was run here"):
        retry_units("gw-rest", root=stopped)
