"""Stage `finetune`: models of some folds learn on from some datasets."""

import sys
from pathlib import Path

from neurofm.evaluation.finetuned import score_finetuned
from neurofm.evaluation.folds import check_folds
from neurofm.files import write_json
from neurofm.operations.stage import stage_run
from neurofm.params import load_params, load_site
from neurofm.splits import Splits
from neurofm.training.finetuned import finetune_folds


def main(key: str) -> None:
    """Write ``models/finetuned/<key>/fold-<n>/`` and ``metrics/finetune/<key>.json``."""
    params = load_params(dataset=key, groups=("finetune",))
    chosen, splits, shards = params.finetune[key], Splits.read(Path("data/splits.json")), Path("data/shards")
    check_folds(splits, chosen.folds, where=f"params.yaml: `finetune.{key}.folds`")
    result = finetune_folds(
        splits,
        chosen,
        shards=shards,
        settings=params.pretrain,
        models=Path("models/pretrained"),
        runs=Path(".neurofm/runs/finetune", key),
        out=Path("models/finetuned", key),
        site=load_site().store,
    )
    result["test"] = score_finetuned(
        splits,
        folds=chosen.folds,
        datasets=chosen.datasets,
        shards=shards,
        before=Path("models/pretrained"),
        after=Path("models/finetuned", key),
        settings=params.evaluate,
        windows=params.windows,
    )
    write_json(Path("metrics/finetune", f"{key}.json"), result)


if __name__ == "__main__":
    with stage_run("finetune", sys.argv[1]):
        main(sys.argv[1])
