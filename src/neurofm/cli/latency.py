"""`neurofm latency`: how long a model takes for a window, in which precision, and what the precision costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurofm.files import write_json

app = typer.Typer()


@app.command("latency")
def latency_command(
    model: Annotated[Path, typer.Option(help="A checkpoint.")] = Path("models/pretrained/fold-0"),
    shard: Annotated[
        list[Path] | None,
        typer.Option(help="A recording to take windows of; repeatable. Without, one held-out one per modality."),
    ] = None,
    windows: Annotated[int, typer.Option(help="At most so many per recording.")] = 100,
    threads: Annotated[int, typer.Option(help="Of the CPU.")] = 1,
    out: Annotated[Path | None, typer.Option(help="JSON to be written too.")] = None,
    fold: Annotated[int, typer.Option(help="The fold that the model is of.")] = 0,
) -> None:
    """Time the network in fp32, bf16, fp16 and int8, one window at a time, and say what each loses."""
    from neurofm.operations.latency.run import latency  # noqa: PLC0415  # loads torch
    from neurofm.operations.tables import console, table  # noqa: PLC0415

    print(
        f"at most {windows} windows a recording in 4 precisions, {threads} CPU thread{'' if threads == 1 else 's'}: "
        "seconds for a small network, minutes for a large one; other work on this machine shows in p95"
    )
    made = latency(
        model,
        shards=shard or [],
        splits=Path("data/splits.json"),
        root=Path("data/shards"),
        fold=fold,
        windows=windows,
        threads=threads,
    )
    screen = console()
    numbers = [(name, "right") for name in ("p50 ms", "p95 ms", "MB", "differs by", "masked R2")]
    shown = table("recording", "device", "precision", *numbers, width=screen.width)  # type: ignore[arg-type]
    for row in made.rows:
        if row.why_not:
            cells = ["-", "-", "-", "-", row.why_not]
        else:
            assert row.difference is not None
            assert row.p50_ms is not None
            assert row.p95_ms is not None
            cells = [
                f"{row.p50_ms:.2f}",
                f"{row.p95_ms:.2f}",
                f"{row.megabytes:.2f}",
                f"{row.difference:.1e}",
                f"{row.r2:.4f}",
            ]
        shown.add_row(row.recording, row.device, row.precision, *cells)
    screen.print(shown)
    if not made.held_out:
        print("masked R2 only compares formats: the model may have learned from what --shard gives")
    for recording, milliseconds in made.core_p50_ms.items():
        print(
            f"{recording}: before the network, smoothing and the linear core in float64: {milliseconds:.2f} ms a window"
        )
    print(f"{made.machine}; torch {made.torch}; {made.threads} thread(s); {made.warm_up} windows to warm up")
    if out is not None:
        write_json(out, made.plain())
        print(out)
