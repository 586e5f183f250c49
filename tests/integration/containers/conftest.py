"""The engine and the images that tests run; podman and the stand-in are there for other folders too."""

from __future__ import annotations

import hashlib

import pytest

from neurofm.containers import Engine, EngineName, Image, find_engine, read_pins
from neurofm.operations.images import build_image
from tests.servers.podman import BASE, PROJECT, Podman

PROJECT_IMAGE = "neurofm-preprocess"
"""Built in every session: half as large as the one with torch, and made from the same lock by the same file."""


@pytest.fixture
def engine(podman: Podman) -> Engine:
    """Podman as the project finds it."""
    return find_engine(EngineName.PODMAN)


@pytest.fixture
def base(podman: Podman) -> Image:
    """The base image."""
    found = podman.ask("image", "inspect", "--format", "{{.Id}} {{.Digest}}", BASE).split()
    return Image(name="base", run_by=f"sha256:{found[0]}", digest=found[1])


@pytest.fixture(scope="session")
def project_image(store: Podman) -> str:
    """The project's image without torch, built from this checkout's lock; about a minute the first time."""
    pin = read_pins(PROJECT)[PROJECT_IMAGE]
    sources = (PROJECT / pin.built_from, PROJECT / "requirements.lock", PROJECT / "pyproject.toml")
    made_of = f"localhost/neurofm-test:{hashlib.sha256(b''.join(path.read_bytes() for path in sources)).hexdigest()}"
    if not store.has(made_of):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in store.env.items():
                patch.setenv(name, value)
            build_image(PROJECT_IMAGE, engine=find_engine(EngineName.PODMAN), root=PROJECT)
        store.ask("tag", pin.reference, made_of)
    return PROJECT_IMAGE
