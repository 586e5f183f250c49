"""Groups of a large NWB file over HTTP, beside the same groups of the whole file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, TimeSeries

from neurofm.fetch.hdf5_parts import fetch_groups
from neurofm.readers import ReaderInput
from neurofm.recording import Unreadable
from tests.allen_nwb import trains_of, write_ecephys
from tests.servers.http_files import FileServer

Source = Callable[..., ReaderInput]
GROUPS = ("units", "general", "intervals", "processing/running")
LFP_BYTES = 100_000_000


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, sample_source: Source) -> Path:
    """Real spikes beside 100 MB in the place of LFP, in chunks as writers have it."""
    trains = [train[:4000] for train in trains_of(sample_source("a2929-hd").path())]
    path = write_ecephys(tmp_path_factory.mktemp("large") / "session.nwb", trains)
    with NWBHDF5IO(path, "a") as io:
        file = io.read()
        file.add_acquisition(TimeSeries(name="lfp", data=np.zeros((2, 4), np.int16), unit="V", rate=1250.0))
        io.write(file)
    with h5py.File(path, "r+") as file:
        attributes = dict(file["acquisition/lfp/data"].attrs)
        del file["acquisition/lfp/data"]
        shape, chunks = (LFP_BYTES // 200, 100), (5000, 100)
        data = file.create_dataset("acquisition/lfp/data", shape=shape, dtype=np.int16, chunks=chunks, fillvalue=7)
        data.attrs.update(attributes)
        data[::5000] = 1
    return path


def test_groups_come_alone_and_whole(session: Path, tmp_path: Path) -> None:
    with FileServer({"/session.nwb": session.read_bytes()}) as server:
        done = fetch_groups(f"{server.url}/session.nwb", tmp_path / "part.nwb", groups=GROUPS)
        assert server.sent["/session.nwb"] == done.fetched_bytes
    assert done.size == session.stat().st_size > LFP_BYTES
    assert done.fetched_bytes < 0.05 * done.size
    assert "acquisition/lfp" in done.left_out
    with h5py.File(session) as whole, h5py.File(tmp_path / "part.nwb") as part:
        assert "lfp" not in part["acquisition"]
        for name in (
            "units/spike_times",
            "units/spike_times_index",
            "units/snr",
            "processing/running/running_speed/data",
        ):
            np.testing.assert_array_equal(part[name][()], whole[name][()])
    with NWBHDF5IO(tmp_path / "part.nwb", "r") as io:
        assert len(io.read().units) == 15


def test_what_is_no_hdf5_or_not_there_is_refused(tmp_path: Path) -> None:
    with FileServer({"/page.nwb": b"<html>" * 1000}) as server:
        for name in ("page", "none"):
            with pytest.raises(Unreadable, match=rf"{name}\.nwb: its groups cannot be fetched"):
                fetch_groups(f"{server.url}/{name}.nwb", tmp_path / "part.nwb", groups=GROUPS)
    assert list(tmp_path.iterdir()) == []
