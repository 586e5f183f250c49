"""A mistake in the settings is one line that names the key, before anything starts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML
from typer.testing import CliRunner

from neurofm.catalog import load_entry, read_yaml
from neurofm.cli import app
from neurofm.errors import UserError, exit_on_user_error
from neurofm.params import Params, load_params, load_site

PROJECT = Path(__file__).resolve().parent.parent
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    shutil.copytree(PROJECT / "data" / "catalog", tmp_path / "data" / "catalog")
    return tmp_path


def _edit(path: Path, change: Change) -> None:
    content = read_yaml(path)
    change(content)
    with path.open("w") as file:
        YAML().dump(content, file)


def _set(*keys: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def _move(dataset: str, here: str, there: str, **more: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        content[there][dataset] = content[here].pop(dataset) | more

    return change


FMRI = {"modality": "fmri", "reader": "tables"}
FINETUNE = {"folds": [0], "datasets": ["gw-rest"], "mode": "head", "steps": 1, "learning_rate": 0.001}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set("pretrain", "stepps", value=1), r"params.yaml: `pretrain.stepps`: unknown key"),
        (_set("preprocess", "eeg", "rate_hz", value="100"), r"`preprocess.eeg.rate_hz`: .*got '100'"),
        (_set("preprocess", "spikes", "bin_ms", value=-1), r"`preprocess.spikes.bin_ms`: .*greater than 0"),
        (_set("windows", "eeg", "patch_samples", value=7), r"`windows.eeg`: .*200 is not a multiple.* 7"),
        (lambda content: content.pop("split"), r"`split`: required key is missing"),
        (_set("streamed", "hcp-rest", "modality", value="eeg"), r"`hcp-rest.modality` is eeg, .* says fmri"),
        (_set("datasets", "gw-rest", "reader", value="nwb"), r"`gw-rest.reader` is nwb, .* says tables"),
        (_set("datasets", "gw-rest", "max_subjects", value=0), r"`datasets.gw-rest.max_subjects`: .*greater than"),
        (_set("datasets", "nobody", value={"modality": "eeg", "reader": "bids"}), r"nobody.yaml: no such file"),
        (
            _set("local", "gw-rest", value=FMRI | {"path": "x"}),
            r"gw-rest stands under `datasets` and under `local`",
        ),
        (_set("streamed", "gw-rest", value=FMRI), r"gw-rest stands under `datasets` and under `streamed`"),
        (
            _set("local", "hcp-rest", value=FMRI | {"path": "x"}),
            r"hcp-rest stands under `streamed` and under `local`",
        ),
        (
            _move("hcp-rest", "streamed", "datasets"),
            r"`hcp-rest` stands under `datasets`, whose raw files .* a remote.* Mend: move it to `streamed`",
        ),
        (
            _move("gw-rest", "datasets", "local", path="x"),
            r"`gw-rest` stands under `local`, but .* source is 'registry'. Mend: move it to `datasets`",
        ),
        (_move("hcp-rest", "streamed", "local", path="x"), r"source is 'registry'. Mend: move it to `streamed`"),
        (_set("bids", value={"gw-rest": {}}), r"gw-rest stands under `datasets` and under `bids`; keep one"),
        (_set("bids", value={"nobody": {}}), r"nobody.yaml: no such file"),
        (_set("derivatives", value={"gw-rest": {"bids": "x"}}), r"gw-rest stands under `datasets` and under `deriv"),
        (_set("derivatives", value={"../x": {"bids": "x"}}), r"derivatives.../x: an id has small letters"),
        (_set("derivatives", value={"x": {}}), r"`derivatives.x.bids`: required key is missing"),
        (_set("derivatives", value={"x": {"bids": "x", "engine": "spm"}}), r"`derivatives.x.engine`: .*'fmriprep'"),
        (
            _set("derivatives", value={"x": {"bids": "x", "options": {"mem_mb": 4000}}}),
            r"`derivatives.x.options`: .*`mem_mb` \(4000\) is too little",
        ),
        (_set("finetune", value={"X": FINETUNE}), r"finetune.X: an id has small letters"),
        (_set("finetune", value={"x": FINETUNE | {"mode": "some"}}), r"`finetune.x.mode`: .*'full'"),
        (
            _set("finetune", value={"x": FINETUNE | {"datasets": ["no"]}}),
            r"`finetune.x.datasets`: no does not take part",
        ),
        (_set("finetune", value={"x": FINETUNE | {"folds": [0, 3]}}), r"there is no fold 3, `split.folds` is 3"),
    ],
)
def test_a_wrong_setting_is_named(root: Path, change: Change, told: str) -> None:
    _edit(root / "params.yaml", change)
    with pytest.raises(UserError, match=told):
        load_params(root)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda entry: entry.pop("licence"), r"hcp-rest.yaml: `licence`: required key is missing"),
        (_set("licence", value=""), r"`licence`: "),
        (_set("licences", value="x"), r"`licences`: unknown key"),
        (_set("id", value="other"), r"`id` is 'other', the file's name says 'hcp-rest'"),
    ],
)
def test_a_wrong_catalogue_entry_is_named(root: Path, change: Change, told: str) -> None:
    _edit(root / "data" / "catalog" / "hcp-rest.yaml", change)
    with pytest.raises(UserError, match=told):
        load_params(root)


@pytest.mark.parametrize(
    ("dataset", "groups", "told"),
    [
        ("hcp-rest", ("datasets", "local"), "stands under `streamed`; this stage is for `datasets` and `local`"),
        ("gw-rest", ("streamed",), "stands under `datasets`; this stage is for `streamed`"),
        ("nobody", ("streamed",), "stands in no group"),
        ("nobody", ("finetune",), "stands in no group; this stage is for `finetune`"),
    ],
)
def test_a_stage_by_hand_refuses_a_dataset_of_another_group(dataset: str, groups: tuple[str, ...], told: str) -> None:
    assert load_params(PROJECT, dataset="hcp-rest", groups=("streamed",))
    with pytest.raises(UserError, match=f"`{dataset}` {told}"):
        load_params(PROJECT, dataset=dataset, groups=groups)


@pytest.mark.parametrize("group", ["datasets", "streamed"])
def test_a_folder_of_ones_own_is_local_and_nothing_else(root: Path, group: str) -> None:
    path = root / "data" / "catalog" / "gw-rest.yaml"
    _edit(path, _set("source", value={"archive": "local", "path": "/data/gw"}))
    _edit(root / "params.yaml", _move("gw-rest", "datasets", group))
    with pytest.raises(UserError, match=rf"`gw-rest` stands under `{group}`.*'local'. Mend: move it to `local`"):
        load_params(root)


def test_raw_bids_that_is_fetched_may_be_handed_on(root: Path) -> None:
    def raw(content: dict[str, Any]) -> None:
        del content["streamed"]["hcp-rest"]
        content["bids"] = {"hcp-rest": {"max_subjects": 2}}

    _edit(root / "params.yaml", raw)
    with pytest.raises(UserError, match=r"`hcp-rest` stands under `bids`, whose raw files `dvc push` would put"):
        load_params(root)
    entry = root / "data" / "catalog" / "hcp-rest.yaml"
    _edit(entry, _set("redistribute", value=True))
    params = load_params(root, dataset="hcp-rest", groups=("bids",))
    assert params.max_subjects_of("hcp-rest") == 2
    assert "hcp-rest" not in params.all_datasets
    _edit(entry, _set("source", value={"archive": "local", "path": "/data/hcp"}))
    with pytest.raises(UserError, match=r"`hcp-rest` stands under `bids`, and is a folder of yours"):
        load_params(root)


def test_what_may_not_be_handed_on_may_be_local(root: Path) -> None:
    source = {"archive": "local", "path": "/data/hcp"}
    _edit(root / "data" / "catalog" / "hcp-rest.yaml", _set("source", value=source))
    _edit(root / "params.yaml", _move("hcp-rest", "streamed", "local", path="/data/hcp"))
    assert load_params(root).local["hcp-rest"].path == "/data/hcp"
    _edit(root / "params.yaml", _set("local", "hcp-rest", "path", value="/data/other"))
    with pytest.raises(UserError, match=r"`local.hcp-rest.path` is '/data/other', .* says '/data/hcp'"):
        load_params(root)


def test_not_yaml_is_said_with_its_line(root: Path) -> None:
    (root / "params.yaml").write_text("datasets: {\n")
    with pytest.raises(UserError, match=r"params.yaml: not readable as YAML: .*line"):
        load_params(root)


def test_the_settings_of_the_project_hold() -> None:
    params = load_params(PROJECT)
    assert {load_entry(dataset, root=PROJECT).modality for dataset in params.all_datasets} == {
        "spikes",
        "calcium",
        "miniscope",
        "fmri",
        "eeg",
    }


def test_site_is_optional_and_checked(tmp_path: Path) -> None:
    assert load_site(tmp_path).workers >= 1
    shutil.copy(PROJECT / "site.example.yaml", tmp_path / "site.yaml")
    assert load_site(tmp_path).workers == 2
    (tmp_path / "site.yaml").write_text("worker: 2\n")
    with pytest.raises(UserError, match="`worker`: unknown key"):
        load_site(tmp_path)


def test_the_error_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, exit_on_user_error():
        raise UserError("a.yaml: `b` is\nwrong.", mend="correct it")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: a.yaml: `b` is wrong. Mend: correct it\n"


def test_preflight_announces_what_would_be_downloaded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    shown = CliRunner().invoke(app, ["preflight"])
    assert shown.exit_code == 0
    assert re.search(r"To download: 183\.\d MB in 5 packages", shown.output)


@pytest.mark.parametrize("arguments", [["run", "preproces"], ["run", "preprocess"], ["run", "split", "--dataset", "x"]])
def test_running_a_stage_wrongly_is_refused(arguments: list[str]) -> None:
    assert isinstance(CliRunner().invoke(app, arguments).exception, UserError)


def _keys(model: type[BaseModel]) -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        found.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _keys(field.annotation)
    return found


def test_every_setting_is_documented() -> None:
    text = (PROJECT / "docs" / "settings.md").read_text()
    missing = [key for key in _keys(Params) if not re.search(rf"[`.]{key}\b", text)]
    assert not missing


def test_an_interrupt_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, exit_on_user_error():
        raise KeyboardInterrupt
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "interrupted; run it again to go on where it stopped\n"
