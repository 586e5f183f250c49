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
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from neurofm.catalog import CatalogEntry, LocalSource, load_entry, read_yaml
from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.operations.catalogue import group_of
from neurofm.operations.extent import extent_of
from neurofm.operations.group_text import with_group
from neurofm.operations.round_trip import RoundTrip, stored_path, yaml_bytes
from neurofm.params import GROUPS, PARAMS, check_params
from neurofm.readers import reader_options
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


class ProfileFolder(Settings):
    """A dataset of a profile that lies in a folder of this machine."""

    path: str = Field(min_length=1)
    """Where, below the folder that `neurofm profile use --folder` names."""
    facts: dict[str, JsonValue]
    """Its entry in the catalogue, without ``id`` and ``source``."""


class Profile(Settings):
    """``data/profiles/<name>.yaml``."""

    title: str = Field(min_length=1)
    datasets: dict[str, float | None] = Field(min_length=1)
    """Share of training steps by dataset; they sum to 1. Or null for all: then `settings` says the modalities' shares,
    and datasets of one modality are drawn by the length of their recordings."""
    folders: dict[str, ProfileFolder] = Field(default_factory=dict)
    """Those of its datasets that lie in folders, and no archive gives: their entries are written when it is used."""
    keep_raw_below_gb: float = Field(gt=0)
    """Raw files of smaller datasets are kept; larger ones (and those of unknown size) are streamed, 10^9 bytes."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Sections of params.yaml, as deep as they differ from what stands there."""
    budgets: dict[Budget, BudgetSettings]

    @model_validator(mode="after")
    def _folders_are_datasets(self) -> Self:
        if strangers := sorted(self.folders.keys() - self.datasets.keys()):
            raise ValueError(f"`folders`: {strangers[0]} is not one of the profile's datasets")
        return self

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

    before: Mapping[Path, str]
    """The files as they stand, relative to the project's root; empty where there is none."""
    after: Mapping[Path, str]

    @property
    def diff(self) -> str:
        """How params.yaml and the catalogue change, as a unified diff; empty if they do not."""
        lines: list[str] = []
        for path, text in self.after.items():
            old, new = self.before[path].splitlines(keepends=True), text.splitlines(keepends=True)
            lines += difflib.unified_diff(old, new, str(path), str(path))
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


def plan_profile(name: str, budget: Budget, *, root: Path, folder: Path | None = None) -> ProfilePlan:
    """Work out ``params.yaml`` with a profile merged into it, and check all of it; nothing is written.

    `datasets` and `streamed` become the profile's. Folders of your own under `local` stay, those of another profile
    leave.

    Parameters
    ----------
    name, budget
        Which profile, and how much of it.
    root
        The project's root.
    folder
        What the paths of the profile's `folders` are below.

    Raises
    ------
    UserError
        If the profile, a dataset or a key is unknown or wrong, or one of its folders is not there.
    """
    profile = load_profile(name, root=root)
    where = f"data/profiles/{name}.yaml"
    taken = profile.taken(budget)
    written = _folder_entries(profile, folder, root=root, where=where)
    parsed = {dataset: _parsed(facts, where=where) for dataset, facts in written.items() if dataset in taken}
    entries = {dataset: parsed.get(dataset) or load_entry(dataset, root=root) for dataset in taken}
    path = root / PARAMS
    file = RoundTrip(path)
    before, text = file.before, file.before
    of_profiles = {dataset for other in profile_names(root) for dataset in load_profile(other, root=root).folders}
    own = {
        dataset: dict(facts)
        for dataset, facts in (file.content.get("local") or {}).items()
        if dataset not in entries and dataset not in of_profiles
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
    check_params(YAML(typ="safe", pure=True).load(after), root=root, where=f"{PARAMS} with {where}", entries=parsed)
    files = {Path("data", "catalog", f"{dataset}.yaml"): yaml_bytes(written[dataset]).decode() for dataset in parsed}
    return ProfilePlan(
        before={file: _text_of(root / file) for file in files} | {PARAMS: before}, after=files | {PARAMS: after}
    )


def write_profile(plan: ProfilePlan, *, root: Path) -> None:
    """Write ``params.yaml``, last, and the entries of the profile's folders.

    Raises
    ------
    UserError
        If somebody else changed one of them since the plan was made.
    """
    for path, text in plan.before.items():
        if _text_of(root / path) != text:
            raise UserError(f"{root / path}: changed in the meantime.", mend="run the command again")
    for path, text in plan.after.items():
        if text != plan.before[path]:
            write_atomic(root / path, text.encode())


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _folder_entries(profile: Profile, folder: Path | None, *, root: Path, where: str) -> dict[str, dict[str, Any]]:
    """Return the catalogue entries of a profile's folders, as they are written."""
    if profile.folders and folder is None:
        first = next(iter(profile.folders.values())).path
        raise UserError(
            f"{where}: some of its datasets lie in folders of this machine.",
            mend=f"say --folder FOLDER, the one that holds {first}",
        )
    entries = {}
    for dataset, wanted in profile.folders.items():
        assert folder is not None
        path = (folder / wanted.path).expanduser().resolve()
        if not path.is_relative_to(folder.expanduser().resolve()):
            raise UserError(f"{where}: folders.{dataset}.path {wanted.path} leads out of {folder}.", mend="correct it")
        if not path.is_dir():
            raise UserError(
                f"{folder}: has no folder {wanted.path}, where {where} looks for {dataset}.", mend="correct --folder"
            )
        source = {"archive": "local", "path": stored_path(path, root=root)}
        entries[dataset] = {"id": dataset, **wanted.facts, "source": source}
    return entries


def _parsed(facts: Mapping[str, Any], *, where: str) -> CatalogEntry:
    entry = CatalogEntry.parse(
        facts, where=f"{where}: folders.{facts['id']}.facts", mend="correct that key; docs/catalog.md lists all of them"
    )
    reader_options(entry.reader, entry.reader_options, where=f"{where}: folders.{entry.id}.facts.reader_options")
    return entry


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
            content[key] = _on_one_line(value) if isinstance(value, list) else value


def _on_one_line(values: list[Any]) -> CommentedSeq:
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence


def _set_shares(content: CommentedMap, shares: Mapping[str, float | None], entries: Mapping[str, CatalogEntry]) -> None:
    """Set `pretrain.shares` (per modality) and `pretrain.dataset_shares` from the profile's shares."""
    pretrain = content["pretrain"]
    known = {dataset: share for dataset, share in shares.items() if share is not None}
    if not known:
        pretrain.pop("dataset_shares", None)
        return
    for modality in Modality:
        of_modality = math.fsum(share for dataset, share in known.items() if entries[dataset].modality is modality)
        if of_modality or modality.value in pretrain["shares"]:  # MEG stands there only where somebody has it.
            pretrain["shares"][modality.value] = round(of_modality, 6)
    if "dataset_shares" in pretrain:
        pretrain["dataset_shares"] = CommentedMap(known)
    else:
        pretrain.insert(list(pretrain).index("shares") + 1, "dataset_shares", CommentedMap(known))
