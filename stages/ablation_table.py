"""Stage `table` of ablations/dvc.yaml: all cells in one table and one figure."""

from pathlib import Path

from neurofm.ablation.figure import draw
from neurofm.ablation.settings import PARAMS, read_ablations
from neurofm.ablation.table import differences, read_results, write_table
from neurofm.operations.stage import stage_run
from neurofm.params import load_params


def main() -> None:
    """Write ``metrics/ablations/table.*`` and ``differences.png``."""
    params = load_params()
    folder = Path("metrics/ablations")
    ablations = read_ablations(PARAMS, pretrain=params.pretrain, folds=params.known_folds)
    rows = differences(read_results(folder / "cells", ablations), ablations, seed=params.evaluate.seed)
    write_table(rows, folder)
    draw(rows, folder / "differences.png", dpi=params.report.png_dpi)


if __name__ == "__main__":
    with stage_run("ablation_table"):
        main()
