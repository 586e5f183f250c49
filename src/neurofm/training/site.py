"""`training` in site.yaml: who watches over training, what happens when it hangs, and who trains. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurofm.settings import Settings


class TrainingSite(Settings):
    """`training` in site.yaml."""

    step_limit_s: Annotated[float, Field(gt=0)] | None = 600.0
    """Longest that one step may take before it counts as hung; null watches over nothing."""
    after_hang: Literal["cpu", "resume", "stop"] = "cpu"
    """Go on from the last kept state without GPUs, go on as before, or end."""
    most_hangs: int = Field(default=3, ge=0)
    """More than so many per fold (killed processes count too) end the training."""
    processes: int = Field(default=1, gt=0)
    """That train one fold together on a machine. `pretrain.slices` in params.yaml is a multiple of all of them."""
    nodes: int = Field(default=1, gt=0)
    """Machines of a Slurm job that train together; more than one are started by ``srun``, a task per process."""

    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Whether each process holds all weights, or a part of them (FSDP2), which rounds otherwise and takes longer. No
    key of a run names it, nor `device`: a run goes on where it can, on another machine or after a fault."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where networks compute; a GPU per process. A GPU rounds otherwise than a CPU does, and each its own way."""
    tensorboard: bool = False
    """Whether training writes event files for TensorBoard, beside its states."""

    @property
    def count(self) -> int:
        """Processes that train one fold, on all machines."""
        return self.nodes * self.processes
