"""Volumes that were made of files which may not be handed on stay here too."""

from __future__ import annotations

import shutil
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.files import write_json
from neurofm.remote.project import Artefact
from neurofm.remote.withheld import withheld_problems

PROJECT = Path(__file__).resolve().parents[2]


def test_derivatives_follow_the_terms_of_the_dataset_that_reads_them(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "data" / "catalog", tmp_path / "data" / "catalog")
    item = Artefact(stage="derivatives@study", path="data/derivatives/study", oid="x.dir", size=1, files=1)
    assert withheld_problems([item], root=tmp_path) == []
    entry = load_entry("gw-rest", root=tmp_path).model_dump(mode="json") | {"id": "mine"}
    for path, redistribute, problems in (
        ("data/derivatives/study", True, 0),
        ("data/derivatives/study", False, 1),
        ("data/derivatives/study-2", False, 0),
        ("data/derivatives/study/", False, 1),
        ("data/derivatives/study/sub-01", False, 1),
        (str(tmp_path / "data" / "derivatives" / "study"), False, 1),
    ):
        source = {"archive": "local", "path": path, "version": "local"}
        write_json(
            tmp_path / "data" / "catalog" / "mine.yaml", entry | {"source": source, "redistribute": redistribute}
        )
        found = withheld_problems([item], root=tmp_path)
        assert len(found) == problems, found
        assert all("data/catalog/mine.yaml" in problem and "Mend: " in problem for problem in found)
