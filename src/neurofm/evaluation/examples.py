"""Examples: one held-out window per dataset, as recorded and as reconstructed, for the report."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.masked import expected_counts
from neurofm.evaluation.samples import Windows, masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.files import write_atomic
from neurofm.recording import Modality

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One window of held-out data in which a group of channels was hidden."""

    dataset: str
    recording: str
    modality: str
    fold: int
    sampling_rate_hz: float
    start_s: float
    """Where the window starts, in seconds from the recording's first sample."""
    channels: tuple[str, ...]
    """[hidden]"""
    unit: str
    """``SD`` of calibration; ``spikes per bin`` for spikes."""
    truth: Floats
    """[time, hidden]"""
    reconstructions: Mapping[str, Floats] = field(default_factory=dict)
    """[time, hidden] per model."""

    def only(self, models: Sequence[str]) -> Example:
        """Keep the reconstructions of `models`, in that order."""
        plain = {key: value for key, value in vars(self).items() if key != "reconstructions"}
        return Example(**plain, reconstructions={model: self.reconstructions[model] for model in models})


def take_example(test: Windows, predicted: Mapping[str, Floats], *, fold: int, settings: EvaluateSettings) -> Example:
    """Take the first window with its first group of hidden channels.

    Parameters
    ----------
    test
        Windows of the test segments.
    predicted
        [window, time, channel] in SDs per model.
    fold
        Which fold they are of.
    settings
        Masks, and the lowest floor of the rate.
    """
    view = test.view
    _, hidden = masks(view, settings)[0]
    spikes = view.modality is Modality.SPIKES
    truth = test.values() if spikes else test.z

    def shown(z: Floats) -> Floats:
        return expected_counts(view, z, floor=min(settings.rate_floors)) if spikes else z

    return Example(
        dataset=view.dataset,
        recording=view.recording,
        modality=str(view.modality),
        fold=fold,
        sampling_rate_hz=view.sampling_rate_hz,
        start_s=int(test.start[0]) / view.sampling_rate_hz,
        channels=tuple(view.channel_ids[channel] for channel in hidden.tolist()),
        unit="spikes per bin" if spikes else "SD",
        truth=truth[0][:, hidden].astype(np.float64),
        reconstructions={model: shown(z[:1])[0][:, hidden] for model, z in predicted.items()},
    )


def write_examples(examples: Sequence[Example], path: Path) -> None:
    """Write as ``.npz`` of plain arrays and one JSON text; the same examples give the same bytes."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    described = []
    for number, example in enumerate(examples):
        arrays[f"{number}.truth"] = example.truth.astype(np.float32)
        for place, reconstruction in enumerate(example.reconstructions.values()):
            arrays[f"{number}.reconstruction.{place}"] = reconstruction.astype(np.float32)
        plain = {key: value for key, value in asdict(example).items() if key not in ("truth", "reconstructions")}
        described.append({**plain, "models": list(example.reconstructions)})
    arrays["examples"] = np.array(json.dumps(described, sort_keys=True))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def read_examples(path: Path) -> list[Example]:
    """Read what `write_examples` wrote; in each, our model stands before the best baseline."""
    with np.load(path, allow_pickle=False) as arrays:
        examples = []
        for number, plain in enumerate(json.loads(str(arrays["examples"]))):
            models = plain.pop("models")
            examples.append(
                Example(
                    **{**plain, "channels": tuple(plain["channels"])},
                    truth=arrays[f"{number}.truth"].astype(np.float64),
                    reconstructions={
                        model: arrays[f"{number}.reconstruction.{place}"].astype(np.float64)
                        for place, model in enumerate(models)
                    },
                )
            )
        return examples
