"""docs/tracks.md: its settings are read where it says that they belong, and its commands name what there is."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from neurofm.cli.project import STAGES
from neurofm.operations.profiles import Budget
from neurofm.params import Params, load_params
from tests.conftest import PROJECT
from tests.operations.test_profiles import used

PAGE = (PROJECT / "docs" / "tracks.md").read_text()
TRIALS = (PROJECT / "docs" / "formats" / "trials.md").read_text()


def _blocks(page: str) -> list[dict[str, Any]]:
    return [YAML(typ="safe").load(io.StringIO(block)) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]


def _with_what_is_shown(project: Path) -> Params:
    """Write what the page shows into a project that uses its profile."""
    yaml, path = YAML(), project / "params.yaml"
    content = yaml.load(path)
    for block in _blocks(PAGE):
        for group, entries in block.items():
            content[group] = {**content[group], **entries}
    yaml.dump(content, path)
    (rat,) = (block for block in _blocks(TRIALS) if block["id"] == "nelpy-track")
    rat["source"]["path"] = content["local"]["nelpy-track"]["path"]
    with (project / "data" / "catalog" / "nelpy-track.yaml").open("w") as file:
        yaml.dump(rat, file)
    return load_params(project)


@pytest.fixture
def params(project: Path, shared_data: Path) -> Params:
    used(project, "shared-recordings", Budget.BALANCED, folder=shared_data)
    return _with_what_is_shown(project)


def test_every_track_is_of_the_profile_and_has_its_command(params: Params) -> None:
    by_dvc = set(re.findall(r"^    dvc repro finetune@([\w-]+)$", PAGE, re.MULTILINE))
    assert by_dvc == {"visual-cortex", "hippocampus", "fusion"}
    by_hand = re.findall(r"^    neurofm run (\w+)(?: --dataset ([\w-]+))?$", PAGE, re.MULTILINE)
    assert [stage for stage, _ in by_hand] == ["manifest", "preprocess", "split", "finetune"]
    assert {stage for stage, _ in by_hand} <= set(STAGES)
    assert dict(by_hand)["finetune"] == "new-rat"
    assert params.finetune.keys() == by_dvc | {"new-rat"}


def test_the_rat_lies_where_the_page_says(params: Params, shared_data: Path) -> None:
    told = Path(params.local["nelpy-track"].path)
    assert told.parts[:3] == ("..", "shared", "data")
    assert (shared_data / Path(*told.parts[3:]) / "spikes.mat").is_file()
