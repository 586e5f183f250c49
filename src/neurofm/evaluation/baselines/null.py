"""The null: every hidden channel stays at its mean in calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.row import NULL
from neurofm.windows import RecordingView


class Null:
    """Predicts the calibration mean, which is 0 in the normaliser's SDs."""

    name = NULL

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Nothing is learned: the normaliser holds the mean."""

    def predict(
        self,
        view: RecordingView,
        visible: npt.NDArray[np.float32],
        visible_index: npt.NDArray[np.int64],
        hidden_index: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Predict 0 everywhere; see `Estimator.predict`."""
        del view, visible_index
        return np.zeros((*visible.shape[:2], len(hidden_index)))
