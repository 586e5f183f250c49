"""Stage `slice`: five minutes of each modality from shard to scores, for `neurofm certify` to compare with."""

from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.operations.stage import stage_run
from neurofm.params import load_params, load_site
from neurofm.slices.make import SlicePlan, make_slice
from neurofm.splits import Splits


def main() -> None:
    """Write ``metrics/slice.json``."""
    params = load_params()
    plan = SlicePlan(
        entries={dataset: load_entry(dataset) for dataset in sorted(params.all_datasets)},
        kept=frozenset({**params.datasets, **params.local}),
        settings=params.slice,
        split=params.split,
        windows=params.windows,
        pretrain=params.pretrain,
        evaluate=params.evaluate,
    )
    result = make_slice(
        plan,
        Splits.read(Path("data/splits.json")),
        shards=Path("data/shards"),
        work=Path(".neurofm/slice"),
        workers=load_site().workers,
    )
    result.write(Path("metrics/slice.json"))
    for one in result.recordings:
        print(f"{one.modality}: {one.name}: {one.seconds:g} s of it")


if __name__ == "__main__":
    with stage_run("slice"):
        main()
