"""Settings of the ablations: which cells there are, and what each of them changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, JsonValue, model_validator

from neurofm.catalog import read_yaml
from neurofm.errors import UserError
from neurofm.settings import Settings
from neurofm.training.settings import PretrainSettings

PARAMS = Path("ablations") / "params.yaml"
BASE = "base"
"""The cell that others are compared with unless they say otherwise."""
_NAME = r"[a-z0-9][a-z0-9_]*"
"""Names stand in names of stages and files, before a hyphen and the seed."""
_SECTION = "pretrain"
_MEND = "correct that key; docs/ablations.md says what a cell is"
Changes = dict[str, JsonValue]
"""Values by dotted key of params.yaml: ``pretrain.model.backbone: gru``."""


class Cell(Settings):
    """One variant of the training."""

    part: str
    """Which part of the model or of its training it is about, for the table."""
    changes: Changes = Field(default_factory=dict)
    """What is otherwise than in params.yaml, beside what `common` says."""
    against: str = BASE
    """The cell that it is compared with: the one from which it differs in `part` alone."""


class AblationSettings(Settings):
    """``ablations/params.yaml``."""

    fold: int = Field(default=0, ge=0)
    """Whose data are learned from and scored."""
    seeds: tuple[int, ...] = Field(min_length=1)
    """Of weights, windows and masks; each cell is trained once with each."""
    bootstrap_samples: int = Field(default=1000, ge=100)
    common: Changes = Field(default_factory=dict)
    """Changes of all cells: how long they train."""
    cells: dict[str, Cell]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: one stands there twice")
        if BASE not in self.cells:
            raise ValueError(f"cells: there is no cell `{BASE}` to compare with")
        for name, cell in self.cells.items():
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"cells.{name}: a name has small letters, digits and underscores")
            if cell.against not in self.cells:
                raise ValueError(f"cells.{name}.against: there is no cell `{cell.against}`")
        every = {"common": self.common, **{f"cells.{name}.changes": cell.changes for name, cell in self.cells.items()}}
        for name, changes in every.items():
            for key in changes:
                if not key.startswith(f"{_SECTION}."):
                    raise ValueError(f"{name}: `{key}` is no key of `{_SECTION}`, which is all that a cell may change")
        return self

    @property
    def runs(self) -> tuple[tuple[str, int], ...]:
        """Every cell with every seed."""
        return tuple((name, seed) for name in self.cells for seed in self.seeds)


def read_ablations(path: Path, *, pretrain: PretrainSettings, folds: int | None) -> AblationSettings:
    """Read ``ablations/params.yaml`` and check every cell, so that none fails after others ran for hours.

    Parameters
    ----------
    path
        Where it is.
    pretrain
        What params.yaml says, which cells change.
    folds
        How many there are; None where the splits alone say it, and `run_cell` compares.

    Raises
    ------
    UserError
        In one line that names the cell and the key.
    """
    settings = AblationSettings.parse(read_yaml(path), where=str(path), mend=_MEND)
    if folds is not None and settings.fold >= folds:
        raise UserError(
            f"{path}: `fold`: there is no fold {settings.fold}, there are {folds}.",
            mend=f"choose from 0 to {folds - 1}",
        )
    for name, seed in settings.runs:
        settings_of(settings, name, seed=seed, pretrain=pretrain, where=str(path))
    return settings


def settings_of(
    settings: AblationSettings, cell: str, *, seed: int, pretrain: PretrainSettings, where: str = str(PARAMS)
) -> PretrainSettings:
    """Return what a cell trains with.

    Raises
    ------
    UserError
        For a cell that there is not, a key that there is not, or a value that it does not take.
    """
    if cell not in settings.cells:
        raise UserError(f"{where}: there is no cell `{cell}`.", mend=f"choose of {', '.join(settings.cells)}")
    content = pretrain.model_dump(mode="json")
    # A limit on hours would make the result depend on the machine.
    content |= {"seed": seed, "max_hours": None, "max_cost": None}
    for changes in (settings.common, settings.cells[cell].changes):
        for key, value in changes.items():
            _set(content, key.split(".")[1:], value, where=f"{where}: cells.{cell}: {key}")
    return PretrainSettings.parse(content, where=f"{where}: cells.{cell}: {_SECTION}", mend=_MEND)


def _set(content: dict[str, Any], path: list[str], value: JsonValue, *, where: str) -> None:
    *above, last = path
    for name in above:
        inner = content.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"{where}: `{name}` has no keys.", mend=_MEND)
        content = inner
    # Part of a mapping would be a change that depends on what params.yaml happens to say of the rest.
    content[last] = dict(value) if isinstance(value, Mapping) else value
