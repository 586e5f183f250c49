"""Paired steps: hidden channels and patches of one modality are told with another visible that was recorded with it.

What is hidden is so only in the one; the other is seen at the same time, through `neurofm.model.fusion`, which goes
without it in some windows (`model.modality_dropout`), so that one modality alone stays enough.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from neurofm.recording import Modality
from neurofm.training.batches import cut, see
from neurofm.training.hidden_patches import kind_at
from neurofm.training.recordings import TrainingRecording
from neurofm.training.settings import CHANNELS, PretrainSettings
from neurofm.training.step import Drawn
from neurofm.windows import RecordingView
from neurofm.windows.pairs import inside, made_at_once, overlap_table, pairs_of, samples_at, times_of

_DRAW = 2
"""Sets these draws apart from those of windows and masks of the same seed and step."""
_SHOWN_AT_LEAST = 0.5
"""Smallest share of the other modality's channels that is seen, as of the one that is hidden in."""
_SAID = 10
"""Most pairs that are named when training starts."""


class Partners:
    """Who was recorded beside whom, of the recordings that are learned from.

    Parameters
    ----------
    recordings
        In the order of the draws' sources.
    settings
        The seed and the share of paired steps.
    patch_samples
        Of each modality.
    """

    def __init__(
        self,
        recordings: Sequence[TrainingRecording],
        *,
        settings: PretrainSettings,
        patch_samples: Mapping[Modality, int],
    ) -> None:
        self._settings, self._patch_samples = settings, patch_samples
        by_name = {recording.view.name: recording for recording in recordings}
        self._of: defaultdict[str, list[TrainingRecording]] = defaultdict(list)
        for pair in pairs_of([recording.view for recording in recordings]) if settings.paired else ():
            self._of[pair.first.name].append(by_name[pair.second.name])
            self._of[pair.second.name].append(by_name[pair.first.name])

    def joined(self, drawn: Drawn, *, number: int) -> Drawn:
        """Put beside the windows of a step what a partner recorded of them.

        Parameters
        ----------
        drawn
            What the step learns from.
        number
            Of the draw: it and the seed decide whether the step is paired, with whom, and what is seen.

        Returns
        -------
        Those of its windows that lie in the partner's train segments, too; all of them as they are where no or too few
        windows do, and in steps that are not paired.
        """
        partners = self._of.get(drawn.recording.view.name)
        if not partners:
            return drawn
        rng = np.random.default_rng([self._settings.seed, number, _DRAW])
        if rng.random() >= self._settings.paired:
            return drawn
        partner = partners[int(rng.integers(len(partners)))]
        view, other = drawn.recording.view, partner.view
        patch = self._patch_samples[other.modality]
        length_s = drawn.z.shape[1] / view.sampling_rate_hz
        # Whole patches, as many as fit; where one is longer than the window, the one that has it in its middle.
        samples = patch * max(1, int(length_s * other.sampling_rate_hz / patch + 1e-6))
        first_s = (length_s - samples / other.sampling_rate_hz) / 2
        starts = samples_at(other, times_of(view, drawn.draw.starts) + first_s)
        kept = np.flatnonzero(inside(other, "train", starts, samples=samples))
        if self._learned(len(kept), modality=view.modality, number=number) < self._settings.slices:
            return drawn
        z, _ = cut(other, starts[kept], window_samples=samples)
        order = rng.permutation(partner.source.usable)
        shown = round((_SHOWN_AT_LEAST + (1 - _SHOWN_AT_LEAST) * rng.random()) * len(order))
        visible = torch.from_numpy(np.sort(order[: max(1, shown)]))
        # Described without the targets of its first episode, as any recording is that is not asked for.
        seen, _ = see(other, partner.contexts[0], values=z[..., visible], visible=visible)
        rows = torch.from_numpy(kept)
        return replace(
            drawn,
            draw=replace(drawn.draw, starts=drawn.draw.starts[kept]),
            z=drawn.z[rows],
            counts=drawn.counts[rows],
            beside=replace(seen, first_s=first_s),
        )

    def _learned(self, windows: int, *, modality: Modality, number: int) -> int:
        """Return how many windows a step learns from: of those that hide patches only some are (`Drawn.lesson`)."""
        if not windows or kind_at(number, modality, settings=self._settings) == CHANNELS:
            return windows
        return len(range(0, windows, -(-windows // self._settings.masks.windows)))


def pairs_said(views: Sequence[RecordingView], *, who: str) -> str:
    """Say in a line each who was recorded at once, and for how long; why nobody is paired, where it is so."""
    rows = overlap_table(pairs_of(views))
    if not rows:
        why = "what was recorded at once is not cut alike" if made_at_once(views) else "no two were recorded at once"
        return f"{who}: `pretrain.paired` changes nothing: {why}\n"
    said = [
        f"{who}: {row.first} and {row.second} at once for {row.overlap_s:.4g} s, {row.train_s:.4g} s to learn from\n"
        for row in rows[:_SAID]
    ]
    if len(rows) > _SAID:
        overlap_s, train_s = sum(row.overlap_s for row in rows), sum(row.train_s for row in rows)
        said.append(f"{who}: {len(rows)} pairs in all, {overlap_s:.4g} s, {train_s:.4g} s to learn from\n")
    return "".join(said)
