"""Children and adults of ds000228 watching a film, in 64 parcels, as views with their columns of participants.tsv."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurofm.evaluation.attributes import Attributes
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import Roles, view_of

FOLDER = Path("fmri") / "ds000228_pixar_rois"
VOLUMES = 168


def people(shared_data: Path, *, each: int) -> tuple[list[RecordingView], dict[str, Attributes]]:
    """Return `each` children and as many adults, every third of whom is held out; and what is known of them."""
    with (shared_data / FOLDER / "participants.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    views: list[RecordingView] = []
    known: dict[str, Attributes] = {}
    for group in ("child", "adult"):
        for number, row in enumerate([row for row in rows if row["Child_Adult"] == group][:each]):
            subject = row["participant_id"]
            series = np.load(shared_data / FOLDER / "timeseries" / f"{subject}_task-pixar_atlas-BASC064_timeseries.npy")
            held = number % 3 == 0
            segments: Roles = {"test" if held else "train": [(50 if held else 0, VOLUMES)]}
            view = view_of(
                series.astype(np.float64),
                modality=Modality.FMRI,
                name=subject,
                channel_set="fmri-basc064",
                kind="subject",
                calibration=[(0, 50 if held else VOLUMES)],
                **segments,
            )
            views.append(replace(view, sampling_rate_hz=0.5))
            known[view.name] = {"group": group, "age": float(row["Age"]), "task": "pixar"}
    return views, known
