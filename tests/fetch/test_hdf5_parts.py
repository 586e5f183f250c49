"""Groups of a large NWB file, span by span, beside the same groups of the whole file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hdmf.common import DynamicTable
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries

from neurofm.fetch.hdf5_parts import fetch_groups
from neurofm.recording import Unreadable
from tests.fetch.conftest import LFP_BYTES

GROUPS = ("units", "general", "intervals", "processing/running")


class Spans:
    """A file of which spans are read, and counted."""

    def __init__(self, path: Path, *, fails_after: int = -1) -> None:
        self.size = path.stat().st_size
        self.asked: list[int] = []
        self._path, self._left = path, fails_after

    def read(self, start: int, stop: int) -> bytes:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        self.asked.append(stop - start)
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def test_groups_come_alone_and_whole(large_nwb: Path, tmp_path: Path) -> None:
    remote, local = Spans(large_nwb), tmp_path / "part.nwb"
    done = fetch_groups(remote, local, groups=GROUPS)
    assert local.stat().st_size == remote.size > LFP_BYTES
    assert sum(remote.asked) < 0.05 * remote.size
    assert local.stat().st_blocks * 512 < 0.05 * remote.size  # what did not come takes no disk
    assert "acquisition/lfp" in done.left_out
    assert done.lacking == ()
    with h5py.File(large_nwb) as whole, h5py.File(local) as part:
        assert "lfp" not in part["acquisition"]
        for name in (
            "units/spike_times",
            "units/spike_times_index",
            "units/snr",
            "processing/running/running_speed/data",
        ):
            np.testing.assert_array_equal(part[name][()], whole[name][()])
    with NWBHDF5IO(local, "r") as io:
        assert len(io.read().units) == 15


def test_neighbours_come_in_few_requests_of_bounded_size(large_nwb: Path, tmp_path: Path) -> None:
    remote = Spans(large_nwb)
    fetch_groups(remote, tmp_path / "part.nwb", groups=["acquisition/lfp"])
    assert sum(remote.asked) > LFP_BYTES
    assert max(remote.asked) <= 8 << 20
    assert len(remote.asked) < 60
    with h5py.File(large_nwb) as whole, h5py.File(tmp_path / "part.nwb") as part:
        np.testing.assert_array_equal(part["acquisition/lfp/data"][:50_000], whole["acquisition/lfp/data"][:50_000])


def test_a_group_that_the_file_lacks_is_told_and_none_at_all_is_refused(large_nwb: Path, tmp_path: Path) -> None:
    done = fetch_groups(Spans(large_nwb), tmp_path / "part.nwb", groups=["processing/eye", "units"])
    assert done.lacking == ("processing/eye",)
    with pytest.raises(Unreadable, match=r"has none of the groups that are wanted \(unitz\)"):
        fetch_groups(Spans(large_nwb), tmp_path / "none.nwb", groups=["unitz"])
    assert [path.name for path in tmp_path.iterdir()] == ["part.nwb"]


def test_a_table_may_refer_to_what_did_not_come(few_spikes: list[npt.NDArray[np.float64]], tmp_path: Path) -> None:
    """As the stimulus tables of the Allen Institute refer to the times of frames."""
    file = NWBFile(session_description="-", identifier="1", session_start_time=datetime(2020, 1, 1, tzinfo=UTC))
    frames = TimeSeries(name="frames", data=np.arange(20_000.0), timestamps=np.arange(20_000.0), unit="s")
    file.create_processing_module("stimulus", "-").add(frames)
    file.add_trial(start_time=0.0, stop_time=1.0, timeseries=[frames])
    file.add_unit(spike_times=few_spikes[0])
    with NWBHDF5IO(tmp_path / "whole.nwb", "w") as io:
        io.write(file)
    done = fetch_groups(Spans(tmp_path / "whole.nwb"), tmp_path / "part.nwb", groups=["units", "intervals"])
    assert done.left_out == ("processing/stimulus/frames",)
    with NWBHDF5IO(tmp_path / "part.nwb", "r") as io:
        read = io.read()
        assert read.trials["stop_time"][0] == 1.0
        np.testing.assert_array_equal(read.units["spike_times"][0], few_spikes[0])


def test_a_table_forgets_columns_that_did_not_come_and_others_are_missed_whole(
    few_spikes: list[npt.NDArray[np.float64]], tmp_path: Path
) -> None:
    """As waveforms beside spike times, and tables of stimuli that nobody asked for; containers may be empty then."""
    file = NWBFile(session_description="-", identifier="1", session_start_time=datetime(2020, 1, 1, tzinfo=UTC))
    file.add_unit_column("spike_amplitudes", "-", index=True)
    for train in few_spikes:
        file.add_unit(spike_times=train, spike_amplitudes=train, waveform_mean=np.zeros((100, 30)))
    table = DynamicTable(name="flashes", description="-", id=list(range(9000)))
    table.add_column("contrast", "-", data=np.zeros(9000))
    file.add_scratch(table)
    speed = TimeSeries(name="speed", data=np.zeros(20_000), rate=1.0, unit="m/s")
    file.create_processing_module("behavior", "-").add(BehavioralTimeSeries(time_series=speed))
    with NWBHDF5IO(tmp_path / "whole.nwb", "w") as io:
        io.write(file)
    wanted = ["units/spike_times", "units/spike_times_index"]
    done = fetch_groups(Spans(tmp_path / "whole.nwb"), tmp_path / "part.nwb", groups=wanted)
    assert done.left_out == (
        "processing/behavior/BehavioralTimeSeries/speed",
        "scratch/flashes",
        "scratch/flashes/contrast",
        "units/spike_amplitudes",
        "units/waveform_mean",
    )
    with NWBHDF5IO(tmp_path / "part.nwb", "r") as io:
        read = io.read()
        assert read.units.colnames == ("spike_times",)
        for row, train in enumerate(few_spikes):
            np.testing.assert_array_equal(read.units["spike_times"][row], train)


def test_what_a_link_in_a_wanted_group_leads_to_comes_too(tmp_path: Path) -> None:
    """Two series may share their timestamps, which lie with one of them."""
    file = NWBFile(session_description="-", identifier="1", session_start_time=datetime(2020, 1, 1, tzinfo=UTC))
    time_s = np.arange(20_000.0)
    first = TimeSeries(name="first", data=time_s, timestamps=time_s, unit="m")
    file.create_processing_module("eye", "-").add(first)
    second = TimeSeries(name="second", data=time_s * 2, timestamps=first, unit="m")
    file.create_processing_module("running", "-").add(second)
    with NWBHDF5IO(tmp_path / "whole.nwb", "w") as io:
        io.write(file)
    done = fetch_groups(Spans(tmp_path / "whole.nwb"), tmp_path / "part.nwb", groups=["processing/running"])
    assert done.left_out == ("processing/eye/first",)
    with NWBHDF5IO(tmp_path / "part.nwb", "r") as io:
        read = io.read().processing["running"]["second"]
        np.testing.assert_array_equal(read.timestamps[:], time_s)
        np.testing.assert_array_equal(read.data[:], time_s * 2)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interruption_is_not_swallowed_and_leaves_nothing(large_nwb: Path, tmp_path: Path, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch_groups(Spans(large_nwb, fails_after=after), tmp_path / "part.nwb", groups=GROUPS)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.nwb"
    page.write_bytes(b"<html>" * 1000)
    with pytest.raises(Unreadable, match="not readable as HDF5"):
        fetch_groups(Spans(page), tmp_path / "part.nwb", groups=GROUPS)
    assert list(tmp_path.iterdir()) == [page]
