"""`slice` in params.yaml."""

from __future__ import annotations

from pydantic import Field

from neurofm.settings import Settings
from neurofm.training.settings import PretrainSettings


class SliceSettings(Settings):
    """`slice` in params.yaml: what `neurofm certify` builds again."""

    seconds: float = Field(gt=0)
    """Taken of each recording, from its start; doubled where the split cannot score so little."""
    steps: int = Field(ge=1)
    """Training steps."""

    def shortened(self, pretrain: PretrainSettings) -> PretrainSettings:
        """Return the project's training, made short; the model and everything else stay."""
        steps = min(self.steps, pretrain.steps)
        return pretrain.model_copy(
            update={
                "steps": steps,
                "warmup_steps": min(pretrain.warmup_steps, steps // 4),
                "validate_every_steps": min(pretrain.validate_every_steps, max(1, steps // 2)),
            }
        )
