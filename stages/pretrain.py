"""Stage `pretrain`: one model per fold."""

from pathlib import Path

from neurofm.files import write_json
from neurofm.operations.stage import stage_run
from neurofm.params import load_params, load_site
from neurofm.splits import Splits
from neurofm.training.live import log_curves
from neurofm.training.pretrain import pretrain_all_folds
from neurofm.training.rank import is_first


def main() -> None:
    """Write ``models/pretrained/fold-<n>/`` ``metrics/pretrain.json`` and DVCLive's curves."""
    params = load_params()
    site = load_site()
    result = pretrain_all_folds(
        Splits.read(Path("data/splits.json")),
        shards=Path("data/shards"),
        settings=params.pretrain,
        windows=params.windows,
        runs=Path(".neurofm/runs"),
        out=Path("models/pretrained"),
        workers=site.workers,
        site=site.store,
        training=site.training,
        price_per_hour=site.price_per_hour,
    )
    if is_first(site.training):
        write_json(Path("metrics/pretrain.json"), result)
        log_curves(result, Path("metrics/dvclive"))


if __name__ == "__main__":
    with stage_run("pretrain"):
        main()
