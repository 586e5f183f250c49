"""Inscopix: recorded traces in the program's own layout (see ophys_layouts.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurofm.recording import Modality, Unreadable
from tests.readers.ophys_layouts import FRAMES, Miniscope, write_inscopix
from tests.readers.ophys_reading import Source, read, shard_of, values_of

STATUSES = ["accepted", "rejected", "undecided", *["accepted"] * 7]
TIMES = np.arange(FRAMES) / 30.0


@pytest.fixture
def inscopix(miniscope: Miniscope, tmp_path: Path) -> Callable[[list[str]], Path]:
    return lambda statuses: write_inscopix(tmp_path / "traces.csv", miniscope, statuses, TIMES)


def test_inscopix_table(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = write_inscopix(tmp_path / "traces.csv", miniscope, STATUSES, TIMES + 0.01)
    recording = read("inscopix", source_of, path, Modality.MINISCOPE)
    kept = [0, *range(3, 10)]
    np.testing.assert_allclose(values_of(recording), miniscope.traces[kept].T, rtol=1e-5)
    assert recording.channels.id == tuple(f"C{i}" for i in kept)
    np.testing.assert_allclose(recording.channels.position[:, :2], miniscope.centroids[kept].round())
    assert recording.sample_time_s is not None
    assert recording.sample_time_s[0] == 0
    assert recording.signal is not None
    assert recording.signal.sampling_rate_hz == pytest.approx(30, abs=1e-3)
    more = read("inscopix", source_of, path, Modality.MINISCOPE, statuses=["accepted", "undecided"])
    assert len(more.channels) == 9


def test_inscopix_gap_is_marked_in_the_shard(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    times = TIMES + (TIMES >= 60) * 1.0
    path = write_inscopix(tmp_path / "traces.csv", miniscope, STATUSES, times)
    recording = read("inscopix", source_of, path, Modality.MINISCOPE)
    shard = shard_of(recording, tmp_path / "traces.zarr.zip")
    assert shard.recording.quality["dropped_frames"] == 30
    assert not shard.valid[(shard.time_s > 60.1) & (shard.time_s < 60.9)].any()


@pytest.mark.parametrize(
    ("statuses", "change", "said"),
    [
        (["undecided"] * 10, str, r"no cell is accepted \(10 undecided; reader option `statuses`\)"),
        (STATUSES, lambda text: text.replace("Time(s)/Cell Status", "Time"), "no cell traces of Inscopix"),
        (STATUSES, lambda text: text.replace("\n1.000000,", "\n,"), r"row 31 of the times in column 'Time\(s\)'"),
        (STATUSES, lambda text: text.replace("\n1.000000,", "\n0.5,"), "go back or stand still at row 31"),
        (STATUSES, lambda text: "\n".join(text.split("\n")[:2]), "0 timestamps"),
    ],
)
def test_inscopix_bad_input(
    inscopix: Callable[[list[str]], Path],
    source_of: Source,
    statuses: list[str],
    change: Callable[[str], str],
    said: str,
) -> None:
    path = inscopix(statuses)
    path.write_text(change(path.read_text()))
    with pytest.raises(Unreadable, match=said):
        read("inscopix", source_of, path, Modality.MINISCOPE)


def test_inscopix_binary_is_refused_with_the_mend(source_of: Source, tmp_path: Path) -> None:
    (tmp_path / "cells.isxd").write_bytes(b"\0" * 100)
    with pytest.raises(Unreadable, match=r"cells\.isxd: the binary format of Inscopix.*export the cell set as CSV"):
        read("inscopix", source_of, tmp_path / "cells.isxd", Modality.MINISCOPE)
