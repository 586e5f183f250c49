"""Our model as estimators, beside the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.masked import bits_of, reconstruct
from neurofm.evaluation.row import LINEAR_CORE, OURS
from neurofm.evaluation.samples import learning_windows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView
from neurofm.windows.often import fired_often

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Neurofm:
    """The trained model; `fit` only lets it describe the recordings from their calibration segments.

    Of spikes it does not look at units that seldom fire. Of an animal never trained on, little calibration makes its
    description uncertain, and what it predicts too large: how much of it is kept is chosen on the last fifth of the
    calibration, described from the rest.

    Parameters
    ----------
    predictor
        The fold's model.
    core_only
        Leave the network out: the row that says what the network adds.
    name
        As it stands in the scoreboard.
    settings
        Masks and floors, for that choice; without, everything is kept.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        core_only: bool = False,
        name: str = OURS,
        settings: EvaluateSettings | None = None,
    ) -> None:
        self.predictor = predictor
        self.core_only = core_only
        self.name = LINEAR_CORE if core_only else name
        self.settings = settings
        self.shares: dict[str, float] = {}
        """By recording, how much is kept of the predicted distance from the mean."""

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Describe each recording; see `Estimator.fit`."""
        for view in views:
            self.predictor.prepare(view)
            strange = view.roles.kind == "subject" and view.roles.test
            if self.settings is not None and view.modality is Modality.SPIKES and strange:
                self.shares[view.name] = self._choose_share(view, self.settings)

    def predict(
        self,
        view: RecordingView,
        visible: npt.NDArray[np.float32],
        visible_index: npt.NDArray[np.int64],
        hidden_index: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Predict hidden channels; see `Estimator.predict`."""
        if view.modality is Modality.SPIKES:
            seen = fired_often(view)[visible_index]
            if seen.any():
                visible, visible_index = visible[..., seen], visible_index[seen]
        predict = self.predictor.predict_linear if self.core_only else self.predictor.predict
        return self.shares.get(view.name, 1.0) * predict(view, visible, visible_index, hidden_index)

    def _choose_share(self, view: RecordingView, settings: EvaluateSettings) -> float:
        window_samples = self.predictor.checkpoint.windows.of(view.modality).window_samples
        _, (judge,) = learning_windows([view], window_samples=window_samples)
        stop = int(judge.start[0])
        earlier = tuple(
            Segment(start=part.start, stop=min(part.stop, stop)) for part in view.roles.calibration if part.start < stop
        )
        roles = view.roles.model_copy(update={"calibration": earlier})
        # Under a name of its own, since descriptions are kept by name.
        known = replace(view, recording=f"{view.recording} until {stop}", roles=roles)
        judge = replace(judge, view=known)
        whole = reconstruct(self, judge, settings=settings)
        bits = {share: max(bits_of([(judge, share * whole)], settings=settings).values()) for share in _SHARES}
        return max(_SHARES, key=bits.__getitem__)
