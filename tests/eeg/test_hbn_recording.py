"""Recordings of HBN-EEG whole: real events on a signal of their length, and real eyes open and closed of EEGBCI."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.signal import welch

from neurofm.eeg.hbn.events import read_events
from neurofm.eeg.hbn.recording import HbnSettings, describe
from neurofm.preprocess import Common, eeg
from neurofm.recording import Channels, Clock, Modality, Recording, Signal, Unreadable
from neurofm.recording.recording import JsonScalar
from tests.eeg.conftest import column_of

SETTINGS = HbnSettings()
MakeRecording = Callable[..., Recording]


@pytest.fixture(scope="session")
def rows(hbn: Path) -> dict[str, dict[str, JsonScalar]]:
    """Columns of each child as a reader leaves them in scalars."""
    with (hbn / "participants.tsv").open() as lines:
        table = list(csv.DictReader(lines, delimiter="\t"))
    return {row["participant_id"][4:]: {k: None if v == "n/a" else v for k, v in row.items()} for row in table}


@pytest.fixture(scope="session")
def recording_of(rows: dict[str, dict[str, JsonScalar]]) -> MakeRecording:
    """Return a function from a child, task and length to a recording of one channel that counts its samples."""

    def make(child: str, task: str, run: str = "", *, seconds: float, rate_hz: float = 500.0) -> Recording:
        count = np.arange(round(seconds * rate_hz), dtype=np.float64)[:, None]
        return Recording(
            dataset="hbn-r1",
            subject=f"hbn:{child}",
            session="",
            run=run,
            task=task,
            species="Homo sapiens",
            modality=Modality.EEG,
            channels=Channels(id=("E1",), position=np.full((1, 3), np.nan), position_unit=""),
            clock=Clock(id=f"hbn-r1/{child}"),
            signal=Signal(values=count, sampling_rate_hz=rate_hz, units="V"),
            scalars=rows.get(child, {}),
        )

    return make


def test_rest_that_runs_on_is_cropped(rest_files: list[Path], recording_of: MakeRecording) -> None:
    done = describe(
        recording_of("NDARAC904DMU", "RestingState", seconds=403.474), read_events(rest_files[0]), settings=SETTINGS
    )
    assert done.signal is not None
    assert done.events is not None
    assert done.signal.start_s == 1.288
    first, last = done.signal.values[[0, -1], 0] / 500
    assert (first, last) == (1.288, pytest.approx(352.366))
    assert done.events.label == ("eyes_open", "eyes_closed") * 5
    assert "dot_no1_ON" in str(done.quality["other_tasks_events"])
    assert (done.quality["eyes_open_s"], done.quality["eyes_closed_s"]) == pytest.approx((100.0, 200.0), abs=0.1)
    assert "excluded_reason" not in done.quality
    assert done.scalars["p_factor"] == -0.603
    assert done.scalars["release_number"] == "R1"
    assert done.steps[-1].params["stop_s"] == pytest.approx(352.368)


def test_a_run_keeps_its_own_block(contrast_files: list[Path], recording_of: MakeRecording) -> None:
    path = next(path for path in contrast_files if "NDARAM704GKZ" in path.name and "run-2" in path.name)
    done = describe(
        recording_of("NDARAM704GKZ", "contrastChangeDetection", "2", seconds=650.0),
        read_events(path),
        settings=SETTINGS,
    )
    assert done.signal is not None
    assert done.events is not None
    # Block 3, from 439.3 s on, is run 3's.
    assert (done.signal.start_s, done.signal.time_s[-1]) == pytest.approx((36.656, 211.974))
    assert done.quality["trials"] == len(done.events.label) == 24
    assert done.quality["other_tasks_events"] == "video_start, video_stop"
    seconds = column_of(done.targets["response_time"])
    assert done.quality["trials_answered"] == 24
    assert np.isfinite(seconds).sum() == 24 * 1000
    assert np.nanmax(seconds) <= 3.0
    within = done.targets["response_time"].time_s[np.isfinite(seconds)]
    assert done.signal.start_s < within.min() < within.max() < 211.976


def test_a_missing_factor_stays_missing(rest_files: list[Path], recording_of: MakeRecording) -> None:
    recording = recording_of("nobody", "RestingState", seconds=400.0)
    done = describe(recording, read_events(rest_files[0]), settings=SETTINGS)
    assert done.scalars == dict.fromkeys(("age", "sex", "p_factor", "attention", "internalizing", "externalizing"))


def test_a_listed_child_is_described_and_kept_out(rest_files: list[Path], recording_of: MakeRecording) -> None:
    recording = recording_of("NDARWV769JM7", "RestingState", seconds=400.0)
    assert "challenge-2025" in str(
        describe(recording, read_events(rest_files[0]), settings=SETTINGS).quality["excluded_reason"]
    )
    lenient = HbnSettings(exclusion_lists=())
    assert "excluded_reason" not in describe(recording, read_events(rest_files[0]), settings=lenient).quality


def test_other_tasks_keep_signal_and_events(rest_files: list[Path], recording_of: MakeRecording) -> None:
    recording = recording_of("NDARAG143ARJ", "symbolSearch", seconds=10.0)
    done = describe(recording, read_events(rest_files[0]), settings=SETTINGS)
    assert done.signal is recording.signal
    assert "`caution`" in str(done.quality["excluded_reason"])


@pytest.mark.parametrize(
    ("run_of_task", "seconds", "told"),
    [
        (("contrastChangeDetection", "1"), 400.0, "no start of block 1 among its events"),
        (("contrastChangeDetection", ""), 400.0, r"no start of block \? among its events"),
        (("RestingState", ""), 1.0, r"no sample between 1.288 and 352.368 s; it ends at 1 s"),
    ],
)
def test_a_file_with_nothing_of_its_task(
    rest_files: list[Path], recording_of: MakeRecording, run_of_task: tuple[str, str], seconds: float, told: str
) -> None:
    with pytest.raises(Unreadable, match=f"hbn-r1/NDARAC904DMU: {told}"):
        describe(
            recording_of("NDARAC904DMU", *run_of_task, seconds=seconds), read_events(rest_files[0]), settings=SETTINGS
        )


def test_rest_without_its_start(rest_files: list[Path], recording_of: MakeRecording) -> None:
    events = read_events(rest_files[0])
    with pytest.raises(Unreadable, match="no `resting_start`"):
        describe(
            recording_of("NDARAC904DMU", "RestingState", seconds=400.0),
            events[events["value"] != "resting_start"],
            settings=SETTINGS,
        )


def test_closed_eyes_have_alpha(shared_data: Path, tmp_path: Path) -> None:
    """EEGBCI S003: a minute with eyes open, then a minute with eyes closed, with the prompts that HBN would have."""
    runs = [
        mne.io.read_raw_edf(shared_data / "eeg" / "eegbci_S003" / f"S003R0{run}.edf", preload=True, verbose="error")
        for run in (1, 2)
    ]
    both = np.concatenate([raw.get_data() for raw in runs], axis=1).T
    names = tuple(name.strip(".").upper() for name in runs[0].ch_names)
    border = len(runs[0].times) / 160.0
    path = tmp_path / "events.tsv"
    path.write_text(
        "onset\tvalue\n0\tresting_start\n5\tinstructed_toOpenEyes\n25\tinstructed_toOpenEyes\n"
        f"{border}\tinstructed_toCloseEyes\n{border + 45}\tbreak cnt\n{border + 50}\tvideo_start\n"
    )
    recording = Recording(
        dataset="eegbci",
        subject="eegbci:S003",
        session="",
        run="",
        task="RestingState",
        species="Homo sapiens",
        modality=Modality.EEG,
        channels=Channels(id=names, position=np.full((64, 3), np.nan), position_unit=""),
        clock=Clock(id="eegbci/S003"),
        signal=Signal(values=both, sampling_rate_hz=160.0, units="V"),
    )
    described = describe(recording, read_events(path), settings=SETTINGS)
    clean = eeg.preprocess(
        described,
        settings=eeg.ModalitySettings(highpass_hz=1.0, lowpass_hz=40.0, rate_hz=100.0, amplitude_limit_uv=500.0),
        common=Common(max_nan_fraction=0.2, min_valid_fraction=0.5, max_target_gap_s=0.5),
    )
    assert clean.signal is not None
    assert len(clean.signal.values) / 100 == pytest.approx(border + 45.0, abs=0.02)
    eyes = column_of(clean.targets["eyes_closed"])
    occipital = [names.index(name) for name in ("O1", "OZ", "O2")]
    alpha = {}
    for state in (0.0, 1.0):
        frequency, power = welch(clean.signal.values[eyes == state][:, occipital], fs=100.0, nperseg=400, axis=0)
        band = (frequency >= 8) & (frequency <= 13)
        alpha[state] = power[band].sum() / power[(frequency >= 1) & (frequency <= 40)].sum()
    assert alpha[0.0] < 0.25
    assert alpha[1.0] > 0.6
