"""What is to be run in a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neurofm.containers.image import Image
from neurofm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A file or folder of this machine that is seen inside."""

    source: Path
    target: Path | None = None
    """Where it is inside; None for the same path."""
    writable: bool = False

    @property
    def inside(self) -> Path:
        """Where it is inside."""
        return self.target or self.source


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a container may take; None for whatever there is."""

    memory_gb: float | None = None
    """2^30 bytes; swap is not on top of it."""
    cpus: float | None = None
    seconds: float | None = None
    """After which it is stopped."""
    grace_s: float = 10.0
    """From being asked to end (SIGTERM, or SIGINT after Ctrl-C) to being killed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One container: its image, command, mounts and limits. It sees nothing of this machine but the mounts."""

    image: Image
    command: tuple[str, ...]
    """Program and arguments; arguments alone where `entrypoint` is kept."""
    keep_entrypoint: bool = False
    """Let the image's own entrypoint get `command` as arguments, as ``fmriprep`` in its image."""
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables inside, with their values: whoever lists processes sees them, so that nothing secret belongs here."""
    inherited: tuple[str, ...] = ()
    """Names of this process's own variables that are handed on. They may hold credentials: the engine is told names."""
    workdir: Path | None = None
    limits: Limits = Limits()
    network: bool = False
    """This machine's network; without it there is none."""
    gpus: bool = False

    def __post_init__(self) -> None:
        for mount in self.mounts:
            for path in (mount.source, mount.inside):
                # docker, podman and apptainer part source, target and options with colons, or with commas.
                if not path.is_absolute() or any(sign in str(path) for sign in ':,"\n'):
                    raise UserError(
                        f"{str(path)!r} cannot be mounted in a container: it is not absolute, or holds a colon, a "
                        "comma or a quote.",
                        mend="move the project, or the data, to a plainer path",
                    )
            if not mount.source.exists():
                raise UserError(f"{mount.source} is not there, and is to be seen in a container.", mend="make it")
