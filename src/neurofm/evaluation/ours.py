"""Our model as estimators, beside the baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.row import LINEAR_CORE, OURS
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView


class Neurofm:
    """The trained model; `fit` only lets it describe the recordings from their calibration segments.

    Parameters
    ----------
    predictor
        The fold's model.
    core_only
        Leave the network out: the row that says what the network adds.
    """

    def __init__(self, predictor: Predictor, *, core_only: bool = False) -> None:
        self.predictor = predictor
        self.core_only = core_only
        self.name = LINEAR_CORE if core_only else OURS

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Describe each recording; see `Estimator.fit`."""
        for view in views:
            self.predictor.prepare(view)

    def predict(
        self,
        view: RecordingView,
        visible: npt.NDArray[np.float32],
        visible_index: npt.NDArray[np.int64],
        hidden_index: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Predict hidden channels; see `Estimator.predict`."""
        predict = self.predictor.predict_linear if self.core_only else self.predictor.predict
        return predict(view, visible, visible_index, hidden_index)
