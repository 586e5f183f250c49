"""`neurofm embed`: a real recording becomes a Zarr group, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner, Result

from neurofm.cli import app
from neurofm.errors import UserError
from neurofm.recording import Channels, Clock, Modality, Recording, Signal
from neurofm.shards import Provenance, write_shard
from neurofm.training.predict import Predictor
from neurofm.windows import load_view
from tests.training.conftest import view_of
from tests.training.faults import Lab

REGIONS = 12


def _write(path: Path, series: np.ndarray, *, rate_hz: float = 0.5) -> Path:
    recording = Recording(
        dataset="pixar",
        subject=f"ds000228:{path.name.partition('_')[0]}",
        session="",
        run="",
        task="pixar",
        species="Homo sapiens",
        modality=Modality.FMRI,
        channels=Channels(
            id=tuple(f"roi{number}" for number in range(series.shape[1])),
            position=np.full((series.shape[1], 3), np.nan),
            position_unit="",
        ),
        clock=Clock(id=path.name),
        signal=Signal(values=series, sampling_rate_hz=rate_hz, units="z", start_s=3.0),
    )
    provenance = Provenance(
        archive="local", source_id="x", version="1", files=(), licence="CC0-1.0", citation="x", libraries={}
    )
    write_shard(recording, provenance=provenance, path=path)
    return path


@pytest.fixture
def model(shared_data: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of two children's films; a third is beside it as ``data/third.zarr.zip``."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[:3]
    views = []
    for number, file in enumerate(files):
        series = np.load(file).astype(np.float64)[:, :REGIONS]
        shard = load_view(_write(lab.at / "data" / f"{['first', 'second', 'third'][number]}.zarr.zip", series))
        role = {"train": [(0, 168)]} if number < 2 else {"validation": [(0, 168)]}
        views.append(
            view_of(
                series,
                modality=Modality.FMRI,
                name=shard.recording,
                channel_set=shard.channel_set,
                kind="subject",
                calibration=[(0, 168)],
                **role,
            )
        )
    views = [replace(view, sampling_rate_hz=0.5) for view in views]
    Lab(views=views, settings=lab.settings, windows=lab.windows, at=lab.at).train("model", steps=2)
    monkeypatch.chdir(lab.at)
    return lab.at / "model" / "out"


def _typed(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["embed", *arguments, "--model", "model/out"])


def test_a_recording_that_was_never_seen_is_embedded(model: Path, lab: Lab) -> None:
    said = _typed("data/third.zarr.zip", "--out", "made/third.zarr", "--calibration-s", "96")
    assert said.exit_code == 0, said.output
    assert said.output == "made/third.zarr: 9 windows of 4 patches, 48 features each\n"
    group: Any = zarr.open_group(lab.at / "made" / "third.zarr", mode="r")
    made = group["embedding"][...]
    assert made.shape == (9, 4, len(group.attrs["features"]))
    view = load_view(lab.at / "data" / "third.zarr.zip", calibration_s=96)
    expected = Predictor.load(model).encode(view, np.stack([view.z(0, 20), view.z(148, 168)]))
    np.testing.assert_array_equal(made[[0, 8]], expected)
    assert group["time_s"][0].tolist() == [3.0, 13.0, 23.0, 33.0]
    assert group["fresh"][8].tolist() == [0, 0, 1, 1], "160 samples were embedded before"
    assert group["valid"][...].min() == 1
    assert group.attrs["calibration_s"] == [96.0]
    assert not list((lab.at / "made").glob(".*")), "nothing half made lies there"


def test_what_is_there_is_not_written_over(model: Path, lab: Lab) -> None:
    (lab.at / "third.zarr").mkdir()
    assert "third.zarr exists" in str(_error(_typed("data/third.zarr.zip", "--out", "third.zarr")))


def test_an_embedding_that_fails_half_way_leaves_nothing(
    model: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Predictor.encode

    def failing(predictor: Predictor, view: object, z: np.ndarray) -> np.ndarray:
        if len(z) < 4:
            raise OSError(28, "No space left on device")
        return encode(predictor, view, z)  # type: ignore[arg-type]

    monkeypatch.setattr("neurofm.training.embed._AT_ONCE", 4)
    monkeypatch.setattr(Predictor, "encode", failing)
    error = _error(_typed("data/third.zarr.zip", "--out", "made/third.zarr"))
    assert "cannot be written: No space left on device" in str(error)
    assert list((lab.at / "made").iterdir()) == []


def test_another_repetition_time_is_refused_unless_it_is_asked_for(model: Path, lab: Lab, shared_data: Path) -> None:
    file = next((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    _write(lab.at / "data" / "fast.zarr.zip", np.load(file).astype(np.float64)[:, :REGIONS], rate_hz=1.25)
    error = _error(_typed("data/fast.zarr.zip", "--out", "fast.zarr"))
    assert "TR 0.8 s here, 2 s in training" in str(error)
    assert _typed("data/fast.zarr.zip", "--out", "fast.zarr", "--other").exit_code == 0


def test_a_short_or_damaged_recording_is_named(model: Path, lab: Lab) -> None:
    _write(lab.at / "data" / "short.zarr.zip", np.random.default_rng(0).normal(size=(4, REGIONS)))
    error = _error(_typed("data/short.zarr.zip", "--out", "short.zarr"))
    assert "has 4 samples, and a patch of the model takes 5" in str(error)
    (lab.at / "data" / "cut.zarr.zip").write_bytes(b"PK")
    assert "cut.zarr.zip: not a whole" in str(_error(_typed("data/cut.zarr.zip", "--out", "cut.zarr")))


def _error(result: Result) -> UserError:
    assert isinstance(result.exception, UserError), result.output
    return result.exception


def test_what_it_is_described_by_must_say_something(model: Path, lab: Lab) -> None:
    for seconds in ("0", "-3", "nan"):
        error = _error(_typed("data/third.zarr.zip", "--out", "none.zarr", "--calibration-s", seconds))
        assert f"--calibration-s is {seconds}" in str(error)
    error = _error(_typed("data/third.zarr.zip", "--out", "none.zarr", "--calibration-s", "2"))
    assert "has 0 channels that vary where it is described from" in str(error)
    (lab.at / "file").write_text("")
    error = _error(_typed("data/third.zarr.zip", "--out", "file/third.zarr"))
    assert "cannot be written" in str(error)
