"""A catalogue entry that wants groups of its NWB files: what is asked for, kept, written down and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ruamel.yaml import YAML

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.errors import UserError
from neurofm.fetch import FetchSummary, fetch_dataset, open_ledger
from neurofm.fetch.hosts import Hosts
from neurofm.fetch.ledger import FileState, LedgerRow
from neurofm.ingest.dataset import ingest_dataset
from neurofm.ingest.recording import reader_input
from neurofm.operations.status import fetch_status, status_facts, status_lines
from neurofm.params import load_params
from neurofm.readers import read_recording
from neurofm.recording import Modality, Recording
from neurofm.shards import read_shard
from neurofm.sources import build_manifest, read_manifest, write_manifest
from neurofm.stream import StreamSummary, stream_dataset
from neurofm.units import UnitSummary
from tests.servers.fixtures import (  # noqa: F401  # fixtures are found by their names
    PATIENCE,
    Fetching,
    fetching_fixture,
    files_fixture,
    sha256,
    uncollected_fixture,
    wanted,
)
from tests.servers.http_files import Fault, FileServer, Page
from tests.streamed import PREPROCESS, PROJECT, Threads

GROUPS = ["units", "intervals", "processing/running", "general"]
PATH = "/data/session.nwb"
pytestmark = pytest.mark.usefixtures("uncollected")


class Lab:
    """A project with one dataset, whose entry wants groups of the file of a server."""

    def __init__(self, root: Path, server: FileServer, content: bytes) -> None:
        self.root, self.server, self.content = root, server, content
        server.files[PATH] = content
        self.groups: list[str] = GROUPS

    @property
    def entry(self) -> CatalogEntry:
        file = {"url": f"{self.server.url}{PATH}", "path": "sub-A2929/session.nwb", "size": len(self.content)}
        source = {"archive": "http", "version": "1", "files": [{**file, "digest": sha256(self.content)}]}
        return self.write({**source, "groups": self.groups})

    def write(self, source: dict[str, Any]) -> CatalogEntry:
        """Write the entry as a person would, and read it."""
        facts = {
            "id": "lab",
            "title": "one session",
            "modality": "spikes",
            "reader": "nwb",
            "reader_options": {"layout": "allen-visual-coding"},
            "source": source,
            "recordings": {"pattern": "sub-(?P<subject>[^/]+)/.*nwb"},
            "subject_namespace": "lab",
            "species": "Mus musculus",
            "licence": "CC-BY-4.0",
            "redistribute": True,
            "citation": "Us 2026",
        }
        path = self.root / "data" / "catalog" / "lab.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as out:
            YAML(typ="safe").dump(facts, out)
        return load_entry("lab", root=self.root)

    def fetch(self, **site: Any) -> FetchSummary:
        """Run the stages `manifest` and `download`; counts of the server begin anew."""
        self.server.forget()
        entry, path = self.entry, self.root / "data" / "manifests" / "lab.json"
        write_manifest(build_manifest(entry, root=self.root), path)
        return fetch_dataset(
            entry,
            read_manifest(path),
            raw=self.raw,
            work=self.root / ".neurofm",
            site=PATIENCE.model_copy(update=site),
        )

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw" / "lab"

    @property
    def local(self) -> Path:
        return self.raw / "sub-A2929" / "session.nwb"

    @property
    def row(self) -> LedgerRow:
        with open_ledger(self.root / ".neurofm") as ledger:
            (row,) = ledger.rows("lab")
        return row

    def ingest(self) -> UnitSummary:
        """Run the stage `preprocess`."""
        return ingest_dataset(self.entry, build_manifest(self.entry, root=self.root), raw=self.raw, **self._stage)

    def stream(self) -> StreamSummary:
        """Run the stage `stream`."""
        self.server.forget()
        manifest = build_manifest(self.entry, root=self.root)
        return stream_dataset(self.entry, manifest, budget_bytes=10**9, site=PATIENCE, **self._stage)

    @property
    def shard(self) -> Path:
        return self.root / "shards" / "sub-A2929.zarr.zip"

    @property
    def _stage(self) -> dict[str, Any]:
        return {
            "shards": self.root / "shards",
            "receipts": self.root / "receipts.jsonl",
            "work": self.root / ".neurofm",
            "settings": PREPROCESS.of(Modality.SPIKES),
            "common": PREPROCESS.common,
            "executor": Threads(),
        }

    def read(self, raw: Path | None = None) -> Recording:
        entry = self.entry
        (recording,) = build_manifest(entry, root=self.root).recordings
        source = reader_input(entry, recording, root=raw or self.raw)
        return read_recording(entry.reader, source, dict(entry.reader_options))


@pytest.fixture
def lab(tmp_path: Path, files: FileServer, small_nwb: Path) -> Lab:
    return Lab(tmp_path, files, small_nwb.read_bytes())


def test_from_the_entry_to_a_recording_by_a_twentieth_of_the_bytes(
    files: FileServer, large_nwb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = Lab(tmp_path, files, large_nwb.read_bytes())
    summary = lab.fetch()
    assert (summary.fetched_files, summary.failed, summary.quarantined) == (1, {}, {})
    assert lab.server.sent[PATH] == summary.fetched_bytes < 0.05 * len(lab.content)
    assert all("range" in request.headers for request in lab.server.asked)
    said = capsys.readouterr().err
    assert "lab: only chosen groups came of 1 files" in said
    assert "digests are of whole files and were not checked" in said
    whole = tmp_path / "whole" / "sub-A2929" / "session.nwb"
    whole.parent.mkdir(parents=True)
    whole.write_bytes(lab.content)
    ours, theirs = lab.read(), lab.read(tmp_path / "whole")
    assert ours.spikes is not None
    assert theirs.spikes is not None
    assert ours.channels.region == theirs.channels.region != ()
    np.testing.assert_array_equal(ours.spikes.time_s, theirs.spikes.time_s)
    np.testing.assert_array_equal(ours.spikes.channel, theirs.spikes.channel)
    np.testing.assert_array_equal(ours.targets["running_speed"].values, theirs.targets["running_speed"].values)
    assert ours.events is not None
    assert theirs.events is not None
    assert ours.events.label == theirs.events.label
    np.testing.assert_array_equal(ours.events.onset_s, theirs.events.onset_s)


def test_what_is_unchanged_is_not_asked_for_again_and_what_is_damaged_is(lab: Lab) -> None:
    lab.fetch()
    before = lab.local.stat().st_mtime_ns
    assert lab.fetch() == FetchSummary(kept_files=1)
    assert lab.server.asked == []
    assert lab.local.stat().st_mtime_ns == before
    with lab.local.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    assert lab.fetch().fetched_files == 1
    assert lab.fetch() == FetchSummary(kept_files=1)


def test_the_ledger_says_which_groups_of_which_file_came(lab: Lab) -> None:
    summary = lab.fetch()
    row = lab.row
    assert row.digest == f"groups:{','.join(sorted(GROUPS))}@{sha256(lab.content)}"
    assert row.state is FileState.VERIFIED
    assert (row.size, row.bytes) == (len(lab.content), summary.fetched_bytes)
    assert row.sha256 == sha256(lab.local.read_bytes()).removeprefix("sha256:")
    assert row.validator.startswith('"')


def test_other_groups_and_another_file_come_anew(lab: Lab, tmp_path: Path) -> None:
    lab.fetch()
    lab.groups = ["general", "intervals"]
    assert lab.fetch().fetched_files == 1
    assert lab.row.digest.startswith("groups:general,intervals@")
    with h5py.File(lab.local) as file:
        assert "units/spike_times" not in file
    lab.groups = ["intervals", "general"]  # the same in another order
    assert lab.fetch() == FetchSummary(kept_files=1)
    (changed := tmp_path / "changed.nwb").write_bytes(lab.content)
    with h5py.File(changed, "r+") as file:
        file["units/snr"][0] = 99.0
    lab.content = lab.server.files[PATH] = changed.read_bytes()
    assert lab.fetch().fetched_files == 1
    with h5py.File(lab.local) as file:
        assert file["units/snr"][0] == 99.0


def test_without_groups_the_whole_file_comes_and_is_checked(lab: Lab) -> None:
    lab.fetch()
    lab.groups = []
    assert lab.fetch().fetched_files == 1
    assert lab.local.read_bytes() == lab.content
    assert lab.row.digest == sha256(lab.content)


def test_a_manifest_without_the_groups_does_not_bring_whole_files(lab: Lab) -> None:
    lab.groups = []
    manifest = build_manifest(lab.entry, root=lab.root)
    lab.groups = GROUPS
    with pytest.raises(UserError, match="neurofm run manifest --dataset lab"):
        fetch_dataset(lab.entry, manifest, raw=lab.raw, work=lab.root / ".neurofm", site=PATIENCE)
    assert lab.server.asked == []


def test_a_ledger_that_is_lost_costs_the_groups_once_more(lab: Lab) -> None:
    """Without it nothing tells of which groups the file is, and whether it is whole."""
    lab.fetch()
    for path in (lab.root / ".neurofm").glob("ledger.sqlite*"):
        path.unlink()
    assert lab.fetch().fetched_files == 1
    assert lab.fetch() == FetchSummary(kept_files=1)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(ignore_range=True), "does not serve ranges of bytes"),
        (Fault(status=404), "HTTP 404"),
        (Fault(status=403), "HTTP 403"),
        (Fault(extra=b"more"), "pinned are"),
        (Fault(headers={"Content-Range": "bytes 0-9/10"}), "the file has 10 bytes at the server now"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_nothing_is_left(
    lab: Lab, fault: Fault, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.server.always[PATH] = fault
    summary = lab.fetch()
    assert list(summary.quarantined) == ["sub-A2929/session.nwb"]
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert not any(path.is_file() for path in lab.raw.rglob("*"))
    assert lab.row.state is FileState.QUARANTINED


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(stop_at=1000),
        Fault(shift=1),
        Fault(claim=100),
        Fault(status=429, headers={"Retry-After": "0"}),
    ],
)
def test_trouble_that_passes_is_gone_through(lab: Lab, fault: Fault) -> None:
    lab.server.script[PATH] = [fault, Fault(), fault, fault]
    assert lab.fetch().fetched_files == 1
    assert lab.read().spikes is not None


def test_trouble_that_stays_is_told_and_the_next_run_tries_again(lab: Lab) -> None:
    lab.server.script[PATH] = [Fault(), Fault()]
    lab.server.always[PATH] = Fault(stop_at=1000)
    with pytest.raises(UserError, match=r"1 of 1 files did not come: .*connection broke .*5 tries"):
        lab.fetch()
    assert not any(path.is_file() for path in lab.raw.rglob("*"))
    lab.server.always.clear()
    assert lab.fetch().fetched_files == 1


def test_two_states_of_a_file_are_never_mixed(lab: Lab) -> None:
    other = bytes(len(lab.content))
    lab.server.script[PATH] = [Fault(), Fault(then=other)]
    with pytest.raises(UserError, match="the file changed at the server while it was read"):
        lab.fetch()
    assert not lab.local.exists()


def test_what_a_killed_process_left_is_removed(lab: Lab) -> None:
    left = lab.local.with_name(".session.nwb.some")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    lab.fetch()
    assert [path.name for path in left.parent.iterdir()] == ["session.nwb"]


def test_no_link_is_followed(lab: Lab, tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    lab.raw.mkdir(parents=True)
    (lab.raw / "sub-A2929").symlink_to(outside)
    lab.fetch()  # a stranger where a folder has to be goes, and what it leads to stays
    assert list(outside.iterdir()) == []
    assert not (lab.raw / "sub-A2929").is_symlink()


def test_offline_says_what_is_missing(lab: Lab) -> None:
    with pytest.raises(UserError, match=r"1 files are not here .*this run is offline"):
        lab.fetch(offline=True)
    lab.fetch()
    assert lab.fetch(offline=True) == FetchSummary(kept_files=1)


def test_groups_of_an_object_in_a_bucket(files: FileServer, fetching: Fetching, small_nwb: Path) -> None:
    content = small_nwb.read_bytes()
    files.files = {"/blobs/a.nwb": content}
    file = wanted("s3://blobs/a.nwb", content, digest=f"groups:units@{sha256(content)}")
    fetching.fetch([file.model_copy(update={"version_id": "v1"})], hosts=Hosts(s3=files.url))
    assert {request.query["versionId"] for request in files.asked} == {"v1"}
    assert files.sent["/blobs/a.nwb"] < 0.2 * len(content)
    assert fetching.states() == {"a.nwb": FileState.VERIFIED}


def test_a_redirect_is_followed_once_without_credentials(
    files: FileServer, fetching: Fetching, small_nwb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = small_nwb.read_bytes()
    monkeypatch.setenv("DANDI_API_KEY", "secret")
    with FileServer({"/blob": content}) as store:
        files.route = lambda _: Page(body=b"", status=302, headers={"Location": f"{store.url}/blob"})
        file = wanted(
            f"{files.url}/api/assets/1/download/", content, digest=f"groups:units@{sha256(content)}", path="a.nwb"
        )
        fetching.fetch([file], hosts=Hosts(dandi_api=f"{files.url}/api"))
        (asked,) = files.asked
        assert asked.headers["authorization"] == "token secret"
        assert len(store.asked) > 1
        assert "secret" not in "".join(request.everything for request in store.asked)
    assert fetching.states() == {"a.nwb": FileState.VERIFIED}


def test_a_recording_is_made_anew_when_other_groups_are_wanted_and_not_else(lab: Lab) -> None:
    lab.fetch()
    first = lab.ingest()
    assert (first.ran, first.failed) == (1, ())
    (file,) = read_shard(lab.shard).attrs["source"]["files"]
    assert file["digest"] == lab.row.digest
    lab.groups = GROUPS[::-1]
    lab.fetch()
    assert lab.ingest().ran == 0
    lab.groups = [*GROUPS, "acquisition"]
    lab.fetch()
    assert lab.ingest().ran == 1


def test_a_damaged_part_is_not_read(lab: Lab) -> None:
    lab.fetch()
    with lab.local.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    summary = lab.ingest()
    assert "is not the file of the manifest (its digest differs)" in str(dict(summary.reasons))
    assert not lab.shard.exists()


def test_a_streamed_dataset_comes_in_groups_and_is_not_fetched_again(lab: Lab) -> None:
    first = lab.stream()
    assert (first.fetched_files, first.units.failed) == (1, ())
    assert first.fetched_bytes == lab.server.sent[PATH] < 0.2 * len(lab.content)
    assert lab.row.state is FileState.CONSUMED
    again = lab.stream()
    assert (again.fetched_files, again.units.ran, lab.server.asked) == (0, 0, [])
    lab.groups = ["units", "general"]
    assert lab.stream().fetched_files == 1


def test_the_status_says_what_was_not_checked(lab: Lab) -> None:
    lab.fetch()
    (status,) = fetch_status(load_params(PROJECT), root=lab.root, dataset="lab")
    (line,) = status_lines(status)
    assert line.startswith("lab: 1 file with chosen groups only")
    assert "were not checked" in line
    assert status_facts(status)["in_groups"] == 1
