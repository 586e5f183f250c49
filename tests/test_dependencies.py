"""Every direct dependency can be imported: a consistent resolve is not enough."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
DEPENDENCIES = [
    re.split(r"[<>=\[ ]", line)[0]
    for line in tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("distribution", DEPENDENCIES)
def test_direct_dependency_imports(distribution: str) -> None:
    modules = sorted(
        module
        for module, owners in packages_distributions().items()
        if _plain(distribution) in {_plain(owner) for owner in owners} and not module.startswith("_")
    )
    if distribution == "ruamel.yaml":
        modules = ["ruamel.yaml"]
    assert modules, distribution
    import_module(modules[0])


@pytest.mark.parametrize("distribution", DEPENDENCIES)
def test_direct_dependency_is_pinned_and_used(distribution: str) -> None:
    pinned = {_plain(line.split("==")[0]) for line in (PROJECT / "requirements.lock").read_text().splitlines()}
    assert _plain(distribution) in pinned
    module = {
        "scikit-learn": "sklearn",
        "ruamel.yaml": "ruamel",
        "mne-bids": "mne_bids",
        "mne-icalabel": "mne_icalabel",
        "python-picard": "picard",
        "ONE-api": "one",
        "dvc-s3": "dvc_s3",
    }.get(distribution, distribution)
    sources = "".join(path.read_text() for path in (PROJECT / "src").rglob("*.py"))
    if distribution not in {"dvc", "fmriprep-docker"}:  # used as commands: dvc.yaml, fmriprep/docker_wrapper.py
        assert re.search(rf"^\s*(from|import) {module}\b", sources, re.MULTILINE), distribution
