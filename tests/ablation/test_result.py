"""Scores of a cell are joined by what was held out as a whole, or by blocks of time."""

from __future__ import annotations

import numpy as np
import pytest

from neurofm.ablation.result import by_unit
from neurofm.evaluation.scores import TileScores
from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Kind, Segment


def _tiles(recording: str, *, kind: Kind, subject: str, session: str, gain: list[float]) -> TileScores:
    roles = FoldRecording(
        dataset="mice",
        recording=recording,
        subject=subject,
        session=session,
        modality=Modality.SPIKES,
        kind=kind,
        calibration=(Segment(start=0, stop=10),),
        test=(Segment(start=10, stop=20),),
    )
    column = np.array(gain)[:, None]
    return TileScores(
        roles=roles, task="masked", metric="R2", model="neurofm", gain=column, total=np.full_like(column, 2.0)
    )


@pytest.mark.parametrize(
    ("kind", "unit", "gain", "total"),
    [
        ("subject", "subject", (0.5, 0.75), (1, 1)),
        ("session", "session", (0.25, 0.75, 0.75), (1, 1, 1)),
        ("time", "time block", (0, 1, 1, 2, 1.5, 1.5), (2, 2, 2, 2, 2, 2)),
    ],
)
def test_units_are_what_was_held_out(kind: Kind, unit: str, gain: tuple[float, ...], total: tuple[float, ...]) -> None:
    scores = [
        _tiles("a", kind=kind, subject="lab:1", session="1", gain=[0.0, 1.0]),
        _tiles("b", kind=kind, subject="lab:1", session="2", gain=[1.0, 2.0]),
        _tiles("c", kind=kind, subject="lab:2", session="1", gain=[1.5, 1.5]),
    ]
    (joined,) = by_unit(scores)
    assert joined.ci_unit == unit
    assert joined.gain == pytest.approx(gain)
    assert joined.total == pytest.approx(total)
