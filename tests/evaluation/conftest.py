"""Recordings with a known truth, as one fold sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from neurofm.evaluation.settings import EvaluateSettings
from neurofm.windows import RecordingView
from tests.views import Span, spans, view_of

__all__ = ["Span", "spans", "view_of"]

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
