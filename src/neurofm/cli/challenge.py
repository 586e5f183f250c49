"""`neurofm challenge ...`: the two EEG challenges of NeurIPS 2025, from a trained model to a scored submission."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from neurofm.cli.common import end_on

app = typer.Typer(no_args_is_help=True, help="A submission to the EEG challenges: pack it, check it, score it.")

Submission = Annotated[Path, typer.Argument(help="The zip.")]
Splits = Annotated[Path, typer.Option(help="Who is trained on, and who is held out.")]
Shards = Annotated[Path, typer.Option(help="Folder of shards.")]
Fold = Annotated[int, typer.Option(help="The fold that the model is of.")]
_SPLITS, _SHARDS = Path("data/splits.json"), Path("data/shards")


@app.command("package")
def package_command(
    model: Annotated[Path, typer.Option(help="A checkpoint.")] = Path("models/pretrained/fold-0"),
    out: Annotated[Path, typer.Option(help="The zip to be written.")] = Path("submission.zip"),
    fold: Fold = 0,
    splits: Splits = _SPLITS,
    shards: Shards = _SHARDS,
) -> None:
    """Fit both read-outs on the fold's training subjects, and pack what the organisers want."""
    from neurofm.operations.challenge.package import package  # noqa: PLC0415  # loads torch

    made = package(model, out=out, splits=splits, shards=shards, fold=fold)
    for target, fitted in made.fitted.items():
        print(
            f"{target}: fitted on {fitted.windows} windows of {fitted.subjects} subjects, "
            f"penalty {fitted.head.penalty:g}; their mean is {fitted.head.mean:.4g}"
        )
    print(f"{made.path}: {made.path.stat().st_size / 1e6:.2f} MB; neurofm challenge check {made.path}")


@app.command("check")
def check_command(
    submission: Submission,
    limit_s: Annotated[float, typer.Option(help="After so many seconds it is ended.", min=1.0)] = 600.0,
) -> None:
    """Run a submission as the organisers do: unpacked into an empty folder, in a process that knows nothing of us."""
    from neurofm.operations.challenge.check import check  # noqa: PLC0415

    checks = check(submission, limit_s=limit_s)
    for one in checks:
        print(f"{'ok' if one.passed else 'FAILED':<8}{one.name:<22}{one.said}")
    end_on(f"{submission}: {one.name}: {one.said}. Mend: {one.mend}" for one in checks if not one.passed)


@app.command("predict")
def predict_command(
    submission: Submission,
    out: Annotated[Path, typer.Option(help="CSV to be written.")] = Path("predictions.csv"),
    fold: Fold = 0,
    splits: Splits = _SPLITS,
    shards: Shards = _SHARDS,
) -> None:
    """Let a submission predict every window of the fold's held-out subjects, and write a table."""
    from neurofm.operations.challenge.predict import predict  # noqa: PLC0415

    windows = predict(submission, out=out, splits=splits, shards=shards, fold=fold)
    print(f"{out}: {windows} windows; neurofm challenge score {out}")


@app.command("factors")
def factors_command(
    model: Annotated[Path, typer.Option(help="A checkpoint.")] = Path("models/pretrained/fold-0"),
    out: Annotated[Path, typer.Option(help="CSV to be written.")] = Path("factors.csv"),
    fold: Fold = 0,
    splits: Splits = _SPLITS,
    shards: Shards = _SHARDS,
) -> None:
    """Fit all four factors of the checklist, and write what is said of the fold's held-out subjects."""
    from neurofm.operations.challenge.factors import factors  # noqa: PLC0415  # loads torch

    windows = factors(model, out=out, splits=splits, shards=shards, fold=fold)
    print(f"{out}: {windows} windows; neurofm challenge score {out}")


@app.command("score")
def score_command(
    predictions: Annotated[Path, typer.Argument(help="What `predict` wrote, or a table with its columns.")],
) -> None:
    """Score predictions as the organisers do, with intervals over subjects and beside the null."""
    from neurofm.operations.challenge.table import score_table  # noqa: PLC0415

    scores = score_table(predictions)
    print(f"{'target':<16}{'metric':<11}{'value':>8}{'95 % interval':>20}{'null':>8}{'subjects':>10}{'windows':>9}")
    for one in scores:
        interval = "too few subjects" if math.isnan(one.low) else f"{one.low:.4f} to {one.high:.4f}"
        print(
            f"{one.target:<16}{one.metric:<11}{one.value:>8.4f}{interval:>20}{one.null:>8.4f}{one.subjects:>10}"
            f"{one.windows:>9}"
        )
