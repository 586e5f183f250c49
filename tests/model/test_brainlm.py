"""BrainLM's masked autoencoder: of the published sizes, blind to what is hidden, and able to learn a real window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.errors import UserError
from neurofm.model.brainlm import (
    MASK_SHARES,
    PATCH_SAMPLES,
    SIZES,
    BrainLM,
    BrainLMSize,
    TokenMask,
    masked_error,
    refuse_not_finite,
)

SMALL = BrainLMSize(width=64, layers=2, heads=4, decoder_width=32, decoder_layers=1, decoder_heads=4)
PARCELS, PATCHES, WINDOWS = 64, 8, 2
TOKENS = PARCELS * PATCHES


@pytest.fixture(scope="module")
def fmri(shared_data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """[window, parcel, time] of two subjects of ds000228 and the parcels' centres, [parcel, 3] mm."""
    nibabel = pytest.importorskip("nibabel")
    folder = shared_data / "fmri" / "ds000228_pixar_rois"
    files = sorted((folder / "timeseries").glob("*BASC064*.npy"))[:WINDOWS]
    values = np.stack([np.load(file)[: PATCHES * PATCH_SAMPLES].T for file in files])
    image = nibabel.load(folder / "space-MNI152_res-4mm_atlas-BASC064_dseg.nii.gz")
    labels = np.asanyarray(image.dataobj)
    voxels = [np.argwhere(labels == label).mean(axis=0) for label in range(1, PARCELS + 1)]
    position = nibabel.affines.apply_affine(image.affine, np.array(voxels))
    return torch.from_numpy(values).float(), torch.from_numpy(position).float()


def _mask(share: float, *, seed: int = 0) -> TokenMask:
    generator = torch.Generator().manual_seed(seed)
    return TokenMask.draw(windows=WINDOWS, tokens=TOKENS, share=share, generator=generator)


def _patches(values: torch.Tensor) -> torch.Tensor:
    """[window, parcel, time] -> [window, parcel, patch, sample], sharing memory."""
    return values.view(*values.shape[:2], PATCHES, -1)


def _model() -> BrainLM:
    torch.manual_seed(0)
    return BrainLM(SMALL)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 1.87), ("111M", 111.0), ("650M", 655.7)])
def test_sizes_are_the_published_ones(size: str, millions: float) -> None:
    with torch.device("meta"):
        model = BrainLM(SIZES[size])
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("share", MASK_SHARES)
def test_a_mask_hides_its_share_of_each_window(share: float) -> None:
    mask = _mask(share)
    assert mask.hidden.sum(dim=1).tolist() == [TOKENS - int(TOKENS * (1 - share))] * WINDOWS
    assert not torch.equal(mask.hidden[0], mask.hidden[1])


@pytest.mark.parametrize("share", MASK_SHARES)
def test_hidden_values_are_not_read(share: float, fmri: tuple[torch.Tensor, torch.Tensor]) -> None:
    model, mask = _model(), _mask(share)
    values, position = fmri
    spoiled = _patches(values).clone()
    spoiled[mask.hidden.reshape(WINDOWS, PARCELS, PATCHES)] = torch.nan
    with torch.no_grad():
        expected, found = model(values, position, mask), model(spoiled.flatten(2), position, mask)
    assert expected.shape == values.shape
    assert torch.equal(found, expected)


def test_visible_values_are_read_in_their_own_window_only(fmri: tuple[torch.Tensor, torch.Tensor]) -> None:
    model, mask = _model(), _mask(0.75)
    values, position = fmri
    token = int(mask.order[0, 0])
    changed = values.clone()
    _patches(changed)[0, token // PATCHES, token % PATCHES] += 1.0
    with torch.no_grad():
        expected, found = model(values, position, mask), model(changed, position, mask)
    hidden = mask.hidden.reshape(WINDOWS, PARCELS, PATCHES).repeat_interleave(PATCH_SAMPLES, dim=2)
    assert not torch.allclose(found[0][hidden[0]], expected[0][hidden[0]], atol=1e-4)
    torch.testing.assert_close(found[1], expected[1])


def test_order_of_parcels_does_not_matter(fmri: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = _model()
    values, position = fmri
    hidden = torch.zeros(PARCELS, dtype=torch.bool)
    hidden[::3] = True
    order = torch.randperm(PARCELS, generator=torch.Generator().manual_seed(3))

    def reconstruct(which: torch.Tensor) -> torch.Tensor:
        mask = TokenMask.of_parcels(hidden[which], windows=WINDOWS, patches=PATCHES)
        with torch.no_grad():
            found: torch.Tensor = model(values[:, which], position[which], mask)
        return found

    torch.testing.assert_close(reconstruct(order), reconstruct(torch.arange(PARCELS))[:, order], atol=1e-4, rtol=1e-4)


def test_time_and_place_of_a_hidden_patch_matter(fmri: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = _model()
    values, position = fmri
    mask = TokenMask.of_parcels(torch.arange(PARCELS) < 2, windows=WINDOWS, patches=PATCHES)
    with torch.no_grad():
        found = _patches(model(values, position, mask))[:, :2]
    assert not torch.allclose(found[:, 0], found[:, 1], atol=1e-3)
    assert not torch.allclose(found[:, 0, 0], found[:, 0, 1], atol=1e-3)


def test_whole_parcels_can_be_hidden() -> None:
    hidden = torch.tensor([False, True, False])
    mask = TokenMask.of_parcels(hidden, windows=2, patches=4)
    assert mask.visible == 8
    assert torch.equal(mask.hidden.reshape(2, 3, 4), hidden[:, None].expand(2, 3, 4))


def test_the_loss_is_that_of_hidden_tokens_only(fmri: tuple[torch.Tensor, torch.Tensor]) -> None:
    model, mask = _model(), _mask(0.75)
    values, position = fmri
    with torch.no_grad():
        reconstructed = model(values, position, mask)
    error, loss = (reconstructed - values).square(), masked_error(reconstructed, values, mask)
    torch.testing.assert_close(loss, _patches(error)[mask.hidden.reshape(WINDOWS, PARCELS, PATCHES)].mean())


def test_a_real_window_is_learned_in_few_steps(fmri: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = _model()
    values, position = fmri[0][:1, :16], fmri[1][:16]
    generator = torch.Generator().manual_seed(0)
    mask = TokenMask.draw(windows=1, tokens=16 * PATCHES, share=0.2, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = masked_error(model(values, position, mask), values, mask)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    # z units: 1 is no better than the mean.
    assert losses[-1] < 0.75 < losses[0]


@pytest.mark.parametrize(
    ("share", "problem"), [(0.0, "leaves 512 of 512 tokens visible"), (1.0, "leaves 0 of 512 tokens visible")]
)
def test_a_mask_that_leaves_nothing_to_do_is_refused(share: float, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        _mask(share)


def test_windows_and_positions_and_masks_that_do_not_fit_are_refused() -> None:
    model, mask = _model(), _mask(0.75)
    values, position = torch.zeros(WINDOWS, PARCELS, PATCHES * PATCH_SAMPLES), torch.zeros(PARCELS, 3)
    with pytest.raises(UserError, match="a window of 150 samples is not a multiple of the patch of 20"):
        model(values[..., :150], position, mask)
    with pytest.raises(UserError, match=r"positions are \[63, 3\] for 64 parcels"):
        model(values, position[1:], mask)
    with pytest.raises(UserError, match=r"the mask is for \[2, 512\] windows and tokens, not \[2, 504\]"):
        model(values[:, 1:], position[1:], mask)


def test_what_is_not_finite_is_named(fmri: tuple[torch.Tensor, torch.Tensor]) -> None:
    values, position = fmri
    refuse_not_finite(values, position)
    holed, lost = values.clone(), position.clone()
    holed[1, 5, 3] = torch.nan
    lost[7] = torch.inf
    with pytest.raises(UserError, match=r"values of parcel 5 \(1 parcels in all\)"):
        refuse_not_finite(holed, position)
    with pytest.raises(UserError, match="position of parcel 7"):
        refuse_not_finite(values, lost)
