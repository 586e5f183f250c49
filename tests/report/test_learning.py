"""What the report says of training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurofm.recording import Modality
from neurofm.report.learning import curve_panels
from neurofm.report.written import CurvePoint, FoldTraining, Pretraining
from neurofm.splits import Fold, FoldRecording, Segment, Splits

PROJECT = Path(__file__).resolve().parents[2]


def _fold(number: int) -> FoldTraining:
    points = tuple(
        CurvePoint(step=step, train={"eeg": 0.5, "fmri": 0.7}, validation={"eeg": 0.4 - step / 1000, "fmri": None})
        for step in (50, 100)
    )
    return FoldTraining(fold=number, steps=100, best_step=100, parameters=5, curve=points)


def _splits(*, second: int) -> Splits:
    """Two folds: the first learns from three EEG recordings of two datasets, the second from `second` of them."""

    def entries(training: int) -> tuple[FoldRecording, ...]:
        some = (Segment(start=0, stop=9),)
        return tuple(
            FoldRecording.model_validate(
                {
                    "dataset": f"d{number % 2}",
                    "recording": f"r{number}",
                    "subject": f"x:{number}",
                    "modality": Modality.EEG,
                    "kind": "subject",
                    "calibration": some,
                    ("train" if number < training else "test"): some,
                }
            )
            for number in range(3)
        )

    folds = tuple(Fold(recordings=entries(training)) for training in (3, second))
    return Splits(schema="neurofm-splits/1", seed=1, folds=folds, left_out=())


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (3, "EEG, whole channels hidden, 3 recordings of 2 datasets in a fold: "),
        (1, "EEG, whole channels hidden, 1 to 3 recordings of 2 datasets in a fold: "),
    ],
)
def test_curves_say_from_how_many_recordings_was_learned(second: int, told: str) -> None:
    training = Pretraining(folds=(_fold(0), _fold(1)))
    panels = {panel.caption.partition(":")[0]: panel for panel in curve_panels(training, splits=_splits(second=second))}
    assert list(panels) == ["fMRI, whole channels hidden", told.partition(":")[0]]
    eeg = panels[told.partition(":")[0]]
    assert eeg.caption.startswith(f"{told}training loss")
    assert "one line for each of 2 folds" in eeg.caption
    assert "relative to predicting the mean (1)" in eeg.caption
    for words in ("fold 0: 0.300", "fold 1: 0.300", "null = 1"):
        assert words in eeg.drawing
    assert "fold 0<" in panels["fMRI, whole channels hidden"].drawing, "it was not validated"


def test_every_kind_of_mask_has_its_curve() -> None:
    """What is drawn is what metrics/pretrain.json of the project says, and the caption which share was kept."""
    written = json.loads((PROJECT / "metrics" / "pretrain.json").read_text())
    training = Pretraining.model_validate(written)
    panels = curve_panels(training)
    learned = {key for fold in written["folds"] for point in fold["curve"] for key in point["validation"]}
    assert len(panels) == len(learned) > len(Modality)
    by_kind = {panel.caption.partition(":")[0]: panel for panel in panels}
    panel = by_kind["EEG, a stretch of time hidden"]
    for fold in written["folds"]:
        kept = next(point for point in fold["curve"] if point["step"] == fold["best_step"])
        assert f"fold {fold['fold']}: {kept['validation']['eeg block']:.3f}" in panel.drawing
    gains = ", ".join(f"{fold['residual_gain']['eeg block']:g}" for fold in written["folds"])
    assert panel.caption.endswith(f"fold by fold: {gains}.")
