"""Few-shot subsets: of how few labels something is learned; a larger subset contains the smaller ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def draw_shown(
    values: npt.NDArray[np.float64], *, groups: int, share: float | None, examples: int | None, rng: np.random.Generator
) -> list[int]:
    """Draw whose labels are shown, in proportion to groups.

    Parameters
    ----------
    values
        [unit] the number itself, or the index of its group.
    groups
        How many there are; 0 where numbers are predicted.
    share
        Of the units. At least one of each group is drawn, or two numbers.
    examples
        Per group instead of a share.
    rng
        Seeded alike for every share and number of examples, so that the drawn ones are nested: whoever is shown among
        few is shown among more.

    Returns
    -------
    indices of units, sorted.
    """
    if not groups:
        wanted = max(2, round((share or 0.0) * len(values)))
        return sorted(rng.permutation(len(values))[:wanted].tolist())
    chosen: list[int] = []
    for group in range(groups):
        members = rng.permutation(np.flatnonzero(values == group))
        wanted = examples if examples is not None else max(1, round((share or 0.0) * len(members)))
        chosen.extend(members[:wanted].tolist())
    return sorted(chosen)
