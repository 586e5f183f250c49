"""The gradient of a step: the same however its draw is sliced, as exact as was asked for, by whatever code."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurofm.model.whole_channels import Network, network_of
from neurofm.recording import Modality
from neurofm.training.checkpoint import patch_samples
from neurofm.training.forward import Compiled, Forward, forward_of
from neurofm.training.learner import Learner
from neurofm.training.processes import Processes
from neurofm.training.recordings import schedule_of, training_recordings
from neurofm.training.settings import PretrainSettings
from neurofm.training.step import Drawn, Gradients, take_gradient
from neurofm.training.tuning import choose_cores
from neurofm.windows.policy import StoreSite
from neurofm.windows.store import Store
from tests.training.faults import Lab, at_draw
from tests.training.joint import real_lab

BATCH = 5


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = real_lab(tmp_path_factory.mktemp("real"), shared_data)
    model = lab.settings.model.model_copy(update={"dropout": 0.0})
    settings = lab.settings.model_copy(update={"model": model, "slices": 1, "batch_windows": BATCH})
    return Lab(views=lab.views, settings=settings, windows=lab.windows, at=lab.at)


@pytest.fixture(scope="module")
def drawn(real: Lab) -> dict[Modality, Drawn]:
    """A draw per modality, with some samples that do not count."""
    choices = choose_cores(real.views, settings=real.settings, windows=real.windows)
    recordings = training_recordings(real.views, choices=choices, settings=real.settings, windows=real.windows)
    found: dict[Modality, Drawn] = {}
    signals = [recording.view.signal for recording in recordings]
    schedule = schedule_of(recordings, settings=real.settings)
    with Store(signals, schedule, site=StoreSite(decoders=0)) as store:
        for number in range(8):
            draw, z, counts = store.at(number)
            counts[0, :13] = False
            recording = recordings[draw.source]
            found[recording.view.modality] = Drawn(recording=recording, draw=draw, z=z, counts=counts)
    assert found.keys() == {Modality.SPIKES, Modality.FMRI}
    return found


def _network(real: Lab) -> Network:
    torch.manual_seed(0)
    network = network_of(real.settings.model, patch_samples=patch_samples(real.windows))
    with torch.no_grad():  # Heads start at zero, and nothing before them would have a gradient.
        for one in network.parameters():
            one.add_(torch.randn_like(one), alpha=0.1)
    return network


def _gradient(
    real: Lab, drawn: Drawn, *, forward: Callable[[Any], Forward] | None = None, **changed: Any
) -> tuple[float, Tensor]:
    chosen = real.settings.model_copy(update=changed)
    learner = Learner(_network(real), settings=chosen, processes=Processes(), who="test")
    if forward is not None:
        learner.forward = forward(learner.network)
    taken = take_gradient(learner, drawn, number=3, settings=chosen, micro_windows=BATCH, who="test")
    return taken.loss, torch.cat([one.grad.flatten() for one in learner.network.parameters() if one.grad is not None])


@pytest.mark.parametrize("modality", [Modality.FMRI, Modality.SPIKES])
@pytest.mark.parametrize("slices", [2, 5])
def test_slices_add_up_to_the_gradient_of_the_whole(
    real: Lab, drawn: dict[Modality, Drawn], modality: Modality, slices: int
) -> None:
    loss, whole = _gradient(real, drawn[modality])
    sliced_loss, sliced = _gradient(real, drawn[modality], slices=slices)
    assert sliced_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(sliced, whole, rtol=1e-4, atol=1e-6 * float(whole.abs().max()))


def test_a_step_of_several_draws_takes_their_mean_and_leaves_out_what_has_no_part(lab: Lab) -> None:
    network = nn.ModuleList([nn.Linear(2, 1, bias=False) for _ in range(3)])
    sums = Gradients(network, Processes())
    for number, value in ((0, 2.0), (1, 3.0), (0, 4.0)):
        network.zero_grad()
        network[number](torch.full((1, 2), value)).sum().backward()
        sums.keep()
    sums.give(share=0.5)
    found = [None if one.grad is None else one.grad.flatten().tolist() for one in network.parameters()]
    assert found == [[3.0, 3.0], [1.5, 1.5], None]

    with at_draw(lambda _: None) as numbers:
        result = lab.train("two draws", accumulate=2)
    assert numbers == list(range(2 * lab.settings.steps))
    assert result.curve[0]["train"].keys() == {"spikes", "fmri"}
    assert result.curve != lab.train("one draw").curve


@contextmanager
def _forgotten() -> Iterator[None]:
    logging.disable(logging.DEBUG)  # torch traces every node of a graph, and pytest would keep it all.
    torch.compiler.reset()
    try:
        yield
    finally:
        torch.compiler.reset()
        logging.disable(logging.NOTSET)


def _by(real: Lab, *, backend: str = "inductor", **changed: Any) -> Callable[[Network], Forward]:
    settings: PretrainSettings = real.settings.model_copy(update=changed)
    return lambda network: forward_of(network, settings=settings, who="test", backend=backend)


def test_bfloat16_is_near_float32(real: Lab, drawn: dict[Modality, Drawn]) -> None:
    loss, exact = _gradient(real, drawn[Modality.FMRI])
    rounded_loss, rounded = _gradient(real, drawn[Modality.FMRI], forward=_by(real, precision="bf16-mixed"))
    assert rounded_loss != loss
    assert rounded_loss == pytest.approx(loss, rel=0.01)
    assert float((rounded - exact).norm() / exact.norm()) < 0.1


@pytest.mark.long
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiled_code_is_equal(
    real: Lab, drawn: dict[Modality, Drawn], capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    loss, exact = _gradient(real, drawn[Modality.FMRI])
    with _forgotten():
        compiled_loss, compiled = _gradient(
            real, drawn[Modality.FMRI], forward=_by(real, compile=True, backend=backend)
        )
    assert not capsys.readouterr().err
    assert compiled_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(compiled, exact, rtol=1e-4, atol=1e-6 * float(exact.abs().max()))


@pytest.mark.long
def test_without_a_compiler_it_says_so_once_and_goes_on(
    real: Lab, drawn: dict[Modality, Drawn], capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def broken(*_: object) -> Any:
        calls.append(1)
        raise RuntimeError("no C++ compiler\nand more")

    with _forgotten():
        found = _gradient(
            real, drawn[Modality.FMRI], forward=lambda network: Compiled(network, who="test", backend=broken), slices=2
        )
    assert found[0] == _gradient(real, drawn[Modality.FMRI], slices=2)[0]
    assert len(calls) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("test: torch.compile failed (")
    assert "no C++ compiler" in said
