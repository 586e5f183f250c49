"""Stage `evaluate`: the scoreboard, with nulls, baselines and intervals."""

from pathlib import Path

from neurofm.evaluation.evaluate import evaluate
from neurofm.operations.stage import stage_run
from neurofm.params import load_params, load_site
from neurofm.splits import Splits


def main() -> None:
    """Write scoreboard, summary, differences and timings under ``metrics``, and examples under ``reports``."""
    params = load_params()
    scoreboard = evaluate(
        Splits.read(Path("data/splits.json")),
        shards=Path("data/shards"),
        models=Path("models/pretrained"),
        settings=params.evaluate,
        windows=params.windows,
        workers=load_site().workers,
    )
    scoreboard.write(metrics=Path("metrics"), reports=Path("reports"))


if __name__ == "__main__":
    with stage_run("evaluate"):
        main()
