"""Where memory does not hold a batch, it is learned from in parts, to the same gradient."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from neurofm.errors import UserError
from neurofm.training.memory import is_out_of_memory
from tests.training.faults import Lab, at_draw, memory_for


@pytest.fixture
def quiet_lab(lab: Lab) -> Lab:
    """Without dropout, which falls elsewhere in parts; validation fits."""
    model = lab.settings.model.model_copy(update={"dropout": 0.0})
    settings = lab.settings.model_copy(update={"model": model, "batch_windows": 7, "validation_windows": 2})
    return Lab(views=lab.views, settings=settings, windows=lab.windows, at=lab.at)


def test_parts_add_up_to_the_gradient_of_the_whole_batch(
    quiet_lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = torch.nn.utils.clip_grad_norm_
    gradients: list[list[torch.Tensor]] = []

    def noting(parameters: Iterable[torch.Tensor], longest: float) -> torch.Tensor:
        weights = list(parameters)
        gradients.append([one.grad.clone() for one in weights if one.grad is not None])
        return cut(weights, longest)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noting)
    whole = quiet_lab.train("whole", steps=4)
    expected, gradients = gradients, []
    with memory_for(2) as asked:
        parted = quiet_lab.train("parted", steps=4)
    assert asked[:6] == [7, 4, 2, 2, 2, 1]
    said = capsys.readouterr().err
    assert "no memory for 7 windows at once" in said
    assert "DefaultCPUAllocator" in said
    for one, other in zip(expected, gradients, strict=True):
        largest = max(float(part.abs().max()) for part in one)
        assert largest > 0
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6 * largest)
    assert parted.curve[0]["train"] == pytest.approx(whole.curve[0]["train"], rel=1e-6)
    assert quiet_lab.kept("parted")["micro_windows"] == {"spikes": 2, "fmri": 2}


def test_what_fits_is_remembered_over_a_restart(quiet_lab: Lab) -> None:
    def killed(step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with memory_for(3):
        quiet_lab.train("whole")
        with at_draw(killed), pytest.raises(KeyboardInterrupt):
            quiet_lab.train("killed")
        with memory_for(3) as asked:
            quiet_lab.train("killed")
    assert max(asked) == 2, "nothing is tried that failed before"
    assert quiet_lab.model("killed") == quiet_lab.model("whole")


def test_no_memory_for_one_window_ends_in_one_line(lab: Lab) -> None:
    with (
        memory_for(0),
        pytest.raises(UserError, match=r"fold 0: step 0 \(.*\): there is no memory for a single window") as refused,
    ):
        lab.train("none")
    assert "\n" not in str(refused.value)


def test_another_mistake_is_not_taken_for_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(MemoryError())
