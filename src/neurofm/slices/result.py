"""Result: what is written down of a slice, for another run to be compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError

from neurofm.errors import UserError
from neurofm.evaluation.row import Row
from neurofm.files import write_json
from neurofm.recording import Modality
from neurofm.settings import Settings
from neurofm.slices.machine import Machine


class SliceRecording(Settings):
    """One recording of a slice."""

    modality: Modality
    dataset: str
    recording: str
    seconds: float
    """Length of the slice."""
    samples: int
    of_samples: int
    """Length of the whole recording."""
    shard_sha256: str
    """Of the whole recording's shard."""
    slice_sha256: str
    """Of the shard that holds the slice alone."""

    @property
    def name(self) -> str:
        """``<dataset>/<recording>``."""
        return f"{self.dataset}/{self.recording}"


class SliceResult(Settings):
    """``metrics/slice.json``."""

    schema_: Literal["neurofm-slice/1"] = Field(default="neurofm-slice/1", alias="schema")
    made_on: Machine
    recordings: tuple[SliceRecording, ...]
    not_scored: dict[str, str]
    """Why a modality has a shard in the slice but no scores, or is not in it, by modality."""
    splits_sha256: str
    models: dict[str, str]
    """SHA-256 per file of the model."""
    scores: tuple[Row, ...]

    def write(self, path: Path) -> None:
        """Write as canonical JSON."""
        write_json(path, self.model_dump(mode="json", by_alias=True))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises
        ------
        UserError
            If it is not there, or is something else.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"{path} is not there.", mend="run `dvc repro slice`, which writes it") from None
        except ValidationError as error:
            raise UserError.from_validation(
                error, where=str(path), mend="run `dvc repro slice`, which writes it anew"
            ) from None
