"""Whatever a dataset says of its subjects can be predicted, and what it does not say is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.evaluation.attributes import Attributes, labelled, read_attributes
from neurofm.windows import RecordingView, load_view
from tests.evaluation.conftest import view_of
from tests.evaluation.pixar import people
from tests.movers import mover, write_movers


@pytest.fixture(scope="module")
def recordings(shared_data: Path) -> tuple[list[RecordingView], dict[str, Attributes]]:
    return people(shared_data, each=6)


def _said(count: int, values: list[object]) -> tuple[list[RecordingView], dict[str, Attributes]]:
    signal = np.random.default_rng(0).normal(size=(30, 2))
    views = [view_of(signal, name=f"s{number:02d}", kind="subject", train=[(0, 30)]) for number in range(count)]
    return views, {view.name: {"x": value} for view, value in zip(views, values, strict=True)}  # type: ignore[dict-item]


def test_numbers_and_groups(recordings: tuple[list[RecordingView], dict[str, Attributes]]) -> None:
    views, known = recordings
    ages = labelled(views, known, trait="age")
    assert ages.groups == ()
    assert [unit.value for unit in ages.units] == [known[view.name]["age"] for view in sorted(views, key=_subject)]
    groups = labelled(views, known, trait="group")
    assert groups.groups == ("adult", "child")
    assert [groups.groups[int(unit.value)] for unit in groups.units] == [
        known[unit.views[0].name]["group"] for unit in groups.units
    ]


def test_one_value_or_none_at_all_is_nothing_to_predict(
    recordings: tuple[list[RecordingView], dict[str, Attributes]],
) -> None:
    views, known = recordings
    assert labelled(views, known, trait="task").units == ()
    assert labelled(views, known, trait="diagnosis").units == ()


def test_missing_values_and_small_groups_are_left_out() -> None:
    views, known = _said(17, ["a"] * 6 + ["b"] * 5 + ["c"] * 4 + [None, ""])
    found = labelled(views, known, trait="x")
    assert found.groups == ("a", "b")
    assert [unit.subject for unit in found.units] == [view.subject for view in views[:11]]


def test_two_numbers_are_groups_and_more_are_numbers() -> None:
    assert labelled(*_said(12, [0, 1] * 6), trait="x").groups == ("0", "1")
    assert labelled(*_said(12, [False, True] * 6), trait="x").groups == ("False", "True")
    assert labelled(*_said(12, [0, 1, 2] * 4), trait="x").groups == ()
    assert len(labelled(*_said(12, [0, 1, 2] * 4), trait="x").units) == 12
    assert labelled(*_said(9, [0, 1, 2] * 3), trait="x").units == ()


def test_a_subject_is_one_unit_per_value() -> None:
    views, known = _said(12, ["rest", "task"] * 6)
    # Pairs of recordings of one subject, and a second one at rest of the first.
    views = [replace(view, subject=f"lab:{number // 2}") for number, view in enumerate(views)]
    views.append(replace(views[0], recording="again"))
    known[views[-1].name] = {"x": "rest"}
    found = labelled(views, known, trait="x")
    assert len(found.units) == 12
    assert [view.recording for view in found.units[0].views] == ["again", "s00"]


def test_attributes_are_read_from_shards(shared_data: Path, tmp_path: Path) -> None:
    recording = replace(mover(shared_data, 0), scalars={"Age": 4.77, "Gender": "M", "DCCS": None})
    write_movers(tmp_path / "pixar", {"sub-00": recording})
    view = load_view(tmp_path / "pixar" / "sub-00.zarr.zip")
    (known,) = read_attributes([view], shards=tmp_path).values()
    assert known == {"session": "", "run": "", "task": "pixar", "Age": 4.77, "Gender": "M", "DCCS": None}


def _subject(view: RecordingView) -> str:
    return view.subject
