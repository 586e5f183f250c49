"""What a person types: what is printed, what is asked, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from neurofm.catalog import load_entry
from neurofm.catalog.terms import terms_path
from neurofm.cli import app
from neurofm.cli.project import STAGES
from neurofm.errors import UserError
from neurofm.operations.catalogue import dataset_ids
from neurofm.params import load_params
from neurofm.recording import UnitStatus
from neurofm.units import Receipt, read_receipts
from neurofm.units.receipt import write_receipts
from tests.operations.conftest import Archive, archive, bucket, project, s3_fixture, s3_site_fixture

__all__ = ["archive", "bucket", "project", "s3_fixture", "s3_site_fixture"]

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def person(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody in the project's folder who has accepted nothing and has no account anywhere."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("NEUROFM_ACCEPT_TERMS", "CRCNS_USERNAME", "CRCNS_PASSWORD", "NETRC", "COLUMNS", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def typed(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=answer)


def refused(*arguments: str, answer: str = "") -> str:
    error = typed(*arguments, answer=answer).exception
    assert isinstance(error, UserError)
    return str(error)


def test_list_has_every_entry_and_json_for_machines() -> None:
    ids = dataset_ids(Path())
    shown = typed("catalog", "list")
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.output.splitlines()[1:]] == ids
    facts = {line["id"]: line for line in json.loads(typed("catalog", "list", "--json").output)}
    assert sorted(facts) == ids
    assert facts["hcp-rest"] == {
        "id": "hcp-rest",
        "title": load_entry("hcp-rest").title,
        "archive": "registry",
        "version": "0.6.2",
        "modality": "fmri",
        "reader": "tables",
        "subjects": 7,
        "files": 7,
        "bytes": 5_415_753,
        "licence": "WU-Minn HCP Consortium Open Access Data Use Terms",
        "redistribute": False,
        "pinned": True,
        "not_checked": [],
        "terms_accepted": None,
    }
    assert facts["crcns-hc-3"]["terms_accepted"] is False
    assert facts["crcns-hc-3"]["pinned"] is False


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", ["list", "show"])
def test_tables_fit_the_terminal(width: int, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for dataset in [None] if command == "list" else dataset_ids(Path()):
        shown = typed("catalog", command, *([dataset] if dataset else []))
        assert shown.exit_code == 0
        assert max(len(line) for line in shown.output.splitlines()) <= width
        if dataset is None:
            for name in dataset_ids(Path()):
                assert name in shown.output  # not one is cut


def test_show_says_every_fact_and_marks_what_was_not_checked() -> None:
    shown = typed("catalog", "show", "crcns-hc-3").output
    for told in ("10.6080/K09G5JRZ", "https://crcns.org/register", "Mizuseki", "neurofm catalog accept crcns-hc-3"):
        assert told in shown
    entry = load_entry("crcns-hc-3")
    assert shown.count("(not checked)") == len(entry.verified)
    lines = {line.split()[0]: line for line in shown.splitlines() if line[:1].strip()}
    assert "(not checked)" in lines["expect.subjects"]
    assert "(not checked)" not in lines["subject_namespace"]
    assert "neurofm catalog pin crcns-hc-3" in lines["pinned"]


def test_terms_are_shown_and_taken_once() -> None:
    assert "not accepted" in refused("catalog", "accept", "crcns-hc-3", answer="n\n")
    assert "not accepted" in refused("catalog", "accept", "crcns-hc-3", answer="")  # nobody there
    assert not terms_path().exists()
    shown = typed("catalog", "accept", "crcns-hc-3", answer="y\n")
    assert shown.exit_code == 0
    assert "account of their own" in " ".join(shown.output.split())
    assert "accepted already" in typed("catalog", "accept", "crcns-hc-3").output
    assert "no terms" in typed("catalog", "accept", "hcp-rest").output


def test_pin_shows_asks_and_writes(archive: Archive) -> None:
    before = archive.path.read_bytes()
    assert "nothing was written" in refused("catalog", "pin", "movie", answer="n\n")
    assert archive.path.read_bytes() == before
    shown = typed("catalog", "pin", "movie", answer="y\n")
    assert shown.exit_code == 0
    assert "version listed: 3 files" in shown.output
    assert "3 recordings of 3 subjects" in shown.output
    assert "+  version: listed   # what the lab has now" in shown.output
    assert "Pinned like this already" in typed("catalog", "pin", "movie").output
    archive.put("sub-new_task-pixar_AAL.npy", b"new")
    again = typed("catalog", "pin", "movie", "--yes")
    assert "Against the pins of now: 1 added\n    + sub-new_task-pixar_AAL.npy" in again.output


def test_verify_ends_by_what_it_found(archive: Archive) -> None:
    wrong = typed("catalog", "verify", "movie", "gw-rest")
    assert wrong.exit_code == 1
    assert "movie: expect.files" in wrong.stderr
    archive.path.write_text(archive.path.read_text().replace("files: 4", "files: 3").replace("latest", "listed"))
    right = typed("catalog", "verify", "movie", "gw-rest", "--write")
    assert right.exit_code == 0
    assert "movie: checked now: expect.files, expect.subjects, source.version" in right.output
    assert load_entry("movie").verified == {"species": False}
    unreachable = typed("catalog", "verify", "gw-rest", "adni")
    assert unreachable.exit_code == 2
    assert "adni is not a folder" in unreachable.stderr
    assert "no such file" in refused("catalog", "verify", "nobody")


def test_profile_is_shown_asked_for_and_written() -> None:
    listed = typed("profile", "list").output
    assert "training-plan" in listed
    assert "40.0%" in listed
    before = Path("params.yaml").read_bytes()
    assert "nothing was written" in refused("profile", "use", "training-plan", answer="n\n")
    assert Path("params.yaml").read_bytes() == before
    shown = typed("profile", "use", "training-plan", "--budget", "quick", answer="y\n")
    assert shown.exit_code == 0
    assert "-  a2929-hd: {modality: spikes, reader: nwb}" in shown.output
    assert "allen-vcn-dandi-000021" in load_params().streamed
    assert "says this already" in typed("profile", "use", "training-plan", "--budget", "quick").output


def test_preflight_lists_every_problem_and_ends_with_2() -> None:
    text = Path("params.yaml").read_text()
    streamed = "  crcns-hc-3: {modality: spikes, reader: neurosuite}\n"
    local = "local:\n  adni: {modality: fmri, reader: tables, path: ../data/adni}\n"
    text = text.replace("  hcp-rest:", f"{streamed}  hcp-rest:").replace("local: {}", local + "#")
    Path("params.yaml").write_text(text)
    shown = typed("preflight")
    assert shown.exit_code == 2
    errors = [line for line in shown.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(shown.stderr.splitlines())
    for told in (
        "crcns-hc-3: its terms are not accepted here",
        "CRCNS_USERNAME and CRCNS_PASSWORD",
        "version 'listed' can change at any time. Mend: neurofm catalog pin crcns-hc-3",
        "adni is not a folder. Mend: Nobody may hand ADNI's data on",
    ):
        assert sum(told in error for error in errors) == 1, told
    assert "crcns-hc-3" in shown.output


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("profile", ["sample", "training-plan"])
def test_preflight_fits_the_terminal(width: int, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed("profile", "use", profile, "--yes")
    monkeypatch.setenv("COLUMNS", str(width))
    shown = typed("preflight").stdout.splitlines()
    table = shown[next(number for number, line in enumerate(shown) if line.startswith("dataset")) :]
    assert max(len(line) for line in table) <= width
    for dataset in load_params().all_datasets:
        assert any(line.startswith(f"{dataset} ") for line in table)


def test_retry_lets_failed_recordings_run_again() -> None:
    assert "no unit of it was run here" in refused("retry", "gw-rest")
    receipts = Path("data/receipts/gw-rest.jsonl")
    good = Receipt(unit="gw-rest_sub-1", key="k", status=UnitStatus.SUCCEEDED)
    bad = Receipt(unit="gw-rest_sub-2", key="k", status=UnitStatus.FAILED, reason="gw-rest_sub-2: not a table")
    write_receipts(receipts, [good, bad])
    shown = typed("status", "gw-rest").output
    assert "gw-rest: 1 x failed: ..: not a table" in shown
    (fact,) = json.loads(typed("status", "gw-rest", "--json").output)
    assert fact["recordings"]["counts"]["failed"] == 1
    assert "1 recordings will be tried again" in typed("retry", "gw-rest").output
    assert set(read_receipts(receipts)) == {good.unit}
    assert "nothing to try again" in typed("retry", "gw-rest").output
    assert "no receipt of a unit 'nobody'" in refused("retry", "gw-rest", "--unit", "nobody")
    assert "1 recordings will be tried again" in typed("retry", "gw-rest", "--unit", good.unit).output


def test_status_is_watched_until_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("neurofm.cli.project.time", SimpleNamespace(sleep=pause))
    shown = typed("status", "--watch")
    assert shown.exit_code == 0
    assert "gw-rest" in shown.output
    assert len(pauses) == 3


def test_status_without_a_ledger_says_so() -> None:
    assert "no ledger yet" in typed("status").output
    facts = json.loads(typed("status", "--json").output)
    assert [item["dataset"] for item in facts] == list(load_params().all_datasets)
    assert "no dataset 'nobody'" in refused("status", "nobody")
    assert "no dataset 'hcp-rest'" in refused("quarantine", "release", "hcp-rest")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "preproces"), "no stage 'preproces'"),
        (("run", "stream"), "runs per dataset"),
        (("run", "split", "--dataset", "x"), "covers all datasets"),
        (("run", "split"), "stages/split.py is not here"),
    ],
)
def test_running_a_stage_wrongly_is_refused(arguments: tuple[str, ...], told: str) -> None:
    assert told in refused(*arguments)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_script(stage: str) -> None:
    assert (PROJECT / "stages" / f"{stage}.py").is_file()


@pytest.mark.parametrize(("flags", "code"), [([], 42), (["--offline"], 43)])
def test_offline_reaches_the_stage(flags: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROFM_OFFLINE", raising=False)
    Path("stages").mkdir()
    Path("stages/stream.py").write_text(
        "import os, sys; sys.exit(40 + (os.environ.get('NEUROFM_OFFLINE') == '1') + 2 * (sys.argv[1:] == ['hcp-rest']))"
    )
    assert typed("run", "stream", "--dataset", "hcp-rest", *flags).exit_code == code


def test_the_installed_command_says_a_mistake_in_one_line() -> None:
    command = [str(Path(sys.executable).with_name("neurofm")), "catalog", "show", "nobody"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: data/catalog/nobody.yaml: no such file. Mend: ")
    assert len(ended.stderr.splitlines()) == 1
