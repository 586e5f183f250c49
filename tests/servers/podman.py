"""A podman of the tests' own: its own store, a base image made of Debian's packages, and the project's image on it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
INSTALL = "apt-get install --no-install-recommends podman runc catatonit podman-docker mmdebstrap"
BASE = "localhost/neurofm-test-base:bookworm"
"""Debian with Python: no registry can be reached."""
PACKAGES = "python3,python3-venv,ca-certificates,git"
_IN_MEMORY = Path("/dev/shm")  # it is this tool's folder for temporary files
_BASE_BYTES = 2 * 10**9
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/store"
runroot = "{folder}/run"
"""
# A machine of cgroup version 1 and 2 together needs runc; cgroups cannot be left out.
_CONTAINERS = """
[containers]
cgroups = "enabled"
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
[network]
network_backend = "cni"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


def missing_program() -> str:
    """Return a program that these tests need and this machine lacks; empty if there is none."""
    programs = ("podman", "runc", "catatonit", "mmdebstrap", "/usr/bin/docker")
    return next((name for name in programs if shutil.which(name) is None), "")


class Podman:
    """Podman with a store in `folder`, which is kept: what is in it is made once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
        (folder / "containers.conf").write_text(_CONTAINERS)
        self.folder = folder
        self.env = {
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "NEUROFM_BASE_IMAGE": BASE,
        }

    def ask(self, *arguments: str, check: bool = True) -> str:
        """Run a command of podman and return what it says."""
        done = subprocess.run(
            ["podman", *arguments], env=os.environ | self.env, capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def containers(self) -> list[str]:
        """Return the names of all containers of ours, running or not."""
        return self.ask("ps", "--all", "--filter", "label=org.neurofm.container", "--format", "{{.Names}}").split()

    def has(self, image: str) -> bool:
        """Whether an image is in the store."""
        return bool(self.ask("images", "--quiet", image))

    def make_base(self) -> None:
        """Make the base image if it is not there; about half a minute."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.has(BASE):
                return
            tar = self.folder / "base.tar"
            # dpkg waits for the disk after every file; in memory it is twice as fast.
            roomy = _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _BASE_BYTES
            subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(tar)],
                env=os.environ | ({"TMPDIR": str(_IN_MEMORY)} if roomy else {}),
                check=True,
            )
            self.ask("import", "--quiet", str(tar), BASE)
            tar.unlink()
