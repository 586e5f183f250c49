"""ablations/dvc.yaml is a pipeline of its own, which says what its stages do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency  # type: ignore[import-untyped]  # it has no stubs
from dvc.repo import Repo  # type: ignore[import-untyped]

from neurofm.catalog import read_yaml

PROJECT = Path(__file__).resolve().parents[2]
STAGES: dict[str, Any] = read_yaml(PROJECT / "ablations" / "dvc.yaml")["stages"]


def test_every_cell_is_a_stage_and_apart_from_the_pipeline() -> None:
    assert STAGES["cell"]["matrix"] == {"cell": "${cells}", "seed": "${seeds}"}
    assert not set(STAGES) & set(read_yaml(PROJECT / "dvc.yaml")["stages"])
    # Of the cells its own alone: another one trains nothing again.
    assert {"cells.${item.cell}.changes", "common", "fold"} == set(STAGES["cell"]["params"][1]["ablations/params.yaml"])


def test_code_and_sections() -> None:
    rooms = {dep.split("/")[2] for dep in STAGES["cell"]["deps"] if dep.startswith("src/")}
    assert rooms == {"ablation", "evaluation", "model", "splits", "training", "windows"}
    for stage in STAGES.values():
        assert "OMP_NUM_THREADS=1" in stage["cmd"]
        for dep in stage["deps"]:
            if dep.startswith(("src/", "stages/")):
                assert (PROJECT / dep).exists(), dep


def test_every_parameter_is_there() -> None:
    """DVC asks for them when a stage begins: the table's stage would fail after all trainings."""
    with Repo(str(PROJECT)) as repo:
        found = [
            dep.get_hash()
            for stage in repo.stage.load_all("ablations/dvc.yaml")
            for dep in stage.deps
            if isinstance(dep, ParamsDependency)
        ]
    assert len(found) >= 2 * len(STAGES)
    assert all(found)
