"""Fixtures shared by all tests: where the real recordings are."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurofm.catalog import load_entry
from neurofm.fetch import fetch_dataset
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Recording
from neurofm.sources import build_manifest
from tests.at_once import AtOnce, write_at_once

PROJECT = Path(__file__).resolve().parent.parent
os.environ.pop("COLUMNS", None)  # pytest-xdist sets the terminal's; what is printed must not depend on it

# Hundreds of processes are started here, and without byte code each of them would compile neurofm once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Where they are started in the background, a shell has interrupts ignored, and whatever tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)  # Without pytest-xdist there is one process.
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Say which tests one process is to run, where there are several processes (`make test`)."""
    from tests.groups import ByGroup  # noqa: PLC0415

    return ByGroup(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of shared real recordings (`NEUROFM_TEST_DATA`, default ``../shared/data``)."""
    folder = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the shared recordings; {folder} is missing")
        pytest.skip(f"shared recordings are not at {folder}; set NEUROFM_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def sample_raw() -> Callable[[str], Path]:
    """Return a function from a sample dataset's id to the folder of its verified raw files.

    The first use downloads them from the package index, by the project's own way, into ``.neurofm/``.
    """

    def raw_of(dataset: str) -> Path:
        entry = load_entry(dataset, root=PROJECT)
        raw = PROJECT / ".neurofm" / "test-raw" / dataset
        fetch_dataset(entry, build_manifest(entry, root=PROJECT), raw=raw, work=PROJECT / ".neurofm")
        return raw

    return raw_of


@pytest.fixture(scope="session")
def sample_source(sample_raw: Callable[[str], Path]) -> Callable[..., ReaderInput]:
    """Return a function from a sample dataset's id to what a reader is given for one of its recordings."""

    def source_of(dataset: str, index: int = 0) -> ReaderInput:
        entry = load_entry(dataset, root=PROJECT)
        return ReaderInput(
            dataset=dataset,
            modality=entry.modality,
            species=entry.species,
            root=sample_raw(dataset),
            entry=build_manifest(entry, root=PROJECT).recordings[index],
        )

    return source_of


@pytest.fixture(scope="session")
def sample_recording(sample_source: Callable[..., ReaderInput]) -> Callable[..., Recording]:
    """Return a function from a sample dataset's id to one of its recordings as its reader gives it."""

    @functools.cache
    def recording_of(dataset: str, index: int = 0) -> Recording:
        entry = load_entry(dataset, root=PROJECT)
        return read_recording(entry.reader, sample_source(dataset, index), entry.reader_options)

    return recording_of


@pytest.fixture(scope="session")
def at_once(sample_recording: Callable[..., Recording], tmp_path_factory: pytest.TempPathFactory) -> AtOnce:
    """EEG and MEG of one moment (`tests.at_once`)."""
    return write_at_once(tmp_path_factory.mktemp("at-once"), sample_recording)
