"""Stage `ablation` of ablations/dvc.yaml: one cell with one seed, trained and scored."""

import sys
from pathlib import Path

from neurofm.ablation.cell import run_cell
from neurofm.ablation.result import result_path
from neurofm.ablation.settings import PARAMS, read_ablations, settings_of
from neurofm.operations.stage import stage_run
from neurofm.params import load_params
from neurofm.splits import Splits


def main(cell: str, seed: int) -> None:
    """Write ``metrics/ablations/cells/<cell>-<seed>.json``."""
    params = load_params()
    ablations = read_ablations(PARAMS, pretrain=params.pretrain, folds=params.known_folds)
    result = run_cell(
        cell,
        splits=Splits.read(Path("data/splits.json")),
        fold=ablations.fold,
        shards=Path("data/shards"),
        pretrain=settings_of(ablations, cell, seed=seed, pretrain=params.pretrain),
        windows=params.windows,
        evaluate=params.evaluate,
        work=Path(".neurofm/ablations"),
    )
    result.write(result_path(Path("metrics/ablations/cells"), cell, seed))


if __name__ == "__main__":
    with stage_run("ablation", f"{sys.argv[1]}-{sys.argv[2]}"):
        main(sys.argv[1], int(sys.argv[2]))
