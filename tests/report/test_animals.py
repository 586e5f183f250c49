"""The page about spikes and calcium, from a real recording."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from neurofm.catalog import CatalogEntry
from neurofm.params import Params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import ManifestRecording
from neurofm.report.animals import COLUMNS, _known_columns, _row, animal_datasets, event_responses
from neurofm.report.inputs import read_inputs
from neurofm.report.recordings import ReportRecording, recordings_of
from neurofm.report.settings import ReportSettings
from neurofm.report.words import MISSING
from neurofm.shards import Provenance, Shard, read_shard, write_shard

ROOT = Path(__file__).resolve().parents[2]


def test_a2929_with_behaviour_and_tuning(finished: Path, entries: list[CatalogEntry], settings: ReportSettings) -> None:
    inputs = read_inputs(root=finished, datasets=entries)
    shards = finished / "data" / "shards"
    (one,) = animal_datasets(inputs, shards=shards, settings=settings)
    assert one.dataset == "a2929-hd"
    assert one.rows[0][:3] == ("sub-A2929_ses-200711", "yes", "15 of 15")
    row = dict(zip(one.columns, one.rows[0], strict=True))
    assert row["excluded"] == "0"
    assert row["median rate (Hz)"] == "3.92"
    assert row["ISI violations"] == "0.21 %"
    assert (row["presence"], row["drifting"], row["valid"]) == ("100.0 %", "1", "100.0 %")
    assert (row["targets"], row["behaviour"]) == ("head_direction, position", "yes")
    # What no recording of the dataset has is no column; nor does the page have it.
    assert set(COLUMNS) - set(one.columns) == {"noise (%/√Hz)", "signal to noise", "drops"}
    assert [len(row) for row in one.rows] == [11]
    captions = [panel.caption for panel in one.panels]
    assert captions[0].startswith("Over 15 units")
    assert "with the measured head direction beneath" in captions[1]
    assert captions[2].startswith("Tuning to head direction")
    assert captions[3].startswith("Tuning to position")
    assert "99 circular shifts" in captions[2]
    assert [p.drawing for p in animal_datasets(inputs, shards=shards, settings=settings)[0].panels] == [
        p.drawing for p in one.panels
    ]


def test_a_column_that_one_recording_has_stays(
    finished: Path, entries: list[CatalogEntry], settings: ReportSettings
) -> None:
    (known,) = recordings_of("a2929-hd", read_inputs(root=finished, datasets=entries))
    empty = replace(known, quality=known.quality.model_copy(update={"quality": {}}))
    columns, rows = _known_columns((_row(empty), _row(known)))
    first, second = (dict(zip(columns, row, strict=True)) for row in rows)
    assert "drops" not in columns
    assert (first["median rate (Hz)"], second["median rate (Hz)"]) == (MISSING, "3.92")


def _shard(dataset: str, main: Path, *, params: Params, folder: Path) -> Shard:
    """Read a file by the entry that docs/formats/trials.md shows, and return its shard."""
    text = (ROOT / "docs" / "formats" / "trials.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    (shown,) = (block for block in map(YAML(typ="safe").load, blocks) if block["id"] == dataset)
    entry = CatalogEntry.parse(shown, where="docs", mend="correct it")
    unit = ManifestRecording(id="rec", subject="test:01", files={"main": main.name})
    source = ReaderInput(dataset=dataset, modality=entry.modality, species="any", root=main.parent, entry=unit)
    recording = preprocess_recording(
        read_recording(entry.reader, source, entry.reader_options),
        settings=getattr(params.preprocess, entry.modality.value),
        common=params.preprocess.common,
    )
    path = folder / f"{dataset}.zarr.zip"
    said = Provenance(archive="local", source_id="", version="", files=(), licence="", citation="", libraries={})
    write_shard(recording, provenance=said, path=path)
    return read_shard(path)


def _beyond(caption: str) -> tuple[int, int]:
    found = re.search(r"(\d+) of (\d+) beyond the permutations", caption)
    assert found is not None
    return int(found[1]), int(found[2])


def test_cells_of_v1_respond_to_direction(shared_data: Path, params: Params, tmp_path: Path) -> None:
    main = shared_data / "calcium" / "park2024_v1_gratings" / "230809_mrcuts28_fov4_grat-000_data.mat"
    shard = _shard("park-gratings", main, params=params, folder=tmp_path)
    (panel,) = event_responses("park-gratings", shard)
    assert panel.caption.startswith(
        "Response to direction, a.u.: mean over each event (3.06 s); 128 trials of 8 levels, at least 16 each. 15 of 56"
    )
    beyond, total = _beyond(panel.caption)
    # On the file's own traces 37 are. (Of the other file's 28 cells only 3: most of that field of view is not tuned.)
    assert total == 56
    assert 34 <= beyond <= 40
    assert "lie together" not in panel.caption
    for direction in range(0, 360, 45):
        assert f">{direction}<" in panel.drawing
    assert event_responses("park-gratings", shard)[0].drawing == panel.drawing


def test_units_respond_to_contrast_and_feedback(shared_data: Path, params: Params, tmp_path: Path) -> None:
    main = shared_data / "ephys" / "steinmetz2019_rds" / "session1.rds"
    shard = _shard("steinmetz-cori", main, params=params, folder=tmp_path)
    captions = [panel.caption for panel in event_responses("steinmetz-cori", shard)]
    names = ["contrast left", "contrast right", "feedback"]
    assert [re.split("[,:]", caption)[0] for caption in captions] == [f"Response to {name}" for name in names]
    assert "mean over each event (0.4 s)" in captions[0]
    # Chance gives 36.
    assert all(_beyond(caption)[0] > 72 for caption in captions[:2])


def test_no_events_no_responses(finished: Path) -> None:
    (path,) = (finished / "data" / "shards" / "a2929-hd").glob("*.zip")
    assert event_responses("a2929-hd", read_shard(path)) == []


def test_cells_that_are_left_out_are_said(
    finished: Path, entries: list[CatalogEntry], settings: ReportSettings
) -> None:
    # What preprocessing says of a0662-2p (metrics/quality), in place of the spikes' quality.
    inputs = read_inputs(root=finished, datasets=entries)
    cells = {"constant_channels": 47, "nan_channels": 0, "snr_median": 4.85, "targets_present": "", "behaviour": False}
    limits = {"unit_exclusions": "3 by snr less than 2 (0.7 to 1.9)"}
    shown = []
    for quality in (cells, cells | limits, {}):
        (recording,) = inputs.recordings("a2929-hd").items()
        changed = recording[1].model_copy(update={"quality": quality, "channels": 219, "usable_channels": 172})
        shown.append(_row(ReportRecording(recording=recording[0], quality=changed, reason="")))
    first, second, third = (dict(zip(COLUMNS, row, strict=True)) for row in shown)
    assert first["excluded"] == "47 constant"
    assert (first["targets"], first["behaviour"], first["signal to noise"]) == (MISSING, "no", "4.85")
    assert second["excluded"] == "3 by snr less than 2 (0.7 to 1.9); 47 constant"
    assert (third["excluded"], third["behaviour"], third["drifting"]) == ("47", MISSING, MISSING)
