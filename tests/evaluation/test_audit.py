"""The audit finds what was learned from and would be scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from neurofm.evaluation.audit import fold_leaks, model_leaks, view_leaks
from neurofm.recording import Modality
from neurofm.splits import Fold, FoldRecording, Kind
from neurofm.windows import fit_normaliser
from tests.evaluation.conftest import WINDOW, MakeView, Span, spans

SUPPORT = 5
SAME = {"lab:a": ("other:a",)}


@dataclass(frozen=True, kw_only=True)
class _Model:
    subjects: tuple[str, ...]
    roles: Mapping[str, str] = field(default_factory=dict)

    def trained_on(self, subject: str) -> bool:
        return subject in self.subjects

    def learned_as(self, recording: str) -> str | None:
        return self.roles.get(recording)


def _entry(
    name: str, *, subject: str = "", session: str = "", kind: Kind = "subject", **roles: list[Span]
) -> FoldRecording:
    return FoldRecording(
        dataset="d",
        recording=name,
        subject=subject or f"lab:{name}",
        session=session,
        modality=Modality.FMRI,
        kind=kind,
        calibration=spans(roles.pop("calibration", [(0, 20)])),
        **{role: spans(given) for role, given in roles.items()},
    )


def _audit(*entries: FoldRecording, model: _Model | None = None, copies: tuple[str, ...] = ()) -> list[str]:
    fold = Fold(recordings=entries)
    gaps = {entry.name: WINDOW + SUPPORT for entry in entries if entry.kind == "time"}
    contents = {entry.name: "same" if entry.name in copies else entry.name for entry in entries}
    leaks = fold_leaks(fold, number=0, same=SAME, gaps=gaps, contents=contents)
    leaks += model_leaks(fold, number=0, same=SAME, model=model or _Model(subjects=()))
    return [leak.problem for leak in leaks]


HELD_OUT = _entry("a", test=[(20, 100)])
LEARNED = _entry("b", train=[(0, 100)])
IN_TIME = _entry("c", kind="time", calibration=[(0, 100)], train=[(0, 100)], validation=[(120, 200)], test=[(225, 300)])
MONDAY = _entry("m", subject="lab:s", session="1", kind="session", test=[(20, 100)])
FRIDAY = _entry("f", subject="lab:s", session="5", kind="session", train=[(0, 100)])
CLEAN = (HELD_OUT, LEARNED, IN_TIME, MONDAY, FRIDAY)
TRAINED = _Model(
    subjects=("lab:b", "lab:c", "lab:s"), roles={entry.name: entry.digest() for entry in (LEARNED, IN_TIME, FRIDAY)}
)


def test_a_clean_fold_passes() -> None:
    assert _audit(*CLEAN, model=TRAINED) == []


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            (HELD_OUT, _entry("a2", subject="lab:a", train=[(0, 50)])),
            "subject lab:a is scored and learned from in fold 0",
        ),
        ((HELD_OUT, _entry("a2", subject="other:a", train=[(0, 50)])), "subject lab:a is scored and learned from"),
        (
            (MONDAY, _entry("m2", subject="lab:s", session="1", kind="session", train=[(0, 50)])),
            "lab:s, session 1 of d",
        ),
        ((IN_TIME.model_copy(update={"test": spans([(224, 300)])}),), "d/c: in fold 0 samples 224-300 are scored"),
        ((IN_TIME.model_copy(update={"train": spans([(324, 400)])}),), "samples 225-300 are scored within 25 samples"),
        ((IN_TIME.model_copy(update={"calibration": spans([(230, 240)])}),), "samples 225-300"),
        ((_entry("a", calibration=[(0, 21)], test=[(20, 100)]),), "samples 20-100 are scored and normalised from"),
        ((_entry("a", train=[(0, 21)], test=[(20, 100)]),), "subject lab:a is scored and learned from"),
    ],
    ids=["subject", "other id", "session", "no gap before", "no gap after", "calibration", "normaliser", "samples"],
)
def test_what_a_fold_leaks(entries: tuple[FoldRecording, ...], message: str) -> None:
    found = _audit(*entries)
    assert message in found[0]


def test_copies_are_found_where_one_is_scored() -> None:
    assert _audit(*CLEAN, copies=("d/a", "d/b")) == [
        "d/a, scored in fold 0, holds the same samples as d/b, which is learned from"
    ]
    assert _audit(*CLEAN, copies=("d/b", "d/f")) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (replace(TRAINED, subjects=(*TRAINED.subjects, "lab:a")), "trained on subject lab:a, whom the fold scores"),
        (replace(TRAINED, subjects=(*TRAINED.subjects, "other:a")), "trained on subject lab:a, whom the fold scores"),
        (replace(TRAINED, roles={**TRAINED.roles, "d/c": "another split's"}), "trained on d/c by other roles"),
        (replace(TRAINED, roles={**TRAINED.roles, "d/m": "another split's"}), "trained on d/m by other roles"),
    ],
    ids=["subject", "other id", "times of another split", "session of another split"],
)
def test_what_a_model_leaks(model: _Model, message: str) -> None:
    (found,) = _audit(*CLEAN, model=model)
    assert message in found


def test_a_model_that_does_not_say_by_which_split_it_learned_is_none_of_this_split() -> None:
    assert len(_audit(*CLEAN, model=replace(TRAINED, roles={}))) == 2
    # One that never met these animals may be scored on any of their times.
    assert _audit(*CLEAN, model=_Model(subjects=("lab:z",))) == []


def test_a_normaliser_that_saw_more_than_the_calibration_is_found(make_view: MakeView) -> None:
    values = np.random.default_rng(0).normal(size=(300, 4)).cumsum(axis=0)
    view = make_view(values, train=[(0, 100)], test=[(225, 300)])
    assert view_leaks([view], number=0) == []
    seen = replace(view, normaliser=fit_normaliser([view.values(0, 300)], usable=np.ones(4, dtype=bool)))
    (leak,) = view_leaks([seen], number=0)
    assert leak.problem == "calcium/r is normalised from other samples than its calibration in fold 0"
