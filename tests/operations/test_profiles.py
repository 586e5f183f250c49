"""Profiles are merged into params.yaml whole or not at all, with every comment kept that still has its line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from neurofm.catalog import LocalSource, load_entry, read_yaml
from neurofm.errors import UserError
from neurofm.operations.group_text import with_group
from neurofm.operations.profiles import (
    Budget,
    Profile,
    load_profile,
    plan_profile,
    profile_names,
    write_profile,
)
from neurofm.params import GROUPS, load_params
from neurofm.recording import Modality
from neurofm.sources import recordings_of
from neurofm.sources.local import scan

PROJECT = Path(__file__).resolve().parents[2]
NAMES = profile_names(PROJECT)
EACH = [(name, budget) for name in NAMES for budget in Budget]


def used(root: Path, name: str, budget: Budget, *, folder: Path | None = None) -> None:
    folder = folder or made_folders(root, name)
    write_profile(plan_profile(name, budget, root=root, folder=folder), root=root)


def made_folders(root: Path, name: str) -> Path:
    """Make empty folders where a profile looks for some; what is in them is looked at by other commands."""
    for wanted in load_profile(name, root=root).folders.values():
        (root / "mine" / wanted.path).mkdir(parents=True, exist_ok=True)
    return root / "mine"


def groups_of(root: Path) -> dict[str, dict[str, Any]]:
    content = read_yaml(root / "params.yaml")
    return {group: content[group] for group in GROUPS}


def leaves(settings: Any, name: str = "") -> set[str]:
    if not isinstance(settings, dict):
        return {name}
    return set().union(*(leaves(value, f"{name}.{key}") for key, value in settings.items()), set())


def test_the_mixes_that_are_promised_are_there() -> None:
    assert {"training-plan", "resting-eeg-fmri", "hbn", "sample", "shared-recordings"} <= set(NAMES)


def test_the_default_is_the_sample() -> None:
    assert plan_profile("sample", Budget.BALANCED, root=PROJECT).diff == ""


def test_shares_of_the_training_plan() -> None:
    shares = load_profile("training-plan", root=PROJECT).datasets
    assert math.fsum(share for share in shares.values() if share) == pytest.approx(1.0)
    of_archive: dict[str, float] = {}
    for dataset, share in shares.items():
        assert share is not None
        entry = load_entry(dataset, root=PROJECT)
        lab = "calcium" if entry.modality is Modality.CALCIUM else entry.subject_namespace
        lab = "miniscope" if entry.modality is Modality.MINISCOPE else lab
        of_archive[lab] = of_archive.get(lab, 0) + share
    assert of_archive["allen"] == pytest.approx(0.40)
    assert 0.20 <= of_archive["calcium"] <= 0.25
    assert of_archive["ibl"] == pytest.approx(0.20)
    assert of_archive["buzsaki-hc-11"] == pytest.approx(0.10)
    assert 0.05 <= of_archive["miniscope"] <= 0.10


@pytest.mark.parametrize(("name", "budget"), EACH)
def test_each_profile_and_budget_makes_settings_that_hold(project: Path, name: str, budget: Budget) -> None:
    used(project, name, budget)
    params = load_params(project)
    assert set(params.all_datasets) == set(load_profile(name, root=project).taken(budget))
    shared_out = {modality for modality, share in params.pretrain.shares.of().items() if share}
    assert {chosen.modality for chosen in params.all_datasets.values()} <= shared_out
    for dataset in params.datasets:
        assert load_entry(dataset, root=project).redistribute


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_budget_takes_no_less(name: str) -> None:
    profile = load_profile(name, root=PROJECT)
    for smaller, larger in ((Budget.QUICK, Budget.BALANCED), (Budget.BALANCED, Budget.MAXIMUM)):
        for dataset in profile.datasets:
            few, many = (profile.budgets[budget].max_subjects.get(dataset, math.inf) for budget in (smaller, larger))
            assert few <= many, (dataset, smaller)


def test_one_profile_leaves_nothing_of_another_behind(project: Path) -> None:
    sets = {
        name: leaves(load_profile(name, root=project).settings) | leaves(budget.settings)
        for name in NAMES
        for budget in load_profile(name, root=project).budgets.values()
    }
    # Modalities' shares follow from the datasets' where these have shares.
    sets = {name: {key for key in keys if ".shares" not in key} for name, keys in sets.items()}
    assert len({frozenset(keys) for keys in sets.values()}) == 1, sets
    before = read_yaml(project / "params.yaml")
    for name in [*NAMES, "sample"]:
        used(project, name, Budget.BALANCED)
    assert read_yaml(project / "params.yaml") == before


def test_comments_blank_lines_and_folders_of_ones_own_stay(project: Path) -> None:
    path = project / "params.yaml"
    own = "  mine: {modality: fmri, reader: tables, path: /data/mine}   # of our lab\n"
    text = path.read_text().replace("local: {}  ", f"local:  # ours\n{own}#", 1)
    path.write_text(text)
    (project / "data" / "catalog" / "mine.yaml").write_text(
        (project / "data" / "catalog" / "adni.yaml").read_text().replace("adni", "mine").replace("../data", "/data")
    )
    load_params(project)
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line and " hcp-rest:" not in line]
    used(project, "training-plan", Budget.QUICK)
    after = path.read_text()
    assert own in after
    for comment in comments:
        assert comment in after
    assert after.count("\n\n") == text.count("\n\n")
    assert load_params(project).all_datasets["mine"]


def test_folders_of_a_profile_get_entries_and_leave_with_it(project: Path) -> None:
    before = (project / "params.yaml").read_text()
    used(project, "shared-recordings", Budget.MAXIMUM)
    profile, params = load_profile("shared-recordings", root=project), load_params(project)
    assert set(params.local) == set(profile.folders)
    for dataset, folder in profile.folders.items():
        entry = load_entry(dataset, root=project)
        assert params.local[dataset].path == entry.source.path == f"mine/{folder.path}"  # type: ignore[union-attr]
        assert (entry.title, entry.licence) == (folder.facts["title"], folder.facts["licence"])
    plan = plan_profile("shared-recordings", Budget.MAXIMUM, root=project, folder=project / "mine")
    assert plan.diff == ""
    # Elsewhere on another machine: entries and params.yaml follow.
    elsewhere = project.with_name(f"{project.name}-elsewhere")
    (project / "mine").rename(elsewhere)
    used(project, "shared-recordings", Budget.MAXIMUM, folder=elsewhere)
    assert load_params(project).local["eegmat"].path == str(elsewhere / "eeg" / "eegmat")
    used(project, "sample", Budget.BALANCED)
    assert (project / "params.yaml").read_text().count("\n") == before.count("\n")
    assert not load_params(project).local


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        (
            None,
            r"lie in folders of this machine\. Mend: say --folder FOLDER, the one that holds fmri/ds000228_pixar_rois",
        ),
        (
            "nowhere",
            r"nowhere: has no folder fmri/ds000228_pixar_rois, where .*shared-recordings\.yaml looks for pixar-",
        ),
    ],
)
def test_a_profile_without_its_folders_is_refused(project: Path, folder: str | None, told: str) -> None:
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(UserError, match=told):
        plan_profile("shared-recordings", Budget.QUICK, root=project, folder=folder and project / folder)  # type: ignore[arg-type]
    assert (project / "params.yaml").read_bytes() == before


def test_folders_of_the_shared_recordings_make_the_recordings_that_are_promised(
    project: Path, shared_data: Path
) -> None:
    used(project, "shared-recordings", Budget.MAXIMUM, folder=shared_data)
    found = {}
    for dataset in load_params(project).local:
        entry = load_entry(dataset, root=project)
        assert isinstance(entry.source, LocalSource)
        paths = scan(project / entry.source.path)
        recordings = recordings_of(paths, entry.recordings, namespace=entry.subject_namespace, where=dataset)
        found[dataset] = (len({recording.subject for recording in recordings}), len(recordings))
        assert entry.expect.recordings in {None, len(recordings)}
    assert found == {
        "pixar-parcels": (117, 117),
        "eegmat": (24, 48),
        "steinmetz-cori": (1, 3),
        "steinmetz-forssmann": (1, 4),
        "steinmetz-lederberg": (1, 6),
        "park-gratings": (2, 2),
        "a2929-session": (1, 1),
        "m1-chewie": (1, 1),
    }


def test_what_the_shared_recordings_can_tell_is_asked(project: Path) -> None:
    used(project, "shared-recordings", Budget.QUICK)
    asked = load_params(project).evaluate
    options = {dataset: load_entry(dataset, root=project).reader_options for dataset in load_params(project).local}
    states = {state for one in options.values() for state in one.get("states", ())}  # type: ignore[union-attr]
    assert states == {"awake"} <= set(asked.classify)
    targets = {target for one in options.values() for target in one.get("targets", ())}  # type: ignore[union-attr]
    # The pupil of the gratings is there for whoever asks.
    assert targets - {"pupil"} == set(asked.decode)


def test_a_file_that_changed_meanwhile_is_not_overwritten(project: Path) -> None:
    plan = plan_profile("training-plan", Budget.QUICK, root=project)
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("seed: 1", "seed: 2"))
    with pytest.raises(UserError, match="changed in the meantime"):
        write_profile(plan, root=project)


GOOD: dict[str, Any] = {
    "title": "test",
    "datasets": {"gw-rest": 0.5, "a2929-hd": 0.5},
    "keep_raw_below_gb": 1.0,
    "budgets": {name: {} for name in ("maximum", "balanced", "quick")},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"datasets": {"nobody": 1.0}}, r"nobody\.yaml: no such file"),
        ({"datasets": {"gw-rest": 0.5, "a2929-hd": 0.4}}, r"the shares sum to 0\.9, not to 1"),
        ({"datasets": {"gw-rest": 0.5, "a2929-hd": None}}, r"give every dataset a share, or none"),
        ({"datasets": {"gw-rest": 1.5, "a2929-hd": -0.5}}, r"a share must be greater than 0"),
        ({"settings": {"pretrian": {"steps": 1}}}, r"`pretrian`: there is no such setting in params\.yaml"),
        ({"settings": {"pretrain": {"stepps": 1}}}, r"`pretrain\.stepps`: there is no such setting"),
        ({"settings": {"pretrain": {"steps": "many"}}}, r"`pretrain\.steps`: .*got 'many'"),
        ({"settings": {"split": 3}}, r"`split`: .*"),
        ({"budgets": {"maximum": {}, "balanced": {}}}, r"quick is missing"),
        ({"budgets": GOOD["budgets"] | {"huge": {}}}, r"`budgets\.huge"),
        ({"budgets": GOOD["budgets"] | {"quick": {"max_subjects": {"hcp-rest": 1}}}}, r"hcp-rest is not one of"),
        ({"budgets": GOOD["budgets"] | {"quick": {"settings": {"split": {"folds": 1}}}}}, r"set the same keys"),
        (
            {"budgets": GOOD["budgets"] | {"quick": {"max_subjects": {"gw-rest": 0, "a2929-hd": 0}}}},
            r"every dataset out",
        ),
        ({"extra": 1}, r"`extra`: unknown key"),
        ({"folders": {"other": {"path": "a", "facts": {}}}}, r"`folders`: other is not one of the profile's datasets"),
        (
            {"folders": {"gw-rest": {"path": ".", "facts": {"title": "x"}}}},
            r"broken\.yaml: folders\.gw-rest\.facts: `modality`: required key is missing",
        ),
    ],
)
def test_a_broken_profile_is_refused_before_anything_is_written(
    project: Path, change: dict[str, Any], told: str
) -> None:
    with (project / "data" / "profiles" / "broken.yaml").open("w") as file:
        YAML().dump(GOOD | change, file)
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(UserError, match=told):
        used(project, "broken", Budget.QUICK)
    assert (project / "params.yaml").read_bytes() == before


def test_an_unknown_profile_names_the_known_ones(project: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.yaml: no such profile\. Mend: choose one of .*sample"):
        plan_profile("nothing", Budget.QUICK, root=project)


def test_shares_and_group_of_a_dataset(project: Path) -> None:
    facts = GOOD | {
        "datasets": {"gw-rest": 0.2, "hcp-rest": 0.3, "a2929-hd": 0.4, "adni": 0.1},
        "keep_raw_below_gb": 0.005,
        "budgets": GOOD["budgets"] | {"quick": {"max_subjects": {"gw-rest": 2, "a2929-hd": 0}}},
    }
    Profile.parse(facts, where="test", mend="")
    with (project / "data" / "profiles" / "mix.yaml").open("w") as file:
        YAML().dump(facts, file)
    used(project, "mix", Budget.MAXIMUM)
    groups = groups_of(project)
    assert groups["datasets"] == {"gw-rest": {"modality": "fmri", "reader": "tables"}}
    assert set(groups["streamed"]) == {"hcp-rest", "a2929-hd"}  # not to be handed on; larger than 5 MB
    assert groups["local"] == {"adni": {"modality": "fmri", "reader": "tables", "path": "../data/adni"}}
    pretrain = load_params(project).pretrain
    of_those = {"spikes": 0.4, "calcium": 0, "miniscope": 0, "fmri": 0.6, "eeg": 0}
    assert pretrain.shares.of() == of_those | {"meg": 0.15}, "MEG, which takes part nowhere here, keeps its default"
    assert pretrain.dataset_shares == facts["datasets"]
    used(project, "mix", Budget.QUICK)
    assert groups_of(project)["datasets"]["gw-rest"]["max_subjects"] == 2
    assert set(load_params(project).pretrain.dataset_shares) == {"gw-rest", "hcp-rest", "adni"}


COMMENTED = """\
datasets:
  # about a
  a:
    modality: eeg   # x
    reader: bids

  # about b
  b: {modality: eeg, reader: bids}

# about the split
split:
  folds: 3
"""


@pytest.mark.parametrize(
    "text",
    [
        "datasets: {b: {modality: eeg, reader: bids}, c: {modality: eeg, reader: bids}}\nsplit: {folds: 3}\n",
        COMMENTED,
        "split:\n  folds: 3\ndatasets:\n    b:\n        modality: eeg\n        reader: bids\n",
        "split:\n  folds: 3\n",
        "datasets:   # none yet\nsplit: {folds: 3}\n",
    ],
)
def test_groups_are_rewritten_in_whatever_form_they_stand(text: str) -> None:
    wanted = {"b": {"modality": "eeg", "reader": "bids"}, "new-1": {"modality": "fmri", "path": "../a b's"}}
    yaml = YAML(typ="safe", pure=True)
    before = yaml.load(text)
    after = with_group(text, "datasets", wanted)
    assert yaml.load(after) == before | {"datasets": wanted}
    for comment in ("# about b", "# about the split", "# none yet"):
        assert (comment in text) == (comment in after)
    assert "# about a" not in after
    emptied = with_group(after, "datasets", {})
    assert yaml.load(emptied) == before | {"datasets": {}}
    assert with_group(emptied, "datasets", {}) == emptied
