"""allensdk and our reader on one session file that allensdk's own classes wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Channels, Modality, Recording
from tests.allen_nwb import trains_of
from tests.servers.allensdk_environment import in_allensdk

Source = Callable[..., ReaderInput]
BAD = {"noise": 3, "isi_violations": 4, "amplitude_cutoff": 5, "presence_ratio": 6, "no_cutoff": 7, "outside": 8}
"""Row of the unit that each of allensdk's filters takes out; another one lies on an invalid channel."""
INVALID = 9

_WRITE = """
from datetime import datetime, timezone
import numpy as np, pandas as pd, pynwb
from allensdk.brain_observatory.ecephys._channel import Channel
from allensdk.brain_observatory.ecephys._channels import Channels
from allensdk.brain_observatory.ecephys._probe import Probe
from allensdk.brain_observatory.ecephys._unit import Unit
from allensdk.brain_observatory.ecephys._units import Units
from allensdk.brain_observatory.ecephys.probes import Probes
from allensdk.brain_observatory.ecephys.write_nwb.__main__ import add_running_speed_to_nwbfile
from allensdk.brain_observatory.behavior.data_objects.stimuli.presentations import Presentations
from allensdk.brain_observatory.nwb import add_stimulus_timestamps

bad = json.loads(bad)
trains = np.load(spikes)
file = pynwb.NWBFile('-', '715093703', datetime(2020, 1, 1, tzinfo=timezone.utc))
probes = []
for number, name in enumerate(['probeA', 'probeB']):
    rows = range(number, len(trains.files), 2)
    channels = [
        Channel(id=850 + row, probe_id=700 + number, valid_data=row != int(invalid), probe_channel_number=row,
                probe_vertical_position=20 * row, probe_horizontal_position=43,
                structure_acronym='None' if row == bad['outside'] else 'VISp', strip_structure_subregion=False,
                anterior_posterior_ccf_coordinate=8000. + row, dorsal_ventral_ccf_coordinate=2000.,
                left_right_ccf_coordinate=7000.)
        for row in rows]
    units = [
        Unit(id=950 + row, peak_channel_id=850 + row, local_index=row, cluster_id=row, snr=1. + row,
             quality='noise' if row == bad['noise'] else 'good', firing_rate=1.0,
             isi_violations=0.6 if row == bad['isi_violations'] else 0.5,
             presence_ratio=0.94 if row == bad['presence_ratio'] else 0.95,
             amplitude_cutoff=0.11 if row == bad['amplitude_cutoff'] else 0.1,
             mean_waveforms=np.zeros((2, 3)), spike_amplitudes=np.ones(len(trains[f'{row}'])),
             spike_times=trains[f'{row}'])
        for row in rows]
    probes.append(Probe(id=700 + number, name=name, channels=Channels(channels), units=Units(units)))
Probes(probes).to_nwb(file)
start = np.arange(0, 100, 0.017)
add_running_speed_to_nwbfile(file, pd.DataFrame({
    'start_time': start, 'end_time': start + 0.016, 'velocity': np.sin(start), 'net_rotation': 0 * start}))
add_stimulus_timestamps(file, np.arange(0., 60.))
shown = pd.DataFrame({
    'start_time': [0., 5., 10., 15.], 'stop_time': [2., 5.25, 12., 15.25],
    'stimulus_name': ['gratings', 'flashes'] * 2, 'stimulus_block': [0, 1, 2, 3], 'stimulus_index': [0, 1, 0, 1],
    'orientation': [45., np.nan, np.nan, np.nan], 'color': [np.nan, '-1.0', np.nan, '1.0']})
Presentations(presentations=shown).to_nwb(file)
with pynwb.NWBHDF5IO(path, 'w') as io:
    io.write(file)
answer = ''
"""

_ASK = """
from allensdk.brain_observatory.ecephys.ecephys_session import EcephysSession
everything = dict(filter_by_validity=False, filter_out_of_brain_units=False, amplitude_cutoff_maximum=None,
                  presence_ratio_minimum=None, isi_violations_maximum=None)
session = EcephysSession.from_nwb_path(path)
whole = EcephysSession.from_nwb_path(path, api_kwargs=everything)
units, shown, running = whole.units, whole.stimulus_presentations, whole.running_speed
answer = {
    'kept': session.units.index.tolist(), 'all': units.index.tolist(),
    'times': {f'{unit}': whole.spike_times[unit].tolist() for unit in units.index},
    'snr': units['snr'].tolist(), 'probe': units['probe_description'].tolist(),
    'region': units['structure_acronym'].fillna('').tolist(),
    'depth': units['probe_vertical_position'].tolist(),
    'place': units[['anterior_posterior_ccf_coordinate', 'dorsal_ventral_ccf_coordinate',
                    'left_right_ccf_coordinate']].values.tolist(),
    'shown': shown[shown['stimulus_name'] != 'spontaneous'][
        ['start_time', 'stop_time', 'stimulus_name']].values.tolist(),
    'running': running[['start_time', 'end_time', 'velocity']].values.tolist()}
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, sample_source: Source) -> Path:
    """A session of the real spikes of A2929; ids, metrics, running and stimuli are made up."""
    folder = tmp_path_factory.mktemp("allensdk")
    path, spikes = folder / "session_715093703.nwb", folder / "spikes.npz"
    trains = trains_of(sample_source("a2929-hd").path())
    np.savez(spikes, **{str(row): train for row, train in enumerate(trains)})  # type: ignore[arg-type]
    in_allensdk(_WRITE, path=str(path), spikes=str(spikes), bad=json.dumps(BAD), invalid=str(INVALID))
    with h5py.File(path, "r+") as file:
        # allensdk's writer leaves units without an amplitude cutoff out; the archive's older files have them.
        row = int(np.flatnonzero(file["units/id"][:] == 950 + BAD["no_cutoff"])[0])
        file["units/amplitude_cutoff"][row] = np.nan
    return path


@pytest.fixture(scope="module")
def theirs(session: Path) -> dict[str, Any]:
    answer = in_allensdk(_ASK, path=str(session))
    assert isinstance(answer, dict)
    return answer


@pytest.fixture
def ours(session: Path, source_of: Source) -> Recording:
    return read_recording("nwb", source_of(session, Modality.SPIKES), {"layout": "allen-visual-coding"})


def _in_their_order(ours: Recording, theirs: dict[str, Any]) -> list[int]:
    """allensdk sorts units by probe and depth; the file has them probe by probe, too."""
    return [ours.channels.id.index(f"unit-{unit}") for unit in theirs["all"]]


def test_units_are_the_same(ours: Recording, theirs: dict[str, Any]) -> None:
    # Without any limit, allensdk still has no unit whose amplitude cutoff is NaN, which is below nothing.
    lacking = f"unit-{950 + BAD['no_cutoff']}"
    assert set(ours.channels.id) - {f"unit-{unit}" for unit in theirs["all"]} == {lacking}
    rows = _in_their_order(ours, theirs)
    assert len(rows) == 14
    quality = ours.channels.quality
    np.testing.assert_array_equal(quality["snr"][rows], theirs["snr"])
    np.testing.assert_array_equal(quality["probe_vertical_position"][rows], theirs["depth"])
    assert [("probeA", "probeB")[int(quality["probe"][row])] for row in rows] == theirs["probe"]
    assert [ours.channels.region[row] for row in rows] == theirs["region"]
    np.testing.assert_array_equal(ours.channels.position[rows], theirs["place"])


def test_spike_times_are_the_same(ours: Recording, theirs: dict[str, Any]) -> None:
    assert ours.spikes is not None
    for row, unit in zip(_in_their_order(ours, theirs), theirs["all"], strict=True):
        np.testing.assert_array_equal(ours.spikes.time_s[ours.spikes.channel == row], theirs["times"][str(unit)])


def test_running_and_presentations_are_the_same(ours: Recording, theirs: dict[str, Any]) -> None:
    start, stop, velocity = np.array(theirs["running"]).T
    running = ours.targets["running_speed"]
    np.testing.assert_array_equal(running.values[:, 0], velocity)
    np.testing.assert_allclose(running.time_s, (start + stop) / 2)
    events = ours.events
    assert events is not None
    assert events.columns["stimulus_name"] == tuple(name for _, _, name in theirs["shown"])
    np.testing.assert_array_equal(events.onset_s, [begin for begin, _, _ in theirs["shown"]])
    np.testing.assert_allclose(events.onset_s + events.duration_s, [end for _, end, _ in theirs["shown"]])


def _within_limits(channels: Channels) -> npt.NDArray[np.bool_]:
    """allensdk's own filters, of the columns that we read; comparing with NaN leaves a unit out."""
    quality = channels.quality
    kept: npt.NDArray[np.bool_] = (
        (quality["presence_ratio"] >= 0.95)
        & (quality["isi_violations"] <= 0.5)
        & (quality["amplitude_cutoff"] <= 0.1)
        & (quality["good"] == 1)
        & (quality["valid_data"] == 1)
    )
    kept &= np.array([region != "" for region in channels.region])
    return kept


def test_the_usual_limits_keep_the_same_units(ours: Recording, theirs: dict[str, Any]) -> None:
    kept = {ours.channels.id[row] for row in np.flatnonzero(_within_limits(ours.channels))}
    assert kept == {f"unit-{unit}" for unit in theirs["kept"]}
    gone = {int(name.removeprefix("unit-")) - 950 for name in set(ours.channels.id) - kept}
    assert gone == {*BAD.values(), INVALID}
