"""What hosts and networks do wrong: nothing of it may end as a file under its name that is not the pinned one."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from neurofm.fetch.ledger import FileState
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

HALF = 400_000
HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Invalid user name</body></html>"
JSON = b'{"error":"an unexpected error occurred: please try again"}'
XML = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code></Error>'
WHOLE, QUARANTINED, FAILED, NOT_WHOLE = "whole", "quarantined", "failed", "not whole"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How a host answers for one file, and what has to come of it."""

    script: tuple[Fault, ...] = ()
    """The first answers."""
    always: Fault | None = None
    """Every further one."""
    replaced: bool = False
    """The host first has another file under that name: the pinned one without its first bytes."""
    pinned_is_gone: bool = False
    """The other way round: the pinned one is there first, and is then replaced."""
    end: str = WHOLE
    says: str = ""
    """Part of the reason that is given."""
    most_sent: float = 0.0
    """Most that the host may have to send, in sizes of the file; 0 for no bound."""
    most_asked: int = 0
    """Most requests; 0 for no bound."""
    timeout_s: float = 1.0
    naive_is_caught: bool = True
    """Whether clients that believe what comes do it wrong; False where patience alone is in question."""


SCENARIOS = {
    "ends early": Scenario(script=(Fault(stop_at=HALF),), most_sent=1.01),
    "ends early again and again": Scenario(script=tuple(Fault(stop_at=60_000) for _ in range(8)), most_sent=1.01),
    "ends early after the first byte": Scenario(script=(Fault(stop_at=1),), most_sent=1.01),
    "ends before the first byte": Scenario(script=(Fault(stop_at=0), Fault(stop_at=0)), most_sent=1.01),
    "claims a shorter length once": Scenario(script=(Fault(stop_at=HALF, claim=HALF),)),
    "claims a shorter length always": Scenario(always=Fault(stop_at=HALF, claim=HALF), end=NOT_WHOLE),
    "ends early without a length": Scenario(script=(Fault(stop_at=HALF, claim=-1),), most_sent=1.6),
    "never says a length": Scenario(always=Fault(claim=-1), naive_is_caught=False, most_sent=1.01),
    "sends more than the file": Scenario(always=Fault(extra=b"x" * 100), end=QUARANTINED),
    "sends much more than the file": Scenario(always=Fault(extra=b"x" * 40_000_000), end=QUARANTINED, most_sent=30.0),
    "sends more than it claims": Scenario(script=(Fault(extra=b"x" * 100, claim=850_448),), naive_is_caught=False),
    "a wrong byte once": Scenario(script=(Fault(flip=10),)),
    "a wrong byte always": Scenario(always=Fault(flip=10), end=QUARANTINED, most_asked=3, most_sent=3.0),
    "a wrong last byte always": Scenario(always=Fault(flip=850_447), end=QUARANTINED, most_asked=3),
    "a wrong byte before a cut": Scenario(script=(Fault(flip=10, stop_at=HALF),)),
    "replaced between two tries": Scenario(script=(Fault(stop_at=HALF),), replaced=True),
    "replaced, and the server ignores If-Range": Scenario(
        script=(Fault(stop_at=HALF), Fault(ignore_if_range=True)), replaced=True
    ),
    "replaced, and nothing tells": Scenario(
        script=(Fault(stop_at=HALF, anonymous=True), Fault(ignore_if_range=True, anonymous=True)), replaced=True
    ),
    "replaced by what is not pinned": Scenario(script=(Fault(stop_at=HALF),), pinned_is_gone=True, end=QUARANTINED),
    "503 three times": Scenario(script=(Fault(status=503),) * 3, most_sent=1.01, most_asked=4),
    "503 with Retry-After": Scenario(script=(Fault(status=503, headers={"Retry-After": "3600"}),) * 2, most_asked=3),
    "503 with a date": Scenario(
        script=(Fault(status=503, headers={"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}),), most_asked=2
    ),
    "503 with nonsense": Scenario(script=(Fault(status=503, headers={"Retry-After": "soon"}),), most_asked=2),
    "503 with a page": Scenario(script=(Fault(status=503, headers={"Content-Type": "text/html"}, body=HTML),)),
    "503 for ever": Scenario(always=Fault(status=503), end=FAILED, says="503", most_asked=5, naive_is_caught=False),
    "429": Scenario(script=(Fault(status=429, headers={"Retry-After": "1"}),), most_asked=2),
    "408, 500, 502 and 504": Scenario(script=tuple(Fault(status=code) for code in (408, 500, 502, 504))),
    "503 in the middle": Scenario(script=(Fault(stop_at=HALF), Fault(status=503), Fault(status=503)), most_sent=1.01),
    "stalls": Scenario(script=(Fault(stall_at=HALF),), most_sent=1.01),
    "stalls before the first byte": Scenario(script=(Fault(stall_at=0),), most_sent=1.01),
    "stalls for ever": Scenario(always=Fault(stall_at=0), end=FAILED, most_asked=5, timeout_s=0.2),
    "416 when gone on with": Scenario(script=(Fault(stop_at=HALF), Fault(status=416)), most_sent=1.6),
    "416 for ever": Scenario(script=(Fault(stop_at=HALF),), always=Fault(status=416), end=NOT_WHOLE, most_asked=8),
    "200 instead of 206": Scenario(script=(Fault(stop_at=HALF), Fault(ignore_range=True)), most_sent=1.6),
    "200 instead of 206, cut again": Scenario(
        script=(Fault(stop_at=HALF), Fault(ignore_range=True, stop_at=HALF // 2), Fault(ignore_range=True))
    ),
    "another range, said": Scenario(script=(Fault(stop_at=HALF), Fault(shift=-1000))),
    "a later range, said": Scenario(script=(Fault(stop_at=HALF), Fault(shift=1000))),
    "another range, not said": Scenario(
        script=(Fault(stop_at=HALF), Fault(shift=-1000, headers={"Content-Range": "bytes 400000-850447/850448"}))
    ),
    "206 without a range": Scenario(script=(Fault(stop_at=HALF), Fault(headers={"Content-Range": "nonsense"}))),
    "a page instead of data": Scenario(
        always=Fault(status=200, headers={"Content-Type": "text/html"}, body=HTML), end=QUARANTINED, says="page"
    ),
    "a page that claims to be data": Scenario(
        always=Fault(status=200, headers={"Content-Type": "application/octet-stream"}, body=HTML), end=QUARANTINED
    ),
    "a page of just the right size": Scenario(
        always=Fault(status=200, headers={"Content-Type": "text/html"}, body=HTML.ljust(850_448)), end=QUARANTINED
    ),
    "a message instead of data": Scenario(
        always=Fault(status=200, headers={"Content-Type": "application/json"}, body=JSON), end=QUARANTINED
    ),
    "a bucket's error with 200": Scenario(
        always=Fault(status=200, headers={"Content-Type": "application/xml"}, body=XML), end=QUARANTINED
    ),
    "a page when gone on with": Scenario(
        script=(Fault(stop_at=HALF), Fault(status=200, headers={"Content-Type": "text/html"}, body=HTML))
    ),
    "a page with 206 when gone on with": Scenario(
        script=(
            Fault(stop_at=HALF),
            Fault(
                status=206,
                headers={"Content-Type": "text/html", "Content-Range": "bytes 400000-850447/850448"},
                body=HTML.ljust(450_448),
            ),
        )
    ),
    "no content": Scenario(always=Fault(status=204), end=NOT_WHOLE),
    "a redirect to itself": Scenario(
        always=Fault(status=302, headers={"Location": "/bad.edf"}), end=NOT_WHOLE, most_asked=40, naive_is_caught=False
    ),
    "a redirect without an address": Scenario(
        always=Fault(status=301),
        end=NOT_WHOLE,
        most_asked=10,
        naive_is_caught=False,
    ),
    "a redirect to a file of this machine": Scenario(
        always=Fault(status=302, headers={"Location": "file:///etc/passwd"}),
        end=NOT_WHOLE,
        most_asked=10,
        naive_is_caught=False,
    ),
}


def play(scenario: Scenario, server: FileServer, content: bytes) -> ManifestFile:
    """Make the server answer as the scenario says; returns what is wanted of it."""
    other = content[5_000:]
    pinned = content
    script = scenario.script
    if scenario.replaced or scenario.pinned_is_gone:
        before, after = (content, other) if scenario.pinned_is_gone else (other, content)
        server.files["/bad.edf"] = before
        script = (replace(script[0], then=after), *script[1:])
    else:
        server.files["/bad.edf"] = content
    server.files["/good.edf"] = content[::-1]
    server.script["/bad.edf"] = list(script)
    if scenario.always is not None:
        server.always["/bad.edf"] = scenario.always
    return wanted(f"{server.url}/bad.edf", pinned)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_a_fault_never_ends_as_a_wrong_file(
    scenario: Scenario,
    files: FileServer,
    edf: bytes,
    fetching: Fetching,
) -> None:
    bad = play(scenario, files, edf)
    good = wanted(f"{files.url}/good.edf", edf[::-1])
    summary = fetching.fetch([bad, good], timeout_s=scenario.timeout_s)
    whole = {"good.edf": edf[::-1]} | ({"bad.edf": edf} if scenario.end == WHOLE else {})
    assert fetching.present() == whole
    troubles = {**summary.failed, **summary.quarantined}
    assert set(troubles) == ({"bad.edf"} if scenario.end != WHOLE else set())
    if scenario.end == QUARANTINED:
        assert set(summary.quarantined) == {"bad.edf"}
    if scenario.end == FAILED:
        assert set(summary.failed) == {"bad.edf"}
    assert scenario.says in troubles.get("bad.edf", scenario.says)
    assert summary.fetched_files == len(whole)
    state = fetching.states()["bad.edf"]
    if scenario.end == WHOLE:
        assert state is FileState.VERIFIED
        assert fetching.parts() == []
    else:
        assert state is (FileState.QUARANTINED if summary.quarantined else FileState.FAILED)
        assert fetching.rows()["bad.edf"].reason == troubles["bad.edf"]
    if scenario.most_sent:
        assert files.sent["/bad.edf"] <= scenario.most_sent * len(edf)
    if scenario.most_asked:
        assert len(files.requests("/bad.edf")) <= scenario.most_asked
    _second_run_asks_for_nothing_known(files, fetching, [bad, good], failed=bool(summary.failed))


def _second_run_asks_for_nothing_known(
    server: FileServer,
    fetching: Fetching,
    manifest: list[ManifestFile],
    *,
    failed: bool,
) -> None:
    before = fetching.present()
    server.forget()
    again = fetching.fetch(manifest, attempts=1)
    assert server.requests("/good.edf") == []
    assert bool(server.requests("/bad.edf")) == failed
    assert again.fetched_files == 0
    assert fetching.present() == before


@pytest.mark.parametrize(
    "scenario",
    [one for one in SCENARIOS.values() if one.naive_is_caught],
    ids=[name for name, one in SCENARIOS.items() if one.naive_is_caught],
)
def test_the_fault_catches_clients_that_believe_what_comes(
    scenario: Scenario,
    files: FileServer,
    edf: bytes,
    tmp_path: Path,
) -> None:
    """Shows that each scenario is one: without it, the test above could pass for nothing."""
    ends = []
    for number, client in enumerate((plain_client, resuming_client)):
        files.script.clear()
        bad = play(scenario, files, edf)
        target = tmp_path / str(number)
        client(bad.origin, target)
        right = target.is_file() and target.read_bytes() == edf
        ends.append(right if scenario.end == WHOLE else not target.exists())
    assert not all(ends)


def plain_client(url: str, target: Path) -> None:
    """Copy what comes to its name, as most scripts do."""
    try:
        with urlopen(url, timeout=0.3) as answer, target.open("wb") as out:
            shutil.copyfileobj(answer, out)
    except OSError:
        return


def resuming_client(url: str, target: Path) -> None:
    """Append until the size is the one that was said first, as download helpers do."""
    total = None
    for _ in range(10):
        start = target.stat().st_size if target.exists() else 0
        request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        try:
            with urlopen(request, timeout=0.3) as answer, target.open("ab") as out:
                said = answer.headers.get("Content-Length")
                total = total or (int(said) if said else None)
                shutil.copyfileobj(answer, out)
        except HTTPError:
            return
        except OSError:
            continue
        if total is None or target.stat().st_size >= total:
            return


def test_pages_that_belong_to_the_dataset_are_data(files: FileServer, fetching: Fetching) -> None:
    files.files = {
        "/sub-01.html": HTML,
        "/dataset_description.json": b'{"error": "none", "Name": "a dataset"}',
        "/montage.xml": b'<?xml version="1.0"?><error>1</error>',
        "/odd.edf": HTML,
    }
    files.kinds = {
        "/sub-01.html": "text/html",
        "/dataset_description.json": "application/json",
        "/odd.edf": "text/html",
    }
    summary = fetching.fetch(served(files))
    assert summary.fetched_files == 4
    assert fetching.present() == {path[1:]: content for path, content in files.files.items()}


def test_a_file_is_what_the_host_stores_not_what_it_decompresses_to(
    files: FileServer,
    fetching: Fetching,
    shared_data: Path,
) -> None:
    """Buckets hold .nii.gz with ``Content-Encoding: gzip``: it must arrive compressed, as it is pinned."""
    bold = next((shared_data / "fmri").rglob("bold.nii.gz")).read_bytes()
    files.files = {"/bold.nii.gz": bold, "/participants.tsv": b"participant_id\n" * 1000}
    files.always["/bold.nii.gz"] = Fault(headers={"Content-Encoding": "gzip"})
    files.compresses = True
    assert fetching.fetch(served(files)).failed == {}
    assert fetching.present() == {path[1:]: content for path, content in files.files.items()}


def test_an_empty_file_is_a_file(files: FileServer, fetching: Fetching) -> None:
    files.files = {"/empty.tsv": b""}
    summary = fetching.fetch(served(files))
    assert (summary.fetched_files, summary.failed, summary.quarantined) == (1, {}, {})
    assert fetching.present() == {"empty.tsv": b""}


def test_a_pause_is_as_long_as_the_server_asks(files: FileServer, fetching: Fetching) -> None:
    files.files = {"/a.tsv": b"a"}
    files.script["/a.tsv"] = [Fault(status=503, headers={"Retry-After": "1"})]
    fetching.fetch(served(files), longest_pause_s=1.0)
    first, second = files.requests("/a.tsv")
    assert second.at - first.at >= 1.0


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_storm_of_refusals_is_sat_out(files: FileServer, fetching: Fetching, edf: bytes, status: int) -> None:
    """Two answers in three are a refusal, over a whole dataset: every file comes, and none comes twice."""
    draw = random.Random(status)
    files.files = {f"/sub-{number:02}/eeg.edf": edf[number : 50_000 + number] for number in range(60)}
    for path in files.files:
        files.script[path] = [Fault(status=status) for _ in range(draw.randrange(4))]
    summary = fetching.fetch(served(files))
    assert (summary.failed, summary.quarantined) == ({}, {})
    assert fetching.present() == {path[1:]: content for path, content in files.files.items()}
    assert all(files.sent[path] == len(content) for path, content in files.files.items())


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refused_file_is_reported_and_the_rest_goes_on(
    files: FileServer,
    fetching: Fetching,
    edf: bytes,
    status: int,
) -> None:
    files.files = {f"/sub-{number:02}/eeg.edf": edf[number:] for number in range(10)}
    files.always["/sub-03/eeg.edf"] = Fault(status=status, headers={"Content-Type": "application/xml"}, body=XML)
    manifest = served(files)
    summary = fetching.fetch(manifest)
    assert set(summary.quarantined) == {"sub-03/eeg.edf"}
    assert str(status) in summary.quarantined["sub-03/eeg.edf"]
    assert summary.failed == {}
    assert (summary.fetched_files, summary.kept_files) == (9, 0)
    assert len(files.requests("/sub-03/eeg.edf")) == 1
    files.forget()
    again = fetching.fetch(manifest)
    assert files.asked == []
    assert again.requests == 0
    assert (again.fetched_files, again.kept_files) == (0, 9)
    assert again.quarantined == summary.quarantined


def test_wrong_bytes_are_kept_aside_for_a_look(files: FileServer, fetching: Fetching, edf: bytes) -> None:
    files.files = {"/sub-01/eeg.edf": edf}
    manifest = served(files)
    files.files["/sub-01/eeg.edf"] = wrong = b"9" + edf[1:]
    summary = fetching.fetch(manifest)
    assert set(summary.quarantined) == {"sub-01/eeg.edf"}
    assert wrong in [path.read_bytes() for path in fetching.quarantine.rglob("*") if path.is_file()]
    assert fetching.parts() == []


def test_first_use_is_demanded_from_then_on(files: FileServer, fetching: Fetching, edf: bytes) -> None:
    files.files = {"/a.dat": edf}
    file = wanted(f"{files.url}/a.dat", edf, digest="first-use")
    fetching.fetch([file])
    assert f"sha256:{fetching.rows()['a.dat'].sha256}" == sha256(edf)
    (fetching.raw / "a.dat").unlink()
    files.files["/a.dat"] = b"9" + edf[1:]
    summary = fetching.fetch([file])
    assert set(summary.quarantined) == {"a.dat"}
    assert fetching.present() == {}


def test_first_use_never_mixes_two_files(files: FileServer, fetching: Fetching, edf: bytes) -> None:
    """Without a digest only the server's own marks tell that a beginning and an end belong together."""
    for name, marks in (("tagged", Fault(stop_at=HALF)), ("anonymous", Fault(stop_at=HALF, anonymous=True))):
        new = bytes(reversed(edf))
        files.files[f"/{name}"] = edf
        files.script[f"/{name}"] = [replace(marks, then=new), replace(marks, stop_at=None, ignore_if_range=True)]
        fetching.fetch([wanted(f"{files.url}/{name}", edf, digest="first-use")])
        assert fetching.present().get(name, new) in (edf, new)
    assert set(fetching.present()) == {"tagged", "anonymous"}


def test_a_file_that_was_damaged_on_disk_is_fetched_again(
    files: FileServer,
    fetching: Fetching,
    edf: bytes,
) -> None:
    files.files = {"/a.edf": edf, "/b.edf": edf}
    manifest = served(files)
    fetching.fetch(manifest)
    (fetching.raw / "a.edf").write_bytes(edf[:-1] + b"x")
    files.forget()
    summary = fetching.fetch(manifest)
    assert (summary.fetched_files, summary.kept_files) == (1, 1)
    assert [request.path for request in files.asked] == ["/a.edf"]
    assert fetching.present() == {"a.edf": edf, "b.edf": edf}


@pytest.mark.parametrize("damage", ["lost", "empty", "garbage", "cut off", "without its table"])
def test_a_ledger_that_is_lost_or_damaged_is_rebuilt(
    files: FileServer,
    fetching: Fetching,
    edf: bytes,
    damage: str,
) -> None:
    files.files = {f"/{number}.edf": edf[number:200_000] for number in range(30)}
    manifest = served(files)
    fetching.fetch(manifest)
    before = fetching.states()
    content = fetching.ledger.read_bytes()
    for tail in ("-wal", "-shm"):
        fetching.ledger.with_name(fetching.ledger.name + tail).unlink(missing_ok=True)
    damaged = {
        "lost": None,
        "empty": b"",
        "garbage": random.Random(1).randbytes(20_000),
        "cut off": content[: len(content) // 2],
        "without its table": content[:4096],
    }[damage]
    if damaged is None:
        fetching.ledger.unlink()
    else:
        fetching.ledger.write_bytes(damaged)
    files.forget()
    summary = fetching.fetch(manifest)
    assert files.asked == []
    assert (summary.requests, summary.fetched_files, summary.kept_files) == (0, 0, 30)
    assert fetching.states() == before
    assert set(before.values()) == {FileState.VERIFIED}


def test_offline_says_what_is_missing_and_asks_nobody(
    files: FileServer,
    fetching: Fetching,
    edf: bytes,
) -> None:
    files.files = {"/a.edf": edf, "/b.edf": edf}
    manifest = served(files)
    fetching.fetch(manifest[:1])
    files.forget()
    with pytest.raises(Exception, match=r"b\.edf|1 file"):
        fetching.fetch(manifest, offline=True)
    assert files.asked == []
    assert fetching.fetch(manifest[:1], offline=True).kept_files == 1
