"""dvc.yaml says what the stages do: their code, their settings, their files."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from neurofm.catalog import load_entry, read_yaml
from neurofm.evaluation.difference import Difference
from neurofm.light import ENVIRONMENT
from neurofm.params import GROUPS, WITH_ENTRIES, Params, load_params

PROJECT = Path(__file__).resolve().parent.parent
SECTIONS = set(Params.model_fields)
PIPELINE: dict[str, Any] = read_yaml(PROJECT / "dvc.yaml")["stages"]

ROOMS = {
    "manifest": {"sources"},
    "manifest_streamed": {"sources"},
    "manifest_local": {"sources"},
    "manifest_bids": {"sources"},
    "download": {"fetch"},
    "download_bids": {"fetch"},
    "derivatives": {"derivatives", "fmriprep", "light", "parcels"},
    "preprocess": {"eeg", "ingest", "readers", "parcels", "preprocess", "shards"},
    "preprocess_local": {"eeg", "ingest", "readers", "parcels", "preprocess", "shards"},
    "stream": {"fetch", "eeg", "stream", "ingest", "readers", "parcels", "preprocess", "shards"},
    "split": {"splits"},
    "pretrain": {"model", "training", "windows"},
    "finetune": {"evaluation", "model", "training", "windows"},
    "evaluate": {"evaluation", "model", "splits", "training", "windows"},
    "connectivity": {"connectivity"},
    "slice": {"evaluation", "model", "shards", "slices", "splits", "training", "windows"},
    "report": {"report"},
}
"""The rooms in which each stage's bytes are made."""
MANIFESTS = {
    "manifest": "datasets",
    "manifest_streamed": "streamed",
    "manifest_local": "local",
    "manifest_bids": "bids",
}
"""Groups of datasets by the stage that lists their files."""
SEVERAL = {"all_datasets": set(GROUPS), "max_subjects_of": set(WITH_ENTRIES)}
"""Sections that a stage reads when it asks for these."""


def _body(stage: str) -> dict[str, Any]:
    body: dict[str, Any] = PIPELINE[stage].get("do", PIPELINE[stage])
    return body


def _script(stage: str) -> str:
    (script,) = (word for word in _body(stage)["cmd"].split() if word.startswith("stages/"))
    return str(script)


def _sections_read(script: Path) -> set[str]:
    """Sections of params.yaml that a stage script takes from `load_params()`."""
    tree = ast.parse(script.read_text())

    def is_load(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_params"

    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_load(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    read: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (
            is_load(node.value) or (isinstance(node.value, ast.Name) and node.value.id in names)
        ):
            read |= SEVERAL.get(node.attr, {node.attr})
    return read


def test_every_stage_is_known() -> None:
    assert set(PIPELINE) == set(ROOMS)


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_stage_depends_on_its_script_and_its_rooms(stage: str) -> None:
    body = _body(stage)
    script = _script(stage)
    assert script in body["deps"]
    assert (PROJECT / script).is_file()
    # Two OpenMP threads under load ran six times slower than one, and sum in another order.
    assert "OMP_NUM_THREADS=1" in body["cmd"]
    rooms = {dep.split("/")[2] for dep in body["deps"] if dep.startswith("src/neurofm/")}
    assert rooms == ROOMS[stage]
    for dep in body["deps"]:
        if dep.startswith(("src/", "stages/")) and "${" not in dep:
            assert (PROJECT / dep).exists(), dep


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_stage_declares_the_settings_it_reads(stage: str) -> None:
    body = _body(stage)
    declared = {str(name).split(".")[0] for name in body.get("params", [])}
    read = _sections_read(PROJECT / _script(stage))
    assert read <= SECTIONS
    if stage in MANIFESTS:
        # The script serves every group, and looks up its own dataset's line only.
        assert read == set(WITH_ENTRIES)
        assert _body(stage)["params"] == [f"{MANIFESTS[stage]}.${{key}}"]
    else:
        assert declared == read


def test_derivatives_depend_on_what_runs_them() -> None:
    lock = f"containers/{ENVIRONMENT}/requirements.lock"
    assert (PROJECT / lock).is_file()
    assert {lock, "containers/images.yaml"} <= set(_body("derivatives")["deps"])


def test_every_group_has_its_stages() -> None:
    groups = {stage: body["foreach"] for stage, body in PIPELINE.items() if "foreach" in body}
    assert groups == {stage: f"${{{group}}}" for stage, group in MANIFESTS.items()} | {
        "download": "${datasets}",
        "download_bids": "${bids}",
        "derivatives": "${derivatives}",
        "finetune": "${finetune}",
        "preprocess": "${datasets}",
        "stream": "${streamed}",
        "preprocess_local": "${local}",
    }


def test_streaming_leaves_no_raw_output() -> None:
    named = [path for out in _body("stream")["outs"] for path in out]
    assert named == ["data/shards/${key}", "data/receipts/${key}.jsonl"]
    assert all(out[path]["persist"] for out in _body("stream")["outs"] for path in out)
    assert not any("data/raw" in dep for dep in _body("stream")["deps"])


def test_all_that_make_shards_depend_on_the_same_code() -> None:
    code = {
        stage: {dep for dep in _body(stage)["deps"] if dep.startswith("src/")}
        for stage in ("preprocess", "preprocess_local", "stream")
    }
    assert code["preprocess"] == code["preprocess_local"]
    assert code["stream"] - code["preprocess"] == {"src/neurofm/fetch", "src/neurofm/stream"}
    assert code["preprocess"] < code["stream"]


def test_preprocess_reads_its_own_modality_only() -> None:
    for stage in ("preprocess", "preprocess_local", "stream"):
        assert _body(stage)["params"] == [
            "preprocess.common",
            "preprocess.${item.modality}",
            "preprocess.max_failed_fraction",
        ]


def test_modality_and_reader_lead_to_files() -> None:
    params = load_params(PROJECT)
    for dataset, chosen in params.all_datasets.items():
        entry = load_entry(dataset, root=PROJECT)
        assert (chosen.modality, chosen.reader) == (entry.modality, entry.reader)
        for stage in ("preprocess", "preprocess_local", "stream"):
            for dep in _body(stage)["deps"]:
                if dep.startswith("src/"):
                    path = dep.replace("${item.modality}", chosen.modality).replace("${item.reader}", chosen.reader)
                    assert (PROJECT / path).exists(), path


def test_stage_scripts_hold_no_logic() -> None:
    for script in (PROJECT / "stages").glob("*.py"):
        assert len(script.read_text().splitlines()) <= 45, script


def test_plots_show_what_stages_write() -> None:
    outs = {
        path
        for stage in PIPELINE
        for out in _body(stage).get("outs", [])
        for path in ([out] if isinstance(out, str) else out)
    }
    for plot in read_yaml(PROJECT / "dvc.yaml")["plots"]:
        for name, body in plot.items():
            for path in body["y"] if isinstance(body.get("y"), dict) else [name]:
                assert any(path == out or path.startswith(f"{out}/") for out in outs), path
    columns = {body["x"] for plot in read_yaml(PROJECT / "dvc.yaml")["plots"] for body in plot.values()} - {"step"}
    assert columns <= set(Difference.model_fields)
