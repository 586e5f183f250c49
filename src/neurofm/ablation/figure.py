"""Figure: paired differences to the base, a panel per modality."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from neurofm.ablation.table import Difference
from neurofm.files import write_atomic

METRIC: Final = "R2"
_MARKERS: Final = {"masked_reconstruction": "o", "hidden_patches": "s", "hidden_block": "D"}
_SHADES: Final = ("#1f4e79", "#c55a11", "#548235", "#7f6000")
_INCHES_PER_POINT: Final = 0.16


def draw(rows: Sequence[Difference], path: Path, *, dpi: int) -> None:
    """Draw the differences in R2 with their intervals; hollow where the interval of all together holds 0.

    Parameters
    ----------
    rows
        Of the table.
    path
        A PNG.
    dpi
        Of it.
    """
    # Half a second, which a cell does without.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    shown = [row for row in rows if row.metric == METRIC]
    modalities = sorted({row.modality for row in shown})
    cells = list(dict.fromkeys(row.cell for row in rows))
    most = max(len({(row.dataset, row.task) for row in shown if row.modality == name}) for name in modalities)
    height = 1.6 + _INCHES_PER_POINT * len(cells) * (most + 1)
    figure = Figure(figsize=(2.6 + 2.9 * len(modalities), height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(modalities), sharey=True, squeeze=False)[0]
    for panel, modality in zip(panels, modalities, strict=True):
        own = [row for row in shown if row.modality == modality]
        kinds = list(dict.fromkeys((row.dataset, row.task) for row in own))
        datasets = list(dict.fromkeys(dataset for dataset, _ in kinds))
        for number, (dataset, task) in enumerate(kinds):
            some = [row for row in own if (row.dataset, row.task) == (dataset, task)]
            y = [cells.index(row.cell) + (number + 1) / (len(kinds) + 1) - 0.5 for row in some]
            colour, marker = _SHADES[datasets.index(dataset) % len(_SHADES)], _MARKERS.get(task, "o")
            spans = [(row.ci_low, row.ci_high) for row in some]
            panel.hlines(y, [low for low, _ in spans], [high for _, high in spans], color=colour, linewidth=1.2)
            label: str | None = f"{dataset}, {task.removeprefix('masked_').replace('_', ' ')}"
            for row, place in zip(some, y, strict=True):
                fill = colour if row.is_clear else "white"
                panel.plot(
                    row.difference, place, marker, color=colour, markerfacecolor=fill, markersize=4.5, label=label
                )
                label = None
        panel.axvline(0, color="#808080", linewidth=0.8, zorder=0)
        for line in range(1, len(cells)):
            panel.axhline(line - 0.5, color="#e0e0e0", linewidth=0.6, zorder=0)
        panel.set_title(modality)
        panel.set_xscale("symlog", linthresh=0.01)
        panel.margins(x=0.08)
        panel.tick_params(axis="x", labelsize=7)
        panel.set_xlabel("difference in R2")
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=7, frameon=False)
    against = {row.cell: row.against for row in rows}
    panels[0].set_yticks(range(len(cells)), [f"{cell} - {against[cell]}" for cell in cells])
    panels[0].set_ylim(len(cells) - 0.5, -0.5)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    write_atomic(path, picture.getvalue())
