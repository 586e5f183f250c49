"""Stage `split`: which subjects and stretches of time are learned from, chosen on, and scored."""

from pathlib import Path

from neurofm.catalog import load_entry, load_overlaps
from neurofm.operations.stage import stage_run
from neurofm.params import load_params
from neurofm.splits import find_candidates, make_splits


def main() -> None:
    """Write ``data/splits.json``."""
    params = load_params()
    entries = [load_entry(dataset) for dataset in sorted(params.all_datasets)]
    splits = make_splits(
        find_candidates(entries, shards=Path("data/shards")),
        settings=params.split,
        window_samples=params.windows.window_samples,
        overlaps=load_overlaps(),
    )
    splits.write(Path("data/splits.json"))
    for out in splits.left_out:
        print(f"{out.dataset}/{out.recording}: {'trains only' if out.trains else 'left out'}: {out.reason}")


if __name__ == "__main__":
    with stage_run("split"):
        main()
