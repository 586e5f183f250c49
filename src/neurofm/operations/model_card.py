"""Model card: what who loads a shared model must know of it, from what the project has written down.

What it learned from (``config.json`` of the checkpoint, ``data/splits.json``, the catalogue), how it was acquired, all
scores of the scoreboard with their null and intervals, and the licences of the data. It is checked that the splits are
those the model was trained with: its subjects and roles are in the checkpoint as SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.errors import UserError
from neurofm.evaluation.row import CORRELATION, OURS, Row
from neurofm.model.pretrained import read_config
from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Splits
from neurofm.training.acquisition import Acquisition
from neurofm.training.checkpoint import digest

_ROWS = TypeAdapter(tuple[Row, ...])
_OWN_CHANNELS = "each recording's own"
_TEXT = """---
library_name: neurofm
{licence}tags:
{tags}
---

# {name}

A model of neural recordings, pretrained with neurofm {neurofm} (torch {torch}): it predicts hidden channels and
stretches of a recording from visible ones, as a correction of a core's estimate. It is the model of fold {fold}, the
first being 0, of {folds}. Its files are safetensors and JSON, without pickle.

```python
from neurofm.model.hub import checkpoint_folder
from neurofm.model.neurofm import NeuroFM
from neurofm.training.predict import Predictor

network = NeuroFM.from_pretrained("{name}")               # the network alone
predictor = Predictor.load(checkpoint_folder("{name}"))   # with cores, prior and gains
```

## What it learned from

{data}

{citations}

Licences are those of the data; which of them bind a model made of them is for who shares it to judge. Rates, atlases
and montages that it takes, others are refused:

{acquisitions}

`statistics.safetensors` holds sums over the training recordings of an atlas or montage (moments of their channels), no
recording. `config.json` lists subjects as SHA-256 of their ids: who knows an id can tell whether it was learned from.

## Scores

{scores}
"""
_NO_SCORES = "Not evaluated: the project has no `metrics/scoreboard.json`."
_SCORES_NOTE = """\
All rows of this project's scoreboard for `neurofm`, good and bad: of all folds together, each on what it holds out;
this model is one of them. Null: predicting the mean, on the same data. Interval: 95 %, over what is counted under n.
"""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The card, and what bears on who may see the model."""

    text: str
    name: str
    under_terms: tuple[str, ...]
    """Datasets it learned from whose terms a person had to accept."""

    def refuse_public(self) -> None:
        """Refuse to show it to all where data came with terms that a person has accepted.

        Raises
        ------
        UserError
            That names the datasets.
        """
        if self.under_terms:
            raise UserError(
                f"{self.name}: it learned from data whose terms a person accepted: {', '.join(self.under_terms)}.",
                mend="send it without --public; who accepted the terms may change that on the Hub",
            )


def model_card(folder: Path, *, name: str, root: Path, licence: str = "") -> ModelCard:
    """Write the card of a checkpoint.

    Parameters
    ----------
    folder
        Of the checkpoint.
    name
        ``organisation/name``, as the card shows how to load it.
    root
        Of the project that trained it.
    licence
        Of the model, as the Hub spells it (``cc-by-4.0``); the card says nothing of it without.

    Raises
    ------
    UserError
        If the checkpoint or ``data/splits.json`` cannot be read, or the model was trained with other splits.
    """
    config = read_config(folder)
    splits = _splits(root / "data" / "splits.json")
    fold, learned = _learned_from(config, splits=splits, folder=folder)
    entries = [load_entry(dataset, root=root) for dataset in sorted({one.dataset for one in learned})]
    acquisitions = [Acquisition.parse(one) for one in config["acquisitions"]]
    text = _TEXT.format(
        licence=f"license: {licence}\n" if licence else "",
        tags="\n".join(f"- {tag}" for tag in ("neuroscience", *sorted({str(one.modality) for one in acquisitions}))),
        name=name,
        neurofm=config["versions"]["neurofm"],
        torch=config["versions"]["torch"],
        fold=fold,
        folds=len(splits.folds),
        data=_data(entries, learned),
        citations="\n".join(f"- {entry.id}: {_cell(entry.citation)}" for entry in entries),
        acquisitions=_acquisitions(acquisitions),
        scores=_scores(root / "metrics" / "scoreboard.json"),
    )
    return ModelCard(text=text, name=name, under_terms=tuple(entry.id for entry in entries if entry.terms is not None))


def _splits(path: Path) -> Splits:
    try:
        return Splits.read(path)
    except OSError as error:
        problem = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    raise UserError(
        f"{path}: cannot be read: {problem}.",
        mend="push from the project that trained the model; there, `dvc checkout data/splits.json`",
    )


def _learned_from(config: Mapping[str, Any], *, splits: Splits, folder: Path) -> tuple[int, list[FoldRecording]]:
    """Return the fold that the model was trained with, and its training recordings.

    Where time or sessions are held out all folds learn from the same subjects: only roles tell them apart. Models from
    before roles were kept, and those made of one, have none; of them the first fold of their subjects is taken.
    """
    subjects, roles = set(config["subjects_sha256"]), config.get("roles_sha256", {})
    other = "other subjects"
    for number, fold in enumerate(splits.folds):
        learned = [one for one in fold.recordings if one.train]
        if {digest(one.subject) for one in learned} != subjects:
            continue
        if not roles or roles == {digest(one.name): one.digest() for one in learned}:
            return number, learned
        other = "other recordings or stretches of its subjects"
    raise UserError(
        f"{folder}: it learned from {other} than any fold of data/splits.json.",
        mend="push it from the project that trained it, or run `dvc repro`",
    )


def _data(entries: Sequence[CatalogEntry], learned: Sequence[FoldRecording]) -> str:
    lines = []
    for entry in entries:
        own = [one for one in learned if one.dataset == entry.id]
        terms = "; terms to accept" if entry.terms is not None else ""
        link = f"[{_cell(entry.licence)}]({entry.licence_url})" if entry.licence_url else _cell(entry.licence)
        lines.append(
            (
                entry.id,
                _cell(entry.title),
                entry.species,
                str(entry.modality),
                str(len(own)),
                str(len({one.subject for one in own})),
                link + terms,
            )
        )
    return _table(("dataset", "title", "species", "modality", "recordings", "subjects", "licence"), lines)


def _acquisitions(acquisitions: Iterable[Acquisition]) -> str:
    names = {Modality.SPIKES: "bin", Modality.FMRI: "TR"}
    return _table(
        ("modality", "rate", "atlas or montage"),
        [
            (
                str(one.modality),
                f"{names.get(one.modality, 'rate')} {one.rate}",
                one.channels_said if one.channel_set else _OWN_CHANNELS,
            )
            for one in acquisitions
        ],
    )


def _scores(path: Path) -> str:
    if not path.is_file():
        return _NO_SCORES
    try:
        rows = _ROWS.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise UserError(
            f"{path}: cannot be read: {' '.join(str(error).split())[:200]}.", mend="dvc repro evaluate"
        ) from None
    best: Mapping[tuple[str, str, str], Row] = _best_references(rows)
    lines = [
        (
            row.dataset,
            row.modality,
            row.task,
            f"{row.metric} ({row.unit})",
            f"{row.split}; leak: {_cell(row.leak)}" if row.leak else row.split,
            f"{row.value:.4g}",
            f"{row.ci_low:.4g} to {row.ci_high:.4g}",
            f"{row.null:.4g}",
            _reference(best.get((row.dataset, row.task, row.metric))),
            f"{row.n} x {row.ci_unit}",
        )
        for row in rows
        if row.model == OURS and row.metric != CORRELATION
    ]
    heads = ("dataset", "modality", "task", "metric", "split", "value", "interval", "null", "best reference", "n")
    return f"{_SCORES_NOTE}\n{_table(heads, lines)}"


def _best_references(rows: Iterable[Row]) -> dict[tuple[str, str, str], Row]:
    """Return the best of what is not ours, per score."""
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if row.model.startswith(OURS) or row.model == "null":
            continue
        key, sign = (row.dataset, row.task, row.metric), 1 if row.higher_is_better else -1
        if key not in best or sign * row.value > sign * best[key].value:
            best[key] = row
    return best


def _reference(row: Row | None) -> str:
    return f"{row.value:.4g} ({row.model})" if row is not None else "none"


def _table(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(text: str) -> str:
    """Keep a text within a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
