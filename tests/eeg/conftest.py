"""The side files of 20 children of HBN-EEG release 1; there is no signal among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.recording import Target


@pytest.fixture(scope="session")
def hbn(shared_data: Path) -> Path:
    return shared_data / "eeg" / "hbn_r1_metadata_ds005505"


@pytest.fixture(scope="session")
def contrast_files(hbn: Path) -> list[Path]:
    return sorted(hbn.glob("sub-*/eeg/*_task-contrastChangeDetection_run-*_events.tsv"))


@pytest.fixture(scope="session")
def rest_files(hbn: Path) -> list[Path]:
    return sorted(hbn.glob("sub-*/eeg/*_task-RestingState_events.tsv"))


def column_of(target: Target) -> npt.NDArray[np.floating]:
    """[time] of a target with one column."""
    assert target.values.shape == (len(target.time_s), 1)
    return target.values[:, 0]
