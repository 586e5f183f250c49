"""Podman with its own store, kept in ``.neurofm/`` between sessions, and the images that tests run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from neurofm.containers import Engine, EngineName, Image, find_engine, read_pins
from neurofm.fmriprep.command import IMAGE
from neurofm.operations.images import build_image
from tests.servers.podman import BASE, INSTALL, PROJECT, Podman, missing_program

PROJECT_IMAGE = "neurofm-preprocess"
"""Built in every session: half as large as the one with torch, and made from the same lock by the same file."""
STAND_IN = "localhost/stand_in:1"
_CONFOUNDS = "test-v21_desc-confounds_timeseries"
"""A table that fMRIPrep 21 made, and its side file, which nilearn brings for its own tests."""


@pytest.fixture(scope="session")
def store() -> Podman:
    """Podman and its base image."""
    if name := missing_program():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have podman; {name} is missing ({INSTALL})")
        pytest.skip(f"no {name} on this machine; to run these tests: {INSTALL}")
    made = Podman(PROJECT / ".neurofm" / "test-podman")
    made.make_base()
    return made


@pytest.fixture
def podman(store: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """Podman for one test, which leaves no container behind."""
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    yield store
    left = store.containers()
    for name in left:
        store.ask("rm", "--force", name)
    assert left == []


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


@pytest.fixture(scope="session")
def stand_in(store: Podman, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's root whose pin `fmriprep` is the stand-in: built here, found by its digest as the real one is."""
    context = shutil.copytree(Path(__file__).with_name("stand_in"), tmp_path_factory.mktemp("stand_in") / "context")
    spec = find_spec("nilearn.interfaces.fmriprep.data")
    assert spec is not None
    assert spec.origin is not None
    for kind in ("tsv", "json"):
        shutil.copy(Path(spec.origin).with_name(f"{_CONFOUNDS}.{kind}"), context / f"confounds.{kind}")
    base = ("--build-arg", f"BASE={BASE}")
    store.ask("build", "--quiet", *base, "--network", "none", "--tag", STAND_IN, str(context))
    pin = {
        "reference": STAND_IN,
        "digest": store.ask("image", "inspect", "--format", "{{.Digest}}", STAND_IN),
        "platforms": ["linux/amd64"],
        "purpose": "stands in for fMRIPrep",
        "verified": True,
    }
    root = tmp_path_factory.mktemp("pinned")
    shutil.copytree(PROJECT / "containers" / "antspyx", root / "containers" / "antspyx")
    (root / "containers" / "images.yaml").write_text(json.dumps({"images": {IMAGE: pin}}))
    return root
