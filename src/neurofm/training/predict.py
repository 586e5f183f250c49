"""Predictor: a trained model applied to recordings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from neurofm.errors import UserError
from neurofm.model.forecast import Forecast
from neurofm.model.links import predict, to_z
from neurofm.model.stationary_core import STATIONARY, StationaryCore
from neurofm.model.whole_channels import Network
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training.acquisition import refuse_other
from neurofm.training.batches import make_batch, see
from neurofm.training.cache import MOST_BYTES, Cache
from neurofm.training.checkpoint import Checkpoint, digest, read_checkpoint
from neurofm.training.contexts import Context, make_context, scale_of
from neurofm.training.forecasts import forecast_of
from neurofm.training.hidden_patches import key_of, make_patch_batch
from neurofm.training.stationary import core_of, prior_of_usable, usable_of
from neurofm.training.subject_sums import moments_of_others, pooled_lags_of_others
from neurofm.windows import RecordingView

_COMPONENTS = 32
Described = tuple[str, tuple[Segment, ...]]
"""A recording's name, and the segments that it is described from."""


class Predictor:
    """Predict hidden channels from visible ones, and encode windows.

    What is visible comes in as an array of the visible channels only, so nothing else can be looked at. A
    recording is described once, by `prepare`, from its calibration segments.

    Parameters
    ----------
    checkpoint
        The trained model.
    strict
        Whether recordings of another rate, atlas or montage than those of the training are refused.
    most_bytes
        Of descriptions of recordings, and of cores for hidden patches, each: what is asked for again later is then
        made again.
    """

    def __init__(self, checkpoint: Checkpoint, *, strict: bool = True, most_bytes: int = MOST_BYTES) -> None:
        self.checkpoint = checkpoint
        self._strict = strict
        self._contexts: Cache[Described, Context] = Cache(most_bytes=most_bytes)
        self._cores: Cache[Described, StationaryCore] = Cache(most_bytes=most_bytes, size=lambda core: core.bytes)
        self._forecasts: Cache[tuple[str, tuple[Segment, ...], int, bytes], Forecast] = Cache(most_bytes=most_bytes)

    @classmethod
    def load(cls, folder: Path, *, strict: bool = True) -> Self:
        """Load ``models/pretrained/fold-<n>``.

        Raises
        ------
        UserError
            If a file is missing or damaged.
        """
        return cls(read_checkpoint(folder), strict=strict)

    @property
    def bytes(self) -> int:
        """Memory of what is kept of recordings."""
        return self._contexts.bytes + self._cores.bytes + self._forecasts.bytes

    def with_network(self, network: Network) -> Predictor:
        """Return the same model with another network, which shares what is known of recordings."""
        other = Predictor(replace(self.checkpoint, network=network.eval()), strict=self._strict)
        other._contexts, other._cores = self._contexts, self._cores  # its own class
        other._forecasts = self._forecasts
        return other

    def feature_names(self) -> list[str]:
        """Return the names of the last axis of what `encode` returns."""
        width = self.checkpoint.model.width
        return [f"latent {number}" for number in range(width)] + [
            f"component {number}" for number in range(_COMPONENTS)
        ]

    def trained_on(self, subject: str) -> bool:
        """Whether the subject was seen in training."""
        return digest(subject) in self.checkpoint.subjects

    def learned_as(self, recording: str) -> str | None:
        """Return the digest of the roles by which a recording, ``<dataset>/<recording>``, was learned from.

        None where it was not; empty where it had several.
        """
        return self.checkpoint.roles.get(digest(recording))

    def prepare(self, view: RecordingView) -> Context:
        """Describe a recording from its calibration segments and other subjects; kept, while there is room.

        Raises
        ------
        UserError
            For a modality that the model was not trained on; and, if this one is strict, for another rate, atlas or
            montage.
        """
        return self._contexts.get((view.name, view.roles.calibration), lambda: self._described(view))

    def kinds(self, modality: Modality) -> tuple[str, ...]:
        """Kinds of masks, other than whole channels, that the model has learned to fill in."""
        keys = (key.partition(" ") for key in self.checkpoint.gains)
        return tuple(kind for name, _, kind in keys if name == modality and kind)

    def predict(
        self,
        view: RecordingView,
        visible: npt.NDArray[np.float32],
        visible_index: npt.NDArray[np.int64],
        hidden_index: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Predict hidden channels with the whole model.

        Parameters
        ----------
        view
            The recording that the windows are of; only its calibration segments are looked at.
        visible
            [window, time, visible] z units; time in whole patches.
        visible_index, hidden_index
            Channels of the recording.

        Returns
        -------
        [window, time, hidden] float64 in z units; for spikes (expected count - mean) / SD.
        """
        return self._predict(view, visible, visible_index, hidden_index, gain=self.checkpoint.gains[view.modality])

    def predict_linear(
        self,
        view: RecordingView,
        visible: npt.NDArray[np.float32],
        visible_index: npt.NDArray[np.int64],
        hidden_index: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Predict hidden channels with the core alone, linear or a bank; as `predict`."""
        return self._predict(view, visible, visible_index, hidden_index, gain=0.0)

    def predict_patches(
        self,
        view: RecordingView,
        z: npt.NDArray[np.float32],
        shown: npt.NDArray[np.bool_],
        *,
        kind: str,
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Fill in hidden patches with the whole model.

        Parameters
        ----------
        view
            The recording that the windows are of; only its calibration segments are looked at.
        z
            [window, time, channel] z units of all channels; what is hidden may be anything.
        shown
            [window, patch, channel] bool: something of usable channels in each window.
        kind
            Of mask, which decides how much of the core is kept, and of the network added: all and none, unless
            `kinds` names it.
        valid
            [window, time] bool: samples fit for use; all without.

        Returns
        -------
        [window, time, channel] float64 in z units: what is shown as it is, predictions of usable channels where
        hidden, and 0 elsewhere.

        Raises
        ------
        UserError
            For a modality without such a core, and as `prepare`.
        """
        gain = self.checkpoint.gains.get(key_of(view.modality, kind), 0.0)
        return self._fill(view, z, shown, kind=kind, valid=valid, gain=gain)

    def predict_patches_core(
        self,
        view: RecordingView,
        z: npt.NDArray[np.float32],
        shown: npt.NDArray[np.bool_],
        *,
        kind: str,
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Fill in hidden patches with the stationary core alone, behind its gate; as `predict_patches`."""
        return self._fill(view, z, shown, kind=kind, valid=valid, gain=0.0)

    def predict_forward(
        self,
        view: RecordingView,
        known: npt.NDArray[np.float32],
        *,
        future: int,
        looked_at: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Foretell what follows on windows of spikes, calcium or Miniscope with the forecast core; no network does yet.

        It is of the recording alone, and so of any, whatever the model was trained on.

        Parameters
        ----------
        view
            The recording that the windows are of; only its calibration segments are looked at.
        known
            [window, time, channel] z units; with `future` as long as the windows of the training.
        future
            Samples to foretell.
        looked_at
            [channel] whose past is looked at; by default all usable ones.

        Returns
        -------
        [window, future, channel] float64 in z units, for spikes (expected count - mean) / SD; 0 where not usable.
        """
        looked_at = view.usable if looked_at is None else looked_at
        window = self.checkpoint.windows.of(view.modality)

        def make() -> Forecast:
            return forecast_of(
                view,
                view.roles.calibration,
                window_samples=window.window_samples,
                future=future,
                stride=window.patch_samples,
                looked_at=looked_at,
            )

        key = (view.name, view.roles.calibration, future, looked_at.tobytes())
        usable = usable_of(view)
        linear = self._forecasts.get(key, make).predict(torch.from_numpy(known))[..., usable]
        scale = scale_of(view, rate_floor=1.0, kind="bank").of(usable)
        prediction = predict(view.modality, linear=linear, residual=torch.zeros_like(linear), scale=scale)
        foretold = np.zeros((len(known), future, len(view.channel_ids)))
        foretold[..., usable] = to_z(view.modality, prediction, scale=scale).numpy()
        return foretold

    def encode(self, view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Encode windows with all usable channels visible.

        Parameters
        ----------
        view
            The recording.
        z
            [window, time, channel] z units of all its channels; time in whole patches.

        Returns
        -------
        [window, patch, width + 32] float32: the network's latents, then the first 32 principal components of what
        the linear core sees, averaged over the patch. Both are found without labels; the components are the
        recording's own, so they compare between recordings of one channel set only.
        """
        context = self.prepare(view)
        usable = torch.from_numpy(np.flatnonzero(view.usable))
        seen, smoothed = see(view, context, values=torch.from_numpy(z)[..., usable], visible=usable)
        with torch.no_grad():
            latents = self.checkpoint.network.encode(seen)
        scores = smoothed.flatten(-2) @ context.core.components(usable, count=_COMPONENTS)
        windows, patches, _ = latents.shape
        averaged = scores.reshape(windows, patches, -1, _COMPONENTS).mean(dim=2)
        encoded: npt.NDArray[np.float32] = torch.cat([latents, averaged.float()], dim=-1).numpy()
        return encoded

    def _fill(
        self,
        view: RecordingView,
        z: npt.NDArray[np.float32],
        shown: npt.NDArray[np.bool_],
        *,
        kind: str,
        valid: npt.NDArray[np.bool_] | None,
        gain: float,
    ) -> npt.NDArray[np.float64]:
        context, core, usable = self.prepare(view), self._stationary(view), usable_of(view)
        batch, hidden = make_patch_batch(
            view,
            context,
            core,
            z=torch.from_numpy(z),
            valid=torch.from_numpy(np.ones(z.shape[:2], dtype=bool) if valid is None else valid),
            shown=torch.from_numpy(shown)[..., usable],
            asked=torch.arange(len(usable)),
            gate=self.checkpoint.choices.gate(view, kind),
        )
        filled = batch.linear
        if gain:
            with torch.no_grad():
                filled = filled + gain * self.checkpoint.network(batch.seen, batch.query).double()
        predicted = np.zeros(z.shape)
        predicted[..., usable] = torch.where(hidden, filled, batch.seen.values.double()).numpy()
        return predicted

    def _stationary(self, view: RecordingView) -> StationaryCore:
        """Describe a recording's usable channels from its calibration segments and the prior; kept, too."""
        if view.modality not in STATIONARY:
            raise UserError(
                f"{view.name}: hidden patches of {view.modality} have no core to fill them in.",
                mend=f"hide whole channels; patches are for {', '.join(STATIONARY)}",
            )
        return self._cores.get((view.name, view.roles.calibration), lambda: self._core(view))

    def _described(self, view: RecordingView) -> Context:
        """Describe a recording anew."""
        choices = self.checkpoint.choices
        if view.channel_set not in choices.by_channel_set and view.modality not in choices.by_modality:
            raise UserError(
                f"{view.name}: the model was not trained on {view.modality} recordings.",
                mend="add a dataset of that modality to `datasets` in params.yaml and train again",
            )
        if self._strict:
            refuse_other(view, self.checkpoint.acquisitions)
        choice = choices.of(view)
        prior = moments_of_others(self.checkpoint, view, sds_samples=choice.core.smoothing_samples)
        return make_context(
            view, calibration=view.roles.calibration, prior=prior, choice=choice, shared=choices.bank(view)
        )

    def _core(self, view: RecordingView) -> StationaryCore:
        """Adapt what is expected of a recording to it anew."""
        window_samples = self.checkpoint.windows.of(view.modality).window_samples
        total = pooled_lags_of_others(self.checkpoint, view)
        others = None if total is None else prior_of_usable(view, total, window_samples=window_samples)
        return core_of(view, others=others, calibration=view.roles.calibration, window_samples=window_samples)

    def _predict(
        self,
        view: RecordingView,
        visible: npt.NDArray[np.float32],
        visible_index: npt.NDArray[np.int64],
        hidden_index: npt.NDArray[np.int64],
        *,
        gain: float,
    ) -> npt.NDArray[np.float64]:
        batch = make_batch(
            view,
            self.prepare(view),
            values=torch.from_numpy(visible),
            visible=torch.from_numpy(visible_index),
            hidden=torch.from_numpy(hidden_index),
        )
        residual = torch.zeros_like(batch.linear)
        if gain:
            with torch.no_grad():
                residual = gain * self.checkpoint.network(batch.seen, batch.query).double()
        prediction = predict(view.modality, linear=batch.linear, residual=residual, scale=batch.scale)
        values: npt.NDArray[np.float64] = to_z(view.modality, prediction, scale=batch.scale).numpy()
        return values
