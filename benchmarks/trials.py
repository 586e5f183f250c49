"""What happened in trials of a mouse left out: ``python -m benchmarks.trials FOLDER SHARDS [MOUSE ...]``.

FOLDER has ``session*.rds`` of three mice (Steinmetz et al. 2019, doi:10.1038/s41586-019-1787-x); shards of them are put
in SHARDS where they are not there yet. Each mouse is left out in turn, the decoder learns on all sessions of the two
others, and each fifth of a session's trials is scored once while the other four are its calibration. Prints balanced
accuracy with 95 % intervals over trials, and our difference to logistic regression.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.evaluation.row import NULL
from neurofm.evaluation.scores import Floats, bootstrap, paired_bootstrap, ratio
from neurofm.evaluation.settings import TrialClass
from neurofm.evaluation.trial_task import LOGISTIC, RecordedTrials, decode_trials
from neurofm.evaluation.trials import Trials, read_trials
from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import ManifestRecording, Modality
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.splits import FoldRecording, Segment

PROJECT = Path(__file__).resolve().parents[1]
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


def measure(folder: Path, shards: Path, left_out: str, name: str) -> dict[str, object]:
    """Leave one mouse out."""
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
    rows: dict[str, object] = {"cpu_s": round(sum(seconds.values()), 1)}
    for (task, model), (gain, total) in units.items():
        if model == NULL:
            continue
        low, high = bootstrap(gain, total, samples=SAMPLES, seed=1)
        text = f"{ratio(gain, total):.3f} [{low:.3f}, {high:.3f}]"
        if model != LOGISTIC and (task, LOGISTIC) in units:
            value, low, high = paired_bootstrap((gain, total), units[task, LOGISTIC], samples=SAMPLES, seed=1)
            text += f" {value:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows[f"{task} {model}"] = text
    return rows


def main(folder: Path, shards: Path, mice: list[str]) -> None:
    """Print a table per mouse and class."""
    shards.mkdir(parents=True, exist_ok=True)
    for name in CLASSES:
        for mouse in mice:
            began = time.process_time()
            with threadpool_limits(1):
                rows = measure(folder, shards, mouse, name)
            print(mouse, name, json.dumps(rows, indent=1), f"{time.process_time() - began:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(MICE))
