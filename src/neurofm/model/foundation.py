"""The whole model: any visible patches of one to five modalities answer for any patches asked for.

    visible patches --tokenizer--> tokens        channels --identity--> who they are
    tokens, identity --pooling--> slots of a patch
        --backbone over time, slots mixing every few layers--> sequence, per modality
    all sequences --fusion--> latents
    patches asked for = identity + core estimate --PopT readout, looking at sequence and latents--> answers, summary
    answers --head (starts at zero)--> residual on the core estimate
    answers, summary, patches --heads of tasks--> anything else

What is hidden is not in the batch (`neurofm.model.patches`), so it cannot influence what is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from neurofm.errors import UserError
from neurofm.model.backbone import SlotBackbone
from neurofm.model.fusion import PerceiverFusion, keep_modalities
from neurofm.model.heads import HEADS, Task
from neurofm.model.hub import checkpoint_folder
from neurofm.model.identity import ChannelIdentity
from neurofm.model.objectives import OBJECTIVES
from neurofm.model.patches import Asked, ChannelTable, Seen, check_batch
from neurofm.model.pooling import IdentityPooling, SlotPooling
from neurofm.model.popt import PopT
from neurofm.model.pretrained import load_network
from neurofm.model.settings import ModelSettings
from neurofm.model.tokenizer import TOKENIZERS, PatchTokenizer
from neurofm.model.tokens import Tokens
from neurofm.recording import Modality


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What is said of the patches asked for, of one modality."""

    residual: Tensor
    """[window, target, sample] on the scale of `neurofm.model.links`, to be added to the linear core."""
    log_variance: Tensor | None
    """[window, target, sample] log of the variance of the noise, where the modality's objective learns it."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What the model makes of a batch."""

    reconstruction: dict[Modality, Reconstruction]
    summary: Tensor
    """[window, width]: the embedding of a window."""
    patches: dict[Modality, Tensor]
    """[window, patch, width]: the embedding of each patch, per modality seen."""
    latents: Tensor | None
    """[window, latent, width], where the model has latents."""
    tasks: dict[str, Tensor] = field(default_factory=dict)
    """What the heads of tasks say, by the task's name; without those whose modality is not in the batch."""


class Foundation(nn.Module):
    """The whole model.

    Parameters
    ----------
    settings
        Sizes and parts, with `readout: popt`.
    patch_samples
        Samples in a patch, per modality.
    tasks
        Heads beside reconstruction, by name.

    Raises
    ------
    UserError
        For settings of the small network, and tasks of unknown kind or modality.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        patch_samples: Mapping[Modality, int],
        tasks: Mapping[str, Task] | None = None,
    ) -> None:
        super().__init__()
        if settings.readout != "popt":
            raise UserError(
                f"model: readout {settings.readout} is of the small network, this one has popt.",
                mend="set `readout: popt`, or choose a size from `neurofm.model.sizes`",
            )
        self.width = width = settings.width
        self.patch_samples = dict(patch_samples)
        block = {name: getattr(settings, name) for name in ("width", "heads", "expansion", "dropout")}
        own = TOKENIZERS if settings.tokens == "modality" else dict.fromkeys(TOKENIZERS, PatchTokenizer)
        self.identity = ChannelIdentity(
            width,
            bands=settings.fourier_bands,
            regions=settings.regions,
            units=settings.units,
            unit_dropout=settings.unit_dropout,
            position=settings.position,
            statistics=settings.statistics,
        )
        self.tokenizers = nn.ModuleDict({str(m): own[m](patch=p, width=width) for m, p in patch_samples.items()})
        self.modality = nn.ParameterDict({str(m): torch.zeros(width) for m in patch_samples})
        self.pooling = (
            SlotPooling(**block, slots=settings.slots) if settings.pooling == "slots" else IdentityPooling(width)
        )
        self.empty = nn.Parameter(torch.zeros(settings.slots, width))
        self.backbone = SlotBackbone(settings)
        self.modality_dropout = settings.modality_dropout
        self.fusion = (
            PerceiverFusion(**block, latents=settings.latents, layers=settings.fusion_layers)
            if settings.latents
            else None
        )
        self.estimates = nn.ModuleDict({str(m): nn.Linear(p, width) for m, p in patch_samples.items()})
        self.readout = PopT(**block, layers=settings.popt_layers, latents=settings.latents > 0, causal=settings.causal)
        self.heads = nn.ModuleDict(
            {
                str(m): HEADS["reconstruction"].make(width=width, outputs=p * OBJECTIVES[m].outputs)
                for m, p in patch_samples.items()
            }
        )
        self.tasks = dict(tasks or {})
        self.task_heads = nn.ModuleDict({name: self._task_head(name, task) for name, task in self.tasks.items()})

    @classmethod
    def from_pretrained(cls, model: Path | str, *, revision: str | None = None) -> Self:
        """Load the network of a checkpoint, ready to be applied.

        Parameters
        ----------
        model
            Folder of a checkpoint; or a text, ``organisation/name`` on the Hugging Face Hub (`neurofm.model.hub`).
        revision
            Branch, tag or commit there.

        Raises
        ------
        UserError
            If a file is missing, truncated, of another size than ``config.json`` says, or of the small network; or if
            the Hub does not give it.
        """
        return load_network(cls, checkpoint_folder(model, revision=revision))

    def forward(self, seen: Mapping[Modality, Seen], asked: Mapping[Modality, Asked]) -> Output:
        """Answer for the patches asked for.

        Parameters
        ----------
        seen
            Visible patches of the same windows, per modality.
        asked
            Patches asked for, of any modality that the model has, seen or not; empty for the embeddings alone.

        Raises
        ------
        UserError
            For a batch that the model cannot read (`neurofm.model.patches.check_batch`).
        """
        check_batch(seen, asked, patch=self.patch_samples)
        read = {modality: self._read(modality, one) for modality, one in seen.items()}
        sequence = self._without_some(read, seen)
        latents = None if self.fusion is None else self.fusion(sequence)
        questions = {modality: self._question(modality, one) for modality, one in asked.items()}
        joined = Tokens.join(list(questions.values())) if questions else None
        summary, answers = self.readout(joined, sequence=sequence, latents=latents)
        lengths = [question.x.shape[1] for question in questions.values()]
        by_modality = dict(zip(questions, answers.split(lengths, dim=1), strict=True)) if questions else {}
        output = Output(
            reconstruction={modality: self._reconstruct(modality, one) for modality, one in by_modality.items()},
            summary=summary,
            patches={modality: x.mean(dim=1) for modality, x in read.items()},
            latents=None if latents is None else latents.x,
        )
        return replace(output, tasks=dict(self._do_tasks(output, by_modality, questions)))

    def _read(self, modality: Modality, seen: Seen) -> Tensor:
        """Turn visible patches of a modality into its sequence, [window, slot, patch, width]."""
        who = _take(self._who(seen.channels), seen.channel)
        tokens = self.tokenizers[modality](seen.values, seen.smoothed)
        pooled = self.pooling(tokens, who, seen.counts)
        pooled = pooled.unsqueeze(2) if pooled.ndim == 3 else pooled
        anything = seen.counts.any(dim=2)[..., None, None]
        slots = torch.where(anything, pooled, self.empty) + self.modality[modality]
        sequence: Tensor = self.backbone(slots.transpose(1, 2), self._times(modality, seen, slots.shape[1]))
        return sequence

    def _who(self, channels: ChannelTable) -> Tensor:
        """[window, channel, width]."""
        who: Tensor = self.identity(channels.features, channels.region, channels.unit)
        return who

    def _times(self, modality: Modality, seen: Seen, patches: int) -> Tensor:
        """[patch] seconds at which patches are complete."""
        patch_s = self.patch_samples[modality] / seen.sampling_rate_hz
        return seen.first_s + patch_s * torch.arange(1, patches + 1, device=seen.values.device)

    def _without_some(self, read: Mapping[Modality, Tensor], seen: Mapping[Modality, Seen]) -> Tokens:
        """Join the sequences of all modalities; in training some windows go without some of them."""
        parts = []
        first = next(iter(read.values()))
        keep = torch.ones(len(first), len(read), dtype=torch.bool, device=first.device)
        if self.training and len(read) > 1:
            keep = keep_modalities(*keep.shape, dropout=self.modality_dropout, device=first.device)
        for (modality, x), kept in zip(read.items(), keep.unbind(dim=1), strict=True):
            windows, slots, patches = x.shape[:3]
            time_s = self._times(modality, seen[modality], patches).repeat(slots)
            counts = kept.unsqueeze(1).expand(windows, slots * patches)
            parts.append(Tokens(x=x.flatten(1, 2), time_s=time_s.expand(windows, -1), counts=counts))
        return Tokens.join(parts)

    def _question(self, modality: Modality, asked: Asked) -> Tokens:
        """Ask by identity, modality and time, and say what the linear core thinks."""
        who = _take(self._who(asked.channels), asked.channel)
        patch_s = self.patch_samples[modality] / asked.sampling_rate_hz
        return Tokens(
            x=who + self.modality[modality] + self.estimates[modality](asked.estimate),
            time_s=asked.first_s + patch_s * (asked.patch + 1),
            counts=asked.counts,
        )

    def _reconstruct(self, modality: Modality, answers: Tensor) -> Reconstruction:
        values = self.heads[modality](answers)
        patch = self.patch_samples[modality]
        residual, rest = values[..., :patch], values[..., patch:]
        return Reconstruction(residual=residual, log_variance=rest if rest.shape[-1] else None)

    def _do_tasks(
        self, output: Output, answers: Mapping[Modality, Tensor], questions: Mapping[Modality, Tokens]
    ) -> Iterator[tuple[str, Tensor]]:
        for name, task in self.tasks.items():
            reads, modality = HEADS[task.kind].reads, task.modality
            if modality is None:
                yield name, self.task_heads[name](output.summary)
            elif reads == "patches" and modality in output.patches:
                yield name, self.task_heads[name](output.patches[modality])
            elif reads == "answers" and modality in answers:
                yield name, self.task_heads[name](answers[modality])
            elif reads == "summary and questions" and modality in questions:
                asked = questions[modality].x
                both = torch.cat([output.summary.unsqueeze(1).expand_as(asked), asked], dim=-1)
                yield name, self.task_heads[name](both)

    def _task_head(self, name: str, task: Task) -> nn.Module:
        kind = HEADS.get(task.kind)
        if kind is None:
            raise UserError(f"model: task {name} is of kind {task.kind}.", mend=f"choose one of {', '.join(HEADS)}")
        if (kind.reads == "summary") != (task.modality is None) or task.modality not in {None, *self.patch_samples}:
            known = (
                "none, it reads the summary" if kind.reads == "summary" else f"one of {', '.join(self.patch_samples)}"
            )
            raise UserError(
                f"model: task {name} of kind {task.kind} has modality {task.modality or 'none'}.",
                mend=f"its modality is {known}",
            )
        if kind.of_patch and task.modality is not None and task.outputs != self.patch_samples[task.modality]:
            raise UserError(
                f"model: task {name} of kind {task.kind} has {task.outputs} outputs, windows.{task.modality}."
                f"patch_samples is {self.patch_samples[task.modality]}.",
                mend="give it as many outputs as a patch has samples",
            )
        return kind.make(width=self.width, outputs=task.outputs)


def _take(table: Tensor, index: Tensor) -> Tensor:
    """[window, channel, width] at [window, ...] -> [window, ..., width]."""
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, table.shape[-1])
    return table.gather(1, flat).reshape(*index.shape, -1)
