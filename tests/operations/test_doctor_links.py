"""What DVC's links cost persisted outputs, tried with DVC itself on a filesystem with reflinks and on one without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dvc_objects.fs.system import reflink

from neurofm.operations.doctor import CHECKS, Finding, Place, Verdict, examine
from tests.operations.conftest import PROJECT
from tests.servers.fixtures import missing_part

SIZE = 20_000_000
PIPELINE = """\
stages:
  shards:
    cmd: python make.py
    deps: [make.py, count.txt]
    outs:
      - data/shards:
          persist: true
"""
STAGE = """\
import os
from pathlib import Path

shards = Path("data/shards")
shards.mkdir(parents=True, exist_ok=True)
for number in range(int(Path("count.txt").read_text())):
    path = shards / f"{number}.bin"
    if path.exists():
        print("met", path.lstat().st_ino, path.lstat().st_nlink, path.is_symlink())
    else:
        path.write_bytes(os.urandom(SIZE))
"""


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the mount point of a filesystem with reflinks, 400 MB."""
    folder = tmp_path_factory.mktemp("xfs")
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    for command in (["mkfs.xfs", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if program is None:
            missing_part(f"no {command[0]} on this machine; to run these tests: apt-get install xfsprogs mount")
            return
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
        if done.returncode:
            missing_part(f"xfs cannot be mounted here (it needs root): {done.stderr.strip()}")
            return
    yield place
    subprocess.run(["umount", str(place)], check=True)


def small_project(root: Path, *, links: str) -> Path:
    """A project with one persisted output of two files, built and committed."""
    root.mkdir(parents=True)
    shutil.copytree(PROJECT / "data" / "catalog", root / "data" / "catalog")
    shutil.copy(PROJECT / "params.yaml", root)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(
        f"[core]\n    analytics = false\n    no_scm = true\n[cache]\n    type = {links}\n"
    )
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "make.py").write_text(STAGE.replace("SIZE", str(SIZE)))
    (root / "count.txt").write_text("2")
    dvc(root, "repro")
    return root


def skip_with_reflinks(folder: Path) -> None:
    (folder / "one").write_bytes(b"x")
    with suppress(OSError):
        reflink(str(folder / "one"), str(folder / "other"))  # type: ignore[no-untyped-call]
        pytest.skip(f"{folder} is on a filesystem with reflinks; set TMPDIR to one without")


def dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    binaries = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        [str(binaries / "dvc"), *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def said(root: Path) -> Finding:
    (finding,) = examine(Place.at(root), checks={"cache links": CHECKS["cache links"]})
    return finding


def used(root: Path) -> int:
    os.sync()
    found = os.statvfs(root)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.parametrize(
    ("links", "verdict"),
    [("reflink,copy", Verdict.OK), ("hardlink", Verdict.NOTE), ("symlink", Verdict.NOTE)],
)
def test_only_reflinks_leave_persisted_files_where_they_are(xfs: Path, links: str, verdict: Verdict) -> None:
    copied_out = links != "reflink,copy"
    before = used(xfs)
    root = small_project(xfs / links, links=links)
    try:
        assert used(xfs) - before < 3 * SIZE  # Two files, and no second copy of either.
        shards = root / "data" / "shards"
        inodes = {path.lstat().st_ino for path in shards.iterdir()}
        assert all(path.is_symlink() == (links == "symlink") for path in shards.iterdir())
        assert all((path.stat().st_mode & 0o200 == 0) == copied_out for path in shards.iterdir())  # Read-only.

        (root / "count.txt").write_text("3")
        ran = dvc(root, "repro").stdout
        met = [line.split()[1:] for line in ran.splitlines() if line.startswith("met")]
        assert len(met) == 2
        # While the stage runs, DVC has put copies in the place of links.
        assert {(nlink, is_link) for _, nlink, is_link in met} == {("1", "False")}
        assert ({int(inode) for inode, *_ in met} == inodes) != copied_out

        finding = said(root)
        assert finding.verdict is verdict
        assert ("copies them whole" in finding.said) == copied_out
        assert ("read-only" in finding.said) == (links == "hardlink")
        if finding.mend:
            for command in finding.mend.split(" && "):
                assert dvc(root, *command.split()[1:]).returncode == 0
            assert said(root).verdict is Verdict.OK
            assert not any(path.is_symlink() or path.stat().st_nlink > 1 for path in shards.iterdir())
    finally:
        shutil.rmtree(root)


def test_links_that_the_filesystem_lacks_break_checkout(tmp_path: Path) -> None:
    skip_with_reflinks(tmp_path)
    root = small_project(tmp_path / "lab", links="reflink,copy")
    assert said(root).verdict is Verdict.NOTE
    assert "lie on disk twice" in said(root).said
    config = root / ".dvc" / "config"
    config.write_text(config.read_text().replace("reflink,copy", "reflink"))
    finding = said(root)
    assert finding.verdict is Verdict.PROBLEM
    shutil.rmtree(root / "data" / "shards")
    assert dvc(root, "checkout").returncode != 0
    assert dvc(root, *finding.mend.split()[1:]).returncode == 0
    assert dvc(root, "checkout").returncode == 0
    assert said(root).verdict is Verdict.NOTE


def test_symlinks_without_room_for_copies_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_with_reflinks(tmp_path)
    root = small_project(tmp_path / "lab", links="symlink")
    assert said(root).verdict is Verdict.NOTE
    real = os.statvfs(root)
    fields = list(real)
    fields[4] = SIZE // real.f_frsize  # f_bavail: room for one of two.
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    assert "copies them whole" in said(root).said
    assert said(root).verdict is Verdict.PROBLEM
