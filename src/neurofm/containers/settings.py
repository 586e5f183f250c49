"""What site.yaml says of containers. Nothing here changes a byte of any result."""

from __future__ import annotations

import os
from enum import StrEnum

from pydantic import Field

from neurofm.settings import Settings

INSIDE = "NEUROFM_IMAGE"
"""Variable of the environment, set inside a container of ours: the digest of its image."""


class EngineName(StrEnum):
    """Who runs containers."""

    AUTO = "auto"
    PODMAN = "podman"
    DOCKER = "docker"
    APPTAINER = "apptainer"


class ContainersSite(Settings):
    """What site.yaml says of containers."""

    container: bool = False
    """Run every stage in the project's image; `neurofm run --container` does so for once."""
    engine: EngineName = EngineName.AUTO
    """Who runs containers; `auto` takes the first that answers of podman, docker, apptainer."""
    image: str = "neurofm"
    """Which image stages run in: a name of containers/images.yaml, or an address in a registry with its digest."""
    gpus: bool = False
    """Let stages in a container see the machine's GPUs (with the image `neurofm-cuda`); none uses one so far."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Most that a stage in a container takes, 2^30 bytes; None for whatever there is."""
    cpus: float | None = Field(default=None, gt=0)
    """Cores that a stage in a container is given; None for all."""
    mounts: tuple[str, ...] = ()
    """Further folders that stages read, at the same paths inside; what the project names itself is found without."""


def image_inside() -> str:
    """Return the digest of the image that this process runs in; empty where that is none of ours."""
    return os.environ.get(INSIDE, "")
