"""The leakage gate: before anything is scored, that nothing scored was learned from."""

from __future__ import annotations

from collections.abc import Callable

from neurofm.errors import UserError
from neurofm.splits import Fold, FoldRecording
from neurofm.windows import WindowsSettings

_MEND = "run `dvc repro split pretrain` again; if it stays, report it as a bug"


def audit_fold(fold: Fold, *, number: int, windows: WindowsSettings, trained_on: Callable[[str], bool]) -> None:
    """Check one fold and the model trained in it.

    Parameters
    ----------
    fold
        Roles of all recordings.
    number
        Which fold, for the error.
    windows
        Samples of different roles must be at least a window apart within a recording.
    trained_on
        Whether the fold's model saw a subject in training, as its checkpoint says.

    Raises
    ------
    UserError
        If a held-out subject has train segments in the fold or was seen by the model, or if a recording's
        scored samples lie within a window of samples that are learned from or chosen on.
    """
    learned = {entry.subject for entry in fold.recordings if entry.train}
    for entry in fold.recordings:
        if entry.kind == "subject" and entry.test:
            if entry.subject in learned:
                raise UserError(
                    f"evaluate: subject {entry.subject} is scored and learned from in fold {number}.", mend=_MEND
                )
            if trained_on(entry.subject):
                raise UserError(
                    f"evaluate: the model of fold {number} was trained on subject {entry.subject}, "
                    "whom the fold scores.",
                    mend=_MEND,
                )
        if entry.kind == "time":
            _audit_time(entry, number=number, gap=windows.of(entry.modality).window_samples)


def _audit_time(entry: FoldRecording, *, number: int, gap: int) -> None:
    for scored in entry.test:
        for other in entry.train + entry.calibration + entry.validation:
            if scored.start - other.stop < gap and other.start - scored.stop < gap:
                raise UserError(
                    f"evaluate: {entry.dataset}/{entry.recording}: in fold {number} samples "
                    f"{scored.start}-{scored.stop} are scored within {gap} samples of what is learned from.",
                    mend=_MEND,
                )
