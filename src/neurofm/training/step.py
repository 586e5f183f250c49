"""Step: learn from one draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from neurofm.errors import UserError
from neurofm.model.neurofm import NeuroFM
from neurofm.recording import Modality
from neurofm.training.batches import loss_of, make_batch
from neurofm.training.learning_rate import learning_rate
from neurofm.training.recordings import TrainingRecording
from neurofm.training.settings import PretrainSettings
from neurofm.windows.store import Store


def take_step(
    network: NeuroFM,
    optimizer: torch.optim.Optimizer,
    recordings: Sequence[TrainingRecording],
    store: Store,
    *,
    step: int,
    settings: PretrainSettings,
) -> tuple[Modality, float]:
    """Learn from one draw; returns its modality and loss."""
    drawn, z, counts = store.at(step)
    recording = recordings[drawn.source]
    visible, hidden = torch.from_numpy(drawn.visible), torch.from_numpy(drawn.hidden)
    context = recording.contexts[drawn.block.episode]
    batch = make_batch(recording.view, context, values=z[..., visible], visible=visible, hidden=hidden)
    # Dropout depends on seed and step only, so that a resumed run repeats it.
    torch.manual_seed(int(np.random.SeedSequence([settings.seed, step]).generate_state(1)[0]))
    residual = network(batch.seen, batch.query)
    loss = loss_of(batch, residual=residual, truth=z[..., hidden], counts=counts) / recording.null
    if not torch.isfinite(loss):
        raise UserError(
            f"pretrain: the loss of {batch.modality} ({recording.source.name}) is {loss.item()} at step {step}.",
            mend="lower pretrain.learning_rate in params.yaml",
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings=settings)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return batch.modality, loss.item()
