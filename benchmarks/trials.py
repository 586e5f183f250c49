"""What happened in trials of a mouse left out, beside logistic regression on its labelled trials.

`make bench-trials` writes ``benchmarks/trials.json``; ``python -m benchmarks.trials FOLDER SHARDS [MOUSE ...]`` asks
some of the mice only, and leaves the rows of the others. FOLDER has ``session*.rds`` of three mice (Steinmetz et al.
2019, doi:10.1038/s41586-019-1787-x); shards of them are put in SHARDS where they are not there yet. Each mouse is left
out in turn, the decoder learns on all sessions of the two others, and each fifth of a session's trials is scored once
while the other four are its calibration. Prints balanced accuracy with 95 % intervals over trials, and our difference
to logistic regression; about ten minutes of one core.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.evaluation.row import NULL
from neurofm.evaluation.scores import Floats, bootstrap, paired_bootstrap, ratio
from neurofm.evaluation.settings import TrialClass
from neurofm.evaluation.trial_task import AVERAGE, LOGISTIC, TRIALS, RecordedTrials, decode_trials
from neurofm.evaluation.trials import Trials, read_trials
from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import ManifestRecording, Modality
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.splits import FoldRecording, Segment

PROJECT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("trials.json")
DATA = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data"))
FOLDER = DATA / "ephys" / "steinmetz2019_rds"
SHARDS = PROJECT / ".neurofm" / "bench-trials"
MICE = {"Cori": range(1, 4), "Forssmann": range(4, 8), "Lederberg": range(12, 18)}
CLASSES = {
    "stimulus_side": TrialClass(larger_of=("contrast_left", "contrast_right")),
    "feedback": TrialClass(column="feedback"),
}
OPTIONS = {
    "signal": {"path": "spks", "axes": "trial unit time"},
    "period_s": 0.01,
    "onset": "time",
    "trials": {"contrast_left": "contrast_left", "contrast_right": "contrast_right", "feedback": "feedback_type"},
    "channels": {"region": "brain_area"},
}
FOLDS = 5
Spans = npt.NDArray[np.int64]
"""[trial, 2]"""
SAMPLES = 1000
WHO = {TRIALS: "neurofm", LOGISTIC: "logistic regression", AVERAGE: "mean of both"}
Row = dict[str, Any]


def trials_of(folder: Path, shards: Path, session: int) -> Trials:
    """Read one session by way of its shard."""
    path = shards / f"session{session}.zarr.zip"
    if not path.exists():
        params = load_params(PROJECT)
        entry = ManifestRecording(id=path.stem, subject=f"steinmetz:{session}", files={"main": f"session{session}.rds"})
        source = ReaderInput(
            dataset="steinmetz", modality=Modality.SPIKES, species="Mus musculus", root=folder, entry=entry
        )
        recording = preprocess_recording(
            read_recording("trials", source, OPTIONS),
            settings=params.preprocess.spikes,
            common=params.preprocess.common,
        )
        said = Provenance(archive="local", source_id="", version="", files=(), licence="", citation="", libraries={})
        write_shard(recording, provenance=said, path=path)
    trials = read_trials(read_shard(path))
    assert trials is not None
    return trials


def in_runs(trials: Trials, *, session: int, mouse: str) -> list[RecordedTrials]:
    """Score each fifth once; the other four are calibration."""
    edges = np.linspace(0, len(trials.span), FOLDS + 1).round().astype(int)
    found = []
    for first, stop in pairwise(edges.tolist()):
        rest = [rows for rows in (trials.span[:first], trials.span[stop:]) if len(rows)]
        found.append(_recorded(trials, rest, [trials.span[first:stop]], session=session, mouse=mouse))
    return found


def _recorded(
    trials: Trials,
    calibration: list[Spans],
    test: list[Spans],
    *,
    session: int,
    mouse: str,
) -> RecordedTrials:
    def segments(parts: list[Spans]) -> tuple[Segment, ...]:
        return tuple(Segment(start=int(rows[0, 0]), stop=int(rows[-1, 1])) for rows in parts)

    roles = FoldRecording(
        dataset="steinmetz",
        recording=f"session{session}",
        subject=f"steinmetz:{mouse}",
        modality=Modality.SPIKES,
        kind="subject",
        calibration=segments(calibration),
        test=segments(test),
    )
    return RecordedTrials(roles=roles, trials=trials)


def _mean(runs: Iterable[list[tuple[Floats, Floats]]], side: int) -> Floats:
    """[trial, class] gain or total, mean over draws."""
    return np.concatenate([np.mean([draw[side] for draw in draws], axis=0) for draws in runs])


def measure(folder: Path, shards: Path, left_out: str, name: str) -> list[Row]:
    """Leave one mouse out, print what is found and return it."""
    recordings: list[RecordedTrials] = []
    for mouse, sessions in MICE.items():
        for session in sessions:
            trials = trials_of(folder, shards, session)
            scored = in_runs(trials, session=session, mouse=mouse)
            recordings += (
                scored if mouse == left_out else [_recorded(trials, [trials.span], [], session=session, mouse=mouse)]
            )
    scores, seconds = decode_trials(recordings, name=name, wanted=CLASSES[name], number=0, seed=1)
    parts: defaultdict[tuple[str, str], defaultdict[tuple[str, Segment], list[tuple[Floats, Floats]]]]
    parts = defaultdict(lambda: defaultdict(list))
    for one in scores:
        parts[one.task, one.model][one.roles.recording, one.roles.test[0]].append((one.gain, one.total))
    # Of the draws of who is labelled each trial has its mean, so that an interval is over trials.
    units = {key: (_mean(runs.values(), 0), _mean(runs.values(), 1)) for key, runs in parts.items()}
    rows: list[Row] = []
    for (task, model), (gain, total) in units.items():
        if model == NULL:
            continue
        case = f"{name}, {left_out} left out, {task.rpartition('@')[2].replace('%', ' %')} labelled"
        value, (low, high) = ratio(gain, total), bootstrap(gain, total, samples=SAMPLES, seed=1)
        text = f"{value:.3f} [{low:.3f}, {high:.3f}]"
        if model != LOGISTIC and (task, LOGISTIC) in units:
            more, low, high = paired_bootstrap((gain, total), units[task, LOGISTIC], samples=SAMPLES, seed=1)
            text += f"  {more:+.3f} [{low:+.3f}, {high:+.3f}]"
        print(f"{case:<52}{WHO[model]:<22}{text}", flush=True)
        found = float(f"{value:.4g}")
        unit = "balanced accuracy"
        rows.append({"case": case, "who": WHO[model], "value": found, "unit": unit, "higher_is_better": True})
    print(f"{name}, {left_out} left out: {sum(seconds.values()):.0f} CPU-s", flush=True)
    return rows


def main(folder: Path, shards: Path, mice: list[str]) -> None:
    """Ask of each mouse both questions, and write down what is found as it comes."""
    if not folder.is_dir():
        raise SystemExit(f"error: there is no {folder}. Mend: set NEUROFM_TEST_DATA to the shared recordings")
    if unknown := sorted(set(mice) - MICE.keys()):
        raise SystemExit(f"error: there is no mouse {unknown[0]}. Mend: name some of {', '.join(MICE)}")
    shards.mkdir(parents=True, exist_ok=True)
    for name in CLASSES:
        for mouse in mice:
            with threadpool_limits(1):
                made = measure(folder, shards, mouse, name)
            cases = {row["case"] for row in made}
            rows = json.loads(RESULT.read_text()) if RESULT.exists() else []
            rows = [row for row in rows if row["case"] not in cases] + made
            RESULT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(Path(given[0]) if given else FOLDER, Path(given[1]) if given[1:] else SHARDS, given[2:] or list(MICE))
