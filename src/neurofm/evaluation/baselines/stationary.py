"""Baselines for hidden patches: the mean, a Gaussian of each sample, and a stationary Gaussian of whole windows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from neurofm.evaluation.baselines.null import Null
from neurofm.evaluation.samples import Windows
from neurofm.evaluation.scores import Floats
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.model.pooled_lags import PooledLags, interval_of
from neurofm.model.posterior import WindowCovariance, conjugate_gradients
from neurofm.model.prior import LagSums, PriorSettings, StationaryPrior, lag_sums
from neurofm.model.stationary_core import STATIONARY, TOLERANCE
from neurofm.training.cache import Cache
from neurofm.training.stationary import expected_lags, lag_sums_of, usable_of
from neurofm.windows import RecordingView

Shown = npt.NDArray[np.bool_]
_ITERATIONS = 400
"""Most steps of conjugate gradients. EEG of 60 channels whose spectra are hardly shrunk takes 270; our core, whose
weights are fixed, has enough with 60."""
_SLACK = 2.0
"""Times the tolerance that what is left may be: conjugate gradients stop by their own count of it."""
_SEPARABLE = (0.0, 0.5, 0.9, 1.0)
"""Shares of the separable spectrum to choose from."""


class Choice(NamedTuple):
    """What a baseline is tuned by."""

    shrinkage: float
    """Share of white noise."""
    prior_samples: float = 0.0
    """How many samples of the recording's own weigh as much as the training recordings."""
    separable: float = 0.0
    """Share of the separable spectrum."""


Grid = Sequence[Mapping[str, float]]
"""Values of some fields of a choice, of which one is chosen while the other fields stand."""


class Filler(Protocol):
    """Fills in what is hidden of windows, in SDs of the view's normaliser."""

    @property
    def name(self) -> str:
        """As it stands in the scoreboard."""

    @property
    def converged(self) -> bool:
        """Whether what was filled in last was solved for to the end; where it was not, the choice is refused."""

    def choices(self, settings: EvaluateSettings) -> list[Grid]:
        """Return grids of changes of `Choice`, chosen from one after the other; nothing where nothing is to be."""

    def choose(self, choice: Choice) -> None:
        """Use this from now on."""

    def fill(self, view: RecordingView, z: npt.NDArray[np.float32], shown: Shown, valid: Shown) -> Floats:
        """Fill in.

        Parameters
        ----------
        view
            Of the windows; of its samples only those of calibration segments may be looked at.
        z
            [window, time, channel]; 0 where hidden.
        shown
            [window, patch, channel]
        valid
            [window, time] samples fit for use.

        Returns
        -------
        [window, time, channel]
        """


class NullFiller:
    """Predicts the calibration mean, which is 0 in the normaliser's SDs."""

    name = Null.name
    converged = True

    def choices(self, settings: EvaluateSettings) -> list[Grid]:
        """Nothing is chosen here."""
        del settings
        return []

    def choose(self, choice: Choice) -> None:
        """Nothing is chosen here."""

    def fill(self, view: RecordingView, z: npt.NDArray[np.float32], shown: Shown, valid: Shown) -> Floats:
        """Predict 0 where hidden; see `Filler.fill`."""
        del view, shown, valid
        return z.astype(np.float64)


class Stationary:
    """Posterior mean of a stationary Gaussian process.

    Its spectra are drawn towards white noise, and towards a separable spectrum: the mean spectrum of the channels times
    their covariance, which has no delays between channels and one rhythm for all of them. Of few samples, that is far
    better known than the spectra between all pairs of channels, and it has `gaussian` within it where the mean spectrum
    is flat.

    Parameters
    ----------
    name
        As it stands in the scoreboard.
    total
        Lagged products of training recordings, read at each recording's own sampling interval; None does without them.
    calibrated
        Whether those of each recording's own calibration are taken, alone or beside `total`: then the training
        recordings count as so many samples as is chosen.
    flat
        Whether lags are left out, so that samples are independent and only channels help each other.
    window_samples
        Longest window.
    """

    def __init__(
        self, name: str, *, total: PooledLags | None, calibrated: bool, flat: bool, window_samples: int
    ) -> None:
        self.name = name
        self._total, self._calibrated, self._flat, self._window_samples = total, calibrated, flat, window_samples
        self._choice = Choice(0.1)
        self.converged = True
        self._sums: Cache[Hashable, LagSums] = Cache()
        self._fitted: Cache[Hashable, tuple[StationaryPrior, torch.Tensor]] = Cache()

    def choices(self, settings: EvaluateSettings) -> list[Grid]:
        """Return separable shares, weights of training recordings beside the recording's own, and shrinkages.

        Independent samples have one spectrum, which is separable as it is; they cost so little that weights and
        shrinkages are one grid.
        """
        shrinkages = [{"shrinkage": shrinkage} for shrinkage in settings.shrinkages]
        weights = [{"prior_samples": samples} for samples in settings.prior_samples if samples > 0]
        if self._total is None or not self._calibrated:
            weights = []
        if self._flat:
            return [[weight | shrinkage for weight, shrinkage in product(weights, shrinkages)] or shrinkages]
        grids = [[{"separable": share} for share in _SEPARABLE], weights, shrinkages]
        return [grid for grid in grids if grid]

    def choose(self, choice: Choice) -> None:
        """Use this from now on; what was fitted for another choice goes, since spectra are large."""
        self._choice = choice
        self._fitted.clear()

    def fill(self, view: RecordingView, z: npt.NDArray[np.float32], shown: Shown, valid: Shown) -> Floats:
        """Fill in; see `Filler.fill`."""
        usable = usable_of(view)
        prior, precision = self._prior(view)
        values = torch.from_numpy(z)[..., usable]
        visible = torch.from_numpy(np.repeat(shown, z.shape[1] // shown.shape[1], axis=1) & valid[..., None])
        visible = visible[..., usable]
        covariance = WindowCovariance(spectra=prior.spectra, fft_samples=prior.fft_samples, precision=precision)
        mean, residual = _posterior_mean(covariance, values, visible, noise=STATIONARY[view.modality].noise)
        self.converged = residual <= _SLACK * TOLERANCE
        filled = z.astype(np.float64)
        filled[..., usable.numpy()] = torch.where(visible, values, mean).numpy()
        return filled

    def _prior(self, view: RecordingView) -> tuple[StationaryPrior, torch.Tensor]:
        """Return the prior, and the inverse of its spectra with the noise that visible samples carry.

        Without the noise a recording's own spectra are too close to singular to be inverted in float32.
        """
        own = (view.name, view.roles.calibration)
        whose = own if self._calibrated else (view.usable.tobytes(), interval_of(view.sampling_rate_hz))

        def make() -> tuple[StationaryPrior, torch.Tensor]:
            settings = STATIONARY[view.modality]
            lags, length = settings.lags, self._window_samples + settings.lags
            prior = StationaryPrior.fit(
                self._known(view).of(usable_of(view)),
                settings=PriorSettings(
                    lags=0 if self._flat else lags,
                    fft_samples=1 if self._flat else length,
                    shrinkage=self._choice.shrinkage,
                    covariance_shrinkage=self._choice.shrinkage,
                ),
            )
            prior = prior.towards_separable(self._choice.separable)
            identity = torch.eye(prior.channels, dtype=prior.spectra.dtype)
            precision = torch.linalg.inv(prior.spectra + settings.noise * identity)
            # Without lags there is one spectrum for all frequencies.
            every = (length // 2 + 1, prior.channels, prior.channels)
            whole = replace(prior, spectra=prior.spectra.expand(every), fft_samples=length).to(torch.zeros(1))
            return whole, precision.to(whole.spectra).expand(every)

        return self._fitted.get(whose, make)

    def _known(self, view: RecordingView) -> LagSums:
        """Return the lagged products that a recording is filled in from."""
        total = None if self._total is None else expected_lags(view, self._total)
        if not self._calibrated and total is not None:
            return total
        calibration = view.roles.calibration
        own = self._sums.get((view.name, calibration), lambda: lag_sums_of(view, calibration))
        if total is None:
            return own
        share = self._choice.prior_samples / max(float(total.pairs[0]), 1.0)
        return own + LagSums(pairs=share * total.pairs, products=share * total.products)


def _posterior_mean(
    covariance: WindowCovariance, values: torch.Tensor, visible: torch.Tensor, *, noise: float
) -> tuple[torch.Tensor, float]:
    """Find the mean of every entry given the visible ones, and how far the equations are from solved.

    As `neurofm.model.posterior.posterior_mean`, which does not tell the latter.

    Returns
    -------
    [window, time, channel], and the largest residual of a window relative to its visible values.
    """
    channels = visible[:, 0]
    # Whole channels are hidden: then their rows and columns can be left out at every frequency.
    whole = bool((visible == channels.unsqueeze(1)).all())
    inverse = covariance.inverse_among(channels, noise=torch.tensor(noise)) if whole else covariance.inverse()
    known = torch.where(visible, values, 0.0)

    def times(x: torch.Tensor) -> torch.Tensor:
        return torch.where(visible, covariance.times(x) + noise * x, 0.0)

    solution = conjugate_gradients(
        times,
        known,
        precondition=lambda x: torch.where(visible, inverse.times(x), 0.0),
        iterations=_ITERATIONS,
        tolerance=TOLERANCE,
    )
    size, left = (x.flatten(1).norm(dim=1) for x in (known, known - times(solution)))
    return covariance.times(solution), float((left / size.clamp_min(1e-12)).max())


def stationary_baselines(fit: Sequence[Windows], *, recordings: int, window_samples: int) -> list[Filler]:
    """Make the baselines for one channel set.

    Parameters
    ----------
    fit
        Windows to fit on, of a modality with a stationary core.
    recordings
        How many recordings the channel set has in the fold: with one, its own spectra are those of all.
    window_samples
        Length of a window.
    """
    total = PooledLags.total(_pooled(part) for part in fit)
    made: list[Filler] = [
        NullFiller(),
        Stationary("gaussian", total=total, calibrated=False, flat=True, window_samples=window_samples),
        Stationary("stat", total=total, calibrated=False, flat=False, window_samples=window_samples),
    ]
    if recordings > 1:
        made += [
            Stationary("stat_own", total=None, calibrated=True, flat=False, window_samples=window_samples),
            Stationary("gaussian_calibrated", total=total, calibrated=True, flat=True, window_samples=window_samples),
            Stationary("stat_calibrated", total=total, calibrated=True, flat=False, window_samples=window_samples),
        ]
    return made


def _pooled(part: Windows) -> PooledLags:
    """Sum the lagged products of one recording's windows; none reaches across their borders."""
    interval_s = interval_of(part.view.sampling_rate_hz)
    sums = lag_sums(
        list(torch.from_numpy(part.z).double()),
        valid=list(torch.from_numpy(part.counted)),
        lags=STATIONARY[part.view.modality].summed_lags(interval_s),
        channels=part.z.shape[-1],
    )
    return PooledLags(by_interval={interval_s: sums})
