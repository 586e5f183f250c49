"""Parcellated series in tables, and the participants file beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.io

from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Modality, Recording, Unreadable

Source = Callable[..., ReaderInput]
OPTIONS = {"axes": "time_channel", "tr_s": 2.0, "atlas": "AAL"}


def test_hcp_matrix_is_turned(sample_recording: Callable[..., Recording], sample_source: Source) -> None:
    stored = scipy.io.loadmat(sample_source("hcp-rest").path())["tc"]
    recording = sample_recording("hcp-rest")
    assert recording.signal is not None
    np.testing.assert_array_equal(recording.signal.values, stored.T)
    assert recording.signal.sampling_rate_hz == pytest.approx(1 / 0.72)
    assert recording.channels.id[0] == "AAL2-94-000"
    assert recording.channels.space == "AAL2-94"


def _pixar(shared_data: Path, number: str) -> Path:
    folder = shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries"
    return folder / f"sub-pixar{number}_task-pixar_atlas-AAL_timeseries.npy"


def test_local_npy_with_participants(shared_data: Path, source_of: Source) -> None:
    source = source_of(
        _pixar(shared_data, "001"),
        Modality.FMRI,
        extra=["participants.tsv"],
        subject="openneuro-ds000228:pixar001",
        root=shared_data / "fmri" / "ds000228_pixar_rois",
    )
    recording = read_recording("tables", source, OPTIONS)
    assert recording.signal is not None
    assert (len(recording.signal.time_s), len(recording.channels)) == (168, 116)
    assert recording.scalars["Age"] == pytest.approx(4.774811773)
    assert recording.scalars["Child_Adult"] == "child"
    assert recording.scalars["KBIT_raw"] is None


Writer = Callable[[Path, npt.NDArray[np.float64]], None]


def _write_mat73(path: Path, values: npt.NDArray[np.float64]) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["tc"] = values.T


WRITERS: dict[str, Writer] = {
    "a.npy": np.save,
    "v5.mat": lambda path, values: scipy.io.savemat(path, {"tc": values, "note": "text"}),
    "v73.mat": _write_mat73,
    "a.tsv": lambda path, values: pd.DataFrame(values).to_csv(path, sep="\t", index=False, na_rep="n/a"),
    "a.csv": lambda path, values: pd.DataFrame(values).to_csv(path, index=False),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_numbers(shared_data: Path, source_of: Source, tmp_path: Path, name: str) -> None:
    values = np.load(_pixar(shared_data, "001"))[:20, :5].astype(np.float64)
    WRITERS[name](tmp_path / name, values)
    recording = read_recording("tables", source_of(tmp_path / name, Modality.FMRI), OPTIONS)
    assert recording.signal is not None
    np.testing.assert_allclose(recording.signal.values, values, rtol=1e-12)


def test_header_names_the_channels_and_gaps_are_nan(source_of: Source, tmp_path: Path) -> None:
    path = tmp_path / "named.tsv"
    path.write_text("Precuneus_L\tPrecuneus_R\n1.0\tn/a\n2.0\t3.0\n")
    recording = read_recording("tables", source_of(path, Modality.FMRI), OPTIONS)
    assert recording.signal is not None
    assert recording.channels.id == ("Precuneus_L", "Precuneus_R")
    np.testing.assert_array_equal(recording.signal.values, [[1, np.nan], [2, 3]])


@pytest.mark.parametrize(
    ("axes", "expected"), [("time_channel", [[1, 2, 3], [4, 5, 6]]), ("channel_time", [[1, 4], [2, 5], [3, 6]])]
)
def test_table_without_header(source_of: Source, tmp_path: Path, axes: str, expected: list[list[int]]) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("1,2,3\n4,5,6\n")
    options = {**OPTIONS, "axes": axes, "header": False}
    recording = read_recording("tables", source_of(path, Modality.FMRI), options)
    assert recording.signal is not None
    np.testing.assert_array_equal(recording.signal.values, expected)


def test_channels_without_a_header_are_named_by_the_catalogue(shared_data: Path, source_of: Source) -> None:
    labels = (shared_data / "atlas" / "ROI_MNI_V4.txt").read_text().split("\n")
    names = [line.split("\t")[1] for line in labels if line]
    recording = read_recording(
        "tables", source_of(_pixar(shared_data, "001"), Modality.FMRI), OPTIONS | {"names": names}
    )
    assert recording.channels.id == tuple(names)
    assert recording.channels.id[6] == "Frontal_Mid_L"


def _save_objects(path: Path) -> None:
    np.save(path, np.array([[{}], [{}]], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "make", "case"),
    [
        ("3d.npy", lambda path: np.save(path, np.zeros((2, 3, 4))), ({}, "expected a matrix")),
        ("text.npy", lambda path: np.save(path, np.array([["a"], ["b"]])), ({}, "expected a matrix")),
        ("pickle.npy", _save_objects, ({}, "not readable")),
        ("nan.npy", lambda path: np.save(path, np.full((9, 2), np.nan)), ({}, "no finite value")),
        ("none.npy", lambda path: np.save(path, np.zeros((0, 2))), ({}, "no sample")),
        ("narrow.npy", lambda path: np.save(path, np.zeros((9, 0))), ({}, "no channel")),
        ("empty.npy", lambda path: path.write_bytes(b""), ({}, "the file is empty")),
        ("absent.npy", lambda path: None, ({}, "no such file")),
        ("cut.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), ({}, "not readable")),
        ("cut.mat", lambda path: path.write_bytes(b"MATLAB 5.0"), ({}, "not readable")),
        ("x.xlsx", lambda path: path.write_bytes(b"PK"), ({}, "suffix '.xlsx'")),
        ("words.csv", lambda path: path.write_text("a,b\n1,x\n"), ({}, "expected a matrix")),
        ("h.csv", lambda path: path.write_text("a,b\n1,2\n"), ({"axes": "channel_time"}, "`header: false`")),
        ("n.npy", lambda path: np.save(path, np.eye(3)), ({"names": ["a", "b"]}, "3 channels, but `names` has 2")),
        ("n.csv", lambda path: path.write_text("a,b\n1,2\n"), ({"names": ["a", "b"]}, "leave `names` out")),
        ("v.mat", lambda path: scipy.io.savemat(path, {"tc": np.eye(3)}), ({"variable": "bold"}, "it has tc")),
        ("two.mat", lambda path: scipy.io.savemat(path, {"a": np.eye(3), "b": np.eye(3)}), ({}, "it has a, b")),
    ],
)
def test_unreadable_table(
    source_of: Source, tmp_path: Path, name: str, make: Callable[[Path], object], case: tuple[dict[str, Any], str]
) -> None:
    options, said = case
    make(tmp_path / name)
    with pytest.raises(Unreadable, match=said) as error:
        read_recording("tables", source_of(tmp_path / name, Modality.FMRI), {**OPTIONS, **options})
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffparticipant_id\tage\tsex\nsub-01\t7\tF\n", {"age": 7, "sex": "F"}),
        ("participant_id\tage\n01\t7.5\n", {"age": 7.5}),
        ("participant_id\tage\nsub-01\tn/a\n", {"age": None}),
        ("participant_id\tage\nsub-01\tinf\n", {"age": None}),
        ("participant_id\tbatch\nsub-01\t1_0\n", {"batch": "1_0"}),
        ("participant_id\tage\nsub-02\t9\n", {}),
    ],
)
def test_participants(source_of: Source, tmp_path: Path, text: str, expected: dict[str, object]) -> None:
    np.save(tmp_path / "a.npy", np.eye(3))
    (tmp_path / "participants.tsv").write_text(text, encoding="utf-8")
    source = source_of(tmp_path / "a.npy", Modality.FMRI, extra=["participants.tsv"], subject="lab:01")
    assert read_recording("tables", source, OPTIONS).scalars == expected


@pytest.mark.parametrize("text", ["subject\tage\n01\t7\n", "participant_id\tage\n01\t7\t8\n"])
def test_participants_that_do_not_fit(source_of: Source, tmp_path: Path, text: str) -> None:
    np.save(tmp_path / "a.npy", np.eye(3))
    (tmp_path / "participants.tsv").write_text(text)
    source = source_of(tmp_path / "a.npy", Modality.FMRI, extra=["participants.tsv"], subject="lab:01")
    with pytest.raises(Unreadable, match=r"participants\.tsv"):
        read_recording("tables", source, OPTIONS)
