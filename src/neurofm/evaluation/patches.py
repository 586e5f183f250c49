"""Tasks `hidden_<kind of mask>`: of fMRI and EEG, patches, stretches of time, regions or ends are hidden and filled in.

They are scored for models that learned to do so, on the same held-out windows as whole channels are.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.baselines.stationary import Choice, Filler, Grid, stationary_baselines
from neurofm.evaluation.row import CORE, CORRELATION, OURS
from neurofm.evaluation.samples import Windows, all_of, apart, cut, learning_windows
from neurofm.evaluation.scores import Floats, TileScores, correlations
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.training.hidden_patches import fixed_masks, regions_of
from neurofm.training.predict import Predictor
from neurofm.training.stationary import usable_of
from neurofm.windows import RecordingView

Shown = npt.NDArray[np.bool_]
_TUNING_WINDOWS = 12
"""Most windows on which baselines choose, of all recordings to tune on alike, evenly spread over each."""
_ROUNDS = 2
"""How often is chosen from every grid, given what was chosen from the others."""


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """Windows of one recording of which something is hidden."""

    windows: Windows
    shown: Shown
    """[window, patch, channel]"""
    valid: Shown
    """[window, time]"""

    @property
    def hidden(self) -> Shown:
        """[window, time, channel] what is to be filled in."""
        length = self.windows.z.shape[1] // self.shown.shape[1]
        return ~np.repeat(self.shown, length, axis=1)

    @property
    def scored(self) -> Shown:
        """[window, time, channel] what of it counts."""
        return self.hidden & self.windows.counted[..., None]

    def squares(self, filled: Floats) -> tuple[Floats, Floats]:
        """Sum squares explained, and around each channel's mean over what counts, where hidden: each [window, 1]."""
        truth, counted = self.windows.z.astype(np.float64), self.windows.counted
        scored = self.scored
        total = np.where(scored, (truth - truth[counted].mean(axis=0)) ** 2, 0.0).sum(axis=(1, 2))
        error = np.where(scored, (truth - filled) ** 2, 0.0).sum(axis=(1, 2))
        return (total - error)[:, None], total[:, None]

    def correlations(self, filled: Floats) -> tuple[Floats, Floats]:
        """Sum of the channels' coefficients over what is hidden, and how many channels have one: each [window, 1]."""
        gain, total = correlations(self.windows.z.astype(np.float64), filled, self.scored)
        return gain[:, None], total[:, None]


def fill_set(
    views: Sequence[RecordingView],
    predictor: Predictor,
    *,
    settings: EvaluateSettings,
    window_samples: int,
    baselines: bool = True,
    trained: Sequence[Filler] = (),
) -> tuple[list[TileScores], dict[tuple[str, str, str], float]]:
    """Score the recordings of one channel set under every kind of mask that the model has learned.

    Parameters
    ----------
    views
        All of them in one fold.
    predictor
        The fold's model.
    settings
        Seed of the masks, and grids of shrinkages and weights.
    window_samples
        Length of a window.
    baselines
        False scores our model and its core alone, with `trained`.
    trained
        Further models, already fitted on these recordings.

    Returns
    -------
    Scores, and CPU seconds by dataset, task and model; nothing where the model knows whole channels only.
    """
    kinds = predictor.kinds(views[0].modality)
    tests = [cut(view, view.roles.test, window_samples=window_samples) for view in views if kinds]
    tests = [test for test in tests if test.counted.any()]
    if not tests:
        return [], {}
    fit, tuning = learning_windows(views, window_samples=window_samples)
    found: list[TileScores] = []
    seconds: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    make = partial(stationary_baselines, recordings=len(views), window_samples=window_samples)
    others = make(fit) if baselines else []
    # Without validation the end of what may be fitted on chose, and is then fitted on, too.
    whole = others if any(view.roles.validation for view in views) or not baselines else make(list(map(all_of, fit)))
    for kind in kinds:
        task = f"hidden_{kind}"
        judges = [
            replace(_puzzle(part, predictor, kind, settings), windows=apart(part)) for part in judging_windows(tuning)
        ]
        puzzles = [_puzzle(test, predictor, kind, settings) for test in tests]
        # A block may lie where a short last window overlaps the one before.
        puzzles = [puzzle for puzzle in puzzles if puzzle.scored.any()]
        datasets = sorted({test.view.dataset for test in tests})
        alone: list[Filler] = [*trained, *(Ours(predictor, kind, core_only=core) for core in (True, False))]
        for tuning_filler, filler in [*zip(others, whole, strict=True), *zip(alone, alone, strict=True)]:
            started = time.process_time()
            chosen = tune(tuning_filler, judges, settings=settings)
            if chosen is not None:
                filler.choose(chosen)
            tuned = time.process_time() - started
            for dataset in datasets:
                seconds[dataset, task, filler.name] += tuned / len(datasets)
            for puzzle in puzzles:
                started = time.process_time()
                filled = fill(filler, puzzle)
                view = puzzle.windows.view
                for metric, (gain, total) in {
                    "R2": puzzle.squares(filled),
                    CORRELATION: puzzle.correlations(filled),
                }.items():
                    one = TileScores(
                        roles=view.roles, task=task, metric=metric, model=filler.name, gain=gain, total=total
                    )
                    found.append(one)
                seconds[view.dataset, task, filler.name] += time.process_time() - started
    return found, dict(seconds)


def judging_windows(tuning: Sequence[Windows], *, most: int = _TUNING_WINDOWS) -> list[Windows]:
    """Return the windows on which baselines choose: so many of every recording, at least one each.

    More recordings than `most` are too many to fill in again for every choice: then one window each of recordings
    evenly spread over all.
    """
    chosen = [tuning[at] for at in _spread(len(tuning), most)]
    return [part.take(_spread(len(part), max(most // len(chosen), 1))) for part in chosen]


class Ours:
    """Our model, or its core alone, filling in one kind of mask.

    Parameters
    ----------
    predictor
        The fold's model.
    kind
        Of mask.
    core_only
        Leave the network out.
    """

    def __init__(self, predictor: Predictor, kind: str, *, core_only: bool) -> None:
        self._predictor, self._kind, self._core_only = predictor, kind, core_only
        self.converged = True
        self.name = CORE if core_only else OURS

    def fill(self, view: RecordingView, z: npt.NDArray[np.float32], shown: Shown, valid: Shown) -> Floats:
        """Fill in; see `Filler.fill`."""
        if self._core_only:
            return self._predictor.predict_patches_core(view, z, shown, kind=self._kind, valid=valid)
        return self._predictor.predict_patches(view, z, shown, kind=self._kind, valid=valid)

    def choices(self, settings: EvaluateSettings) -> list[Grid]:
        """Nothing is chosen here."""
        del settings
        return []

    def choose(self, choice: Choice) -> None:
        """Nothing is chosen here."""


def tune(filler: Filler, judges: Sequence[Puzzle], *, settings: EvaluateSettings) -> Choice | None:
    """Choose that with which the windows to tune on are filled in best, and return it; None where there is no choice.

    All grids in one would take a hundred fits of every recording. They are chosen from one after the other, from the
    middle of all on, and once more where that changed any. What does not converge is never better than what does.
    """
    grids = filler.choices(settings)
    if not grids:
        return None
    errors: dict[Choice, tuple[bool, float]] = {}

    def error(choice: Choice) -> tuple[bool, float]:
        if choice not in errors:
            filler.choose(choice)
            gained, converged = 0.0, True
            for judge in judges:
                gained += float(judge.squares(fill(filler, judge))[0].sum())
                converged = converged and filler.converged
            errors[choice] = (not converged, -gained if np.isfinite(gained) else np.inf)
        return errors[choice]

    middle = {field: value for grid in grids for field, value in grid[len(grid) // 2].items()}
    best = Choice(**middle)
    for _ in range(_ROUNDS):
        before = best
        for grid in grids:
            best = min((best._replace(**change) for change in grid), key=error)
        if best == before:
            break
    filler.choose(best)
    return best


def fill(filler: Filler, puzzle: Puzzle) -> Floats:
    """Fill in a puzzle; what is hidden is not among what is given."""
    z = np.where(puzzle.hidden, np.float32(0), puzzle.windows.z)
    return filler.fill(puzzle.windows.view, z, puzzle.shown, puzzle.valid)


def _puzzle(windows: Windows, predictor: Predictor, kind: str, settings: EvaluateSettings) -> Puzzle:
    view, usable = windows.view, usable_of(windows.view)
    length = windows.z.shape[1]
    patches = length // predictor.checkpoint.windows.of(view.modality).patch_samples
    shown = np.ones((len(windows), patches, len(view.channel_ids)), dtype=np.bool_)
    shown[..., usable.numpy()] = fixed_masks(
        kind,
        windows=len(windows),
        patches=patches,
        features=predictor.prepare(view).identity[usable],
        name=view.name,
        seed=settings.seed,
        region=regions_of(view),
    ).numpy()
    valid = np.stack([view.valid[start : start + length] for start in windows.start.tolist()])
    return Puzzle(windows=windows, shown=shown, valid=valid)


def _spread(total: int, most: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(np.int64))
