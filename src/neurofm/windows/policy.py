"""Policy: where decoded samples lie. None of them changes a sample; what fits on this machine is for it to say."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from neurofm.errors import UserError
from neurofm.settings import Settings
from neurofm.units.memory import free_memory_mb

_MARGIN = 1.2
"""What is free must hold this many times what is asked for."""


class Policy(StrEnum):
    """Where decoded samples lie."""

    AUTO = "auto"
    """The first of `all_in_ram`, `hybrid`, `mmap` and `host_pool` that there is room for."""
    ALL_IN_RAM = "all_in_ram"
    """Everything that is drawn from, as stored: uint8 and int16."""
    HYBRID = "hybrid"
    """The recordings drawn most often per byte, and the pool for the others."""
    HOST_POOL = "host_pool"
    """The pool alone, in memory."""
    MMAP = "mmap"
    """Everything, uncompressed in a file on disk."""
    DEVICE_POOL = "device_pool"
    """Everything, or the pool where that is too much, on the GPU."""


class StoreSite(Settings):
    """`store` in site.yaml."""

    policy: Policy = Policy.AUTO
    """Where decoded samples lie."""
    decoders: int = Field(default=1, ge=0)
    """Processes that decode what comes next, for each model in training; 0 decodes when a sample is wanted."""
    folder: Path = Path(".neurofm/store")
    """For `mmap`: a fast local disk."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Bytes that each way of keeping samples takes."""

    everything: int
    """All that is drawn from."""
    pool: int
    """What the pool of params.yaml takes; as much as `everything` where there is none."""
    smallest: int
    """What decoding takes at the very least."""


@dataclass(frozen=True, kw_only=True)
class Free:
    """Bytes that are free."""

    memory: float
    disk: float
    device: float
    """On the GPU; 0 where there is none."""

    @classmethod
    def now(cls, folder: Path) -> Free:
        """Measure."""
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return cls(
            memory=free_memory_mb() * 2**20,
            disk=float(shutil.disk_usage(there).free),
            device=float(_torch_cuda().mem_get_info()[0]) if _has_gpu() else 0.0,
        )


def _torch_cuda() -> Any:
    # Here, because every command reads site.yaml.
    import torch  # noqa: PLC0415

    return torch.cuda


@cache
def _has_gpu() -> bool:
    return bool(_torch_cuda().is_available())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was chosen."""

    policy: Policy
    resident: int
    """Bytes of memory for what stays (`hybrid`, `all_in_ram`, `mmap`) beside the pool."""
    pool: int
    """Bytes for what rotates; 0 where everything stays."""


def choose(asked: Policy, needs: Needs, free: Free, *, side_by_side: int = 1, who: str = "pretrain") -> Plan:
    """Choose where samples lie.

    Parameters
    ----------
    asked
        Of site.yaml.
    needs
        Of one model.
    free
        On this machine.
    side_by_side
        Models in training at once; each has samples of its own.
    who
        For the error.

    Raises
    ------
    UserError
        If what was asked for does not fit, with a fifth to spare; the sum is shown.
    """
    memory, disk, device = (room / _MARGIN / side_by_side for room in (free.memory, free.disk, free.device))
    everything, pool = needs.everything, needs.pool
    rotates = pool < everything
    plans = {
        Policy.ALL_IN_RAM: Plan(policy=Policy.ALL_IN_RAM, resident=everything, pool=0),
        Policy.HYBRID: Plan(
            policy=Policy.HYBRID, resident=int(min(max(memory - pool, 0), everything)), pool=pool if rotates else 0
        ),
        Policy.MMAP: Plan(policy=Policy.MMAP, resident=everything, pool=0),
        # Without a pool in params.yaml everything is drawn from at every step, and decoded again where it has gone.
        Policy.HOST_POOL: Plan(
            policy=Policy.HOST_POOL,
            resident=0,
            pool=pool if rotates else int(max(min(memory / 2, everything), needs.smallest)),
        ),
        Policy.DEVICE_POOL: Plan(
            policy=Policy.DEVICE_POOL,
            resident=everything if everything <= device else 0,
            pool=0 if everything <= device else pool,
        ),
    }
    fits: Mapping[Policy, bool] = {
        Policy.ALL_IN_RAM: everything <= memory,
        Policy.HYBRID: rotates and pool <= memory,
        Policy.MMAP: everything <= disk,
        Policy.HOST_POOL: plans[Policy.HOST_POOL].pool <= memory,
        Policy.DEVICE_POOL: everything <= device or (rotates and pool <= device),
    }
    if asked is Policy.AUTO:
        for policy in (Policy.ALL_IN_RAM, Policy.HYBRID, Policy.MMAP, Policy.HOST_POOL):
            if fits[policy]:
                return plans[policy]
    elif fits[asked]:
        return plans[asked]
    raise _too_much(asked, plans, free, side_by_side=side_by_side, who=who)


def _too_much(asked: Policy, plans: Mapping[Policy, Plan], free: Free, *, side_by_side: int, who: str) -> UserError:
    plan = plans[Policy.HOST_POOL if asked is Policy.AUTO else asked]
    where, room = {
        Policy.MMAP: ("disk", free.disk),
        Policy.DEVICE_POOL: ("GPU memory", free.device),
    }.get(plan.policy, ("memory", free.memory))
    each = plan.resident + plan.pool
    total = _MARGIN * side_by_side * each
    times = f" x {side_by_side} models side by side" if side_by_side > 1 else ""
    fewer = "fewer `workers` in site.yaml, " if side_by_side > 1 else ""
    on_disk = _gb(plans[Policy.MMAP].resident)
    return UserError(
        f"{who}: {asked} needs {_gb(each)}{times}, with a fifth to spare {_gb(total)} of {where}; {_gb(room)} is free.",
        mend=f"{fewer}another `store.policy` in site.yaml (mmap takes {on_disk} of disk), or a smaller `pretrain.pool` "
        "in params.yaml",
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB"
