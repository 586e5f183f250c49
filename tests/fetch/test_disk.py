"""A disk that fills up in the middle of a fetch: a real one, mounted for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.fetch.ledger import FileState
from neurofm.recording.manifest import digest_in_groups
from tests.servers.fixtures import (  # noqa: F401  # fixtures are found by their names
    Fetching,
    edf_fixture,
    files_fixture,
    missing_part,
    served,
    uncollected_fixture,
)
from tests.servers.http_files import FileServer, Request

SMALL, LARGE = "4m", "64m"


@dataclass(frozen=True)
class Disk:
    """A filesystem of a few megabytes."""

    folder: Path

    def grow(self) -> None:
        subprocess.run(["mount", "-o", f"remount,size={LARGE}", str(self.folder)], check=True, capture_output=True)

    def fill(self, *, but: int) -> None:
        """Leave only so many bytes free, as another program would."""
        free = shutil.disk_usage(self.folder).free
        (self.folder / "filler").write_bytes(bytes(max(0, free - but)))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if os.geteuid() == 0 and shutil.which("mount")
        else None
    )
    if mounted is None or mounted.returncode:
        missing_part(f"mounting a small filesystem needs root: {mounted.stderr.strip() if mounted else 'not root'}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@pytest.mark.parametrize("ledger_too", [False, True], ids=["raw folder", "raw folder and ledger"])
def test_a_disk_that_fills_up_in_the_middle(
    disk: Disk,
    files: FileServer,
    edf: bytes,
    tmp_path: Path,
    ledger_too: bool,  # noqa: FBT001
) -> None:
    files.files = {f"/sub-{number:02}/eeg.edf": edf[number:] for number in range(4)}
    manifest = served(files)

    def filling(request: Request) -> str:
        # There is room when the fetch begins; another program takes it while the third file is on its way.
        if len(files.requests()) == 3:
            disk.fill(but=300_000)
        return request.path

    files.route = filling
    here = Fetching(home=disk.folder if ledger_too else tmp_path)
    here.raw = disk.folder / "raw"
    with pytest.raises(UserError, match=r"disk|space|room"):
        here.fetch(manifest, connections_per_host=1)
    contents = {path[1:]: content for path, content in files.files.items()}
    before = here.present()
    assert before.items() <= contents.items()
    assert set(before) >= {"sub-00/eeg.edf"}
    disk.grow()
    files.forget()
    summary = here.fetch(manifest, connections_per_host=1)
    assert (summary.failed, summary.quarantined) == ({}, {})
    assert here.present() == contents
    assert set(here.states().values()) == {FileState.VERIFIED}
    assert {request.path[1:] for request in files.asked} == contents.keys() - before.keys()


def test_a_disk_that_is_too_small_from_the_start(disk: Disk, files: FileServer, edf: bytes, tmp_path: Path) -> None:
    files.files = {f"/sub-{number:02}/eeg.edf": edf[number:] for number in range(8)}
    here = Fetching(home=tmp_path)
    here.raw = disk.folder / "raw"
    with pytest.raises(UserError, match=r"disk|free|room"):
        here.fetch(served(files))
    contents = {path[1:]: content for path, content in files.files.items()}
    assert here.present().items() <= contents.items()


def test_a_folder_that_may_not_be_written(files: FileServer, edf: bytes, disk: Disk, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True, capture_output=True)
    files.files = {"/eeg.edf": edf}
    here = Fetching(home=tmp_path)
    here.raw = disk.folder / "raw"
    with pytest.raises(UserError):
        here.fetch(served(files))


@pytest.mark.usefixtures("uncollected")
def test_groups_fit_where_the_whole_file_does_not_and_a_full_disk_is_said(
    disk: Disk, files: FileServer, small_nwb: Path, tmp_path: Path
) -> None:
    content = small_nwb.read_bytes()
    files.files = {"/a.nwb": content}
    (file,) = (one.model_copy(update={"digest": digest_in_groups(one.digest, ["units"])}) for one in served(files))
    fetching = Fetching(home=tmp_path)
    fetching.raw = disk.folder / "raw"
    disk.fill(but=200_000)
    with pytest.raises(UserError, match="the disk is full"):
        fetching.fetch([file])
    assert not any(path.is_file() for path in fetching.raw.rglob("*"))
    assert fetching.states() == {"a.nwb": FileState.FAILED}
    (disk.folder / "filler").unlink()
    assert shutil.disk_usage(disk.folder).free < len(content)
    assert fetching.fetch([file]).fetched_files == 1
