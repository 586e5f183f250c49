"""Found: what evaluation gathers on its way, in any process, part by part."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial

from neurofm.evaluation.audit import Leak
from neurofm.evaluation.calibration import CalibrationTask
from neurofm.evaluation.connectomes import Connectomes
from neurofm.evaluation.examples import Example
from neurofm.evaluation.few_shot_task import FewShotTask
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.traits import TraitTask
from neurofm.evaluation.tunings import Tunings


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is gathered on the way."""

    connectomes: Connectomes
    traits: TraitTask
    few_shot: FewShotTask
    calibration: CalibrationTask
    tunings: Tunings = field(default_factory=Tunings)
    scores: list[TileScores] = field(default_factory=list)
    examples: dict[str, Example] = field(default_factory=dict)
    """The first per dataset, with the reconstructions of all models."""
    seconds: defaultdict[tuple[str, str, str], float] = field(default_factory=partial(defaultdict, float))
    """CPU seconds by dataset, task and model."""
    leaks: list[Leak] = field(default_factory=list)
    """What is normalised from other samples than it may be, where that is allowed."""
    unclassified: set[tuple[str, str, str]] = field(default_factory=set)
    """Dataset, target and name of recordings with a target of two states that could not be told apart."""

    @classmethod
    def empty(cls, settings: EvaluateSettings) -> Found:
        """Return where nothing is found yet."""
        return cls(
            connectomes=Connectomes(settings=settings),
            traits=TraitTask(settings=settings),
            few_shot=FewShotTask(settings=settings),
            calibration=CalibrationTask(settings=settings),
        )

    def join(self, other: Found) -> None:
        """Add what another part found; of examples the first of a dataset stays."""
        self.connectomes.join(other.connectomes)
        self.tunings.join(other.tunings)
        self.traits.join(other.traits)
        self.few_shot.join(other.few_shot)
        self.calibration.join(other.calibration)
        self.scores.extend(other.scores)
        self.leaks.extend(other.leaks)
        self.unclassified.update(other.unclassified)
        for dataset, example in other.examples.items():
            self.examples.setdefault(dataset, example)
        for key, spent in other.seconds.items():
            self.seconds[key] += spent
