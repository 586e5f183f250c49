"""docs/tracks.md by its own commands: from folders of real recordings to models that have learned on."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import PROJECT
from tests.integration.conftest import small_project

TRACKS = {"visual-cortex": "park-gratings", "hippocampus": "a2929-session"}


@pytest.mark.long
def test_the_tracks_of_single_cells_run_by_the_commands_of_the_page(tmp_path: Path, shared_data: Path) -> None:
    page = (PROJECT / "docs" / "tracks.md").read_text()
    project = small_project(tmp_path / "neurofm")
    shutil.copytree(PROJECT / "data" / "catalog", project.root / "data" / "catalog")
    (use,) = re.findall(r"^    (neurofm profile use .+) --folder \S+ --yes$", page, re.MULTILINE)
    done = project.run(*shlex.split(use), "--folder", str(shared_data), "--yes")
    assert done.returncode == 0, done.stderr
    yaml, path = YAML(), project.root / "params.yaml"
    content = yaml.load(path)
    shown = yaml.load(io.StringIO(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]))["finetune"]
    content |= {"datasets": {}, "streamed": {}, "local": {one: content["local"][one] for one in TRACKS.values()}}
    content["finetune"] = {name: shown[name] | {"steps": 3} for name in TRACKS}
    content["pretrain"] |= {"steps": 3, "validate_every_steps": 3}
    content["pretrain"]["core"]["bank"] = False
    content["split"]["folds"] = 2
    yaml.dump(content, path)
    for name, dataset in TRACKS.items():
        (command,) = re.findall(rf"^    (dvc repro finetune@{name})$", page, re.MULTILINE)
        done = project.run(*shlex.split(command))
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads((project.root / "metrics" / "finetune" / f"{name}.json").read_text())
        assert {"null", "ridge", "neurofm", "neurofm-finetuned"} <= told["test"][dataset]["R2"].keys()
        assert told["test"][dataset]["R2"]["null"]["value"] < told["test"][dataset]["R2"]["ridge"]["value"]
        assert (project.root / "models" / "finetuned" / name / "fold-0" / "model.safetensors").is_file()
