"""OpenNeuro by its git mirror: repositories made by the real git-annex, content in a real S3 server, real files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurofm.catalog import LATEST, OpenNeuroDerivativesSource, OpenNeuroSource, load_entry
from neurofm.errors import UserError
from neurofm.fetch.digests import matches
from neurofm.sources import build_manifest, openneuro
from tests.servers.annex_repo import annexed_dataset
from tests.servers.openneuro import openneuro_server
from tests.servers.openneuro_archive import (
    FILM,
    HBN,
    REST,
    SUBJECTS,
    Archive,
    contents,
    fetched,
    hbn_archive,
    listing_of,
)

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Archive]:
    with hbn_archive(tmp_path_factory.mktemp("openneuro"), shared_data=shared_data) as running:
        yield running


@pytest.mark.parametrize(("version", "fixed"), [("1.0.1", True), ("latest", False), ("-x", False), ("", False)])
def test_a_tag_is_fixed(version: str, fixed: bool) -> None:  # noqa: FBT001
    assert openneuro.is_fixed(OpenNeuroSource(archive="openneuro", accession=HBN, version=version)) is fixed


@pytest.mark.parametrize(
    ("version", "fixed"), [("a" * 40, True), ("main", False), ("latest", False), ("a" * 39, False)]
)
def test_only_a_commit_of_derivatives_is_fixed(version: str, fixed: bool) -> None:  # noqa: FBT001
    source = OpenNeuroDerivativesSource(archive="openneuro-derivatives", accession="ds000005-fmriprep", version=version)
    assert openneuro.is_fixed(source) is fixed


def test_every_file_has_size_digest_and_stable_address(archive: Archive, tmp_path: Path) -> None:
    listing = listing_of(archive.site(), tmp_path, version="1.0.1")
    assert [file.path for file in listing.files] == sorted(archive.versions["1.0.1"])
    for file in listing.files:
        content = archive.versions["1.0.1"][file.path]
        (tmp_path / "content").write_bytes(content)
        assert file.size == len(content)
        assert matches(tmp_path / "content", file.digest, size=file.size)
        if file.path.endswith((".set", ".edf")):
            assert file.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert file.origin.startswith(f"s3://openneuro.org/{HBN}/")
            assert file.version_id
        else:
            assert file.digest.startswith("git-sha1:")
            assert file.origin == f"git://openneuro/{HBN}@{archive.commits['1.0.1']}/{file.path}"
    by_path = {file.path: file for file in listing.files}
    # Same bytes, own objects.
    assert by_path[REST[0]].origin.endswith(REST[0])
    assert by_path[REST[1]].origin.endswith(REST[1])
    assert by_path[FILM].origin == f"s3://openneuro.org/{HBN}/{FILM}"


def test_the_dataset_says_what_it_is(archive: Archive, tmp_path: Path) -> None:
    listing = listing_of(archive.site(), tmp_path, version="1.0.1")
    assert listing.source_id == HBN
    assert listing.version == "1.0.1"
    assert listing.resolved == {"commit": archive.commits["1.0.1"]}
    assert listing.facts == {
        "licence": "CC-BY-SA 4.0",
        "doi": "10.18112/openneuro.ds005505.v1.0.1",
        "expect.subjects": 3,
        "expect.native_rate_hz": 500.0,
        "expect.channels": [129],
    }


def test_the_catalogues_entry_brings_rest_and_asks_for_recordings_only(archive: Archive, tmp_path: Path) -> None:
    entry = load_entry("hbn-r1", root=PROJECT)
    (tmp_path / "data" / "catalog").mkdir(parents=True)
    site = archive.site()
    manifest = build_manifest(entry, root=tmp_path, site=site)
    assert [recording.subject for recording in manifest.recordings] == [f"hbn:{subject}" for subject in SUBJECTS]
    assert [recording.files["main"] for recording in manifest.recordings] == list(REST)
    assert not any("contrastChange" in file.path for file in manifest.files)
    home = tmp_path / ".neurofm"
    summary = fetched(manifest.files, site=site, home=home)
    assert not summary.failed
    assert not summary.quarantined
    assert summary.requests == len(REST)
    assert contents(home / "raw") == {file.path: archive.versions["1.0.1"][file.path] for file in manifest.files}
    again = fetched(manifest.files, site=site, home=home)
    assert (again.requests, again.fetched_files) == (0, 0)


def test_an_old_version_is_had_after_it_was_replaced(archive: Archive, tmp_path: Path) -> None:
    for version, expected in archive.versions.items():
        home = tmp_path / version
        listing = listing_of(archive.site(), home, version=version, include=("sub-*/eeg/*.set",))
        assert not fetched(listing.files, site=archive.site(), home=home).failed
        assert contents(home / "raw") == {path: expected[path] for path in REST}


def test_latest_is_the_newest_by_version_order(archive: Archive, tmp_path: Path) -> None:
    listing = listing_of(archive.site(), tmp_path, version=LATEST, include=("CHANGES",))
    assert listing.version == "1.10.0"
    assert listing.resolved == {"commit": archive.commits["1.10.0"]}
    assert not openneuro.is_fixed(OpenNeuroSource(archive="openneuro", accession=HBN, version=LATEST))


def test_a_mirror_that_is_there_answers_offline(archive: Archive, tmp_path: Path) -> None:
    online = listing_of(archive.site(), tmp_path, version="1.0.1")
    gone = archive.site(host=tmp_path / "nothing").model_copy(update={"offline": True})
    assert listing_of(gone, tmp_path, version="1.0.1") == online
    with pytest.raises(UserError, match="offline"):
        listing_of(gone, tmp_path / "elsewhere", version="1.0.1")


def test_a_tag_that_moved_is_refused(archive: Archive, tmp_path: Path) -> None:
    pinned = archive.commits["1.9.0"]
    with pytest.raises(UserError, match=f"{pinned} when it was pinned, and is {archive.commits['1.0.1']} now"):
        listing_of(archive.site(), tmp_path, version="1.0.1", commit=pinned)
    assert listing_of(archive.site(), tmp_path, version="1.9.0", commit=pinned).version == "1.9.0"


def test_a_remote_given_up_is_not_asked(archive: Archive, tmp_path: Path) -> None:
    archive.server.make_bucket("openneuro.org-old", versioned=True)
    dataset = annexed_dataset(tmp_path / "work", "ds000228", server=archive.server)
    dataset.commit({"sub-1/a.edf": archive.recording, "README": b"old\n"}, annexed=(".edf",), tag="1.0.0")
    dataset.add_remote("s3-PUBLIC")
    dataset.export("1.0.0")
    # The last line of the log, and the newer record: only that it is dead speaks against it.
    dataset.add_remote("s3-OLD", bucket="openneuro.org-old", publicurl="https://s3.amazonaws.com/openneuro.org-old")
    dataset.export("1.0.0", to="s3-OLD")
    dataset.mirror(tmp_path / "host")
    site = archive.site(host=tmp_path / "host")
    before = listing_of(site, tmp_path / "a", accession="ds000228", version="1.0.0", include=("**/*.edf",))
    assert before.files[0].origin == "s3://openneuro.org-old/ds000228/sub-1/a.edf"
    dataset.git("annex", "dead", "s3-OLD")
    dataset.mirror(tmp_path / "host")
    listing = listing_of(site, tmp_path / "b", accession="ds000228", version="1.0.0", include=("**/*.edf",))
    assert listing.files[0].origin == "s3://openneuro.org/ds000228/sub-1/a.edf"
    fetched(listing.files, site=site, home=tmp_path / "b")
    assert contents(tmp_path / "b" / "raw") == {"sub-1/a.edf": archive.recording}


def test_an_unlocked_file_is_not_taken_for_its_pointer(archive: Archive, tmp_path: Path) -> None:
    dataset = annexed_dataset(tmp_path / "work", "ds000030", server=archive.server)
    dataset.git("config", "annex.addunlocked", "true")
    dataset.commit({"sub-1/a.edf": archive.recording}, annexed=(".edf",), tag="1.0.0")
    dataset.add_remote("s3-PUBLIC")
    dataset.export("1.0.0")
    bare = dataset.mirror(tmp_path / "host")
    assert "120000" not in dataset.git("--git-dir", str(bare), "ls-tree", "-r", "1.0.0")
    site = archive.site(host=tmp_path / "host")
    [file] = listing_of(site, tmp_path, accession="ds000030", version="1.0.0").files
    assert file.digest == f"sha256:{hashlib.sha256(archive.recording).hexdigest()}"
    assert file.origin == "s3://openneuro.org/ds000030/sub-1/a.edf"


def test_what_is_not_exported_comes_from_openneuro_itself(archive: Archive, tmp_path: Path) -> None:
    dataset = annexed_dataset(tmp_path / "work", "ds000031", server=archive.server)
    dataset.add_remote("s3-PUBLIC")
    dataset.commit({"sub-1/a.edf": archive.recording, "README": b"new\n"}, annexed=(".edf",), tag="1.0.0")
    dataset.mirror(tmp_path / "host")
    with openneuro_server(tmp_path / "host", s3=archive.server.url) as server:
        key = dataset.git("annex", "lookupkey", "sub-1/a.edf").strip()
        server.annex[key] = archive.recording
        site = archive.site(host=tmp_path / "host", graphql=server.graphql)
        listing = listing_of(site, tmp_path, accession="ds000031", version="1.0.0")
        assert [file.origin for file in listing.files] == [
            f"git://openneuro/ds000031@{listing.resolved['commit']}/README",
            "openneuro://ds000031/1.0.0/sub-1/a.edf",
        ]
        assert not server.asked
        summary = fetched(listing.files, site=site, home=tmp_path)
        assert not summary.failed
        assert not summary.quarantined
    assert contents(tmp_path / "raw") == {"README": b"new\n", "sub-1/a.edf": archive.recording}


def test_derivatives_are_had_by_commit_with_md5(archive: Archive, tmp_path: Path) -> None:
    archive.server.make_bucket("openneuro-derivatives", versioned=True)
    name = "ds000005-fmriprep"
    dataset = annexed_dataset(tmp_path / "work", name, server=archive.server, bucket="openneuro-derivatives")
    dataset.git("config", "annex.backend", "MD5E")
    dataset.add_remote("s3-unversioned", versioning="no", fileprefix=f"fmriprep/{name}/")
    bold = "sub-01/func/sub-01_task-rest_space-fsLR_den-91k_bold.dtseries"
    files = {f"{bold}.nii": archive.recording, f"{bold}.json": b'{"RepetitionTime": 2.0}'}
    commit = dataset.commit(files, annexed=(".nii",))
    dataset.export("main", to="s3-unversioned")
    dataset.mirror(tmp_path / "host")
    site = archive.site(host=tmp_path / "host")
    latest = listing_of(site, tmp_path, accession=name, version=LATEST)
    assert latest.version == commit
    assert not latest.resolved
    assert latest.facts == {"expect.subjects": 1, "expect.native_rate_hz": 0.5}
    listing = listing_of(site, tmp_path, accession=name, version=commit)
    assert listing == latest
    volume = listing.files[1]
    assert volume.digest == f"md5:{hashlib.md5(archive.recording).hexdigest()}"
    assert volume.origin == f"s3://openneuro-derivatives/fmriprep/{name}/{bold}.nii"
    assert not volume.version_id
    fetched(listing.files, site=site, home=tmp_path)
    assert contents(tmp_path / "raw") == files
