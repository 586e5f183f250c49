"""One being is known by all its ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofm.catalog import Overlap, Overlaps, load_entry, load_overlaps, read_yaml
from neurofm.errors import UserError
from tests.conftest import PROJECT


def test_rows_lead_from_one_id_to_the_next() -> None:
    rows = (
        Overlap(namespaces=("a", "b"), why="copies"),
        Overlap(subjects=("b:1", "c:one"), why="the same session"),
    )
    found = Overlaps(known=rows).ids(["a:1", "a:2", "c:one", "d:1"])
    assert found == {"a:1": ("a:1", "b:1", "c:one"), "a:2": ("a:2", "b:2"), "c:one": ("a:1", "b:1", "c:one")}


def test_the_projects_table_is_of_namespaces_that_there_are() -> None:
    profile = read_yaml(PROJECT / "data" / "profiles" / "shared-recordings.yaml")["folders"]
    entries = [load_entry(path.stem, root=PROJECT) for path in (PROJECT / "data" / "catalog").glob("*.yaml")]
    known = {entry.subject_namespace for entry in entries}
    known |= {folder["facts"]["subject_namespace"] for folder in profile.values()}
    table = load_overlaps(PROJECT)
    assert {name for overlap in table.known for name in overlap.namespaces} <= known
    assert table.ids(["ds000228:pixar001"])["ds000228:pixar001"] == ("ds000228:pixar001", "openneuro-ds000228:pixar001")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("- {namespaces: [a], why: x}", r"two or more `namespaces`, or two or more `subjects`"),
        ("- {namespaces: [a, b], subjects: ['a:1', 'b:1'], why: x}", r"two or more `namespaces`"),
        ("- {subjects: ['a:1', 'b'], why: x}", r"'b' is no <namespace>:<label>"),
        ("- {namespaces: [a, b]}", r"`known.0.why`: required key is missing"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, told: str) -> None:
    assert load_overlaps(tmp_path) == Overlaps()
    path = tmp_path / "data" / "catalog" / "overlaps" / "known.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(row)
    with pytest.raises(UserError, match=f"known.yaml: .*{told}"):
        load_overlaps(tmp_path)
