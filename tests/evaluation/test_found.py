"""What parts found in any process is joined."""

from __future__ import annotations

from neurofm.evaluation.found import Found
from neurofm.evaluation.settings import EvaluateSettings


def test_what_parts_found_is_joined(settings: EvaluateSettings) -> None:
    found, other = Found.empty(settings), Found.empty(settings)
    found.seconds["spikes", "task", "model"] = 1.0
    found.unclassified.add(("spikes", "awake", "spikes/a"))
    other.seconds["spikes", "task", "model"] = 2.0
    other.unclassified.update({("spikes", "awake", "spikes/a"), ("spikes", "awake", "spikes/b")})
    found.join(other)
    assert found.seconds == {("spikes", "task", "model"): 3.0}
    assert found.unclassified == {("spikes", "awake", "spikes/a"), ("spikes", "awake", "spikes/b")}
