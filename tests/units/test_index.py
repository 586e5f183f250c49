"""An index stands for a unit's many files: one that is lost, cut or changed is found, and all go with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofm.files import sha256_of
from neurofm.recording import UnitStatus
from neurofm.units import Index, Receipt, Unit, read_index

NAMES = ("sub-01/func/a.nii.gz", "sub-01/b.json")


@pytest.fixture
def unit(tmp_path: Path) -> Unit[None]:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "other").write_text("nobody's")
    Index.of(NAMES, root=tmp_path).write(tmp_path / "files.json")
    return Unit(id="sub-01", key="k", outputs=(tmp_path / "files.json",), payload=None, indexed_in=tmp_path)


def _receipt(unit: Unit[None]) -> Receipt:
    outputs = {path.name: sha256_of(path) for path in unit.outputs}
    return Receipt(unit=unit.id, key=unit.key, status=UnitStatus.SUCCEEDED, outputs=outputs)


def test_a_unit_is_whole_as_long_as_each_of_its_files_is(unit: Unit[None], tmp_path: Path) -> None:
    receipt = _receipt(unit)
    assert unit.is_whole(receipt)
    for damage in ("sub-01/funk/a.nii.gz", "", None):
        file = tmp_path / NAMES[0]
        if damage is None:
            file.unlink()
        else:
            file.write_text(damage)
        assert not unit.is_whole(receipt)
        index = read_index(unit.outputs[0])
        assert index is not None
        assert list(index.wrong(tmp_path)) == [NAMES[0]]
        file.write_text(NAMES[0])
        assert unit.is_whole(receipt)
    Index.of(NAMES[1:], root=tmp_path).write(unit.outputs[0])
    assert not unit.is_whole(receipt), "an index that was changed stands for nothing"


def test_what_an_index_names_goes_with_it_and_nothing_else(unit: Unit[None], tmp_path: Path) -> None:
    unit.remove_outputs()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["other"]
    unit.remove_outputs()


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "a/../../b"])
def test_an_index_cannot_name_what_lies_outside(unit: Unit[None], name: str) -> None:
    index = unit.outputs[0]
    index.write_text(index.read_text().replace(NAMES[1], name))
    assert read_index(index) is None
