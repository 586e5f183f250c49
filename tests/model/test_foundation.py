"""The whole model: starts at the linear core, sees what is visible only, and takes modalities as they come."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.attention import attention_maps
from neurofm.model.fusion import keep_modalities
from neurofm.model.heads import HEADS, Task
from neurofm.model.masks import Hidden
from neurofm.model.objectives import OBJECTIVES, judge
from neurofm.model.patches import Asked, ChannelTable
from neurofm.recording import Modality
from tests.model.conftest import PATCH, batch, foundation, hidden_of, real_windows, table, z_of

EVERY = pytest.mark.parametrize("modality", list(Modality))
VARIANTS = pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "mamba2"},
        {"backbone": "gru"},
        {"pooling": "identity", "slots": 1, "mix": 0, "tokens": "plain"},
        {"latents": 0, "fusion_layers": 0, "popt_layers": 2},
    ],
    ids=["whole", "mamba2", "gru", "weighted sum", "no latents"],
)


def _residual(network: Any, *parts: Hidden, modality: Modality) -> Tensor:
    names = [modality, *(other for other in Modality if other is not modality)][: len(parts)]
    output = network({m: p.seen for m, p in zip(names, parts, strict=True)}, {modality: parts[0].asked})
    residual: Tensor = output.reconstruction[modality].residual
    return residual


@EVERY
def test_untrained_it_is_the_linear_core(modality: Modality) -> None:
    part = batch(modality)
    output = foundation(trained=False)({modality: part.seen}, {modality: part.asked})
    found = output.reconstruction[modality]
    assert torch.equal(found.residual, torch.zeros_like(part.truth.z))
    assert (found.log_variance is not None) == OBJECTIVES[modality].learns_variance


@EVERY
@VARIANTS
def test_a_hidden_value_cannot_influence_anything(changes: dict[str, Any], modality: Modality) -> None:
    network, z = foundation(**changes), z_of(modality)
    hidden = hidden_of(z)
    poisoned = torch.where(hidden.repeat_interleave(4, dim=1), 1e6 * torch.randn(z.shape), z)

    def core(known: Tensor, visible: Tensor) -> Tensor:
        return (known.sum(dim=2, keepdim=True) / visible.sum(dim=2, keepdim=True)).expand_as(known)

    clean, dirty = (batch(modality, z=x, hidden=hidden, core=core) for x in (z, poisoned))
    before, after = (network({modality: part.seen}, {modality: part.asked}) for part in (clean, dirty))
    assert not torch.equal(clean.truth.z, dirty.truth.z)
    assert before.reconstruction[modality].residual.abs().max() > 0
    assert torch.equal(before.reconstruction[modality].residual, after.reconstruction[modality].residual)
    assert torch.equal(clean.asked.estimate, dirty.asked.estimate)
    assert torch.equal(before.summary, after.summary)


@VARIANTS
def test_a_visible_value_does(changes: dict[str, Any]) -> None:
    network, part = foundation(**changes), batch(Modality.EEG)
    changed = replace(part.seen, values=part.seen.values.clone())
    changed.values[0, 1, 0] = 3.0 * torch.randn(4)
    before, after = (
        network({Modality.EEG: seen}, {Modality.EEG: part.asked}).reconstruction[Modality.EEG].residual
        for seen in (part.seen, changed)
    )
    assert (before - after)[0].abs().max() > 1e-3
    assert torch.equal(before[1], after[1])


@VARIANTS
def test_order_of_channels_does_not_matter(changes: dict[str, Any]) -> None:
    network, part = foundation(**changes), batch(Modality.FMRI)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    position = order.argsort()
    assert part.seen.channels.region is not None
    assert part.seen.channels.unit is not None
    turned = ChannelTable(
        features=part.seen.channels.features[:, order],
        region=part.seen.channels.region[:, order],
        unit=part.seen.channels.unit[:, order],
    )
    places = torch.randperm(part.seen.channel.shape[2], generator=torch.Generator().manual_seed(0))
    seen = replace(
        part.seen,
        channels=turned,
        channel=position[part.seen.channel][:, :, places],
        counts=part.seen.counts[:, :, places],
        values=part.seen.values[:, :, places],
        smoothed=part.seen.smoothed[:, :, places],
    )
    asked = replace(part.asked, channels=turned, channel=position[part.asked.channel])
    expected = network({Modality.FMRI: part.seen}, {Modality.FMRI: part.asked})
    found = network({Modality.FMRI: seen}, {Modality.FMRI: asked})
    torch.testing.assert_close(found.summary, expected.summary, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        found.reconstruction[Modality.FMRI].residual,
        expected.reconstruction[Modality.FMRI].residual,
        atol=1e-4,
        rtol=1e-4,
    )


@VARIANTS
def test_padding_does_not_leak(changes: dict[str, Any]) -> None:
    network, part = foundation(**changes), batch(Modality.SPIKES)
    assert not part.seen.counts.all()
    assert not part.asked.counts.all()
    padded, scored = part.seen.counts.unsqueeze(-1), part.asked.counts.unsqueeze(-1)
    seen = replace(
        part.seen,
        channel=torch.where(part.seen.counts, part.seen.channel, 6),
        values=torch.where(padded, part.seen.values, 9.0),
        smoothed=torch.where(padded, part.seen.smoothed, -9.0),
    )
    asked = replace(part.asked, estimate=torch.where(scored, part.asked.estimate, 99.0))
    before = network({Modality.SPIKES: part.seen}, {Modality.SPIKES: part.asked})
    after = network({Modality.SPIKES: seen}, {Modality.SPIKES: asked})
    assert torch.equal(before.summary, after.summary)
    where = part.asked.counts
    one, other = (output.reconstruction[Modality.SPIKES].residual[where] for output in (before, after))
    assert torch.equal(one, other)


@VARIANTS
def test_a_patch_of_which_nothing_is_visible_is_an_empty_one(changes: dict[str, Any]) -> None:
    network, z = foundation(**changes), z_of(Modality.EEG)
    hidden = torch.zeros(2, 5, 7, dtype=torch.bool)
    hidden[:, 1:3] = True
    part = batch(Modality.EEG, z=z, hidden=hidden)
    assert not part.seen.counts[:, 1:3].any()
    poisoned = replace(part.seen, values=part.seen.values.clone(), smoothed=part.seen.smoothed.clone())
    poisoned.values[:, 1:3], poisoned.smoothed[:, 1:3] = 9.0, -9.0
    summary = network({Modality.EEG: part.seen}, {}).summary
    assert torch.equal(network({Modality.EEG: poisoned}, {}).summary, summary)
    network.empty.data += torch.randn(network.empty.shape)
    assert not torch.allclose(network({Modality.EEG: part.seen}, {}).summary, summary, atol=1e-4)


@pytest.mark.parametrize("backbone", ["transformer", "mamba2", "gru"])
def test_a_causal_model_does_not_see_the_future(backbone: str) -> None:
    network = foundation(backbone=backbone, causal=True, latents=0, fusion_layers=0)
    z = z_of(Modality.EEG)
    hidden = torch.zeros(2, 5, 7, dtype=torch.bool)
    hidden[..., :3] = True
    later = z.clone()
    later[:, 12:] = torch.randn(2, 8, 7)
    parts = [batch(Modality.EEG, z=x, hidden=hidden) for x in (z, later)]
    before, after = (_residual(network, part, modality=Modality.EEG) for part in parts)
    early = parts[0].asked.patch < 3
    assert torch.equal(before[early], after[early])
    assert not torch.allclose(before[~early], after[~early], atol=1e-3)


@pytest.mark.parametrize("several", [*combinations(Modality, 2), tuple(Modality)])
def test_one_to_five_modalities_fuse(several: tuple[Modality, ...]) -> None:
    network = foundation()
    parts = {modality: batch(modality, z=z_of(modality, patches=3 + n)) for n, modality in enumerate(several)}
    seen = {modality: part.seen for modality, part in parts.items()}
    output = network(seen, {modality: part.asked for modality, part in parts.items()})
    assert {m: one.residual.shape for m, one in output.reconstruction.items()} == {
        m: part.truth.z.shape for m, part in parts.items()
    }
    assert output.latents is not None
    assert output.latents.shape == (2, 3, 16)
    assert {m: x.shape for m, x in output.patches.items()} == {m: (2, 3 + n, 16) for n, m in enumerate(several)}
    first, last = several[0], several[-1]
    # What one modality shows changes what is said of another.
    changed = replace(seen[last], values=seen[last].values + torch.randn(seen[last].values.shape))
    other = network({**seen, last: changed}, {first: parts[first].asked})
    alone = network(seen, {first: parts[first].asked})
    assert not torch.allclose(other.reconstruction[first].residual, alone.reconstruction[first].residual, atol=1e-3)


def test_a_modality_that_is_not_seen_can_be_asked_for() -> None:
    eeg, fmri = batch(Modality.EEG), batch(Modality.FMRI)
    output = foundation()({Modality.EEG: eeg.seen}, {Modality.FMRI: fmri.asked})
    assert output.reconstruction[Modality.FMRI].residual.shape == fmri.truth.z.shape


def test_training_drops_modalities_but_never_all() -> None:
    torch.manual_seed(0)
    kept = keep_modalities(2000, 3, dropout=0.6, device=torch.device("cpu"))
    assert kept.any(dim=1).all()
    assert 0.4 < kept.float().mean() < 0.6
    network = foundation(dropout=0.0, units=0, modality_dropout=0.9).train()
    eeg, fmri = batch(Modality.EEG), batch(Modality.FMRI)
    both = {Modality.EEG: eeg.seen, Modality.FMRI: fmri.seen}
    torch.manual_seed(0)
    drawn = torch.stack([network(both, {}).summary[0] for _ in range(20)]).detach()
    assert 2 <= len({tuple(one) for one in drawn.tolist()}) <= 3
    assert torch.equal(network.eval()(both, {}).summary, network(both, {}).summary)


def test_latents_and_attention_maps_come_out() -> None:
    network, part = foundation(), batch(Modality.EEG)
    with attention_maps(network) as maps:
        watched = network({Modality.EEG: part.seen}, {Modality.EEG: part.asked})
    torch.testing.assert_close(watched.summary, network({Modality.EEG: part.seen}, {Modality.EEG: part.asked}).summary)
    shapes = {name: [tuple(one.shape) for one in many] for name, many in maps.items()}
    assert shapes["pooling.look.attend"] == [(10, 2, 2, 7)]
    assert shapes["backbone.over_time.0.layers.0.attend"] == [(4, 2, 5, 5)]
    assert shapes["fusion.gather.attend"] == [(2, 2, 3, 10)]
    assert all(len(many) == 1 for many in shapes.values())
    for (one,) in maps.values():
        torch.testing.assert_close(one.sum(dim=-1), torch.ones(one.shape[:-1]))
    unseen = ~part.seen.counts.flatten(0, 1)
    assert (maps["pooling.look.attend"][0].amax(dim=(1, 2))[unseen] == 0).all()


def test_maps_of_a_causal_model_look_back_only() -> None:
    network, part = foundation(causal=True, latents=0, fusion_layers=0), batch(Modality.EEG)
    assert not part.asked.counts.all()
    with attention_maps(network) as maps:
        network({Modality.EEG: part.seen}, {Modality.EEG: part.asked})
    (over_time,) = maps["backbone.over_time.0.layers.0.attend"]
    assert over_time.triu(1).abs().max() == 0
    # Padding among the questions looks at itself, since something must be looked at.
    for (one,) in maps.values():
        torch.testing.assert_close(one.sum(dim=-1), torch.ones(one.shape[:-1]))


def test_every_kind_of_head() -> None:
    tasks = {
        kind: Task(kind=kind, outputs=4, modality=None if head.reads == "summary" else Modality.CALCIUM)
        for kind, head in HEADS.items()
    }
    part = batch(Modality.CALCIUM)
    network = foundation(tasks=tasks)
    output = network({Modality.CALCIUM: part.seen}, {Modality.CALCIUM: part.asked})
    targets = part.truth.z.shape[1]
    answers = dict.fromkeys(("reconstruction", "forecast", "pooled", "replaced"), (2, targets, 4))
    summary = dict.fromkeys(("classification", "subject", "paired"), (2, 4))
    assert {kind: tuple(x.shape) for kind, x in output.tasks.items()} == {**answers, **summary, "behaviour": (2, 5, 4)}
    eeg = batch(Modality.EEG)
    assert set(network({Modality.EEG: eeg.seen}, {Modality.EEG: eeg.asked}).tasks) == set(summary)


def test_reconstruction_from_the_summary_alone_starts_at_the_core_too() -> None:
    part = batch(Modality.FMRI)
    network = foundation(trained=False, tasks={"all": Task(kind="pooled", outputs=4, modality=Modality.FMRI)})
    pooled = network({Modality.FMRI: part.seen}, {Modality.FMRI: part.asked}).tasks["all"]
    assert torch.equal(pooled, torch.zeros_like(part.truth.z))


def test_the_future_can_be_asked_for() -> None:
    network, part = foundation(), batch(Modality.EEG)
    one, other = (
        _residual(
            network, replace(part, asked=replace(part.asked, patch=part.asked.patch + ahead)), modality=Modality.EEG
        )
        for ahead in (5, 8)
    )
    assert not torch.allclose(one, other, atol=1e-3)


@VARIANTS
def test_gradients_reach_every_weight_and_are_right(changes: dict[str, Any]) -> None:
    network, part = foundation(**changes), batch(Modality.EEG, targets=3)
    output = network({Modality.EEG: part.seen}, {Modality.EEG: part.asked})
    (output.reconstruction[Modality.EEG].residual.square().sum() + output.summary[:, 0].sum()).backward()
    others = tuple(f".{other}." for other in Modality if other is not Modality.EEG)
    missing = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None and not any(other in f".{name}." for other in others)
    ]
    # All patches have something visible, so nothing is learned of those that have not.
    assert set(missing) <= {"empty"}
    double = network.double()
    known = ChannelTable(features=table(7).features.double())
    seen = replace(part.seen, channels=known, values=part.seen.values.double(), smoothed=part.seen.smoothed.double())
    asked = replace(part.asked, channels=known, estimate=part.asked.estimate.double())

    def answer(values: Tensor) -> Tensor:
        found = double({Modality.EEG: replace(seen, values=values)}, {Modality.EEG: asked})
        residual: Tensor = found.reconstruction[Modality.EEG].residual
        return residual

    assert torch.autograd.gradcheck(answer, (seen.values.requires_grad_(),), fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("backbone", ["transformer", "mamba2"])
def test_it_can_learn_a_few_windows_of_real_fmri_by_heart(backbone: str, shared_data: Path) -> None:
    network = foundation(trained=False, backbone=backbone, width=32, dropout=0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    z = real_windows(shared_data)[:2]
    part = batch(Modality.FMRI, z=z, targets=32)
    losses = []
    for _ in range(50):
        output = network({Modality.FMRI: part.seen}, {Modality.FMRI: part.asked})
        residual = output.reconstruction[Modality.FMRI].residual
        loss, null = judge(Modality.FMRI, part.truth, estimate=part.asked.estimate, residual=residual)
        losses.append(float(loss.detach() / null))
        optimiser.zero_grad()
        torch.autograd.backward(loss / null)
        optimiser.step()
    assert losses[0] == 1.0
    assert losses[-1] < 0.4


def _to(part: Any, device: str) -> Any:
    """Move all tensors of a dataclass."""
    moved = {
        field.name: value.to(device) if isinstance(value, Tensor) else _to(value, device)
        for field in fields(part)
        if isinstance(value := getattr(part, field.name), Tensor | ChannelTable)
    }
    return replace(part, **moved)


@VARIANTS
def test_all_it_makes_is_on_the_device_of_the_batch(changes: dict[str, Any]) -> None:
    # "meta" stands for a GPU: it refuses tensors of the CPU too.
    network = foundation(trained=False, **changes).to("meta").train()
    parts = {modality: batch(modality) for modality in Modality}
    seen = {modality: _to(part.seen, "meta") for modality, part in parts.items()}
    output = network(seen, {modality: _to(part.asked, "meta") for modality, part in parts.items()})
    assert output.summary.device.type == "meta"
    assert {one.residual.device.type for one in output.reconstruction.values()} == {"meta"}


@pytest.mark.parametrize("backbone", ["transformer", "mamba2", "gru"])
def test_half_precision_trains_too(backbone: str) -> None:
    network, part = foundation(backbone=backbone).train(), batch(Modality.EEG)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network({Modality.EEG: part.seen}, {Modality.EEG: part.asked})
    torch.autograd.backward(output.reconstruction[Modality.EEG].residual.float().square().mean())
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def _wrong(part: Hidden, what: str) -> dict[Modality, Any]:
    values = part.seen.values
    if what == "nan":
        values = values.clone()
        values[1, 2, 0, 0] = torch.nan
        return {Modality.EEG: replace(part.seen, values=values)}
    return {
        "modality": {"ecog": part.seen},
        "none": {},
        "empty": {
            Modality.EEG: replace(
                part.seen,
                **{name: getattr(part.seen, name)[:0] for name in ("channel", "counts", "values", "smoothed")},
            )
        },
        "patch": {Modality.EEG: replace(part.seen, values=values[..., :3])},
        "features": {Modality.EEG: replace(part.seen, channels=ChannelTable(features=torch.zeros(2, 7, 3)))},
        "channels": {Modality.EEG: replace(part.seen, channels=table(5))},
        "blind": {Modality.EEG: replace(part.seen, counts=torch.zeros_like(part.seen.counts))},
        "windows": {
            Modality.EEG: part.seen,
            Modality.FMRI: batch(Modality.FMRI, z=z_of(Modality.FMRI, windows=3)).seen,
        },
    }[what]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("modality", "ecog is not among the model's modalities spikes, calcium, miniscope, fmri, eeg, meg"),
        ("none", "the batch has no modality"),
        ("empty", "windows in the batch: eeg 0"),
        ("patch", "eeg: samples in a patch 3, windows.eeg.patch_samples 4"),
        ("features", "eeg: identity features per channel 3, IDENTITY_FEATURES 16"),
        ("channels", "eeg: channel 6 of a table of 5 channels"),
        ("blind", "visible channels in window 0: 0 of 7"),
        ("windows", "windows in the batch: eeg 2, fmri 3"),
        ("nan", "eeg: 1 of 70 patches are not finite; the first: window 1, patch 2, channel "),
    ],
)
def test_what_it_cannot_read_is_refused_in_words(what: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        foundation()(_wrong(batch(Modality.EEG), what), {})


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Task(kind="dream", outputs=1), "task x is of kind dream"),
        (Task(kind="behaviour", outputs=1), "task x of kind behaviour has modality none"),
        (Task(kind="subject", outputs=1, modality=Modality.EEG), "task x of kind subject has modality eeg"),
        (
            Task(kind="forecast", outputs=3, modality=Modality.EEG),
            r"forecast has 3 outputs, windows.eeg.patch_samples is 4",
        ),
    ],
)
def test_tasks_that_contradict_themselves_are_refused(task: Task, said: str) -> None:
    with pytest.raises(UserError, match=said):
        foundation(tasks={"x": task})


def test_nothing_asked_for_gives_embeddings_alone() -> None:
    part = batch(Modality.EEG)
    asked: dict[Modality, Asked] = {}
    output = foundation()({Modality.EEG: part.seen}, asked)
    assert output.reconstruction == {}
    assert output.summary.shape == (2, 16)
    assert PATCH[Modality.EEG] == 4
