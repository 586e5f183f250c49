"""Training curves in DVCLive's format, so that ``dvc plots show`` and ``dvc plots diff`` draw them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvclive.live import Live


def log_curves(result: dict[str, Any], folder: Path) -> None:
    """Write the curves of every fold.

    Parameters
    ----------
    result
        What `pretrain_all_folds` returned.
    folder
        Gets one folder per fold: ``fold-<n>/plots/metrics/{train,validation}/<modality>.tsv`` over steps.
    """
    for fold in result["folds"]:
        target = folder / f"fold-{fold['fold']}"
        with Live(dir=str(target), dvcyaml=None, save_dvc_exp=False, report=None, resume=False) as live:
            for point in fold["curve"]:
                live.step = point["step"]
                for part in ("train", "validation"):
                    for modality, loss in point[part].items():
                        live.log_metric(f"{part}/{modality}", loss)
                live.make_summary()
