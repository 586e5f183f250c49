"""The gate refuses, or labels the rows: on shards of people of ds000228."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from neurofm.errors import UserError
from neurofm.evaluation.few_shot_row import SCRATCH, FewShotRow
from neurofm.evaluation.gate import Gate
from neurofm.evaluation.row import Row
from neurofm.recording import Channels, Clock, Modality, Recording, Signal, Step
from neurofm.shards import Provenance, write_shard
from neurofm.splits import Candidate, Splits, SplitSettings, make_splits
from neurofm.splits.candidates import content_of
from neurofm.windows import WindowsSettings

WINDOW, SUPPORT_S, RATE_HZ = 20, 3.0, 2.0
PROVENANCE = Provenance(
    archive="local", source_id="x", version="1", files=(), licence="PDDL", citation="Richardson 2018", libraries={}
)
WINDOWS = WindowsSettings.parse(
    {str(modality): {"window_samples": WINDOW, "patch_samples": 5} for modality in Modality}, where="", mend=""
)


class _Model:
    """What it says it has learned from."""

    def __init__(self, *subjects: str, roles: dict[str, str] | None = None) -> None:
        self.subjects, self.roles = subjects, roles or {}

    def trained_on(self, subject: str) -> bool:
        return subject in self.subjects

    def learned_as(self, recording: str) -> str | None:
        return self.roles.get(recording)


def _write(path: Path, values: np.ndarray, *, subject: str) -> None:
    channels = values.shape[1]
    recording = Recording(
        dataset=path.parent.name,
        subject=subject,
        session="",
        run="",
        task="",
        species="Homo sapiens",
        modality=Modality.EEG,
        channels=Channels(
            id=tuple(f"c{index}" for index in range(channels)),
            position=np.full((channels, 3), np.nan),
            position_unit="",
            space="atlas",
        ),
        clock=Clock(id=subject),
        signal=Signal(values=values, sampling_rate_hz=RATE_HZ, units="1"),
        steps=(Step(name="band", version="1", params={}, support_s=SUPPORT_S),),
    )
    write_shard(recording, provenance=PROVENANCE, path=path)


@pytest.fixture(scope="module")
def shards(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people of ds000228, and one of them four times as long, as if of few subjects."""
    folder = tmp_path_factory.mktemp("shards")
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[:7]
    people = [np.load(file).astype(np.float64)[:, :8] for file in files]
    for number, values in enumerate(people[:6]):
        _write(folder / "many" / f"p{number}.zarr.zip", values, subject=f"lab:{number}")
    _write(folder / "one" / "long.zarr.zip", np.concatenate([people[6]] * 4), subject="lab:long")
    return folder


def _candidate(path: Path, subject: str, samples: int) -> Candidate:
    return Candidate(
        dataset=path.parent.name,
        recording=path.name.removesuffix(".zarr.zip"),
        subject=subject,
        modality=Modality.EEG,
        samples=samples,
        sampling_rate_hz=RATE_HZ,
        support_s=SUPPORT_S,
    )


@pytest.fixture(scope="module")
def splits(shards: Path) -> Splits:
    people = [_candidate(shards / "many" / f"p{number}.zarr.zip", f"lab:{number}", 168) for number in range(6)]
    long = _candidate(shards / "one" / "long.zarr.zip", "lab:long", 672)
    settings = SplitSettings(seed=1, folds=3)
    return make_splits([*people, long], settings=settings, window_samples=dict.fromkeys(Modality, WINDOW))


def _gate(splits: Splits, shards: Path, *, allow: bool = False) -> Gate:
    return Gate(splits=splits, shards=shards, windows=WINDOWS, allow_overlap=allow)


def _model_of(splits: Splits, fold: int) -> _Model:
    learned = [entry for entry in splits.folds[fold].recordings if entry.train]
    roles = {entry.name: entry.digest() for entry in learned}
    return _Model(*(entry.subject for entry in learned), roles=roles)


def _row(dataset: str, model: str) -> Row:
    return Row(
        dataset=dataset,
        modality="eeg",
        task="t",
        metric="R2",
        unit="1",
        higher_is_better=True,
        split="3-fold by subject",
        model=model,
        seed=1,
        value=1.0,
        null=0.0,
        ci_low=0.0,
        ci_high=1.0,
        ci_unit="subject",
        n=6,
    )


ROWS = [_row(dataset, model) for dataset in ("many", "one") for model in ("neurofm", "ridge")]


def _labels(gate: Gate) -> dict[tuple[str, str], str]:
    return {(row.dataset, row.model): row.leak for row in gate.labelled(ROWS)}


def test_what_is_clean_passes_without_a_label(splits: Splits, shards: Path) -> None:
    gate = _gate(splits, shards)
    for number in range(3):
        gate.check_fold(number, _model_of(splits, number))
    assert gate.labelled(ROWS) == tuple(ROWS)


def test_a_model_of_another_fold_is_refused_or_labelled(splits: Splits, shards: Path) -> None:
    other = _model_of(splits, 1)
    with pytest.raises(UserError, match=r"trained on subject lab:\d, .*Mend: .*evaluate.allow_overlap: true"):
        _gate(splits, shards).check_fold(0, other)
    gate = _gate(splits, shards, allow=True)
    for number in range(3):
        gate.check_fold(number, other)
    point = FewShotRow.model_construct(dataset="many", model=SCRATCH)  # type: ignore[call-arg]  # nothing else is asked
    assert [row.leak for row in gate.labelled([point])] == ["trained on 3 of 6 subjects"]
    assert _labels(gate) == {
        ("many", "neurofm"): "trained on 3 of 6 subjects",
        ("many", "ridge"): "",
        ("one", "neurofm"): "trained by another split on 1 of 1 recordings",
        ("one", "ridge"): "",
    }


def test_gaps_hold_the_support_of_the_filters(splits: Splits, shards: Path) -> None:
    """The shard says how far its filters reach, whatever the splitter was told."""
    fold = splits.folds[0]
    (entry,) = (one for one in fold.recordings if one.dataset == "one")
    nearer = tuple(part.model_copy(update={"start": max(0, part.start - 1)}) for part in entry.test)
    moved = entry.model_copy(update={"test": nearer})
    near = splits.model_copy(update={"folds": (fold.model_copy(update={"recordings": (moved,)}),)})
    with pytest.raises(UserError, match="are scored within 26 samples of what is learned from"):
        _gate(near, shards).check_fold(0, _Model())
    gate = _gate(near, shards, allow=True)
    gate.check_fold(0, _Model())
    said = "learned from within a window and the filters' support of 1 of 1 recordings"
    assert _labels(gate)["one", "ridge"] == said


def test_a_copy_under_another_name_is_seen(splits: Splits, shards: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(shards, tmp_path / "shards")
    fold = splits.folds[0]
    scored = next(entry.recording for entry in fold.recordings if entry.test and entry.dataset == "many")
    learned = next(entry.recording for entry in fold.recordings if entry.train and entry.dataset == "many")
    shutil.copy(copied / "many" / f"{scored}.zarr.zip", copied / "many" / f"{learned}.zarr.zip")
    with pytest.raises(UserError, match=f"many/{scored}, scored in fold 0, holds the same samples as many/{learned}"):
        _gate(splits, copied).check_fold(0, _model_of(splits, 0))


def test_the_content_is_of_the_samples_alone(shards: Path, shared_data: Path, tmp_path: Path) -> None:
    file = min((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    values = np.load(file).astype(np.float64)[:, :8]
    path = tmp_path / "other" / "copy.zarr.zip"
    _write(path, values, subject="elsewhere:copy")
    assert content_of(path) == content_of(shards / "many" / "p0.zarr.zip")
    values[100, 3] += 1.0
    _write(path, values, subject="elsewhere:copy")
    assert content_of(path) != content_of(shards / "many" / "p0.zarr.zip")
