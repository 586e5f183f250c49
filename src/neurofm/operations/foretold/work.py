"""What each stage has to do: how much, in how many processes, and what it leaves on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.derivatives.dataset import chosen_participants, site_for
from neurofm.errors import UserError
from neurofm.operations.foretold.pending import Run
from neurofm.operations.foretold.usual import MODEL_BYTES, SAMPLE_MODEL, TUNING_STEPS_PER_MB
from neurofm.operations.measured import RECEIPTS
from neurofm.operations.preflight import COPIES, Forecast
from neurofm.operations.provenance.dataset import read_splits
from neurofm.params import Params, Site
from neurofm.recording import Modality, UnitStatus
from neurofm.units import ExecutorName, read_receipts

SHARDS = Path("data/shards")
MODELS = Path("models/pretrained")
MATRICES = 500_000
"""Bytes of one recording's connectivity: three matrices of 200 parcels."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of one stage."""

    stage: str
    """As in `StageCost`: ``preprocess@gw-rest``."""
    amount: float | None
    """Per process, in the measure of `usual.USUAL`; None where nobody knows."""
    held_bytes: float = 0.0
    """Of data that one process holds at once."""
    at_once: int = 1
    to_come: int = 0
    """Bytes over the network."""
    modality: Modality | None = None
    files: int | None
    written: int | None
    """Bytes that come to lie on this disk, with DVC's copy."""

    @property
    def family(self) -> str:
        """The stage without its dataset."""
        return self.stage.partition("@")[0]


def works(
    params: Params, forecasts: Sequence[Forecast], *, runs: Mapping[str, Run] | None, site: Site, root: Path
) -> list[Work]:
    """Return the work of every stage that will run, in the order in which they do.

    Parameters
    ----------
    params, site
        Settings.
    forecasts
        What is known of the datasets (`preflight.forecast`).
    runs
        What DVC says is to be done (`pending`); None takes all that is not there.
    root
        The project's root.
    """
    every = [
        *(_manifest(item) for item in forecasts),
        *(_download(item) for item in forecasts if item.group == "datasets"),
        *_derivatives(params, site=site, root=root),
        *(_units(item, run=_run(runs, _units_stage(item)), site=site, root=root) for item in forecasts),
        *_of_all_datasets(params, forecasts, site=site, root=root),
    ]
    return [work for work in every if _run(runs, work.stage) is not Run.NOTHING]


def _run(runs: Mapping[str, Run] | None, stage: str) -> Run:
    return Run.MISSING if runs is None else runs.get(stage, Run.NOTHING)


def _units_stage(item: Forecast) -> str:
    return f"{'stream' if item.group == 'streamed' else 'preprocess'}@{item.dataset}"


def _manifest(item: Forecast) -> Work:
    asked = item.archive not in {"registry", "http"}  # These are pinned in the catalogue: nobody is asked.
    return Work(
        stage=f"manifest@{item.dataset}",
        amount=(None if item.files is None else float(item.files)) if asked else 0.0,
        files=1,
        written=None if item.files is None else 300 * item.files * COPIES,
    )


def _download(item: Forecast) -> Work:
    return Work(
        stage=f"download@{item.dataset}",
        amount=None if item.to_come is None else float(item.to_come),
        to_come=item.to_come or 0,
        files=item.files,
        written=None if item.to_come is None else item.to_come * COPIES,
    )


def _derivatives(params: Params, *, site: Site, root: Path) -> Iterator[Work]:
    """Yield the datasets of derivatives; those whose raw files are not here yet count nobody."""
    for name, chosen in params.derivatives.items():
        try:
            wanted = {f"sub-{participant.label}" for participant in chosen_participants(chosen, root=root)}
        except UserError:
            wanted = set()  # `preflight.derivatives_problems` says why.
        receipts = read_receipts(root / RECEIPTS / f"{name}.jsonl").values()
        left = len(wanted - {receipt.unit for receipt in receipts if receipt.status is UnitStatus.SUCCEEDED})
        here = site_for(site, chosen)
        at_once = max(1, min(here.slurm.at_once if site.executor is ExecutorName.SLURM else here.workers, left))
        yield Work(
            stage=f"derivatives@{name}", amount=float(ceil(left / at_once)), at_once=at_once, files=None, written=None
        )


def _units(item: Forecast, *, run: Run, site: Site, root: Path) -> Work:
    """Count the recordings of a dataset that are to be preprocessed."""
    total = item.recordings or item.files or 1
    left = total if run is Run.ALL else max(0, total - _whole(item.dataset, root=root))
    streamed = item.group == "streamed"
    to_come = item.to_come if streamed else 0
    workers = site.slurm.at_once if site.executor is ExecutorName.SLURM else site.workers
    at_once = max(1, min(workers, left))
    size = None if item.raw_bytes is None else item.raw_bytes * left / total
    shards = item.shards_missing if run is Run.MISSING else item.shards
    return Work(
        stage=_units_stage(item),
        amount=None if size is None else size / at_once,
        held_bytes=0.0 if item.raw_bytes is None else item.raw_bytes / total,
        at_once=at_once,
        to_come=to_come or 0,
        modality=load_entry(item.dataset, root=root).modality,
        files=left + 2,
        written=None if shards is None else shards * COPIES + (item.passing or 0),
    )


def _whole(dataset: str, *, root: Path) -> int:
    """Count the recordings whose shard is there; its digest is the stage's to compare."""
    return sum(
        receipt.status is UnitStatus.SUCCEEDED
        and all((root / SHARDS / dataset / name).is_file() for name in receipt.outputs)
        for receipt in read_receipts(root / RECEIPTS / f"{dataset}.jsonl").values()
    )


def _folds(params: Params, *, root: Path) -> int:
    """Count the folds; with `split.leave_out` those of ``data/splits.json``, as far as it is there."""
    if params.known_folds is not None:
        return params.known_folds
    try:
        splits = read_splits(root)
    except UserError:
        splits = None  # The stage writes it anew.
    return len(splits.folds) if splits else params.split.folds


def _of_all_datasets(params: Params, forecasts: Sequence[Forecast], *, site: Site, root: Path) -> Iterator[Work]:
    """Yield the stages that are there once."""
    recordings = sum(item.recordings or item.files or 0 for item in forecasts)
    shards = float(sum(item.shards or 0 for item in forecasts))
    folds = _folds(params, root=root)
    at_once = min(site.workers, folds)
    model = params.pretrain.model
    larger = model.layers * model.width**2 * params.pretrain.batch_windows / SAMPLE_MODEL
    models = sum(path.stat().st_size for path in (root / MODELS).rglob("*") if path.is_file()) or folds * MODEL_BYTES
    yield Work(stage="split", amount=float(recordings), files=1, written=1000 * recordings * COPIES)
    yield Work(
        stage="pretrain",
        amount=ceil(folds / at_once) * (params.pretrain.steps * larger + TUNING_STEPS_PER_MB * shards / 1e6),
        held_bytes=shards,
        at_once=at_once,
        files=3 * folds + 1,
        written=models * (COPIES + 1),  # And its state while it runs.
    )
    for name, chosen in params.finetune.items():
        yield Work(
            stage=f"finetune@{name}",
            amount=len(chosen.folds) * chosen.steps * larger,
            held_bytes=shards,
            files=3 * len(chosen.folds) + 1,
            written=models // folds * len(chosen.folds) * (COPIES + 1),
        )
    yield Work(
        stage="evaluate", amount=float(folds * recordings), held_bytes=shards, files=5, written=3_000_000 * COPIES
    )
    modality = {item.dataset: load_entry(item.dataset, root=root).modality for item in forecasts}
    connected = [item for item in forecasts if modality[item.dataset] is Modality.FMRI]
    runs = sum(item.recordings or item.files or 0 for item in connected)
    yield Work(
        stage="connectivity",
        amount=float(runs),
        # One shard at a time, and the edges of all recordings.
        held_bytes=float(sum(item.shards or 0 for item in connected)),
        files=runs + len(connected) + 1,
        written=runs * MATRICES * COPIES,
    )
    # A slice holds few recordings, however many there are.
    yield Work(stage="slice", amount=float(len(set(modality.values()))), files=1, written=20_000)
    yield Work(stage="report", amount=float(recordings), held_bytes=shards, files=3, written=4_000_000 * COPIES)
