"""Estimator: whatever predicts hidden channels from visible ones, ours and every baseline alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from neurofm.windows import RecordingView


class Estimator(Protocol):
    """Predicts hidden channels from visible ones, in SDs of the view's normaliser."""

    @property
    def name(self) -> str:
        """As it stands in the scoreboard; ours start with ``neurofm``."""

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Learn from the recordings of one channel set in one fold.

        Reads train, validation and calibration segments and never a test segment.
        """

    def predict(
        self,
        view: RecordingView,
        visible: npt.NDArray[np.float32],
        visible_index: npt.NDArray[np.int64],
        hidden_index: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Predict the hidden channels of windows of `view`.

        The targets are not among the arguments, and an estimator may read no other than the view's
        calibration segments.

        Parameters
        ----------
        view
            One of the views given to `fit`.
        visible
            [window, time, visible channel] in SDs.
        visible_index
            [visible channel] their columns in the view.
        hidden_index
            [hidden channel] the columns to predict.

        Returns
        -------
        [window, time, hidden channel] in SDs.
        """
