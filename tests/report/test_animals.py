"""The page about spikes and calcium, from a real recording."""

from __future__ import annotations

from pathlib import Path

from neurofm.catalog import CatalogEntry
from neurofm.report.animals import animal_datasets
from neurofm.report.inputs import read_inputs
from neurofm.report.settings import ReportSettings


def test_a2929_with_behaviour_and_tuning(finished: Path, entries: list[CatalogEntry], settings: ReportSettings) -> None:
    inputs = read_inputs(root=finished, datasets=entries)
    shards = finished / "data" / "shards"
    (one,) = animal_datasets(inputs, shards=shards, settings=settings)
    assert one.dataset == "a2929-hd"
    assert one.rows[0][:3] == ("sub-A2929_ses-200711", "yes", "15 of 15")
    captions = [panel.caption for panel in one.panels]
    assert captions[0].startswith("Over 15 units")
    assert "with the measured head direction beneath" in captions[1]
    assert captions[2].startswith("Tuning to head direction")
    assert captions[3].startswith("Tuning to position")
    assert "99 circular shifts" in captions[2]
    assert [p.drawing for p in animal_datasets(inputs, shards=shards, settings=settings)[0].panels] == [
        p.drawing for p in one.panels
    ]
