"""Ablations foretold: what is left to train and what it costs, checked and said before anything runs."""

from __future__ import annotations

from pathlib import Path

from neurofm.ablation.result import result_path
from neurofm.ablation.settings import PARAMS, read_ablations
from neurofm.operations.stage import name_of, read_costs
from neurofm.params import load_params

STAGE = "ablation"
MEASURED_CPU_S = 30.0
"""Of a cell of the sample at the budget of ``ablations/params.yaml``, where none ran on this machine yet."""


def foretell_ablations(root: Path = Path()) -> list[str]:
    """Check every cell, and say how many are left and what they will cost.

    Raises
    ------
    UserError
        In one line that names the cell and the key.
    """
    params = load_params(root)
    settings = read_ablations(root / PARAMS, pretrain=params.pretrain, folds=params.known_folds)
    folder = root / "metrics" / "ablations" / "cells"
    left = [run for run in settings.runs if not result_path(folder, *run).is_file()]
    costs = read_costs(root)
    known = [
        costs[name].cpu_s
        for cell, seed in settings.runs
        if (name := name_of(STAGE, f"{cell}-{seed}")) in costs and costs[name].succeeded
    ]
    each = sum(known) / len(known) if known else MEASURED_CPU_S
    where = f"measured here on {len(known)} of them" if known else "measured on the sample, none ran here yet"
    trainings = (
        f"{len(settings.cells)} cells with {len(settings.seeds)} seeds are {len(settings.runs)} trainings, "
        f"{len(left)} of them without a result; DVC does again what changed, too"
    )
    cost = (
        f"a training takes about {each:.0f} CPU-seconds ({where}): about {each * len(left) / 60:.0f} minutes on one "
        "core for those without a result"
    )
    return [trainings, cost]
