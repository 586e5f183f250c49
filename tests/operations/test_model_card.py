"""The card of a shared model: real entries of the catalogue and the project's own scoreboard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurofm.catalog import load_entry
from neurofm.cli import app
from neurofm.errors import UserError
from neurofm.model import hub
from neurofm.operations.model_card import model_card
from neurofm.recording import Modality
from neurofm.splits import Fold, FoldRecording, Segment, Splits
from tests.model.small_checkpoint import make_checkpoint

PROJECT = Path(__file__).resolve().parents[2]
WHOLE = (Segment(start=0, stop=100),)


def _learned(dataset: str, subject: str, *, modality: Modality = Modality.FMRI) -> FoldRecording:
    return FoldRecording(
        dataset=dataset,
        recording=subject,
        subject=subject,
        modality=modality,
        kind="subject",
        calibration=WHOLE,
        train=WHOLE,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project of two folds, the second of which has learned from data under terms too."""
    first = [_learned("hcp-rest", "hcp:1"), _learned("gw-rest", "gw:2")]
    held_out = _learned("gw-rest", "gw:9").model_copy(update={"train": (), "test": WHOLE})
    second = [*first, _learned("crcns-hc-3", "buzsaki:ec013", modality=Modality.SPIKES)]
    folds = tuple(Fold(recordings=(*recordings, held_out)) for recordings in (first, second))
    (tmp_path / "data").mkdir()
    Splits(seed=0, folds=folds, left_out=()).write(tmp_path / "data" / "splits.json")
    (tmp_path / "data" / "catalog").symlink_to(PROJECT / "data" / "catalog")
    (tmp_path / "metrics").mkdir()
    shutil.copy(PROJECT / "metrics" / "scoreboard.json", tmp_path / "metrics" / "scoreboard.json")
    for number, recordings in enumerate((first, second)):
        make_checkpoint(tmp_path / f"fold-{number}", subjects=tuple(one.subject for one in recordings))
    return tmp_path


def test_it_says_what_was_learned_from_and_every_score_with_its_null(root: Path) -> None:
    card = model_card(root / "fold-0", name="lab/fm", root=root, licence="cc-by-4.0")
    head, _, text = card.text.removeprefix("---\n").partition("\n---\n")
    assert "license: cc-by-4.0" in head
    assert "crcns-hc-3" not in text
    assert "the model of fold 0, the first being 0, of 2" in " ".join(text.split())
    for dataset in ("hcp-rest", "gw-rest"):
        entry = load_entry(dataset, root=root)
        line = next(line for line in text.splitlines() if line.startswith(f"| {dataset} |"))
        assert entry.licence in line
        assert "| fmri | 1 | 1 |" in line
        assert f"- {dataset}: {entry.citation[:30]}" in text
    assert "| fmri | TR 2 s | fmri-x of 94 channels |" in text
    rows = [row for row in json.loads((root / "metrics/scoreboard.json").read_text()) if row["model"] == "neurofm"]
    assert rows
    # Correlation says of a model what R2 does, and is left to the scoreboard.
    for row in (row for row in rows if row["metric"] != "correlation"):
        said = f"{row['value']:.4g} | {row['ci_low']:.4g} to {row['ci_high']:.4g} | {row['null']:.4g} |"
        assert any(said in line and f"| {row['task']} |" in line for line in text.splitlines())


def test_scores_on_what_was_learned_from_are_said_to_be(root: Path) -> None:
    path = root / "metrics" / "scoreboard.json"
    rows = json.loads(path.read_text())
    own = [row for row in rows if row["model"] == "neurofm"]
    assert "leak:" not in model_card(root / "fold-0", name="lab/fm", root=root).text
    own[0]["leak"] = "2 of 3 subjects"
    path.write_text(json.dumps(rows))
    text = model_card(root / "fold-0", name="lab/fm", root=root).text
    (line,) = [line for line in text.splitlines() if "leak:" in line]
    assert f"| {own[0]['task']} |" in line
    assert f"| {own[0]['split']}; leak: 2 of 3 subjects |" in line


def test_splits_of_another_training_are_refused(root: Path) -> None:
    make_checkpoint(root / "other", subjects=("hcp:1", "hcp:7"))
    with pytest.raises(UserError, match=r"other: it learned from other subjects than any fold of data/splits.json"):
        model_card(root / "other", name="lab/fm", root=root)


def test_folds_of_the_same_subjects_are_told_apart_by_roles(root: Path) -> None:
    whole = _learned("gw-rest", "gw:2").model_copy(update={"kind": "time"})
    halves = [Segment(start=0, stop=40), Segment(start=60, stop=100)]
    parts = [whole.model_copy(update={"train": (half,), "calibration": (half,)}) for half in halves]
    Splits(seed=0, folds=tuple(Fold(recordings=(one,)) for one in parts), left_out=()).write(root / "data/splits.json")
    for number, part in enumerate([*parts, whole]):
        make_checkpoint(root / f"time-{number}", subjects=("gw:2",), roles={part.name: part.digest()})
    for number in (0, 1):
        card = model_card(root / f"time-{number}", name="lab/fm", root=root)
        assert f"the model of fold {number}, the first being 0, of 2" in " ".join(card.text.split())
    with pytest.raises(UserError, match="time-2: it learned from other recordings or stretches of its subjects than"):
        model_card(root / "time-2", name="lab/fm", root=root)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file or directory"), ("{", "Invalid JSON: EOF"), ('{"seed": 0}', "folds: Field required")],
)
def test_splits_that_cannot_be_read_are_said_in_one_line(root: Path, content: str | None, problem: str) -> None:
    splits = root / "data" / "splits.json"
    splits.unlink()
    if content is not None:
        splits.write_text(content)
    with pytest.raises(UserError, match=rf"splits.json: cannot be read: {problem}.*Mend: push from the") as refused:
        model_card(root / "fold-0", name="lab/fm", root=root)
    assert "\n" not in str(refused.value)


def test_data_under_terms_are_not_shown_to_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    asked = ["model", "push", "lab/fm", "--model", "fold-1"]
    refused = CliRunner().invoke(app, [*asked, "--public", "--yes"])
    assert isinstance(refused.exception, UserError)
    assert "whose terms a person accepted: crcns-hc-3" in str(refused.exception)
    shown = CliRunner().invoke(app, [*asked, "--card"])
    assert "| crcns-hc-3 |" in shown.output
    assert "; terms to accept |" in shown.output
    declined = CliRunner().invoke(app, asked, input="n\n")
    assert declined.exit_code == 1
    assert "(private if it is new)" in declined.output


def test_who_sends_it_is_told_of_the_terms(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    told: list[tuple[str, ...]] = []

    def push(*_: object, under_terms: tuple[str, ...], **__: object) -> hub.Pushed:
        told.append(under_terms)
        return hub.Pushed(url="", revision="")

    monkeypatch.setattr(hub, "push_checkpoint", push)
    for fold in ("fold-0", "fold-1"):
        done = CliRunner().invoke(app, ["model", "push", "lab/fm", "--model", fold, "--yes"])
        assert done.exit_code == 0, done.exception
    assert told == [(), ("crcns-hc-3",)]
