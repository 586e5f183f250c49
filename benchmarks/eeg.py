"""What the tiers of EEG cost at the size of a recording of the Healthy Brain Network, beside mne-bids-pipeline.

`make bench-eeg` writes ``benchmarks/eeg.json``. The recording is 6 minutes x 129 channels x 500 Hz of real EEG: 19
channels of each of 7 participants of EEGMAT at rest, 30 s of each, turned at the ends and set one after the other until
the 6 minutes are full, at the places of the HydroCel net. No head has such neighbours: it is the size that is real, and
the spectrum of each channel; how many channels are found bad says nothing. Each case is a process of its own with one
thread, as a stage runs it, from the recording in memory to the finished recording in memory:

* ``challenge``: 0.5-50 Hz, 100 Hz;
* ``clean``: with ASR, every step on.

Wall and CPU seconds are medians of the rounds. Memory is the process's peak, libraries and the recording itself among
it. mne-bids-pipeline works on the same recording written as BIDS, in an environment of its own (``tests/clients/
mne-bids-pipeline.lock``). Its rows hold epochs and a report, which cannot be switched off, and reading and writing as
well, so they compare what a user waits for, not filters; they are of one run each. Its ``challenge`` filters and
resamples. Its ``clean`` is those of our steps that it has for EEG: notch, 1-50 Hz, average reference, 100 Hz,
autoreject's global threshold; finding and filling bad channels and ASR, most of what ours takes, it has not. The
recording is called run-01: without a run, 1.10.1 takes a task called rest for one that was recorded beside another
task, and finds no file for it where ``task_is_rest`` (KeyError 'raw_task-rest_run-None' in ``_01_data_quality``).
``MNE alone`` is the same filter and MNE's own resampling on a loaded raw object.

On a machine that does other work as well, only CPU seconds can be compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import mne
import numpy as np
import numpy.typing as npt

from neurofm.preprocess import Common
from neurofm.preprocess.eeg import ModalitySettings, preprocess
from neurofm.recording import Channels, Clock, Modality, Recording, Signal

PROJECT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("eeg.json")
EEGMAT = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data")) / "eeg" / "eegmat"
PARTICIPANTS = ("00", "01", "03", "04", "06", "07", "09")
CHANNELS, RATE_HZ, SECONDS, TAKEN_S, ROUNDS = 129, 500, 360, 30, 3
BAND = {"highpass_hz": 0.5, "lowpass_hz": 50.0, "rate_hz": 100.0, "amplitude_limit_uv": None}
LIMITS = Common(max_nan_fraction=0.2, min_valid_fraction=0.0, max_target_gap_s=0.5)
PIPELINE = """\
bids_root, deriv_root, task = {bids!r}, {derivatives!r}, "rest"
interactive, on_error, n_jobs = False, "abort", 1
ch_types, eeg_template_montage = ["eeg"], "GSN-HydroCel-129"
h_freq, raw_resample_sfreq = 50.0, 100.0
task_is_rest, rest_epochs_duration, rest_epochs_overlap = True, 2.0, 0.0
epochs_tmin, epochs_tmax, baseline, run_source_estimation = 0.0, 2.0, None, False
"""
PIPELINE_CASES = {
    "challenge": ("l_freq, eeg_reference = 0.5, []\n", "mne-bids-pipeline, files, epochs, report"),
    "clean": (
        'l_freq, notch_freq, eeg_reference, reject = 1.0, 50.0, "average", "autoreject_global"\n',
        "mne-bids-pipeline, files, epochs, report; no bad channels, no ASR",
    ),
}
"""What a case adds to the configuration, and what its rows are called."""
WRITE_BIDS = """\
import sys, mne, mne_bids
raw = mne.io.read_raw_fif(sys.argv[1] + "/one_raw.fif", preload=True, verbose="error")
place = mne_bids.BIDSPath(subject="01", task="rest", run="01", datatype="eeg", root=sys.argv[1] + "/bids")
mne_bids.write_raw_bids(raw, place, format="BrainVision", allow_preload=True, verbose="error")
"""
Row = dict[str, Any]


def main() -> None:
    """Run all cases, print them and write them down."""
    if not EEGMAT.is_dir():
        raise SystemExit(f"error: there is no {EEGMAT}. Mend: set NEUROFM_TEST_DATA to the shared recordings")
    rows: list[Row] = []
    cases = {"challenge": "neurofm", "clean": "neurofm", "challenge, MNE alone": "mne"}
    for case, who in cases.items():
        rounds = [_measured(case) for _ in range(ROUNDS)]
        rows += [
            _row(case, who, statistics.median(one["wall_s"] for one in rounds), "s"),
            _row(f"{case}, CPU", who, statistics.median(one["cpu_s"] for one in rounds), "s"),
            _row(f"{case}, peak memory", who, max(one["peak_gb"] for one in rounds), "GB"),
        ]
        if "time_shift_ms" in rounds[0]:
            rows.append(_row(f"{case}, shift in time", who, abs(rounds[0]["time_shift_ms"]), "ms"))
    try:
        rows += _pipeline()
    except subprocess.CalledProcessError as failed:
        print(f"mne-bids-pipeline failed, its rows are left out: {failed}", file=sys.stderr)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['case']:<36}{row['who']:<42}{row['value']:>10.4g} {row['unit']}")


def measure(case: str) -> dict[str, float]:
    """Return what one case takes in this process; what it imports is imported by a first run on 40 s."""
    whole = _values()
    work = _mne_alone if case.endswith("MNE alone") else lambda values: _neurofm(values, case)
    work(whole[: 40 * RATE_HZ])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began, cpu_began = time.perf_counter(), time.process_time()
    found = work(whole)
    took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began}
    lines = Path("/proc/self/status").read_text().splitlines()
    return took | found | {"peak_gb": next(int(x.split()[1]) * 1024 / 1e9 for x in lines if x.startswith("VmHWM"))}


def _neurofm(values: npt.NDArray[np.float64], tier: str) -> dict[str, float]:
    recording = _recording(values)
    settings = ModalitySettings.parse({"tier": tier} | BAND, where="the benchmark", mend="look at BAND")
    done = preprocess(recording, settings=settings, common=LIMITS)
    return {"time_shift_ms": float(str(done.quality["time_shift_ms"]))}


def _mne_alone(values: npt.NDArray[np.float64]) -> dict[str, float]:
    raw = mne.io.RawArray(values.T.copy(), mne.create_info(CHANNELS, RATE_HZ, "eeg"), verbose="error")
    raw.filter(0.5, 50.0, verbose="error").resample(100.0, verbose="error")
    return {}


def _values() -> npt.NDArray[np.float64]:
    """[time, channel] V."""
    parts = []
    for participant in PARTICIPANTS:
        raw = mne.io.read_raw_edf(EEGMAT / f"Subject{participant}_1.edf", verbose="error")
        parts.append(raw.get_data(picks=raw.ch_names[:19], tmax=TAKEN_S)[:, : TAKEN_S * RATE_HZ])
    once = np.concatenate(parts)[:CHANNELS].T
    both = np.concatenate([once, once[::-1]])
    return np.ascontiguousarray(np.tile(both, (SECONDS // (2 * TAKEN_S), 1)))


def _recording(values: npt.NDArray[np.float64]) -> Recording:
    places = _places()
    return Recording(
        dataset="bench",
        subject="bench:01",
        session="",
        run="",
        task="rest",
        species="-",
        modality=Modality.EEG,
        channels=Channels(id=tuple(places), position=np.array(list(places.values())), position_unit="m", space="head"),
        clock=Clock(id="bench/01"),
        signal=Signal(values=values, sampling_rate_hz=float(RATE_HZ), units="V"),
        scalars={"line_freq_hz": 50.0},
    )


def _places() -> dict[str, npt.NDArray[np.float64]]:
    places: dict[str, Any] = mne.channels.make_standard_montage("GSN-HydroCel-129").get_positions()["ch_pos"]
    return places


def _measured(case: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.eeg", case]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=variables)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _pipeline() -> list[Row]:
    import pytest  # noqa: PLC0415

    from tests.servers.clients import client_python  # noqa: PLC0415

    try:
        python = client_python("mne-bids-pipeline")
    except pytest.skip.Exception as missing:
        print(missing, file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="bench-eeg-") as name:
        folder = Path(name)
        raw = mne.io.RawArray(_values().T, mne.create_info(list(_places()), RATE_HZ, "eeg"), verbose="error")
        raw.info["line_freq"] = 50.0
        raw.save(folder / "one_raw.fif", verbose="error")
        # Its own environment has what writes BrainVision.
        subprocess.run([str(python), "-c", WRITE_BIDS, name], check=True, stdout=sys.stderr)
        return [row for case in PIPELINE_CASES for row in _piped(case, folder, python=python)]


def _piped(case: str, folder: Path, *, python: Path) -> list[Row]:
    """Return the rows of one run of mne-bids-pipeline over ``folder/bids``."""
    own, who = PIPELINE_CASES[case]
    config = folder / f"{case}.py"
    config.write_text(PIPELINE.format(bids=str(folder / "bids"), derivatives=str(folder / case)) + own)
    pipeline = str(python.with_name("mne_bids_pipeline"))
    command = [pipeline, f"--config={config}", "--steps=init,preprocessing", "--no-cache"]
    program = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); "
    program += "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
    program += "print(u.ru_utime + u.ru_stime, u.ru_maxrss * 1024 / 1e9)"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    wall = time.perf_counter() - began
    cpu, peak = map(float, done.stdout.split())
    return [
        _row(case, who, wall, "s"),
        _row(f"{case}, CPU", who, cpu, "s"),
        _row(f"{case}, peak memory", who, peak, "GB"),
    ]


def _row(case: str, who: str, value: float, unit: str) -> Row:
    return {"case": case, "who": who, "value": float(f"{value:.4g}"), "unit": unit, "higher_is_better": False}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
