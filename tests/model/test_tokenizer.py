"""Each modality's tokenizer sees what matters in that modality."""

from __future__ import annotations

import pytest
import torch

from neurofm.model.tokenizer import (
    TOKENIZERS,
    BinnedTokenizer,
    CalciumTokenizer,
    EEGTokenizer,
    MiniscopeTokenizer,
    PatchTokenizer,
    log_spectrum,
)

NOTHING = torch.zeros(8)


@pytest.mark.parametrize("kind", [PatchTokenizer, *TOKENIZERS.values()])
@pytest.mark.parametrize("patch", [1, 2, 5, 8])
def test_any_shape_of_patches_becomes_tokens(kind: type[torch.nn.Module], patch: int) -> None:
    tokenizer = kind(patch=patch, width=6)
    values = torch.rand(2, 3, 4, patch)
    tokens = tokenizer(values, values)
    assert tokens.shape == (2, 3, 4, 6)
    torch.testing.assert_close(tokenizer(values[1, 2], values[1, 2]), tokens[1, 2])
    tokens.sum().backward()
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())


def test_counts_embed_by_themselves_up_to_a_limit() -> None:
    tokenizer = BinnedTokenizer(patch=1, width=6)
    counts = torch.tensor([[0.0], [1.0], [16.0], [40.0], [1.2]])
    tokens = tokenizer.embed_values(counts)
    assert torch.equal(tokens[2], tokens[3])
    assert torch.equal(tokens[1], tokens[4])
    assert not torch.allclose(tokens[0], tokens[1])


def test_a_rise_of_calcium_is_told_from_its_fall() -> None:
    tokenizer = CalciumTokenizer(patch=8, width=6)
    torch.nn.init.zeros_(tokenizer.level.weight)
    rise = torch.linspace(0, 1, 8)
    level, up, down = (tokenizer.embed_values(x) for x in (NOTHING, rise, rise.flip(0)))
    assert torch.equal(level, down)
    assert not torch.allclose(level, up)


def test_one_artefact_moves_a_miniscope_token_no_further_than_its_limit() -> None:
    tokenizer = MiniscopeTokenizer(patch=8, width=6)
    x = torch.tensor([0.1, -0.2, 0.3, 0.0, 0.2, -0.1, -0.3, 0.1])
    large, larger = x.clone(), x.clone()
    large[3], larger[3] = 50.0, 5000.0
    torch.testing.assert_close(tokenizer.embed_values(large), tokenizer.embed_values(larger))
    assert not torch.allclose(tokenizer.embed_values(x), tokenizer.embed_values(x + 1.0), atol=1e-3)


def test_the_spectrum_of_eeg_does_not_depend_on_phase() -> None:
    seconds = torch.arange(40) / 200
    one, other = (torch.sin(2 * torch.pi * 10 * seconds + phase) for phase in (0.0, 1.0))
    torch.testing.assert_close(log_spectrum(one), log_spectrum(other), atol=1e-3, rtol=1e-3)
    assert int(log_spectrum(one).argmax()) == 2
    tokenizer = EEGTokenizer(patch=40, width=6)
    torch.nn.init.zeros_(tokenizer.wave.weight)
    torch.testing.assert_close(tokenizer.embed_values(one), tokenizer.embed_values(other), atol=1e-3, rtol=1e-3)
