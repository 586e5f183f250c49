"""Posterior mean of a stationary Gaussian window from its visible entries, by masked conjugate gradients.

The covariance of a whole window is far too large to factorise (64 TR of 116 ROIs: 7424 squared), but multiplying by it
is cheap in the frequency domain, and conjugate gradients (Hestenes & Stiefel 1952, doi:10.6028/jres.049.044) need no
more. They are preconditioned by the visible block of the circulant inverse, as for Toeplitz systems (Chan & Ng 1996,
doi:10.1137/S0036144594276474), which takes a quarter of the steps or less. Gradients come from the implicit function
theorem: they solve the same system once more instead of being kept for every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurofm.errors import UserError

Solver = Callable[[Tensor], Tensor]
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class WindowCovariance:
    """Covariance A [g(f) G(f)] A' of windows, as an operator."""

    spectra: Tensor
    """[frequency, channel, channel] complex shared by all windows, or [window, frequency, channel, channel]."""
    fft_samples: int
    gain: Tensor | None = None
    """[window, frequency] real: g(f); None for 1."""
    map: Tensor | None = None
    """[window, channel, channel] real: A; None for the identity."""
    precision: Tensor | None = None
    """Inverse of `spectra`, where it is known already."""

    def inverse(self) -> WindowCovariance:
        """Return the inverse of the covariance of an endless periodic window."""
        return WindowCovariance(
            spectra=torch.linalg.inv(self.spectra) if self.precision is None else self.precision,
            fft_samples=self.fft_samples,
            gain=None if self.gain is None else 1 / self.gain,
            map=None if self.map is None else torch.linalg.inv(self.map).mT,
        )

    def times(self, x: Tensor) -> Tensor:
        """[window, time, channel] -> the same: the covariance times `x`."""
        time = x.shape[1]
        # Rows are samples, so A' comes from the right.
        mixed = x if self.map is None else x @ self.map
        # FFTs along the last axis, and frequencies outermost: each is one matrix product for all windows that share it.
        frequency = torch.fft.rfft(mixed.mT.contiguous(), n=self.fft_samples).permute(2, 0, 1)
        if self.spectra.dim() == 3:
            coloured = (frequency @ self.spectra.mT).permute(1, 2, 0)
        else:
            coloured = (frequency.permute(1, 0, 2).unsqueeze(-2) @ self.spectra.mT).squeeze(-2).mT
        if self.gain is not None:
            coloured = coloured * self.gain.unsqueeze(1)
        back = torch.fft.irfft(coloured, n=self.fft_samples)[..., :time].mT
        result: Tensor = back if self.map is None else back @ self.map.mT
        return result

    def inverse_among(self, channels: Tensor, *, noise: Tensor) -> WindowCovariance:
        """Return the inverse of a periodic window's covariance among some channels; exact but for the window's ends.

        Parameters
        ----------
        channels
            [window, channel] bool, or [1, channel] for all windows alike.
        noise
            Scalar: variance of white noise.
        """
        block = (channels.unsqueeze(-1) & channels.unsqueeze(-2)).unsqueeze(1)
        identity = torch.eye(channels.shape[-1], dtype=self.spectra.dtype, device=self.spectra.device)
        among = torch.where(block, self.spectra + noise * identity, identity)
        inverse = torch.linalg.inv(among)
        return WindowCovariance(spectra=inverse[0] if len(inverse) == 1 else inverse, fft_samples=self.fft_samples)


def posterior_mean(
    covariance: WindowCovariance,
    values: Tensor,
    visible: Tensor,
    *,
    noise: Tensor,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """Find the mean of every entry given the visible ones, which carry white noise.

    Parameters
    ----------
    covariance
        Of the signal.
    values
        [window, time, channel] real; hidden entries are not looked at.
    visible
        [window, time, channel] bool
    noise
        Scalar: variance of the noise.
    iterations
        Largest number of steps.
    tolerance
        A window is solved when the residual is this small against its visible values.

    Returns
    -------
    [window, time, channel] real: the signal without noise; differentiable in all that `covariance` is made of, in
    `values` and in `noise`.

    Raises
    ------
    UserError
        If the window is longer than the FFT.
    """
    if values.shape[1] > covariance.fft_samples:
        raise UserError(
            f"a window of {values.shape[1]} samples is longer than the {covariance.fft_samples} of the prior's FFT.",
            mend="make the prior with `fft_samples` of at least the window plus its lags",
        )
    known = torch.where(visible, values, 0.0)

    def visible_covariance(x: Tensor) -> Tensor:
        return torch.where(visible, covariance.times(x) + noise * x, 0.0)

    with torch.no_grad():
        inverse = _approximate_inverse(covariance, visible, noise=noise)

    def visible_inverse(x: Tensor) -> Tensor:
        return torch.where(visible, inverse.times(x), 0.0)

    def solve(right: Tensor) -> Tensor:
        among = torch.where(visible, right, 0.0)
        return conjugate_gradients(
            visible_covariance, among, precondition=visible_inverse, iterations=iterations, tolerance=tolerance
        )

    with torch.no_grad():
        solution = solve(known)
    if torch.is_grad_enabled():
        # d solution = K^-1 (d known - dK solution): the residual carries both, the solver is K^-1 in the backward pass.
        residual = known - visible_covariance(solution)
        if residual.requires_grad:
            solution = _Implicit.apply(residual, solution, solve)  # type: ignore[no-untyped-call]
    return covariance.times(solution)


def conjugate_gradients(
    times: Solver, right: Tensor, *, precondition: Solver, iterations: int, tolerance: float
) -> Tensor:
    """Solve one symmetric positive definite system per window.

    Parameters
    ----------
    times
        Multiplies [window, time, channel] by the matrices.
    right
        [window, time, channel]
    precondition
        Multiplies by something like their inverses, symmetric positive definite too.
    iterations, tolerance
        When to stop.
    """
    solution = torch.zeros_like(right)
    residual = right
    direction = precondition(right)
    power = _dot(right, direction)
    enough = tolerance**2 * _dot(right, right) + _TINY
    for _ in range(iterations):
        # A window that is solved stands still while others go on, so that it does not depend on them.
        going = _dot(residual, residual) > enough
        if not going.any():
            break
        image = times(direction)
        step = torch.where(going, power / _dot(direction, image).clamp_min(_TINY), 0.0)
        solution = solution + step * direction
        residual = residual - step * image
        improved = precondition(residual)
        after = _dot(residual, improved)
        direction = improved + (after / power.clamp_min(_TINY)) * direction
        power = after
    return solution


def _approximate_inverse(covariance: WindowCovariance, visible: Tensor, *, noise: Tensor) -> WindowCovariance:
    channels = visible[:, 0]
    if covariance.map is not None or covariance.gain is not None or (visible != channels.unsqueeze(1)).any():
        return covariance.inverse()
    # Whole channels are hidden: then their rows and columns can be left out at every frequency.
    alike = bool((channels == channels[:1]).all())
    return covariance.inverse_among(channels[:1] if alike else channels, noise=noise)


class _Implicit(torch.autograd.Function):
    """A solution that was found without gradients, with those that the implicit function theorem gives it."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, solution: Tensor, solve: Solver) -> Tensor:  # noqa: ARG004
        ctx.solve = solve
        return solution.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        with torch.no_grad():
            return ctx.solve(gradients[0]), None, None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """[window, 1, 1]: inner product of each window."""
    return (a * b).sum(dim=(1, 2), keepdim=True)
