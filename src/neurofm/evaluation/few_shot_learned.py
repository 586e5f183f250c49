"""Learned protocols: a network that learns from few labels itself, all of its weights or low-rank additions to them.

Its rival is the same network with random weights, which learns all of them: from the same labels, in as many steps of
as many windows. With `evaluate.few_shot_steps` above 0 `neurofm.evaluation.few_shot_task` adds both beside read-outs of
frozen features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurofm.evaluation.few_shot import Amount
from neurofm.evaluation.few_shot_row import NETWORK, SCRATCH
from neurofm.evaluation.protocols import FINE_TUNE, LORA, Protocol
from neurofm.evaluation.scores import Floats
from neurofm.model.neurofm import Visible
from neurofm.model.whole_channels import Network, network_of
from neurofm.splits import draw_shown
from neurofm.training.batches import see
from neurofm.training.checkpoint import patch_samples
from neurofm.training.finetune import freeze
from neurofm.training.predict import Predictor
from neurofm.training.settings import Mode
from neurofm.windows import RecordingView

AMOUNT = Amount(share=0.1)
SEEDS = 3
_RANK = 4
_RATE = 1e-3
_DECAY = 0.05
_WINDOWS = 16
"""Of a step, and of a recording of which one value is predicted."""
_VALIDATED_EVERY = 5
_HELD_OUT = 0.25
"""Share of the labelled units that says after how many steps to stop, and is not learned from."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Windows of one recording, and what is known of them."""

    seen: Visible
    unit: npt.NDArray[np.int64]
    """[window] what is labelled as one: itself, or whose it is."""
    values: Floats
    """[window, place, column] numbers, or [window, place, 1] indices of groups; a place is a patch, or all of it."""
    counted: npt.NDArray[np.bool_]
    """[window, place]"""

    def take(self, windows: npt.NDArray[np.int64]) -> Labelled:
        """Return some of the windows."""
        some = torch.from_numpy(windows)
        seen = replace(self.seen, values=self.seen.values[some], smoothed=self.seen.smoothed[some])
        unit, values, counted = self.unit[windows], self.values[windows], self.counted[windows]
        return Labelled(seen=seen, unit=unit, values=values, counted=counted)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is learned."""

    groups: int
    """0 where numbers are predicted."""
    per_patch: bool
    """Whether each patch has an answer, or a window."""
    steps: int
    """Most steps of the optimiser."""


def seen_of(predictor: Predictor, view: RecordingView, z: npt.NDArray[np.float32]) -> Visible:
    """Return what a network sees of windows, [window, time, channel] in SDs, with all usable channels visible."""
    usable = torch.from_numpy(np.flatnonzero(view.usable))
    return see(view, predictor.prepare(view), values=torch.from_numpy(z)[..., usable], visible=usable)[0]


def learners(predictor: Predictor, *, seed: int) -> Iterator[tuple[str, tuple[Protocol, ...], Network, Mode]]:
    """Yield each network with its model's name, the protocols that it stands for, and which of its weights learn.

    A random network learns all of its weights under either protocol: additions of low rank to noise would be no rival.
    """
    pretrained, checkpoint = predictor.checkpoint.network, predictor.checkpoint
    yield NETWORK, (FINE_TUNE,), copy.deepcopy(pretrained), "full"
    yield NETWORK, (LORA,), copy.deepcopy(pretrained), "lora"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        scratch = network_of(checkpoint.model, patch_samples=patch_samples(checkpoint.windows))
    yield SCRATCH, (FINE_TUNE, LORA), scratch, "full"


def learn(
    network: Network,
    learned: Sequence[Labelled],
    shown: Sequence[int],
    *,
    mode: Mode,
    question: Question,
    seed: int,
) -> Callable[[Labelled], Floats]:
    """Learn from the labels that are shown.

    Parameters
    ----------
    network
        Changed in place.
    learned
        All that might have been labelled: by it what the head reads is standardised.
    shown
        Units whose labels are known. A quarter of them, at least one of each group, says after how many steps to stop,
        where another one is left to learn from; nobody else's label does.
    mode
        Which weights learn, beside those of a new linear head.
    question
        What is asked.
    seed
        Of the low-rank additions, dropout, and the order of windows.

    Returns
    -------
    What turns windows into [window, place, column]: numbers, or the probability of each group.
    """
    rng = np.random.default_rng(seed)
    known, scale = _known(learned, shown, groups=question.groups)
    fit, held = _parts(known, groups=question.groups, rng=rng)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        freeze(network, mode=mode, rank=_RANK)
        model = _Answering(network, learned, question=question, columns=question.groups or len(scale[0]))
        weights = [one for one in model.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=_RATE, weight_decay=_DECAY)
        # Without a step the mean is said of all, which few labels may not improve on.
        least, best = _held_loss(model, held, groups=question.groups, step=0), copy.deepcopy(model.state_dict())
        for step in range(1, question.steps + 1):
            optimiser.zero_grad()
            _loss(model.train(), _some(fit, rng), groups=question.groups).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step % _VALIDATED_EVERY and step < question.steps:
                continue
            loss = _held_loss(model, held, groups=question.groups, step=step)
            if loss < least:
                least, best = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    return lambda asked: _answers(model.eval(), asked, scale=scale, groups=question.groups)


class _Answering(nn.Module):
    """A network with a linear head on its latents, or on their mean and SD over a window."""

    mean: Tensor
    sd: Tensor

    def __init__(self, network: Network, learned: Sequence[Labelled], *, question: Question, columns: int) -> None:
        super().__init__()
        self.network, self.per_patch = network.eval(), question.per_patch
        with torch.no_grad():
            found = torch.cat([self._features(part.seen).flatten(0, 1) for part in learned])
        self.register_buffer("mean", found.mean(dim=0))
        spread = found.std(dim=0)
        self.register_buffer("sd", torch.where(spread > 1e-6, spread, 1.0))
        self.head = nn.Linear(found.shape[-1], columns)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, seen: Visible) -> Tensor:
        """[window, place, column]."""
        answers: Tensor = self.head((self._features(seen) - self.mean) / self.sd)
        return answers

    def _features(self, seen: Visible) -> Tensor:
        latents = self.network.encode(seen)
        if self.per_patch:
            return latents
        return torch.cat([latents.mean(dim=1), latents.std(dim=1, correction=0)], dim=-1).unsqueeze(1)


Scale = tuple[Floats, Floats]
"""[column] mean and SD of the numbers that are shown; 0 and 1 where groups are told apart."""


def _known(learned: Sequence[Labelled], shown: Sequence[int], *, groups: int) -> tuple[list[Labelled], Scale]:
    """Keep windows whose label is shown, and standardise numbers by them."""
    rows = [np.flatnonzero(np.isin(part.unit, shown) & part.counted.any(axis=1)) for part in learned]
    known = [part.take(kept) for part, kept in zip(learned, rows, strict=True) if len(kept)]
    if groups:
        return known, (np.zeros(1), np.ones(1))
    values = np.concatenate([part.values[part.counted] for part in known])
    mean, sd = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
    return [replace(part, values=(part.values - mean) / sd) for part in known], (mean, sd)


def _parts(
    known: Sequence[Labelled], *, groups: int, rng: np.random.Generator
) -> tuple[list[Labelled], list[Labelled]]:
    """Part labelled units into those that are learned from and those that say when to stop; none where too few."""
    units = sorted({int(one) for part in known for one in part.unit})
    value = {int(u): float(part.values[row, 0, 0]) for part in known for row, u in enumerate(part.unit)}
    values = np.array([value[unit] for unit in units])
    least = int(np.bincount(values.astype(np.int64), minlength=groups).min()) if groups else len(units) // 2
    if least < 2:
        return list(known), []
    held = np.array(units)[draw_shown(values, groups=groups, share=_HELD_OUT, examples=None, rng=rng)]
    sides = [[(part, np.isin(part.unit, held) == side) for part in known] for side in (False, True)]
    fit, judge = ([part.take(np.flatnonzero(kept)) for part, kept in side if kept.any()] for side in sides)
    return fit, judge


def _some(parts: Sequence[Labelled], rng: np.random.Generator) -> list[Labelled]:
    """Draw the windows of a step, by recording."""
    rows = [(number, row) for number, part in enumerate(parts) for row in range(len(part.unit))]
    drawn = sorted(rng.permutation(len(rows))[:_WINDOWS].tolist())
    return [
        parts[number].take(np.array([row for _, row in own], dtype=np.int64))
        for number, own in groupby((rows[index] for index in drawn), key=lambda row: row[0])
    ]


def _loss(model: _Answering, parts: Sequence[Labelled], *, groups: int) -> Tensor:
    """Mean squared error of standardised numbers, or cross-entropy in which all groups weigh the same."""
    with torch.set_grad_enabled(model.training):
        answers = torch.cat([model(part.seen)[torch.from_numpy(part.counted)] for part in parts])
    wanted = torch.from_numpy(np.concatenate([part.values[part.counted] for part in parts]))
    if not groups:
        return nn.functional.mse_loss(answers, wanted.to(answers.dtype))
    member = wanted[:, 0].long()
    weight = 1 / torch.bincount(member, minlength=groups).clamp_min(1).to(answers.dtype)
    return nn.functional.cross_entropy(answers, member, weight=weight)


def _held_loss(model: _Answering, held: Sequence[Labelled], *, groups: int, step: int) -> float:
    """Loss of what is not learned from; where that is nothing, less with every step."""
    return float(_loss(model.eval(), held, groups=groups)) if held else -float(step)


def _answers(model: _Answering, asked: Labelled, *, scale: Scale, groups: int) -> Floats:
    mean, sd = scale
    with torch.no_grad():
        answers = model(asked.seen).double()
    if groups:
        return np.asarray(answers.softmax(dim=-1).numpy(), dtype=np.float64)
    return np.asarray(answers.numpy() * sd + mean, dtype=np.float64)


def by_unit(parts: Sequence[Labelled], answers: Sequence[Floats]) -> Mapping[int, Floats]:
    """Average answers, [window, 1, column] of each part, over the windows of each unit: [column]."""
    units = np.concatenate([part.unit for part in parts])
    found = np.concatenate(answers)[:, 0]
    return {int(unit): found[units == unit].mean(axis=0) for unit in np.unique(units)}


def spread_rows(count: int) -> npt.NDArray[np.int64]:
    """Return which windows of a recording stand for it: evenly over it."""
    return np.unique(np.linspace(0, count - 1, min(count, _WINDOWS)).round().astype(np.int64))
