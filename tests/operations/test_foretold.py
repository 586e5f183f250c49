"""What stages will cost is foretold from work and figures, compared with what was paid, and learned from."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurofm.catalog import load_entry
from neurofm.cli import app
from neurofm.ingest.dataset import ingest_dataset
from neurofm.ingest.recording import ingest
from neurofm.operations.downloads import download_plan
from neurofm.operations.foretold import foretell_stages, last_run, memory_warnings
from neurofm.operations.foretold.pending import Run, pending
from neurofm.operations.foretold.record import PATH, Foretold, read_foretold
from neurofm.operations.foretold.tables import time_text
from neurofm.operations.foretold.usual import USUAL
from neurofm.operations.preflight import forecast
from neurofm.operations.stage import COSTS, StageCost, stage_run
from neurofm.params import Site, load_params
from neurofm.sources import build_manifest, write_manifest
from neurofm.splits import Fold, Splits
from neurofm.units import LocalExecutor
from tests.operations.conftest import PROJECT

SITE = Site(workers=2, bandwidth_mb_s=10.0)


def foretold(root: Path, site: Site = SITE) -> dict[str, Foretold]:
    params = load_params(root)
    plan = download_plan([load_entry(dataset, root=root) for dataset in sorted(params.all_datasets)], root=root)
    items = forecast(params, plan, site=site, root=root, look_for_problems=False)
    return dict(foretell_stages(params, items, site=site, root=root).foretold)


def paid(root: Path, name: str, *, seconds: float, peak_mb: float = 300.0, succeeded: bool = True) -> None:
    """A stage ran, and cost this."""
    stage, _, dataset = name.partition("@")
    cost = StageCost(
        stage=stage,
        dataset=dataset,
        succeeded=succeeded,
        began=time.time(),
        seconds=seconds,
        cpu_s=seconds,
        peak_mb=peak_mb,
        host="here",
    )
    (root / COSTS).mkdir(parents=True, exist_ok=True)
    (root / COSTS / f"{name}.json").write_text(cost.model_dump_json())


def change(root: Path, old: str, new: str) -> None:
    path = root / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_every_stage_of_the_pipeline_is_foretold(project: Path) -> None:
    items = foretold(project)
    params = load_params(project)
    assert set(items) == {
        *(f"manifest@{name}" for name in params.all_datasets),
        *(f"{stage}@{name}" for name in params.datasets for stage in ("download", "preprocess")),
        "stream@hcp-rest",
        *("split", "pretrain", "evaluate", "connectivity", "slice", "report"),
    }
    guessed = ("download@a0662-2p", "preprocess@gw-rest", "stream@hcp-rest", "pretrain", "evaluate", "slice", "report")
    assert not any(items[name].measured for name in guessed)
    # 89.5 MB at 10 MB/s; the package counts with the first of its datasets.
    assert items["download@a0662-2p"].seconds == pytest.approx(USUAL["download"].start_s + 8.95, abs=0.05)
    assert items["pretrain"].at_once == 2
    assert all(item.files is not None and item.written is not None for item in items.values())
    assert read_foretold(project).keys() == items.keys()


def test_more_work_costs_more(project: Path) -> None:
    """Steps, width and batch multiply; choosing the core does not depend on them, and comes once per round of folds."""
    usual = USUAL["pretrain"]
    before = foretold(project)["pretrain"]
    tuning = before.amount - 2 * 1200
    assert tuning > 0
    change(project, "steps: 1200", "steps: 2400")
    change(project, "width: 64", "width: 128")
    after = foretold(project)["pretrain"]
    assert after.amount == pytest.approx(2 * 8 * 1200 + tuning)
    assert after.seconds - before.seconds == pytest.approx(2 * 7 * 1200 * usual.seconds_per)
    change(project, "folds: 3", "folds: 5")
    assert foretold(project)["pretrain"].amount == pytest.approx(1.5 * after.amount)


def test_with_leave_out_the_folds_are_those_of_the_splits(project: Path) -> None:
    change(project, "folds: 3", "folds: 3\n  leave_out: subject")
    before = foretold(project)["pretrain"].amount
    splits = project / "data" / "splits.json"
    Splits(seed=1, folds=(Fold(recordings=()),) * 7, left_out=()).write(splits)
    assert foretold(project)["pretrain"].amount == pytest.approx(2 * before)  # 4 rounds of two, no longer 2
    splits.write_text("{")
    assert foretold(project)["pretrain"].amount == before


def test_what_was_paid_is_learned_and_scaled(project: Path) -> None:
    foretold(project)
    paid(project, "pretrain", seconds=USUAL["pretrain"].start_s + 100.0, peak_mb=1000.0)
    paid(project, "evaluate", seconds=500.0, succeeded=False)
    again = foretold(project)
    assert again["pretrain"].seconds == pytest.approx(USUAL["pretrain"].start_s + 100.0)
    assert again["pretrain"].peak_mb == pytest.approx(1000.0)
    assert again["pretrain"].measured
    assert again["evaluate"].seconds < 400.0  # What did not end tells nothing.
    assert not again["evaluate"].measured
    change(project, "steps: 1200", "steps: 600")
    half = foretold(project)["pretrain"]
    expected = USUAL["pretrain"].start_s + 100.0 * half.amount / again["pretrain"].amount
    assert half.amount < again["pretrain"].amount
    assert half.seconds == pytest.approx(expected, abs=0.01)
    # Forecasts that were never run do not forget what was learned.
    assert foretold(project)["pretrain"].seconds == half.seconds


def test_the_bandwidth_that_downloads_had_is_learned(project: Path) -> None:
    foretold(project)
    start = USUAL["download"].start_s
    paid(project, "download@a0662-2p", seconds=start + 89.5 / 5)  # 5 MB/s, not the 10 of site.yaml
    again = foretold(project)
    assert again["download@ds205-bold"].seconds == pytest.approx(start + 77.4 / 5, abs=0.1)
    assert again["download@ds205-bold"].measured


def test_what_recordings_cost_is_taken_from_receipts(project: Path, sample_raw: object) -> None:
    """Real recordings, really preprocessed: their receipts tell what others of their modality will cost."""
    assert callable(sample_raw)
    change(project, "  gw-rest: {modality: fmri, reader: tables}\n", "")
    usual = foretold(project)["stream@hcp-rest"]
    change(project, "datasets:            #", "datasets:\n  gw-rest: {modality: fmri, reader: tables}\n  #")
    params, entry = load_params(project), load_entry("gw-rest", root=project)
    manifest = build_manifest(entry, root=project)
    write_manifest(manifest, project / "data" / "manifests" / "gw-rest.json")
    ingest_dataset(
        entry,
        manifest,
        raw=sample_raw("gw-rest"),
        shards=project / "data" / "shards" / "gw-rest",
        receipts=project / "data" / "receipts" / "gw-rest.jsonl",
        work=project / ".neurofm",
        settings=params.preprocess.fmri,
        common=params.preprocess.common,
        executor=LocalExecutor(ingest, workers=2),
    )
    items = foretold(project)
    assert items["preprocess@gw-rest"].amount == 0.0  # All of them are there.
    assert items["preprocess@gw-rest"].files == 2
    learned = items["stream@hcp-rest"]
    assert learned.measured
    assert not usual.measured
    receipts = (project / "data" / "receipts" / "gw-rest.jsonl").read_text().splitlines()
    peaks = [json.loads(line)["cost"]["peak_mb"] for line in receipts]
    assert max(peaks) * 0.5 < learned.peak_mb < max(peaks) * 3
    next((project / "data" / "shards" / "gw-rest").iterdir()).unlink()
    assert foretold(project)["preprocess@gw-rest"].files == 3  # One is to be made again.


def test_a_stage_writes_down_what_its_whole_process_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import time; time.sleep(0.5)\nfrom neurofm.operations.stage import stage_run\nwith stage_run('split'): pass"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    cost = StageCost.model_validate_json((tmp_path / COSTS / "split.json").read_bytes())
    assert cost.seconds >= 0.5  # With what came before its body.
    assert cost.began <= time.time() - 0.5
    assert stage_run is not None


def test_a_forecast_is_compared_with_what_was_paid(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "80")
    runner = CliRunner()
    assert "No stage ran" in runner.invoke(app, ["preflight", "--compare"]).output
    first = runner.invoke(app, ["preflight"])
    assert first.exit_code == 0, first.output
    rows = {
        line.split()[0]: line for line in first.stdout.splitlines() if re.match(r"\w+ +\d+ +~?[\d.]+ (s|min)", line)
    }
    assert set(rows) == {
        "manifest",
        "download",
        "preprocess",
        "stream",
        "split",
        "pretrain",
        "evaluate",
        "connectivity",
        "slice",
        "report",
        "all",
    }
    items = read_foretold(project)
    paid(project, "pretrain", seconds=items["pretrain"].seconds / 2, peak_mb=items["pretrain"].peak_mb)
    paid(project, "split", seconds=items["split"].seconds)
    shown = runner.invoke(app, ["preflight", "--compare"]).stdout.splitlines()
    assert max(map(len, shown)) <= 80
    table = {line.split()[0]: line.split() for line in shown}
    assert "2.00" in table["pretrain"]
    assert "1.00" in table["split"]
    assert table["all"][1] == "2"
    (split,) = (
        f for f in json.loads(runner.invoke(app, ["preflight", "--compare", "--json"]).output) if f["stage"] == "split"
    )
    assert split["paid"]["seconds"] == split["seconds"]
    assert "Last run of 2 stages" in runner.invoke(app, ["preflight"]).stdout
    assert set(last_run(project)[1]) == set()  # Everything was foretold anew, and nothing ran since.


def test_a_price_by_the_hour_is_shown_where_there_is_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "site.yaml").write_text("price_per_hour: 36.0\n")
    shown = CliRunner().invoke(app, ["preflight"]).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith("pretrain"))
    seconds = read_foretold(project)["pretrain"].seconds
    assert "compute" in shown
    assert float(line.split()[-1]) == pytest.approx(seconds / 100, abs=0.01)


def test_a_forecast_of_another_version_is_as_if_there_were_none(project: Path) -> None:
    foretold(project)
    (project / PATH).write_text('{"pretrain": {"from": "the future"}}')
    assert read_foretold(project) == {}
    assert foretold(project)["pretrain"].paid is None


def test_memory_that_does_not_suffice_is_said_with_the_sum(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = foretold(project)
    assert memory_warnings(items, site=SITE) == []
    many = {"pretrain": items["pretrain"].model_copy(update={"peak_mb": 6000.0, "at_once": 3})}
    for name, mb in (("free_memory_mb", 15_000.0), ("total_memory_mb", 20_000.0)):
        monkeypatch.setattr(f"neurofm.operations.foretold.{name}", lambda mb=mb: mb)
    (line,) = memory_warnings(many, site=SITE)
    assert "3 x 5.9 GB = 17.6 GB" in line
    assert "`workers: 2` in site.yaml" in line
    # Recordings wait for one another instead, and one of them fits.
    assert memory_warnings({"p": many["pretrain"].model_copy(update={"stage": "preprocess@x"})}, site=SITE) == []
    huge = many["pretrain"].model_copy(update={"stage": "preprocess@x", "peak_mb": 30_000.0})
    assert "larger machine" in memory_warnings({"p": huge}, site=SITE)[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (120, "2.0 min"), (3600, "60 min"), (9000, "2.5 h"), (1e6, "12 d")],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


# What DVC will run


@pytest.fixture
def piped(tmp_path: Path) -> Path:
    """A project whose pipeline has the shape of ours, and costs nothing."""
    root = tmp_path / "piped"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    stages = """\
stages:
  manifest_local:
    foreach: {a: {path: lab}}
    do:
      cmd: mkdir -p data/manifests && ls ${item.path} > data/manifests/${key}.json
      deps: ['${item.path}']
      outs: ['data/manifests/${key}.json']
  preprocess_local:
    foreach: {a: {path: lab}}
    do:
      cmd: mkdir -p data/shards/${key} && cp data/manifests/${key}.json data/shards/${key}/x
      deps: ['data/manifests/${key}.json', reader.py]
      outs: ['data/shards/${key}']
  split:
    cmd: cat data/shards/a/x > split.json
    deps: [data/shards]
    outs: [split.json]
  apart:
    cmd: echo hi > apart.txt
    outs: [apart.txt]
"""
    (root / "dvc.yaml").write_text(stages)
    (root / "lab").mkdir()
    (root / "lab" / "one").write_text("1")
    (root / "reader.py").write_text("")
    return root


def test_what_changed_and_what_follows_from_it_will_run(piped: Path) -> None:
    everything = {"manifest@a", "preprocess@a", "split", "apart"}
    found = pending(piped)
    assert found is not None
    assert set(found) == everything
    assert Run.NOTHING not in found.values()
    dvc = Path(sys.executable).with_name("dvc")
    subprocess.run([str(dvc), "repro", "--quiet"], cwd=piped, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"})
    assert pending(piped) == dict.fromkeys(everything, Run.NOTHING)
    (piped / "lab" / "two").write_text("2")
    assert pending(piped) == {
        "manifest@a": Run.ALL,
        "preprocess@a": Run.MISSING,
        "split": Run.MISSING,
        "apart": Run.NOTHING,
    }
    (piped / "lab" / "two").unlink()
    (piped / "reader.py").write_text("# changed\n")
    assert pending(piped) == {
        "manifest@a": Run.NOTHING,
        "preprocess@a": Run.ALL,
        "split": Run.MISSING,
        "apart": Run.NOTHING,
    }
    shutil.rmtree(piped / ".dvc")
    assert pending(piped) is None


def test_every_stage_of_the_pipeline_has_usual_figures() -> None:
    text = (PROJECT / "dvc.yaml").read_text()
    assert set(re.findall(r"python stages/(\w+)\.py", text)) == set(USUAL)
