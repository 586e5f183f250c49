"""Bare mirrors, cloned by the real git from repositories on this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.fetch import DatasetKey, FetchSummary, Ledger, fetch_files
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.mirror import mirror, read_object, read_objects
from neurofm.recording import ManifestFile
from tests.servers.fixtures import sha256

ACCESSION = "ds000001"
WHO = DatasetKey(dataset="d", archive="openneuro", version="1.0.0")


def git(folder: Path, *arguments: str) -> str:
    name = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        check=True, capture_output=True, text=True, env=os.environ | name,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    folder = tmp_path / "host" / ACCESSION
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "small.json").write_bytes(b"{}")
    (folder / "large.bin").write_bytes(os.urandom(9 << 20))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    git(folder, "tag", "1.0.0")
    return folder


@pytest.fixture
def site(upstream: Path) -> FetchSite:
    return FetchSite(hosts=Hosts(openneuro_git=upstream.parent.as_uri()), attempts=2, longest_pause_s=0.0)


def clone(site: FetchSite, work: Path, *needs: str) -> Path:
    return mirror("openneuro", ACCESSION, site=site, work=work, needs=needs)


def test_what_is_there_needs_no_host(upstream: Path, site: FetchSite, tmp_path: Path) -> None:
    folder = clone(site, tmp_path / "work", "refs/tags/1.0.0")
    upstream.rename(upstream.with_name("gone"))
    assert clone(site, tmp_path / "work", "refs/tags/1.0.0") == folder
    assert clone(site.model_copy(update={"offline": True}), tmp_path / "work", "refs/tags/1.0.0") == folder
    with pytest.raises(UserError, match="does not appear to be a git repository"):
        clone(site, tmp_path / "work")


def test_news_come_when_asked_for(upstream: Path, site: FetchSite, tmp_path: Path) -> None:
    clone(site, tmp_path / "work", "refs/tags/1.0.0")
    git(upstream, "commit", "-q", "--allow-empty", "-m", "second")
    git(upstream, "tag", "1.0.1")
    folder = clone(site, tmp_path / "work", "refs/tags/1.0.1")
    assert git(folder, "rev-parse", "1.0.1") == git(upstream, "rev-parse", "HEAD")
    with pytest.raises(UserError, match=r"has no refs/tags/9"):
        clone(site, tmp_path / "work", "refs/tags/9")


def test_objects_come_in_order_and_holes_are_none(site: FetchSite, tmp_path: Path) -> None:
    folder = clone(site, tmp_path / "work")
    names = ["1.0.0:small.json", "1.0.0:nothing", "1.0.0:small.json\n1.0.0:small.json", "1.0.0:small.json"]
    assert list(read_objects(folder, names)) == [b"{}", None, None, b"{}"]
    early = read_objects(folder, (f"1.0.0:small.json{number * ' '}" for number in range(100_000)))
    assert next(early) == b"{}"
    early.close()  # type: ignore[attr-defined]  # a generator
    with pytest.raises(LookupError):
        list(read_object(folder, "1.0.0:nothing"))


@pytest.mark.parametrize("url", ["ext::sh -c 'touch /tmp/neurofm-pwned'", "https://me:5ecret@127.0.0.1:1"])
def test_no_program_is_run_and_no_password_is_said(url: str, tmp_path: Path) -> None:
    site = FetchSite(hosts=Hosts(openneuro_git=url), attempts=1)
    with pytest.raises(UserError) as caught:
        clone(site, tmp_path)
    assert "5ecret" not in str(caught.value)
    assert not Path("/tmp/neurofm-pwned").exists()


@pytest.mark.parametrize("accession", ["../ds1", "-x", "a/b", "", "a..b"])
def test_names_do_not_lead_elsewhere(accession: str, site: FetchSite, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the name of a repository"):
        mirror("openneuro", accession, site=site, work=tmp_path)


def test_hooks_do_not_run(site: FetchSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "reference-transaction").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (hooks / "reference-transaction").chmod(0o755)
    (tmp_path / "config").write_text(f"[core]\n\thooksPath = {hooks}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    clone(site, tmp_path / "work")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "elsewhere").exists()


def fetched(site: FetchSite, home: Path, files: list[ManifestFile]) -> FetchSummary:
    with Ledger.open(home / "ledger.sqlite") as ledger:
        return fetch_files(files, who=WHO, folder=home / "raw", ledger=ledger, site=site, work=home / "work")


def test_files_of_a_mirror_need_no_request_and_a_lost_mirror_is_cloned(
    upstream: Path, site: FetchSite, tmp_path: Path
) -> None:
    commit = git(upstream, "rev-parse", "HEAD")
    contents = {name: (upstream / name).read_bytes() for name in ("small.json", "large.bin")}
    files = [
        ManifestFile(
            path=f"sub-01/{name}", size=len(content), digest=sha256(content),
            origin=f"git://openneuro/{ACCESSION}@{commit}/{name}",
        )
        for name, content in contents.items()
    ]  # fmt: skip
    missing = files[0].model_copy(update={"path": "none", "origin": f"{files[0].origin}.gone"})
    wrong = files[0].model_copy(update={"path": "wrong", "digest": "md5:" + 32 * "0"})
    summary = fetched(site, tmp_path, [*files, missing, wrong])
    assert (summary.fetched_files, summary.requests) == (2, 0)
    assert set(summary.quarantined) == {"none", "wrong"}
    assert {name: (tmp_path / "raw" / "sub-01" / name).read_bytes() for name in contents} == contents
    assert (tmp_path / "work" / "quarantine" / "d" / "wrong").read_bytes() == contents["small.json"]
