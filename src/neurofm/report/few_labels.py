"""Few-shot curves as panels: what a score becomes when only some of the labels are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurofm.evaluation.few_shot_row import NETWORK, SCRATCH, FewShotRow
from neurofm.evaluation.row import NULL, OURS
from neurofm.report.figures.few_shot import Rise, draw_rises
from neurofm.report.figures.style import drawing, new_figure, svg
from neurofm.report.incoming import Panel
from neurofm.report.verdict import METRICS
from neurofm.report.words import modality_order, plain

_WORDS = {"linear_probe": "linear probe", "knn": "kNN", "fine_tune": "fine-tuned", "lora": "LoRA"}


def few_shot_panels(rows: Sequence[FewShotRow]) -> list[Panel]:
    """Draw a panel per dataset, task and metric: one for shares of the labels, one for examples per group."""
    panels = []
    ordered = sorted(rows, key=lambda row: (modality_order(row.modality), row.dataset, row.task, row.metric))
    others = sorted({rise.model for rise in map(_rise, ([row] for row in rows)) if not (rise.ours or rise.null)})
    for dataset, task, metric, by_share in dict.fromkeys(map(_key, ordered)):
        own = [row for row in ordered if _key(row) == (dataset, task, metric, by_share)]
        rises = [_rise([row for row in own if _name(row) == name]) for name in dict.fromkeys(map(_name, own))]
        name = METRICS.get(metric, plain(metric))
        units = sorted({f"{row.n} ({row.ci_unit})" for row in own})
        caption = (
            f"{dataset}, {plain(task)}: {name} by {'share of the labels' if by_share else 'examples per group'}, mean "
            f"over {max(row.seeds for row in own)} draws of which labels are known; bars: 95 % bootstrap intervals "
            f"over draws and n = {', '.join(units)}.{_against_scratch(own)}"
        )
        with drawing(f"few-shot-{dataset}-{task}-{metric}-{by_share}"):
            figure = new_figure(height_in=2.6 + 0.16 * (len(rises) // 2))
            draw_rises(figure.subplots(), rises=rises, ticks=_ticks(own), label=name, others=others)
            panels.append(Panel(drawing=svg(figure, alt=caption), caption=caption))
    return panels


def _key(row: FewShotRow) -> tuple[str, str, str, bool]:
    return row.dataset, row.task, row.metric, row.share is not None


def _name(row: FewShotRow) -> str:
    words = _WORDS.get(row.protocol, plain(row.protocol))
    return row.model if row.model == NULL else f"{row.model}, {words}"


def _rise(rows: Sequence[FewShotRow]) -> Rise:
    points = sorted(rows, key=lambda row: row.shown)
    return Rise(
        name=_name(points[0]),
        model=points[0].model,
        dotted=points[0].protocol == "knn",
        shown=np.array([row.shown for row in points]),
        value=np.array([row.value for row in points]),
        low=np.array([row.ci_low for row in points]),
        high=np.array([row.ci_high for row in points]),
        ours=points[0].model.startswith(OURS) and points[0].model not in (NETWORK, SCRATCH),
        null=points[0].model == NULL,
    )


def _ticks(rows: Sequence[FewShotRow]) -> list[tuple[float, str]]:
    """Name the places of the labels: what was asked for, and how many that was."""
    shown = {row.labels: row.shown for row in sorted(rows, key=lambda row: float(row.labels.split()[0]))}
    return [(at, f"{labels.removesuffix(' per group')}\n({at:.3g})") for labels, at in shown.items()]


def _against_scratch(rows: Sequence[FewShotRow]) -> str:
    """Say how far the pretrained network is from the same one untrained, with a tenth of the labels."""
    asked = {row.protocol: row for row in rows if row.model == NETWORK and row.share == 0.1}
    told = [_difference(asked[protocol], words) for protocol, words in _WORDS.items() if protocol in asked]
    if not any(told):
        return ""
    return (
        " With 10 % of the labels the pretrained network is from the same network untrained, paired: "
        f"{'; '.join(filter(None, told))}."
    )


def _difference(row: FewShotRow, words: str) -> str:
    ends = (row.difference_to_scratch, row.difference_ci_low, row.difference_ci_high)
    if None in ends:
        return ""
    value, low, high = (f"{end:+.3f}".replace("-", "\N{MINUS SIGN}") for end in ends)
    return f"{value} ({low} to {high}), {words}"
