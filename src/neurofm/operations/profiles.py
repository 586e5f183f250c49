"""Profiles: ready mixes of datasets with the settings that go with them, written into ``params.yaml``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import Field, JsonValue, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from neurofm.catalog import CatalogEntry, LocalSource, load_entry, read_yaml
from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.operations.catalogue import group_of
from neurofm.operations.extent import extent_of
from neurofm.operations.group_text import with_group
from neurofm.operations.round_trip import RoundTrip
from neurofm.params import GROUPS, PARAMS, check_params
from neurofm.recording import Modality
from neurofm.settings import Settings


class Budget(StrEnum):
    """How much of each dataset is taken."""

    MAXIMUM = "maximum"
    BALANCED = "balanced"
    QUICK = "quick"
    """To see that everything works."""


class BudgetSettings(Settings):
    """One budget of a profile."""

    max_subjects: dict[str, int] = Field(default_factory=dict)
    """At most so many subjects by dataset; 0 leaves it out, and one that is not named is taken whole."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Further settings, the same keys in every budget, so that changing from one to another leaves nothing behind."""


class Profile(Settings):
    """``data/profiles/<name>.yaml``."""

    title: str = Field(min_length=1)
    datasets: dict[str, float | None] = Field(min_length=1)
    """Share of training steps by dataset; they sum to 1. Or null for all: then `settings` says the modalities' shares,
    and datasets of one modality are drawn by the length of their recordings."""
    keep_raw_below_gb: float = Field(gt=0)
    """Raw files of smaller datasets are kept; larger ones (and those of unknown size) are streamed, 10^9 bytes."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Sections of params.yaml, as deep as they differ from what stands there."""
    budgets: dict[Budget, BudgetSettings]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        shares = [share for share in self.datasets.values() if share is not None]
        if shares and len(shares) < len(self.datasets):
            raise ValueError("`datasets`: give every dataset a share, or none")
        if shares and not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
            raise ValueError(f"`datasets`: the shares sum to {sum(shares):.4g}, not to 1")
        if shares and min(shares) <= 0:
            raise ValueError("`datasets`: a share must be greater than 0")
        if missing := [budget.value for budget in Budget if budget not in self.budgets]:
            raise ValueError(f"`budgets`: {missing[0]} is missing")
        for budget, settings in self.budgets.items():
            if unknown := sorted(settings.max_subjects.keys() - self.datasets.keys()):
                raise ValueError(f"`budgets.{budget}.max_subjects`: {unknown[0]} is not one of the profile's datasets")
            if [name for name, number in settings.max_subjects.items() if number < 0]:
                raise ValueError(f"`budgets.{budget}.max_subjects`: a number must be at least 0")
            if not self.taken(budget):
                raise ValueError(f"`budgets.{budget}.max_subjects`: leaves every dataset out")
        if len({frozenset(_leaves(settings.settings)) for settings in self.budgets.values()}) > 1:
            raise ValueError("`budgets`: every budget must set the same keys under `settings`")
        return self

    def taken(self, budget: Budget) -> dict[str, float | None]:
        """Return the share of each dataset that takes part in a budget."""
        left_out = {name for name, number in self.budgets[budget].max_subjects.items() if number == 0}
        return {name: share for name, share in self.datasets.items() if name not in left_out}


@dataclass(frozen=True, kw_only=True)
class ProfilePlan:
    """What `neurofm profile use` would write."""

    before: str
    after: str

    @property
    def diff(self) -> str:
        """How params.yaml changes, as a unified diff; empty if it does not."""
        name = str(PARAMS)
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True), self.after.splitlines(keepends=True), name, name
        )
        return "".join(lines)


def profile_names(root: Path) -> list[str]:
    """Return the names of all profiles, sorted."""
    return sorted(path.stem for path in (root / "data" / "profiles").glob("*.yaml"))


def load_profile(name: str, *, root: Path) -> Profile:
    """Read and validate a profile.

    Raises
    ------
    UserError
        If there is none of that name, or it contradicts itself.
    """
    if name not in profile_names(root):
        raise UserError(
            f"data/profiles/{name}.yaml: no such profile.",
            mend=f"choose one of {', '.join(profile_names(root)) or '(none)'}",
        )
    path = root / "data" / "profiles" / f"{name}.yaml"
    return Profile.parse(
        read_yaml(path), where=str(path), mend="correct that key; docs/catalog.md says what each means"
    )


def mix_lines(profile: Profile) -> list[str]:
    """Say which datasets a profile takes, with their shares where it has them."""
    return [f"{share:6.1%}  {dataset}" if share is not None else dataset for dataset, share in profile.datasets.items()]


def plan_profile(name: str, budget: Budget, *, root: Path) -> ProfilePlan:
    """Work out ``params.yaml`` with a profile merged into it, and check all of it; nothing is written.

    `datasets` and `streamed` become the profile's. Folders of your own under `local` stay.

    Raises
    ------
    UserError
        If the profile, a dataset or a key is unknown or wrong.
    """
    profile = load_profile(name, root=root)
    where = f"data/profiles/{name}.yaml"
    taken = profile.taken(budget)
    entries = {dataset: load_entry(dataset, root=root) for dataset in taken}
    path = root / PARAMS
    file = RoundTrip(path)
    before, text = file.before, file.before
    own = {
        dataset: dict(facts) for dataset, facts in (file.content.get("local") or {}).items() if dataset not in entries
    }
    groups: dict[str, dict[str, dict[str, Any]]] = {group: {} for group in GROUPS}
    groups["local"] |= own
    for dataset, entry in entries.items():
        # By the size of the whole: a dataset that changed its group with the budget would be ingested again.
        size = extent_of(entry, root=root).bytes
        group = group_of(entry, keep_raw_below_gb=profile.keep_raw_below_gb, size=size)
        groups[group][dataset] = _facts(entry, profile.budgets[budget].max_subjects.get(dataset))
    for group, datasets in groups.items():
        text = with_group(text, group, datasets)
    file = RoundTrip(path, text=text)
    _merge(file.content, profile.settings, where=f"{where}: settings")
    _merge(file.content, profile.budgets[budget].settings, where=f"{where}: budgets.{budget}.settings")
    _set_shares(file.content, taken, entries)
    after = file.render().decode()
    check_params(YAML(typ="safe", pure=True).load(after), root=root, where=f"{PARAMS} with {where}")
    return ProfilePlan(before=before, after=after)


def write_profile(plan: ProfilePlan, *, root: Path) -> None:
    """Write ``params.yaml``.

    Raises
    ------
    UserError
        If somebody else changed it since the plan was made.
    """
    path = root / PARAMS
    if path.read_text(encoding="utf-8") != plan.before:
        raise UserError(f"{path}: changed in the meantime.", mend="run the command again")
    write_atomic(path, plan.after.encode())


def _facts(entry: CatalogEntry, max_subjects: int | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"modality": entry.modality.value, "reader": entry.reader}
    if isinstance(entry.source, LocalSource):
        facts["path"] = entry.source.path
    if max_subjects is not None:
        facts["max_subjects"] = max_subjects
    return facts


def _leaves(settings: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}{key}.")
        else:
            yield f"{name}{key}"


def _merge(content: CommentedMap, settings: Mapping[str, Any], *, where: str, name: str = "") -> None:
    """Set the leaves of `settings` in `content`; a key that params.yaml does not have is refused."""
    for key, value in settings.items():
        dotted = f"{name}.{key}" if name else key
        if key not in content:
            raise UserError(f"{where}: `{dotted}`: there is no such setting in params.yaml.", mend="correct that key")
        if isinstance(value, dict) and isinstance(content[key], CommentedMap):
            _merge(content[key], value, where=where, name=dotted)
        elif content[key] != value:
            content[key] = value


def _set_shares(content: CommentedMap, shares: Mapping[str, float | None], entries: Mapping[str, CatalogEntry]) -> None:
    """Set `pretrain.shares` (per modality) and `pretrain.dataset_shares` from the profile's shares."""
    pretrain = content["pretrain"]
    known = {dataset: share for dataset, share in shares.items() if share is not None}
    if not known:
        pretrain.pop("dataset_shares", None)
        return
    for modality in Modality:
        of_modality = math.fsum(share for dataset, share in known.items() if entries[dataset].modality is modality)
        pretrain["shares"][modality.value] = round(of_modality, 6)
    if "dataset_shares" in pretrain:
        pretrain["dataset_shares"] = CommentedMap(known)
    else:
        pretrain.insert(list(pretrain).index("shares") + 1, "dataset_shares", CommentedMap(known))
