"""Stage `connectivity`: how the parcels of every fMRI recording correlate, and how much of that follows motion."""

from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.connectivity.make import make_connectivity
from neurofm.operations.stage import stage_run
from neurofm.params import load_params


def main() -> None:
    """Write ``data/connectivity`` and ``metrics/connectivity.json``."""
    params = load_params()
    made = make_connectivity(
        [load_entry(dataset) for dataset in sorted(params.all_datasets)],
        shards=Path("data/shards"),
        out=Path("data/connectivity"),
        metrics=Path("metrics/connectivity.json"),
        settings=params.connectivity,
    )
    for one in made:
        print(f"{one.dataset}: {one.facts['recordings']} recordings connected")
        for recording, reason in one.left_out.items():
            print(f"{one.dataset}/{recording}: left out: {reason}")


if __name__ == "__main__":
    with stage_run("connectivity"):
        main()
