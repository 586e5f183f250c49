"""Minian's results: a real tree of a miniscope session, and the same numbers as an older release's netCDF."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from neurofm.catalog import CatalogEntry
from neurofm.ingest.dataset import ingest_dataset
from neurofm.params import load_params
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Modality, Recording, Unreadable
from neurofm.shards import read_shard
from neurofm.sources import build_manifest
from tests.readers.ophys_layouts import beside, copy_minian, write_minian_netcdf
from tests.streamed import Threads

PROJECT = Path(__file__).resolve().parents[2]
STRAY = {"max_stray_timestamps": 12}
Source = Callable[..., ReaderInput]


@pytest.fixture(scope="session")
def tree(shared_data: Path) -> Path:
    return shared_data / "calcium" / "minian_placecell_1d"


def _read(source_of: Source, folder: Path, **options: Any) -> Recording:
    main = folder / "neural_data" / "C.zarr" / ".zgroup"
    source = source_of(main, Modality.MINISCOPE, extra=beside(main, folder), root=folder)
    return read_recording("minian", source, STRAY | options)


@pytest.fixture
def damaged(tree: Path, tmp_path: Path) -> Path:
    copy_minian(tree, tmp_path / "tree")
    return tmp_path / "tree"


def test_traces_times_and_places_are_the_files(tree: Path, source_of: Source) -> None:
    recording = _read(source_of, tree)
    traces = np.asarray(zarr.open_array(store=tree / "neural_data/C.zarr/C", mode="r")[...])
    footprints = np.asarray(zarr.open_array(store=tree / "neural_data/A.zarr/A", mode="r")[...])
    stamps = pd.read_csv(tree / "neural_timestamp.csv")["timestamp_first"].to_numpy()
    assert recording.signal is not None
    assert recording.sample_time_s is not None
    np.testing.assert_array_equal(recording.signal.values, traces.T.astype(np.float64))
    assert recording.signal.sampling_rate_hz == pytest.approx(20.15, abs=0.01)
    assert recording.channels.id == tuple(f"unit-{i}" for i in range(10))
    y, x = np.mgrid[:200, :200]
    np.testing.assert_allclose(recording.channels.position[3, 0], np.average(x, weights=footprints[3]))
    np.testing.assert_allclose(recording.channels.position[3, 1], np.average(y, weights=footprints[3]))
    assert (recording.channels.position_unit, recording.channels.space) == ("px", "imaging-plane")
    np.testing.assert_allclose(recording.sample_time_s[:1000], stamps[:1000] - stamps[0], atol=1e-6)


def test_stray_stamps_of_the_real_table_are_named_and_mended_when_asked(tree: Path, source_of: Source) -> None:
    with pytest.raises(Unreadable, match=r"neural_timestamp\.csv: .* go back .* row 1827 .*max_stray_timestamps: 12"):
        _read(source_of, tree, max_stray_timestamps=11)
    recording = _read(source_of, tree)
    assert recording.sample_time_s is not None
    assert np.all(np.diff(recording.sample_time_s) > 0)
    assert recording.quality["stray_timestamps"] == 12


def test_position_is_on_the_neural_clock(tree: Path, source_of: Source) -> None:
    position = _read(source_of, tree).targets["position"]
    neural = pd.read_csv(tree / "neural_timestamp.csv")["timestamp_first"].to_numpy()
    behaviour = pd.read_csv(tree / "behavior_timestamp.csv")["unix_time"].to_numpy()
    np.testing.assert_allclose(position.time_s, behaviour - neural[0], atol=1e-6)
    assert position.time_s[0] == pytest.approx(39.9176, abs=1e-3)  # the behaviour camera was started later
    assert (position.columns, position.unit) == (("x", "y"), "px")
    np.testing.assert_array_equal(position.values[0], [198.0, 406.0])  # noqa: PD011


@pytest.mark.parametrize("moved", ["behavior_timestamp.csv", "neural_timestamp.csv"])
def test_a_known_shift_of_either_clock_moves_the_position(damaged: Path, source_of: Source, moved: str) -> None:
    before = _read(source_of, damaged).targets["position"].time_s
    table = pd.read_csv(damaged / moved)
    table.iloc[:, 1] += 7.25
    table.to_csv(damaged / moved, index=False)
    shift = 7.25 if moved.startswith("behavior") else -7.25
    after = _read(source_of, damaged).targets["position"].time_s
    np.testing.assert_allclose(after - before, shift, atol=1e-5)
    mended = _read(source_of, damaged, behaviour_offset_s=-shift).targets["position"].time_s
    np.testing.assert_allclose(mended, before, atol=1e-5)


def test_another_variable_and_scale(tree: Path, source_of: Source) -> None:
    recording = _read(source_of, tree, variable="C_lp", position_per_pixel=0.5, position_unit="mm")
    stored = np.asarray(zarr.open_array(store=tree / "neural_data/C_lp.zarr/C_lp", mode="r")[...])
    assert recording.signal is not None
    np.testing.assert_array_equal(recording.signal.values, stored.T.astype(np.float64))
    np.testing.assert_array_equal(recording.targets["position"].values[0], [99.0, 203.0])  # noqa: PD011
    with pytest.raises(Unreadable, match=r"S\.zarr: the data set has no such variable"):
        _read(source_of, tree, variable="S")


def test_netcdf_of_older_releases_gives_the_same(tree: Path, tmp_path: Path, source_of: Source) -> None:
    path = write_minian_netcdf(tmp_path / "minian.nc", tree)
    for name in ("neural_timestamp.csv", "behavior_timestamp.csv", "behavior_position.csv"):
        shutil.copy(tree / name, tmp_path)
    source = source_of(path, Modality.MINISCOPE, extra=beside(path, tmp_path))
    old, new = read_recording("minian", source, STRAY), _read(source_of, tree)
    assert old.signal is not None
    assert new.signal is not None
    np.testing.assert_array_equal(old.signal.values, new.signal.values)
    np.testing.assert_array_equal(old.channels.position, new.channels.position)
    np.testing.assert_array_equal(old.targets["position"].time_s, new.targets["position"].time_s)


def _cut(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])


def _rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(path)).to_csv(path, index=False)


def _transposed(folder: Path) -> None:
    array = folder / "neural_data/C.zarr/C"
    values = np.asarray(zarr.open_array(store=array, mode="r")[...]).T
    shutil.rmtree(array)
    new = zarr.create_array(store=array, data=np.ascontiguousarray(values), chunks=(10000, 10), zarr_format=2)
    new.attrs["_ARRAY_DIMENSIONS"] = ["unit_id", "frame"]


def _all_nan(folder: Path) -> None:
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(store=folder / "neural_data/C.zarr/C", mode="r+")[:] = np.nan


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: _cut(f / "neural_data/C.zarr/C/3.0", 1000), r"C\.zarr/C: not readable"),
        (lambda f: (f / "neural_data/C.zarr/C/3.0").unlink(), r"C\.zarr/C: 1 chunks are missing"),
        (lambda f: _cut(f / "neural_data/C.zarr/C/.zarray", 40), r"C\.zarr/C: not readable"),
        (lambda f: shutil.rmtree(f / "neural_data/C.zarr/frame"), r"C\.zarr: its coordinate frame is missing"),
        (_transposed, r"C\.zarr: has shape 10000 x 10, but unit_id lists 10 cells: it is transposed"),
        (_all_nan, r"C\.zarr: every trace is NaN"),
        (lambda f: (f / "neural_timestamp.csv").unlink(), r"C\.zarr: no table of timestamps"),
        (lambda f: (f / "behavior_timestamp.csv").unlink(), r"behavior_position\.csv: no table of its frames' times"),
        (
            lambda f: _rewrite(f / "neural_timestamp.csv", lambda table: table.iloc[:-5]),
            r"neural_timestamp\.csv: 9995 timestamps \(frames 0 to 9994\) for the 10000 frames of C\.zarr",
        ),
        (
            lambda f: _rewrite(
                f / "neural_timestamp.csv",
                lambda table: pd.concat([table, table.tail(1).add([1, 0.05, 0.05])]),
            ),
            "10001 timestamps",
        ),
        (
            lambda f: _rewrite(f / "behavior_timestamp.csv", lambda table: table[::-1]),
            r"behavior_timestamp\.csv: timestamps go back or stand still at row 2",
        ),
        (
            lambda f: _rewrite(
                f / "neural_timestamp.csv",
                lambda table: table.assign(timestamp_first=table.timestamp_first.mask(table.frame == 5)),
            ),
            r"neural_timestamp\.csv: column 'timestamp_first' has no number in row 6",
        ),
        (
            lambda f: _rewrite(f / "neural_timestamp.csv", lambda table: table.rename(columns={"frame": "n"})),
            "no known table of timestamps",
        ),
    ],
)
def test_bad_input_is_refused_in_words(
    damaged: Path, source_of: Source, damage: Callable[[Path], Any], said: str
) -> None:
    damage(damaged)
    with pytest.raises(Unreadable, match=said):
        _read(source_of, damaged)


def test_a_folder_that_is_not_declared_is_not_read(tree: Path, source_of: Source) -> None:
    main = tree / "neural_data" / "C.zarr" / ".zgroup"
    extra = [path for path in beside(main, tree) if "A.zarr" not in path]
    recording = read_recording("minian", source_of(main, Modality.MINISCOPE, extra=extra, root=tree), STRAY)
    assert np.isnan(recording.channels.position).all()


def test_from_folder_to_shard(tree: Path, tmp_path: Path) -> None:
    entry = CatalogEntry.parse(
        {
            "id": "minian",
            "title": "Linear maze",
            "modality": "miniscope",
            "reader": "minian",
            "reader_options": STRAY,
            "source": {"archive": "local", "path": str(tree)},
            "recordings": {
                "pattern": r"neural_data/C\.zarr/\.zgroup",
                "subject": "M1",
                "extra": r"neural_data/[AC]\.zarr/.+|(neural|behavior)_\w+\.csv",
            },
            "subject_namespace": "lab",
            "species": "Mus musculus",
            "licence": "AGPL-3.0",
            "redistribute": False,
            "citation": "Dong 2022",
        },
        where="test",
        mend="-",
    )
    manifest = build_manifest(entry, root=tmp_path)
    assert any(file.path.endswith("C.zarr/C/.zarray") for file in manifest.files)
    preprocess = load_params(PROJECT).preprocess
    summary = ingest_dataset(
        entry,
        manifest,
        raw=tree,
        shards=tmp_path / "shards",
        receipts=tmp_path / "receipts.jsonl",
        work=tmp_path / "work",
        settings=preprocess.of(Modality.MINISCOPE),
        common=preprocess.common,
        executor=Threads(),
    )
    assert not summary.reasons
    (path,) = (tmp_path / "shards").iterdir()
    shard = read_shard(path)
    assert shard.stored.shape[1] == 10
    position = shard.recording.targets["position"].values  # noqa: PD011
    # The behaviour began 40 s after the miniscope, which stopped first.
    assert np.isnan(position[: int(39 * shard.sampling_rate_hz)]).all()
    assert np.isfinite(position[int(41 * shard.sampling_rate_hz) :]).mean() > 0.98
