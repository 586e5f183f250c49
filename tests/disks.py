"""Small disks of their own, by loop mount: full when a test says so."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, *, image: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a new ext4 at `place`; skips the test where that is not allowed, but fails it in CI."""
    place.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(kilobytes << 10)
    plain = ["-q", "-F", "-b", "1024", "-N", "64", "-m", "0", "-O", "^has_journal,^resize_inode"]
    for command in (["mkfs.ext4", *plain, str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        if (complaint := _run(command)) and os.environ.get("CI"):
            pytest.fail(f"CI must be able to mount a small disk: {complaint}")
        if complaint:
            pytest.skip(f"a small disk cannot be mounted here (it needs root): {complaint}")
    try:
        yield place
    finally:
        assert not _run(["umount", str(place)])


def _run(command: list[str]) -> str:
    """Run a command; returns its complaint."""
    binary = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if binary is None:
        return f"{command[0]} is not installed"
    done = subprocess.run([binary, *command[1:]], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{' '.join(command)}: {done.stderr.strip() or done.returncode}"
