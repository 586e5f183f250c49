"""Trees and logs of every kind that people write, and those that nobody writes by accident."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import pytest

from neurofm.catalog import LATEST
from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.sources.annex import AnnexKey
from neurofm.sources.listing import Listing
from tests.servers.annex_repo import (
    UUID,
    BareRepository,
    Link,
    Submodule,
    annex_key,
    link_to,
    log_of,
    remote_line,
    version_line,
)
from tests.servers.openneuro_archive import listing_of

ACCESSION, DERIVED = "ds000001", "ds000001-fmriprep"
OTHER = "66a7004d-a15e-4764-90cd-54bbd179f74a"
CONTENT = b"a recording"
PATH = "sub-1/eeg/sub-1_task-rest_eeg.edf"
KEY = annex_key(CONTENT, "eeg.edf")


@pytest.fixture
def repository(tmp_path: Path) -> BareRepository:
    return BareRepository(folder=tmp_path / "host" / ACCESSION)


def listed(tmp_path: Path, *, accession: str = ACCESSION, version: str = "1.0.0", **source: object) -> Listing:
    host = (tmp_path / "host").as_uri()
    hosts = Hosts(
        openneuro_git=host,
        openneuro_derivatives_git=host,
        openneuro_graphql="http://127.0.0.1:9/",
        s3="http://127.0.0.1:9",
    )
    site = FetchSite(hosts=hosts, attempts=1, timeout_s=5.0)
    return listing_of(site, tmp_path / "work", accession=accession, version=version, **source)


def annexed(repository: BareRepository, *, key: str = KEY, path: str = PATH, logs: Mapping[str, bytes]) -> None:
    """Commit one annexed file, with logs by name (``.log.rmet`` and the like are the key's)."""
    repository.commit({path: link_to(key, path)}, tag="1.0.0")
    branch = {log_of(key, name) if name.startswith(".") else name: content for name, content in logs.items()}
    repository.commit(branch, branch="git-annex")


@pytest.mark.parametrize(
    "name", [b"..", b".git", b".GIT", b"a\nb", b"a\x01b", b"\xff\xfe", b"/etc", b"a\\b", b"."], ids=repr
)
def test_hostile_names_refuse_the_whole_version(tmp_path: Path, repository: BareRepository, name: bytes) -> None:
    blob = bytes.fromhex(repository.git("hash-object", "-w", "--stdin", stdin=b"x").strip())
    inside = b"100644 passwd\0" + blob
    repository.commit_tree([("40000", name, inside), ("100644", b"README", b"fine\n")], tag="1.0.0")
    with pytest.raises(UserError, match=r"ds000001 1\.0\.0: the archive lists a hostile path") as caught:
        listed(tmp_path, include=("README",))
    assert str(caught.value).isprintable()


def test_what_leads_elsewhere_is_left_out(tmp_path: Path, repository: BareRepository) -> None:
    repository.commit(
        {
            "README": b"fine\n",
            "absolute": Link(target="/etc/passwd"),
            "outside": Link(target=f"../../{KEY}"),
            "inside": Link(target="README"),
            "almost": Link(target=".git/annex/objects/xx/yy/nothing"),
            "sourcedata": Submodule(),
        },
        tag="1.0.0",
    )
    assert [file.path for file in listed(tmp_path).files] == ["README"]


def test_versions_are_those_of_the_branch(tmp_path: Path, repository: BareRepository) -> None:
    name = f"{ACCESSION}/{PATH}"
    annexed(
        repository,
        logs={"remote.log": remote_line(ACCESSION), ".log.rmet": version_line("vQ.1_", name)},
    )
    [file] = listed(tmp_path).files
    assert file.origin == f"s3://openneuro.org/{name}"
    assert file.version_id == "vQ.1_"
    assert file.size == len(CONTENT)
    assert file.digest == f"sha256:{KEY[KEY.index('--') + 2 : KEY.index('.')]}"


NAME = f"{ACCESSION}/{PATH}"
PRIVATE = remote_line(ACCESSION, uuid=OTHER, bucket="openneuro-private", publicurl="no", name="s3-PRIVATE")
BASE64 = base64.b64encode(f"v#{NAME}".encode()).decode()


@pytest.mark.parametrize(
    ("logs", "origin", "version_id"),
    [
        # The newest of several, whatever the lines' order; one that was withdrawn is none.
        ([version_line("new", NAME, seconds=20), version_line("old", NAME, seconds=10)], NAME, "new"),
        (
            [
                version_line("kept", NAME, seconds=10),
                version_line("gone", NAME, seconds=20),
                f"30s {UUID}:V -gone#{NAME}\n".encode(),
            ],
            NAME,
            "kept",
        ),
        ([f"5s {UUID}:V +a#{NAME} -b#{NAME} {OTHER}:V +c#{NAME}\n".encode()], NAME, "a"),
        # The file's own object before another with the same bytes.
        (
            [version_line("own", NAME, seconds=10), version_line("twin", f"{ACCESSION}/twin.edf", seconds=20)],
            NAME,
            "own",
        ),
        (
            [version_line("moved", f"{ACCESSION}/old name", seconds=10).replace(b"old name", b"old")],
            "ds000001/old",
            "moved",
        ),
        ([f"5s {UUID}:V +!{BASE64}\n".encode()], NAME, "v"),
        ([f"5s {UUID}:V +!not-base64\n".encode(), version_line("v", NAME)], NAME, "v"),
        ([version_line("null", NAME)], NAME, ""),
        ([version_line("p", NAME, uuid=OTHER, seconds=99), version_line("v", NAME, seconds=1)], NAME, "v"),
        ([version_line("v", f"{NAME}#1")], f"{NAME}#1", "v"),
    ],
)
def test_of_several_records_the_right_one(
    tmp_path: Path, repository: BareRepository, logs: list[bytes], origin: str, version_id: str
) -> None:
    annexed(repository, logs={"remote.log": remote_line(ACCESSION) + PRIVATE, ".log.rmet": b"".join(logs)})
    [file] = listed(tmp_path).files
    assert (file.origin, file.version_id) == (f"s3://openneuro.org/{origin}", version_id)


@pytest.mark.parametrize(
    ("logs", "origin"),
    [
        ({}, f"openneuro://{ACCESSION}/1.0.0/{PATH}"),
        ({"remote.log": remote_line(ACCESSION)}, f"openneuro://{ACCESSION}/1.0.0/{PATH}"),
        # There, but as which version is not on record.
        (
            {"remote.log": remote_line(ACCESSION), ".log": f"1s 1 {UUID}\n".encode()},
            f"s3://openneuro.org/{NAME}",
        ),
        (
            {"remote.log": remote_line(ACCESSION), ".log": f"1s 1 {UUID}\n2s 0 {UUID}\n".encode()},
            f"openneuro://{ACCESSION}/1.0.0/{PATH}",
        ),
        (
            {"remote.log": remote_line(ACCESSION, exporttree="no"), ".log": f"1s 1 {UUID}\n".encode()},
            f"s3://openneuro.org/{ACCESSION}/{KEY}",
        ),
        # A bucket that is not for everybody.
        (
            {"remote.log": PRIVATE, ".log.rmet": version_line("v", NAME, uuid=OTHER)},
            f"openneuro://{ACCESSION}/1.0.0/{PATH}",
        ),
        # Given up, and given up but taken back.
        (
            {
                "remote.log": remote_line(ACCESSION),
                ".log.rmet": version_line("v", NAME),
                "trust.log": f"{UUID} X timestamp=1600000000.1s\n".encode(),
            },
            f"openneuro://{ACCESSION}/1.0.0/{PATH}",
        ),
        (
            {
                "remote.log": remote_line(ACCESSION),
                ".log.rmet": version_line("v", NAME),
                "trust.log": f"{UUID} X timestamp=1s\n{UUID} ? timestamp=2s\n\n".encode(),
            },
            f"s3://openneuro.org/{NAME}",
        ),
        # A line that changes the bucket's prefix; spaces are escaped.
        (
            {
                "remote.log": remote_line(ACCESSION, seconds=9, fileprefix="a&32;b/")
                + remote_line(ACCESSION, seconds=1),
                ".log": f"1s 1 {UUID}\n".encode(),
            },
            f"s3://openneuro.org/a b/{PATH}",
        ),
        (
            {"remote.log": b"\nnonsense\n" + remote_line(ACCESSION, type="external")},
            f"openneuro://{ACCESSION}/1.0.0/{PATH}",
        ),
    ],
)
def test_where_no_version_is_on_record(
    tmp_path: Path, repository: BareRepository, logs: dict[str, bytes], origin: str
) -> None:
    annexed(repository, logs=logs or {"uuid.log": b""})
    assert [file.origin for file in listed(tmp_path).files] == [origin]


def test_a_repository_without_annexs_branch(tmp_path: Path, repository: BareRepository) -> None:
    repository.commit({PATH: link_to(KEY, PATH), "README": b"fine\n"}, tag="1.0.0")
    assert [file.origin for file in listed(tmp_path).files][1] == f"openneuro://{ACCESSION}/1.0.0/{PATH}"
    derived = BareRepository(folder=tmp_path / "host" / DERIVED)
    files = {f"sub-{number}/bold.nii.gz": link_to(KEY, f"sub-{number}/bold.nii.gz") for number in range(5)}
    commit = derived.commit(files)
    with pytest.raises(UserError, match=r"no bucket is on record for sub-0/bold\.nii\.gz, .* and 2 more"):
        listed(tmp_path, accession=DERIVED, version=commit)
    # What is not wanted is no trouble.
    assert not listed(tmp_path, accession=DERIVED, version=commit, exclude=("**/*.nii.gz",)).files


@pytest.mark.parametrize(
    ("key", "digest", "size"),
    [
        ("MD5E-s12--" + "a" * 32 + ".nii.gz", "md5:" + "a" * 32, 12),
        ("MD5-s12--" + "a" * 32, "md5:" + "a" * 32, 12),
        ("SHA256E-s65536--" + "c" * 64 + "COR-001", "sha256:" + "c" * 64, 65536),
        ("SHA256E-s1-S2-C3--" + "c" * 64, "sha256:" + "c" * 64, 1),
        ("BLAKE2B512E-s1--" + "d" * 128 + ".set", "blake2b:" + "d" * 128, 1),
        ("SHA1E-s5--" + "e" * 40 + ".set", "first-use", 5),
        ("SHA256E-s5--" + "C" * 64 + ".set", "first-use", 5),
        ("SHA256E-s5--" + "c" * 63, "first-use", 5),
        ("WORM-s3-m1588743361--a-b.set", "first-use", 3),
        ("URL--http&c%%example.org%a", "first-use", None),
    ],
)
def test_keys_tell_size_and_digest(key: str, digest: str, size: int | None) -> None:
    assert AnnexKey.parse(key) == AnnexKey(name=key, size=size, digest=digest)


@pytest.mark.parametrize("name", ["", "README", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", "sha256-s1--c", "A--"])
def test_other_names_are_no_keys(name: str) -> None:
    assert AnnexKey.parse(name) is None


def test_a_key_without_size_is_refused_where_it_is_wanted(tmp_path: Path, repository: BareRepository) -> None:
    annexed(repository, key="URL--http&c%%example.org%a", logs={"remote.log": remote_line(ACCESSION)})
    with pytest.raises(UserError, match="does not tell its size"):
        listed(tmp_path)
    assert not listed(tmp_path, exclude=("sub-1/**",)).files


@pytest.mark.parametrize("version", ["9.9.9", "1.0.0^{/x}", "--upload-pack=x", "main"])
def test_a_version_that_is_not_there(tmp_path: Path, repository: BareRepository, version: str) -> None:
    repository.commit({"README": b"fine\n"}, tag="1.0.0")
    with pytest.raises(UserError, match=r"9\.9\.9|not a tag|main"):
        listed(tmp_path, version=version)


def test_a_dataset_without_versions_has_no_latest(tmp_path: Path, repository: BareRepository) -> None:
    repository.commit({"README": b"fine\n"})
    with pytest.raises(UserError, match="has no version"):
        listed(tmp_path, version=LATEST)


def test_an_annotated_tag_is_its_commit(tmp_path: Path, repository: BareRepository) -> None:
    commit = repository.commit({"README": b"fine\n"})
    repository.git("tag", "-m", "first", "1.0.0", commit)
    assert listed(tmp_path).resolved == {"commit": commit}
    assert listed(tmp_path, commit=commit).files[0].origin == f"git://openneuro/{ACCESSION}@{commit}/README"


def test_the_main_branch_of_derivatives(tmp_path: Path) -> None:
    derived = BareRepository(folder=tmp_path / "host" / DERIVED)
    commit = derived.commit({"README": b"fine\n"}, branch="master")
    derived.commit({"uuid.log": b"x\n"}, branch="git-annex")
    assert listed(tmp_path, accession=DERIVED, version=LATEST).version == commit
    newer = derived.commit({"README": b"finer\n"}, branch="main")
    assert listed(tmp_path, accession=DERIVED, version=LATEST).version == newer


def test_facts_are_read_leniently(tmp_path: Path, repository: BareRepository) -> None:
    repository.commit(
        {
            "dataset_description.json": b'{"License": ["CC0"], "DatasetDOI": null}',
            "task-rest_eeg.json": b"not json",
            "sub-1/eeg/sub-1_channels.tsv": b"name\tunits\nCz\tuV\nPz\tuV\n\n",
        },
        tag="1.0.0",
    )
    assert listed(tmp_path).facts == {"expect.subjects": 1, "expect.channels": [2]}
