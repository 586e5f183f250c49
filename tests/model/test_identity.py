"""Identity: positions, regions and learned terms, each of which may be missing."""

from __future__ import annotations

import torch

from neurofm.model.identity import IDENTITY_FEATURES, ChannelIdentity, FourierPosition, table_index


def _features(channels: int = 5) -> torch.Tensor:
    features = torch.randn(3, channels, IDENTITY_FEATURES, generator=torch.Generator().manual_seed(0))
    features[..., 3] = 1.0
    return features


def test_waves_tell_near_positions_apart_and_far_ones_too() -> None:
    waves = FourierPosition(6)
    position = torch.tensor([[0.0, 0.0, 0.0], [0.05, 0.0, 0.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    distance = torch.cdist(waves(position), waves(position))
    assert distance[0, 1] > 0.5
    assert (distance[~torch.eye(4, dtype=torch.bool)] > 0.5).all()


def test_an_unknown_position_has_no_waves() -> None:
    identity = ChannelIdentity(8, bands=4)
    features = _features()
    features[..., :4] = 0.0
    moved = features.clone()
    moved[..., :3] += 1.0
    first = identity.layers[0]
    assert isinstance(first, torch.nn.Linear)
    first.weight.data[:, :4] = 0.0
    assert torch.equal(identity(features), identity(moved))


def test_the_same_name_finds_the_same_row_and_no_name_none() -> None:
    index = table_index(["CA1", "", "VISp", "CA1"], size=1000)
    assert index.tolist() == [int(index[0]), 0, int(index[2]), int(index[0])]
    assert 1 <= int(index.max()) < 1000
    assert index[0] != index[2]
    assert table_index(["CA1", "VISp"], size=2).tolist() == [1, 1]


def test_unknown_regions_and_units_add_nothing() -> None:
    identity = ChannelIdentity(8, regions=4, units=4).eval()
    assert identity.region is not None
    assert identity.unit is not None
    features, nobody, somebody = _features(), torch.zeros(3, 5, dtype=torch.int64), torch.ones(3, 5, dtype=torch.int64)
    assert torch.equal(identity(features), identity(features, somebody, somebody))
    for learned in (identity.region, identity.unit):
        learned.weight.data[1:] = torch.randn(3, 8)
    assert torch.equal(identity(features), identity(features, nobody, nobody))
    assert not torch.allclose(identity(features), identity(features, somebody, nobody))
    assert not torch.allclose(identity(features), identity(features, nobody, somebody))


def test_training_does_without_the_learned_term_in_some_windows_and_never_elsewhere() -> None:
    identity = ChannelIdentity(8, units=4, unit_dropout=0.5)
    assert identity.unit is not None
    identity.unit.weight.data[1:] = torch.randn(3, 8)
    features = _features()[:1].expand(400, -1, -1)
    unit = torch.ones(400, 5, dtype=torch.int64)
    torch.manual_seed(0)
    without, with_it = identity.eval()(features[:1]), identity.eval()(features, None, unit)
    drawn = identity.train()(features, None, unit)
    unknown = (drawn - without).abs().amax(dim=(1, 2)) < 1e-5
    assert 0.4 < unknown.float().mean() < 0.6
    torch.testing.assert_close(drawn[~unknown], with_it[~unknown])


def test_what_the_network_is_not_told_changes_nothing() -> None:
    features = _features()
    moved, other = features.clone(), features.clone()
    moved[..., :4] += 1.0
    other[..., 4:] += 1.0
    for told, changed in (({"position": False}, moved), ({"statistics": False}, other)):
        identity = ChannelIdentity(8, bands=4, **told)
        assert torch.equal(identity(features), identity(changed))
        # Weights have the same names and shapes, so that a seed draws the same ones.
        assert identity.state_dict().keys() == ChannelIdentity(8, bands=4).state_dict().keys()
    everything = ChannelIdentity(8, bands=4)
    assert not torch.equal(everything(features), everything(moved))
    assert not torch.equal(everything(features), everything(other))
