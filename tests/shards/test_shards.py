"""The shard contract: same bytes, whole round trip, damage noticed, error bounded."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

from neurofm.recording import (
    Channels,
    Clock,
    Events,
    Modality,
    Recording,
    Signal,
    Spikes,
    Step,
    Target,
    Unreadable,
)
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.shards.quantise import MAX_ERROR_SD, quantise

PROVENANCE = Provenance(
    archive="registry",
    source_id="package",
    version="1.0",
    files=(("a.nwb", "sha256:00"),),
    licence="CC0-1.0",
    citation="Somebody (2020)",
    libraries={"numpy": "2"},
)


def _recording(modality: Modality, *, samples: int = 4000, channels: int = 7) -> Recording:
    rng = np.random.default_rng(1)
    rate = 50.0
    counts = modality is Modality.SPIKES
    values = rng.poisson(0.3, (samples, channels)) if counts else rng.normal(size=(samples, channels)).cumsum(axis=0)
    time_s = np.arange(samples) / rate
    return Recording(
        dataset="d",
        subject="lab:a",
        session="s",
        run="",
        task="rest",
        species="Mus musculus",
        modality=modality,
        channels=Channels(
            id=tuple(f"unit-{index}" for index in range(channels)),
            position=np.full((channels, 3), np.nan),
            position_unit="",
            region=("CA1",) * channels,
            quality={"usable": np.ones(channels, dtype=np.float32)},
        ),
        clock=Clock(id="d/s"),
        signal=Signal(values=values, sampling_rate_hz=rate, units="count" if counts else "uV", start_s=2.0),
        valid=rng.random(samples) > 0.1,
        spikes=Spikes(time_s=np.array([2.5, 3.0]), channel=np.array([0, 6]), start_s=2.0, stop_s=82.0),
        events=Events(
            onset_s=np.array([3.0, 4.0]),
            duration_s=np.array([1.5, 0.0]),
            label=("schläft", "wacht"),
            columns={
                "response time/s": np.array([0.25, np.nan]),
                "code": np.array([3.0, 2.0**40 + 1]),
                "feedback": ("smiley_face", ""),
            },
        ),
        targets={
            "position": Target(values=rng.normal(size=(samples, 2)), unit="cm", columns=("x", "y"), time_s=time_s + 2.0)
        },
        noise={
            "framewise_displacement": Target(values=rng.random((samples, 1)), unit="mm", columns=("fd",), time_s=time_s)
        },
        extra_signals={
            "uncleaned": Signal(values=900 + rng.normal(size=values.shape), sampling_rate_hz=rate, units="")
        },
        scalars={"age": 3.5, "sex": "F"},
        quality={"note": "fine"},
        steps=(Step(name="bin", version="1", params={"bin_ms": 20.0}, support_s=0.02),),
    )


@pytest.mark.parametrize("modality", list(Modality))
def test_round_trip_keeps_everything(modality: Modality, tmp_path: Path) -> None:
    recording = _recording(modality)
    write_shard(recording, provenance=PROVENANCE, path=tmp_path / "a.zarr.zip")
    shard = read_shard(tmp_path / "a.zarr.zip", extra=True)
    assert read_shard(tmp_path / "a.zarr.zip").recording.extra_signals == {}  # nobody pays for what is not used
    assert recording.signal is not None
    assert recording.spikes is not None
    assert recording.valid is not None
    assert recording.events is not None
    truth = recording.signal.values
    tolerance = 0.0 if modality is Modality.SPIKES else MAX_ERROR_SD
    assert (np.abs(shard.values() - truth).max(axis=0) <= tolerance * truth.std(axis=0)).all()
    np.testing.assert_array_equal(shard.valid, recording.valid)
    np.testing.assert_allclose(shard.time_s, recording.signal.time_s)
    back = shard.recording
    assert back.channels.id == recording.channels.id
    assert back.channels.region == recording.channels.region
    assert back.scalars == recording.scalars
    assert back.events is not None
    assert back.events.label == recording.events.label
    assert back.events.columns.keys() == recording.events.columns.keys()
    assert back.events.columns["feedback"] == ("smiley_face", "")
    for name in ("response time/s", "code"):
        np.testing.assert_array_equal(back.events.columns[name], recording.events.columns[name])
    assert back.spikes is not None
    np.testing.assert_array_equal(back.spikes.time_s, recording.spikes.time_s)
    np.testing.assert_allclose(back.targets["position"].values, recording.targets["position"].values, rtol=1e-6)
    (moved, back_moved) = (one.noise["framewise_displacement"] for one in (recording, back))
    np.testing.assert_allclose(back_moved.values, moved.values, rtol=1e-6)
    assert (back_moved.unit, back_moved.columns) == (moved.unit, moved.columns)
    (kept, back_kept) = (one.extra_signals["uncleaned"].values for one in (recording, back))
    assert (np.abs(back_kept - kept).max(axis=0) <= 2 * MAX_ERROR_SD * kept.std(axis=0)).all()
    assert back.steps == recording.steps
    assert shard.support_s == pytest.approx(0.02)
    assert shard.attrs["source"]["files"] == [{"path": "a.nwb", "digest": "sha256:00"}]


def test_events_without_further_columns_say_nothing_of_them(tmp_path: Path) -> None:
    recording = _recording(Modality.EEG)
    assert recording.events is not None
    plain = replace(recording, events=replace(recording.events, columns={}))
    write_shard(plain, provenance=PROVENANCE, path=tmp_path / "a.zarr.zip")
    with ZipStore(tmp_path / "a.zarr.zip", mode="r") as store:
        events = zarr.open_group(store, mode="r", path="events")
        assert dict(events.attrs) == {"label": ["schläft", "wacht"]}
        assert sorted(events.array_keys()) == ["duration_s", "onset_s"]
    back = read_shard(tmp_path / "a.zarr.zip").recording.events
    assert back is not None
    assert not back.columns


def test_events_are_chosen_with_all_their_columns() -> None:
    events = _recording(Modality.EEG).events
    assert events is not None
    later = events.where(events.onset_s > 3)
    assert later.label == ("wacht",)
    assert later.columns["feedback"] == ("",)
    assert later.columns["code"] == [2.0**40 + 1]
    with pytest.raises(ValueError, match="column 'code' of the events has 2 values, expected 1"):
        replace(later, columns={"code": events.columns["code"]})


def test_same_recording_gives_same_bytes(tmp_path: Path) -> None:
    recording = _recording(Modality.EEG)
    for name in ("a.zarr.zip", "b.zarr.zip"):
        write_shard(recording, provenance=PROVENANCE, path=tmp_path / name)
    assert (tmp_path / "a.zarr.zip").read_bytes() == (tmp_path / "b.zarr.zip").read_bytes()


def test_zarr_itself_reads_it_and_the_zip_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    write_shard(_recording(Modality.CALCIUM), provenance=PROVENANCE, path=path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    with ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert group.attrs["schema"] == "neurofm-recording/1"
        signal = group["signal"]
        assert isinstance(signal, zarr.Array)
        assert signal.shards is not None
        assert signal.shape[0] <= signal.shards[0]
        assert signal.chunks[0] == 4000  # 30 s at 50 Hz would be 21 kB, of which little is to be saved


@pytest.mark.parametrize("position", [0.2, 0.5, 0.9])
def test_one_changed_byte_is_noticed(position: float, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    write_shard(_recording(Modality.EEG), provenance=PROVENANCE, path=path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        samples = archive.getinfo("signal/c/0/0")
    content[samples.header_offset + 100 + int(position * (samples.file_size - 100))] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Unreadable, match=r"a\.zarr\.zip: not a whole"):
        read_shard(path)


def test_truncated_or_foreign_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    write_shard(_recording(Modality.FMRI), provenance=PROVENANCE, path=path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Unreadable):
        read_shard(path)
    with zipfile.ZipFile(tmp_path / "b.zarr.zip", "w") as archive:
        archive.writestr("readme", "not a shard")
    with pytest.raises(Unreadable):
        read_shard(tmp_path / "b.zarr.zip")


def test_quantisation_refuses_what_it_would_blur() -> None:
    values = np.random.default_rng(0).normal(size=(3_000_000, 1))
    assert quantise(values).max_error_sd <= MAX_ERROR_SD / 2
    values[10] = 1e6  # one electric spark sets the range
    with pytest.raises(ValueError, match="channel 0"):
        quantise(values)
    values[10] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        quantise(values)


def test_constant_channel_survives() -> None:
    stored = quantise(np.column_stack([np.full(100, 7.25), np.arange(100.0)]))
    np.testing.assert_array_equal((stored.stored * stored.scale + stored.offset)[:, 0], 7.25)


def test_target_of_another_length_is_refused(tmp_path: Path) -> None:
    recording = _recording(Modality.EEG)
    short = replace(recording.targets["position"], values=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="position"):
        write_shard(
            replace(recording, targets={"position": short}), provenance=PROVENANCE, path=tmp_path / "a.zarr.zip"
        )
    assert not list(tmp_path.iterdir())
