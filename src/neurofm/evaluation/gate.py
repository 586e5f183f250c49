"""Gate: nothing that was learned from is scored, or its rows say so where params.yaml allows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from neurofm.errors import UserError
from neurofm.evaluation.audit import Leak, Model, fold_leaks, model_leaks, view_leaks
from neurofm.evaluation.calibration_row import CalibrationRow
from neurofm.evaluation.few_shot_row import FewShotRow
from neurofm.evaluation.row import OURS, Row
from neurofm.shards.packed import PackedShard
from neurofm.splits import Fold, FoldRecording, Splits
from neurofm.splits.candidates import content_of
from neurofm.windows import RecordingView, WindowsSettings

Scored = TypeVar("Scored", Row, FewShotRow, CalibrationRow)
_MEND = (
    "run `dvc repro split pretrain evaluate`; to score it all the same, with the rows labelled, set "
    "`evaluate.allow_overlap: true` in params.yaml"
)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The gate of one evaluation: every fold, model and view passes it, then the rows."""

    splits: Splits
    shards: Path
    windows: WindowsSettings
    allow_overlap: bool
    """Whether what leaks is scored and labelled."""
    leaks: list[Leak] = field(default_factory=list)
    """What was let through."""
    _contents: dict[str, str] = field(default_factory=dict)

    def check_fold(self, number: int, model: Model) -> None:
        """Check one fold and the model trained in it.

        Raises
        ------
        UserError
            If anything scored was learned from and that is not allowed.
        Unreadable
            For a damaged shard.
        """
        fold = self.splits.folds[number]
        gaps = {entry.name: self._gap(entry) for entry in fold.recordings if entry.test and entry.kind == "time"}
        found = fold_leaks(fold, number=number, same=self.splits.same, gaps=gaps, contents=self._contents_of(fold))
        self._let_through([*found, *model_leaks(fold, number=number, same=self.splits.same, model=model)])

    def check_views(self, number: int, views: Collection[RecordingView]) -> None:
        """Check that a fold's recordings are normalised from their calibration only.

        Raises
        ------
        UserError
            If not, and that is not allowed.
        """
        self._let_through(view_leaks(views, number=number))

    def labelled(self, rows: Iterable[Scored]) -> tuple[Scored, ...]:
        """Say in each row what of it was learned from; rows without a leak stay as they are."""
        return tuple(row.model_copy(update={"leak": self._label(row)}) for row in rows)

    def _let_through(self, leaks: Sequence[Leak]) -> None:
        if leaks and not self.allow_overlap:
            raise UserError(f"evaluate: {leaks[0].problem}{_more(len(leaks) - 1)}.", mend=_MEND)
        self.leaks.extend(leaks)

    def _label(self, row: Row | FewShotRow | CalibrationRow) -> str:
        units: defaultdict[str, set[str]] = defaultdict(set)
        for leak in self.leaks:
            if leak.dataset == row.dataset and (row.model.startswith(OURS) or not leak.of_model):
                units[leak.label].add(leak.unit)
        entries = (entry for fold in self.splits.folds for entry in fold.recordings)
        scored = [entry for entry in entries if entry.test and entry.dataset == row.dataset]
        counts = {
            "subjects": len({entry.subject for entry in scored}),
            "sessions": len({entry.unit for entry in scored}),
            "recordings": len({entry.name for entry in scored}),
        }
        return "; ".join(
            label.format(f"{len(leaking)} of {counts[label.rpartition(' ')[2]]}")
            for label, leaking in sorted(units.items())
        )

    def _contents_of(self, fold: Fold) -> dict[str, str]:
        for entry in fold.recordings:
            if entry.name not in self._contents:
                self._contents[entry.name] = content_of(self._path(entry))
        return self._contents

    def _gap(self, entry: FoldRecording) -> int:
        """Return a window and the support of all filters, in samples."""
        attributes = PackedShard(self._path(entry)).attributes()
        support_s = sum(float(step["support_s"]) for step in attributes["pipeline"]["steps"])
        window = self.windows.of(entry.modality).window_samples
        return window + round(support_s * float(attributes["sampling_rate_hz"]))

    def _path(self, entry: FoldRecording) -> Path:
        return self.shards / entry.dataset / f"{entry.recording}.zarr.zip"


def _more(count: int) -> str:
    return f" (and {count} more)" if count else ""
