"""Networks are checked where they are read, and hold the channels that one of their patterns names."""

from __future__ import annotations

import numpy as np
import pytest

from neurofm.errors import UserError
from neurofm.evaluation.networks import of_network
from neurofm.evaluation.settings import EvaluateSettings
from tests.evaluation.conftest import SETTINGS, MakeView


def _read(networks: dict[str, list[str]]) -> EvaluateSettings:
    return EvaluateSettings.parse({**SETTINGS, "networks": networks}, where="params.yaml: evaluate", mend="correct it")


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        ({"control": ["Frontal", "("]}, "control: '(' is no regular expression"),
        ({"control": []}, "control: there is no pattern"),
        ({"control": [""]}, "control: '' matches every channel"),
        ({"control@home": ["Frontal"]}, "'control@home': a network has a name, without `@`"),
    ],
)
def test_mistakes_are_one_line(networks: dict[str, list[str]], said: str) -> None:
    with pytest.raises(UserError) as caught:
        _read(networks)
    assert said in str(caught.value)
    assert "networks" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_channels_of_a_network(make_view: MakeView) -> None:
    view = make_view(np.arange(60.0).reshape(10, 6), train=[(0, 10)], channel_set="six")
    patterns = _read({"some": ["(?i)C[01]", "c5"]}).networks["some"]
    (kept,) = of_network([view], "some", patterns)
    assert (kept.channel_ids, kept.channel_set) == (("c0", "c1", "c5"), "six@some")
    np.testing.assert_array_equal(kept.stored[:], view.stored[:][:, [0, 1, 5]])
    assert of_network([view], "none", ["c0"]) == []
