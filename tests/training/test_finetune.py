"""A model learns on from children that it never met, with the weights that it may change and no others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from neurofm.errors import UserError
from neurofm.model.neurofm import NeuroFM
from neurofm.recording import Modality
from neurofm.training.checkpoint import read_checkpoint, write_checkpoint
from neurofm.training.finetune import finetune, freeze, joined_roles, merge
from neurofm.training.predict import Predictor
from neurofm.training.recordings import schedule_of
from neurofm.training.scoring import ValidationItem, validation_items
from neurofm.training.settings import CHANNELS, Mode
from neurofm.training.tuning import masks_of
from neurofm.units import code_digest
from neurofm.windows import RecordingView
from tests.training.conftest import Span, small_lab, view_of
from tests.training.faults import Lab, at_draw

RANK = 2


def _children(shared_data: Path, which: range) -> list[RecordingView]:
    """Regions of real films; the last child is validated on."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    views = []
    for number in which:
        whole: list[Span] = [(0, 168)]
        role = {"validation" if number == which[-1] else "train": whole}
        name = files[number].name.partition("_")[0]
        series = np.load(files[number]).astype(np.float64)[:, :16]
        views.append(
            view_of(
                series,
                modality=Modality.FMRI,
                name=name,
                channel_set="fmri-basc",
                kind="subject",
                calibration=whole,
                **role,
            )
        )
    return views


@pytest.fixture(scope="module")
def first(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A model of two children, in ``first/out``."""
    lab = small_lab(tmp_path_factory.mktemp("finetune"))
    lab = Lab(views=_children(shared_data, range(3)), settings=lab.settings, windows=lab.windows, at=lab.at)
    lab.train("first", steps=8)
    return lab


@pytest.mark.parametrize("mode", ["full", "lora", "head"])
def test_only_the_weights_of_the_mode_change(mode: Mode, first: Lab, shared_data: Path) -> None:
    others = _children(shared_data, range(10, 13))
    settings = first.settings.model_copy(update={"steps": 16, "validate_every_steps": 8})
    folder = first.at / mode
    result = finetune(
        first.at / "first" / "out",
        others,
        mode=mode,
        settings=settings,
        run_dir=folder / "run",
        out_dir=folder / "out",
        rank=RANK,
    )
    before, after = (Predictor.load(at / "out") for at in (first.at / "first", folder))
    assert result.curve[-1]["validation"]["fmri"] < 0.8, "of real films, relative to predicting the mean"
    state = torch.load(folder / "run" / "last.pt", weights_only=True)["weights"]
    start = before.checkpoint.network.state_dict()
    changed = {name for name in state if not torch.equal(state[name], start.get(name, torch.zeros_like(state[name])))}
    heads = {name for name in start if name.startswith("heads.fmri")}
    assert heads <= changed
    inside = changed - heads
    if mode == "lora":
        added = {name for name in state if name.endswith((".narrow", ".wide"))}
        frozen = {name.replace(".parametrizations.weight.original", ".weight") for name in state if "original" in name}
        assert len(added) == 2 * len(frozen)
        assert any(name.endswith(".wide") for name in inside)
        assert inside <= added | {name for name in state if "original" in name}
        assert all(
            torch.equal(state[name], start[name.replace(".parametrizations.weight.original", ".weight")])
            for name in state
            if "original" in name
        )
    else:
        assert bool(inside) == (mode == "full")
    assert after.checkpoint.network.state_dict().keys() == start.keys(), "an ordinary network is written"
    subjects = [*first.views[:2], *others[:2]]
    assert [after.trained_on(view.subject) for view in subjects] == [True] * 4
    assert [after.learned_as(view.name) for view in subjects] == [view.roles.digest() for view in subjects]
    assert after.checkpoint.priors["fmri-basc"].samples == 4 * 168


def test_merged_additions_are_part_of_the_matrices(first: Lab) -> None:
    network = NeuroFM.from_pretrained(first.at / "first" / "out")
    start = {name: value.clone() for name, value in network.state_dict().items()}
    freeze(network, mode="lora", rank=RANK)
    linear = network.readout.latent
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(".wide"):
                parameter.add_(0.1)
    added = linear(torch.ones(linear.in_features))
    merge(network)
    merged = network.state_dict()
    assert torch.equal(linear(torch.ones(linear.in_features)), added)
    changes = {name: merged[name] - start[name] for name in start}
    for name, change in changes.items():
        if change.ndim == 2 and not name.startswith("heads."):
            singular = torch.linalg.svdvals(change.double())
            assert singular[0] > 0
            assert float(singular[RANK:].sum()) < 1e-5 * float(singular[0]), name
        else:
            assert not change.any(), name


def test_unit_terms_learn_alone_where_there_are_any(first: Lab) -> None:
    network = Predictor.load(first.at / "first" / "out").checkpoint.network
    with pytest.raises(UserError, match=r"mode 'unit' trains identity.unit.\*, and this network has no such weights"):
        freeze(network, mode="unit", rank=RANK)
    network.identity.unit = torch.nn.Embedding(8, 16)
    freeze(network, mode="unit", rank=RANK)
    assert [name for name, one in network.named_parameters() if one.requires_grad] == ["identity.unit.weight"]


def test_an_unknown_mode_is_named(first: Lab) -> None:
    with pytest.raises(UserError, match=r"there is no mode 'some'. Mend: choose one of full, lora, head, unit"):
        finetune(
            first.at / "first" / "out",
            first.views,
            mode="some",  # type: ignore[arg-type]
            settings=first.settings,
            run_dir=first.at / "run",
            out_dir=first.at / "out",
        )


def test_a_folder_of_another_recording_is_not_gone_on_with(first: Lab, shared_data: Path) -> None:
    settings = first.settings.model_copy(update={"steps": 4, "validate_every_steps": 4})
    steps = []
    for which in (range(10, 12), range(12, 14)):
        result = finetune(
            first.at / "first" / "out",
            _children(shared_data, which),
            mode="head",
            settings=settings,
            run_dir=first.at / "same" / "run",
            out_dir=first.at / "same" / "out",
        )
        steps.append(result.curve[-1]["train"]["fmri"])
    assert steps[0] != steps[1]


def test_learning_on_judges_by_the_core_that_the_finished_model_has(first: Lab, shared_data: Path) -> None:
    others = [
        replace(view, dataset="others", roles=view.roles.model_copy(update={"dataset": "others"}))
        for view in _children(shared_data, range(10, 13))
    ]
    strangers = [replace(view, dataset="strangers") for view in _children(shared_data, range(20, 22))]
    # A recording that is split in time is in priors and validated on.
    both = first.views[0].roles.model_copy(update={"validation": first.views[0].roles.train})
    met = [replace(first.views[0], roles=both), *first.views[1:]]
    judged: list[ValidationItem] = []

    def spying(*given: Any, **named: Any) -> list[ValidationItem]:
        judged.extend(validation_items(*given, **named))
        return judged

    with (
        patch("neurofm.training.fold.validation_items", spying),
        patch("neurofm.training.fold.schedule_of", wraps=schedule_of) as scheduled,
    ):
        finetune(
            first.at / "first" / "out",
            [*met, *others, *strangers],
            mode="head",
            settings=first.settings.model_copy(update={"steps": 4, "validate_every_steps": 4}),
            run_dir=first.at / "others" / "run",
            out_dir=first.at / "others" / "out",
            learn_from=frozenset({"others"}),
            shards_sha256={view.name: f"sha of {view.name}" for view in [*first.views, *others]},
        )
    assert [recording.view.name for recording in scheduled.call_args.args[0]] == [view.name for view in others[:2]]
    after = Predictor.load(first.at / "others" / "out")
    view, masks = others[-1], masks_of(others[-1], settings=first.settings)
    items = [item for item in judged if item.kind == CHANNELS]
    assert len(items) == len(masks), "only what is learned from is validated on"
    for item, (visible, hidden) in zip(items, masks, strict=True):
        values = item.batch.seen.values.numpy()
        found = after.predict_linear(view, values, visible.numpy(), hidden.numpy())
        np.testing.assert_allclose(item.batch.linear.numpy(), found, rtol=0, atol=1e-6)
    assert after.checkpoint.priors["fmri-basc"].samples == 4 * 168
    assert not after.trained_on(strangers[0].subject)
    assert after.checkpoint.shards == {f"sha of {view.name}" for view in others[:2]}


@pytest.mark.parametrize("changed", ["nothing", "code", "shards", "statistics"])
def test_a_finished_run_is_not_passed_for_one_of_other_inputs(changed: str, first: Lab, tmp_path: Path) -> None:
    model = shutil.copytree(first.at / "first" / "out", tmp_path / "model")
    settings = first.settings.model_copy(update={"steps": 4, "validate_every_steps": 4})

    def steps_drawn(shard: str) -> int:
        with at_draw(lambda _step: None) as steps:
            finetune(
                model,
                first.views,
                mode="head",
                settings=settings,
                run_dir=tmp_path / "run",
                out_dir=tmp_path / "out",
                shards_sha256=dict.fromkeys((view.name for view in first.views), shard),
            )
        return len(steps)

    whole = steps_drawn("one")
    assert whole > 0
    if changed == "statistics":
        checkpoint = read_checkpoint(model)
        priors = {name: prior + prior for name, prior in checkpoint.priors.items()}
        write_checkpoint(replace(checkpoint, priors=priors), model)
    known = "other code" if changed == "code" else code_digest("neurofm.training.finetune")
    with patch("neurofm.training.finetune.code_digest", lambda _module: known):
        again = steps_drawn("other" if changed == "shards" else "one")
    assert again == (0 if changed == "nothing" else whole)


def test_a_recording_learned_from_by_two_splits_is_of_neither(first: Lab) -> None:
    before = read_checkpoint(first.at / "first" / "out")
    assert before.roles
    other = replace(before, roles=dict.fromkeys(before.roles, "another split's") | {"new": "roles"})
    assert joined_roles(before, other) == dict.fromkeys(before.roles, "") | {"new": "roles"}
    assert joined_roles(before, before) == before.roles
    # A model of before this was kept does not say by which split it learned.
    assert joined_roles(replace(before, roles={}), other) == {}
