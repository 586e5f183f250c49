"""Recordings with a known truth, as one fold sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests import views
from tests.views import Span, spans

__all__ = ["Span", "spans"]

Roles = dict[str, Any]
"""Spans by the name of their role, as keyword arguments of `view_of`."""
MakeView = Callable[..., RecordingView]
WINDOW = 20
SETTINGS = {
    "seed": 3,
    "mask_groups": 3,
    "bootstrap_samples": 200,
    "smoothing_samples": [0.0, 1.0, 4.0],
    "ridge_penalties": [0.0001, 0.01, 0.1, 1.0],
    "shrinkages": [0.001, 0.01, 0.1],
    "ppca_ranks": [1, 2, 4],
    "prior_samples": [0.0, 100.0, 10000.0],
    "glm_penalties": [0.0001, 0.01],
    "rate_floors": [0.01, 0.1],
    "decode": ["head_direction"],
    "classify": ["eyes_closed"],
}


def view_of(
    values: npt.NDArray[np.float64],
    *,
    modality: Modality = Modality.CALCIUM,
    dataset: str = "",
    targets: Mapping[str, npt.NDArray[np.float32]] | None = None,
    **told: Any,
) -> RecordingView:
    """Wrap [time, channel] values as a view, as `tests.views` does, of a dataset and with targets."""
    view = views.view_of(values, modality=modality, **told)
    dataset = dataset or view.dataset
    roles = view.roles.model_copy(update={"dataset": dataset})
    return replace(view, dataset=dataset, roles=roles, targets=targets or {})


def poison(view: RecordingView) -> RecordingView:
    """Replace every test sample; the normaliser, fitted on calibration, is that of the recording."""
    stored = view.stored[:].copy()
    for segment in view.roles.test:
        stored[segment.start : segment.stop] = 255 - stored[segment.start : segment.stop]
    return replace(view, stored=stored)


@pytest.fixture
def make_view() -> MakeView:
    return view_of


@pytest.fixture
def settings() -> EvaluateSettings:
    return EvaluateSettings.parse(SETTINGS, where="evaluate", mend="")
