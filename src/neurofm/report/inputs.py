"""Everything that the report reads. A piece that is not there is empty, and its section is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.evaluation.calibration_row import CalibrationRow
from neurofm.evaluation.difference import NO_DIFFERENCES, Differences
from neurofm.evaluation.examples import Example, read_examples
from neurofm.evaluation.few_shot_row import FewShotRow
from neurofm.evaluation.findings import NO_FINDINGS, Findings, read_findings
from neurofm.evaluation.row import Row
from neurofm.recording import Manifest
from neurofm.report.words import modality_order
from neurofm.report.written import DatasetConnectivity, DatasetQuality, Pretraining, RecordingQuality
from neurofm.splits import Splits

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """What the earlier stages left."""

    entries: tuple[CatalogEntry, ...]
    """In the page's order: by modality, then by id."""
    quality: Mapping[str, DatasetQuality]
    manifests: Mapping[str, Manifest]
    splits: Splits | None
    training: Pretraining
    connectivity: Mapping[str, DatasetConnectivity]
    scores: tuple[Row, ...]
    """Rows of the scoreboard."""
    differences: Differences
    """Of ours to the best baseline."""
    examples: tuple[Example, ...]
    """Held-out windows as recorded and as reconstructed."""
    findings: Findings
    """What the model has learned, in numbers to be drawn."""
    few_shot: tuple[FewShotRow, ...]
    calibration: tuple[CalibrationRow, ...]

    def recordings(self, dataset: str) -> Mapping[str, RecordingQuality]:
        """Return the dataset's recordings by id."""
        found = self.quality.get(dataset)
        return found.recordings if found else {}

    def taking_part(self, dataset: str) -> frozenset[str]:
        """Return the dataset's recordings that at least one fold uses."""
        if self.splits is None:
            return frozenset()
        return frozenset(
            entry.recording for fold in self.splits.folds for entry in fold.recordings if entry.dataset == dataset
        )


def read_inputs(*, root: Path, datasets: Sequence[CatalogEntry]) -> ReportInputs:
    """Read metrics, manifests and splits under the project's root.

    Raises
    ------
    UserError
        For a file that is there but is not what its stage writes.
    """
    metrics = root / "metrics"
    examples, findings = (root / "reports" / name for name in ("reconstructions.npz", "findings.npz"))
    quality = {d.id: _read(metrics / "quality" / f"{d.id}.json", DatasetQuality) for d in datasets}
    manifests = {d.id: _read(root / "data" / "manifests" / f"{d.id}.json", Manifest) for d in datasets}
    return ReportInputs(
        entries=tuple(sorted(datasets, key=lambda entry: (modality_order(entry.modality), entry.id))),
        quality={name: found for name, found in quality.items() if found},
        manifests={name: found for name, found in manifests.items() if found},
        splits=_read(root / "data" / "splits.json", Splits),
        training=_read(metrics / "pretrain.json", Pretraining) or Pretraining(),
        connectivity=_read(metrics / "connectivity.json", dict[str, DatasetConnectivity]) or {},
        scores=_read(metrics / "scoreboard.json", tuple[Row, ...]) or (),
        differences=_read(metrics / "differences.json", Differences) or NO_DIFFERENCES,
        examples=tuple(read_examples(examples)) if examples.is_file() else (),
        findings=read_findings(findings) if findings.is_file() else NO_FINDINGS,
        few_shot=_read(metrics / "few_shot.json", tuple[FewShotRow, ...]) or (),
        calibration=_read(metrics / "calibration.json", tuple[CalibrationRow, ...]) or (),
    )


def _read(path: Path, kind: type[T]) -> T | None:
    if not path.is_file():
        return None
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError.from_validation(
            error, where=str(path), mend="delete the file and run the stage that writes it again (`dvc repro`)"
        ) from None
