"""Chunks of the state space model are the recurrence it says it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neurofm.model.mamba2 import Mamba2Layer, ssd


def _recurrence(x: Tensor, step: Tensor, log_decay: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """One step after the other."""
    windows, time, heads, width = x.shape
    state = x.new_zeros(windows, heads, write.shape[-1], width)
    out = []
    for t in range(time):
        state = state * log_decay[:, t].exp()[..., None, None] + torch.einsum(
            "wh,ws,whv->whsv", step[:, t], write[:, t], x[:, t]
        )
        out.append(torch.einsum("ws,whsv->whv", read[:, t], state))
    return torch.stack(out, dim=1)


def _inputs(time: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(time)

    def random(*shape: int) -> Tensor:
        return torch.randn(2, time, *shape, generator=generator, dtype=dtype)

    return random(3, 4), random(3), -0.3 * random(3).abs(), random(5), random(5)


@pytest.mark.parametrize("time", [1, 5, 64, 65, 200])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_chunks_equal_the_recurrence(time: int, dtype: torch.dtype, error: float) -> None:
    inputs = _inputs(time, dtype)
    expected = _recurrence(*inputs)
    difference = (ssd(*inputs) - expected).abs().max() / expected.abs().max()
    assert difference < error


@pytest.mark.parametrize("chunk", [2, 7, 128])
def test_the_length_of_chunks_does_not_matter(chunk: int) -> None:
    inputs = _inputs(30, torch.float64)
    torch.testing.assert_close(ssd(*inputs, chunk=chunk), ssd(*inputs), atol=1e-12, rtol=0)


def test_gradients_are_those_of_the_recurrence() -> None:
    inputs = [x.requires_grad_() for x in _inputs(9, torch.float64)]
    assert torch.autograd.gradcheck(lambda *x: ssd(*x, chunk=4), inputs, fast_mode=True)


def test_strong_decay_and_long_windows_stay_finite() -> None:
    x, step, log_decay, write, read = _inputs(300, torch.float32)
    x.requires_grad_()
    y = ssd(x, step, 500 * log_decay, write, read)
    torch.autograd.backward(y.square().sum())
    assert x.grad is not None
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_in_both_directions_a_reversed_window_gives_the_reversed_result() -> None:
    torch.manual_seed(0)
    layer = Mamba2Layer(width=16, heads=2, dropout=0.0, state=4, causal=False)
    x, time_s = torch.randn(2, 70, 16), torch.arange(70) * 0.1
    torch.testing.assert_close(layer(x.flip(1), time_s), layer(x, time_s).flip(1), atol=1e-5, rtol=1e-5)


def test_a_step_can_come_to_mean_seconds() -> None:
    torch.manual_seed(0)
    layer = Mamba2Layer(width=16, heads=2, dropout=0.0, state=4, causal=True)
    x = torch.randn(1, 12, 16)
    fast, slow = torch.arange(12) * 0.1, torch.arange(12) * 2.0
    torch.testing.assert_close(layer(x, fast), layer(x, slow))
    torch.nn.init.ones_(layer.seconds)
    assert not torch.allclose(layer(x, fast), layer(x, slow), atol=1e-3)
