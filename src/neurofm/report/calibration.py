"""Calibration curves as panels: what a score becomes when little was seen of a recording before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurofm.evaluation.calibration_row import CalibrationRow
from neurofm.evaluation.row import NULL, OURS
from neurofm.report.figures.few_shot import Rise, draw_rises
from neurofm.report.figures.style import drawing, new_figure, svg
from neurofm.report.incoming import Panel
from neurofm.report.verdict import METRICS
from neurofm.report.words import modality_order, plain


def calibration_panels(rows: Sequence[CalibrationRow]) -> list[Panel]:
    """Draw a panel per dataset and metric."""
    panels = []
    others = sorted({row.model for row in rows} - {OURS, NULL})
    ordered = sorted(rows, key=lambda row: (modality_order(row.modality), row.dataset, row.metric, row.seconds))
    for dataset, metric in dict.fromkeys((row.dataset, row.metric) for row in ordered):
        own = [row for row in ordered if (row.dataset, row.metric) == (dataset, metric)]
        models = dict.fromkeys(row.model for row in own)
        name = METRICS.get(metric, plain(metric))
        caption = (
            f"{dataset}, {plain(own[0].task)} of recordings never trained on: {name} by how much of each was looked at "
            f"before; bars: 95 % bootstrap intervals over n = {own[0].n} ({own[0].ci_unit}). {_ahead(own)}"
        )
        with drawing(f"calibration-{dataset}-{metric}"):
            figure = new_figure(height_in=2.6 + 0.16 * (len(models) // 2))
            rises = [_rise([row for row in own if row.model == model]) for model in models]
            ticks = {row.calibration: (row.seconds, f"{row.calibration}\n({row.seconds:.3g} s)") for row in own}
            named = list(ticks.values())
            draw_rises(figure.subplots(), rises=rises, ticks=named, label=name, over="calibration", others=others)
            panels.append(Panel(drawing=svg(figure, alt=caption), caption=caption))
    return panels


def _rise(rows: Sequence[CalibrationRow]) -> Rise:
    return Rise(
        name=rows[0].model,
        model=rows[0].model,
        dotted=False,
        shown=np.array([row.seconds for row in rows]),
        value=np.array([row.value for row in rows]),
        low=np.array([row.ci_low for row in rows]),
        high=np.array([row.ci_high for row in rows]),
        ours=rows[0].model == OURS,
        null=rows[0].model == NULL,
    )


def _ahead(rows: Sequence[CalibrationRow]) -> str:
    """Say how far ours is from the best linear baseline with the same calibration, at each point."""
    points = [row for row in rows if row.model == OURS and row.minus_linear is not None]
    said = [
        f"{row.minus_linear:+.3f} ({row.minus_linear_ci_low:+.3f} to {row.minus_linear_ci_high:+.3f}) on {row.linear} "
        f"with {row.calibration}"
        for row in points
    ]
    return f"Ours, paired: {'; '.join(said)}.".replace("-", "\N{MINUS SIGN}") if said else ""
