"""The gate stops what was learned from and would be scored."""

from __future__ import annotations

import pytest

from neurofm.errors import UserError
from neurofm.evaluation.audit import audit_fold
from neurofm.recording import Modality
from neurofm.splits import Fold, FoldRecording, Kind
from neurofm.windows import WindowsSettings
from tests.evaluation.conftest import WINDOW, Span, spans

WINDOWS = WindowsSettings.parse(
    {str(modality): {"window_samples": WINDOW, "patch_samples": 5} for modality in Modality}, where="", mend=""
)


def _entry(name: str, *, subject: str = "", kind: Kind = "subject", **roles: list[Span]) -> FoldRecording:
    return FoldRecording(
        dataset="d",
        recording=name,
        subject=subject or f"lab:{name}",
        modality=Modality.FMRI,
        kind=kind,
        calibration=spans(roles.pop("calibration", [(0, 20)])),
        **{role: spans(given) for role, given in roles.items()},
    )


def _audit(*entries: FoldRecording, trained: tuple[str, ...] = ()) -> None:
    audit_fold(Fold(recordings=entries), number=0, windows=WINDOWS, trained_on=lambda subject: subject in trained)


HELD_OUT = _entry("a", test=[(20, 100)])
LEARNED = _entry("b", train=[(0, 100)])
IN_TIME = _entry("c", kind="time", calibration=[(0, 100)], train=[(0, 100)], validation=[(120, 200)], test=[(220, 300)])


def test_a_clean_fold_passes() -> None:
    _audit(HELD_OUT, LEARNED, IN_TIME, trained=("lab:b", "lab:c"))


@pytest.mark.parametrize(
    ("entries", "trained", "message"),
    [
        ((HELD_OUT, _entry("a2", subject="lab:a", train=[(0, 50)])), (), "lab:a is scored and learned from in fold 0"),
        ((HELD_OUT, LEARNED), ("lab:a",), "model of fold 0 was trained on subject lab:a"),
        ((IN_TIME.model_copy(update={"test": spans([(219, 300)])}),), (), r"d/c: in fold 0 samples 219-300 are scored"),
        ((IN_TIME.model_copy(update={"train": spans([(319, 400)])}),), (), r"samples 220-300 .* within 20 samples"),
        ((IN_TIME.model_copy(update={"calibration": spans([(230, 240)])}),), (), "samples 220-300"),
    ],
    ids=["subject in train", "subject in the model", "no gap before", "no gap after", "calibration inside"],
)
def test_a_leak_stops_evaluation(entries: tuple[FoldRecording, ...], trained: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _audit(*entries, trained=trained)
