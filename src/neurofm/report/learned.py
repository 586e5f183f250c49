"""The page of the model: how it learned, what it takes for what, and what its embeddings hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neurofm.evaluation.findings import TRAINING_MEAN, Confusion, Connectome, Embedding, Tuning
from neurofm.evaluation.row import NULL, OURS
from neurofm.report.calibration import calibration_panels
from neurofm.report.few_labels import few_shot_panels
from neurofm.report.figures.confusion import draw_confusion
from neurofm.report.figures.connectome import draw_edges, draw_halves
from neurofm.report.figures.embedding import draw_angles, draw_classes
from neurofm.report.figures.recovered import draw_recovered
from neurofm.report.figures.scoreboard import Dot, draw_dots
from neurofm.report.figures.style import drawing, new_figure, svg
from neurofm.report.incoming import Panel
from neurofm.report.inputs import ReportInputs
from neurofm.report.learning import curve_panels
from neurofm.report.words import counted, modality_order, number, plain

_MOST_CHANNELS = 12
"""Whose tuning is drawn."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One kind of figure."""

    id: str
    title: str
    intro: str
    panels: tuple[Panel, ...]
    missing: str
    """What is said where there is none."""


def sections(inputs: ReportInputs) -> list[Section]:
    """Make every section of the page; one without figures says why in a line."""
    found = inputs.findings
    return [
        Section(
            id="curves",
            title="Learning curves",
            intro="Each fold is trained on all modalities together. The weights kept are those with the lowest "
            "validation loss over all modalities and kinds of masks (dot).",
            panels=tuple(curve_panels(inputs.training, splits=inputs.splits)),
            missing="No model has been trained yet.",
        ),
        Section(
            id="few-labels",
            title="With few labels",
            intro="How a read-out of frozen features does when only some of the training windows, or people, come "
            "with a label. The number of labels stands on a logarithmic axis.",
            panels=tuple(few_shot_panels(inputs.few_shot)),
            missing="No few-shot curves were asked for (evaluate.few_shot), or nothing here has labels.",
        ),
        Section(
            id="calibration",
            title="How much must be seen of a recording",
            intro="Hidden channels of people, animals or sessions that the fold never trained on, after a short and a "
            "longer look at the recording. All models look at the same stretch, and are scored on the same later one. "
            "null is the mean of that stretch, null_train the mean of the training recordings.",
            panels=tuple(calibration_panels(inputs.calibration)),
            missing="No calibration curves were asked for (evaluate.calibration_s), or no whole recording is held out.",
        ),
        Section(
            id="confusions",
            title="What is taken for what",
            intro="Held-out data of all folds. Rows are the truth and add up to 100 %; the count stands below.",
            panels=tuple(_confusions(found.confusions)),
            missing="No dataset here has two states or groups that are held out.",
        ),
        Section(
            id="embeddings",
            title="What embeddings hold",
            intro="The first two principal components of our frozen network's latents, of one fold's model, with all "
            "channels shown and no label used. Filled marks lie in what fold 0 scores, hollow ones do not. "
            "Principal components are linear and have nothing to be tuned; UMAP is left out for that reason. Points "
            "are not independent, so no interval is drawn.",
            panels=tuple(_embeddings(found.embeddings)),
            missing="No model has been evaluated yet.",
        ),
        Section(
            id="tuning",
            title="Tuning recovered from embeddings",
            intro="Activity on held-out time, averaged by the target as it was measured, and by the target as a linear "
            "read-out decodes it from our embeddings.",
            panels=tuple(_tunings(found.tunings)),
            missing="No recording here has a target of evaluate.decode that is an angle or one number.",
        ),
        Section(
            id="connectomes",
            title="Connectomes from masked predictions",
            intro="Correlations between fMRI parcels on held-out data, and between our predictions of them: each "
            "parcel was predicted while it was hidden. Predictions hold no noise of their own, so their "
            "correlations are larger. To be better than the mean connectome of the training recordings (dashed) a "
            "model must know something of the person.",
            panels=tuple(_connectomes(found.connectomes)),
            missing="No fMRI was evaluated.",
        ),
    ]


def _confusions(found: Sequence[Confusion]) -> list[Panel]:
    panels = []
    for key in dict.fromkeys((one.dataset, one.task) for one in found):
        own = [one for one in found if (one.dataset, one.task) == key]
        first = own[0]
        total = counted(round(float(first.counts.sum())), first.unit)
        people = "" if first.unit == "subject" else f" of {counted(first.subjects, 'subject')}"
        caption = (
            f"{first.dataset}, {plain(first.task)}: {' beside '.join(one.model for one in own)}; n = {total}{people}. "
            "Counts have no interval: that of the balanced accuracy is in the scoreboard."
        )
        with drawing(f"confusion-{'-'.join(key)}"):
            figure = new_figure(height_in=1.2 + 0.5 * len(first.classes))
            for place, (axes, one) in enumerate(
                zip(figure.subplots(1, len(own), squeeze=False).flat, own, strict=True)
            ):
                draw_confusion(axes, counts=one.counts, classes=one.classes, title=one.model, named=place == 0)
            panels.append(Panel(drawing=svg(figure, alt=caption), caption=caption))
    return panels


_POINTS = {"window": "windows", "patch": "patches", "channel": "channels"}


def _embeddings(found: Sequence[Embedding]) -> list[Panel]:
    ordered = sorted(found, key=lambda one: (bool(one.dataset), modality_order(one.modality), one.dataset))
    return [_embedding(one, label) for one in ordered for label in range(len(one.labels))]


def _embedding(one: Embedding, label: int) -> Panel:
    name, names, values = one.labels[label], one.classes[label], one.values[label]
    of = {
        "window": "the latents' mean over a window, which is a point",
        "patch": f"latents and components of {one.recording}, a point for each patch",
        "channel": f"the identity of channels of {one.recording}: from their positions and statistics, never by name",
    }[one.point]
    known = np.isfinite(values)
    told = f"{len(names)} kinds" if names else "an angle in degrees"
    caption = (
        f"{one.dataset or 'All datasets'}: {of}, by {plain(name)} ({told}); n = {known.sum():,} {_POINTS[one.point]}, "
        f"{int(one.held_out[known].sum()):,} of them scored; model of fold {one.fold}."
    )
    with drawing(f"embedding-{one.dataset}-{one.point}-{name}"):
        figure = new_figure(height_in=2.9)
        axes = figure.subplots()
        if names:
            draw_classes(
                axes, xy=one.xy, which=values, names=names, held_out=one.held_out, explained=one.explained.tolist()
            )
        else:
            draw_angles(axes, xy=one.xy, degrees=values, explained=one.explained.tolist(), label=f"{plain(name)} (°)")
        return Panel(drawing=svg(figure, alt=caption), caption=caption)


def _tunings(found: Sequence[Tuning]) -> list[Panel]:
    return [_tuning(one) for one in found]


def _tuning(one: Tuning) -> Panel:
    strength = np.nanmax(one.measured, axis=0) - np.nanmin(one.measured, axis=0)
    shown = np.argsort(-strength, kind="stable")[:_MOST_CHANNELS]
    known = np.isfinite(one.r)
    what = "around the circle, each to its own peak" if one.is_angle else f"in {one.unit}"
    error = f"{number(one.median_error)}{'°' if one.is_angle else ''}"
    caption = (
        f"{one.dataset}, {one.recording}: {len(shown)} of {len(one.channels)} channels by how much they are tuned to "
        f"{plain(one.target)}, {what}; n = {one.patches:,} patches of {number(one.patch_s)} s of all folds, no "
        f"interval. Median correlation of the two curves over {int(known.sum())} channels "
        f"{np.median(one.r[known]):.2f}; {np.nanmedian(one.r_shifted):.2f} when what was decoded is shifted in time. "
        f"Median error of what is decoded: {error}."
    ).replace("-0.", "\N{MINUS SIGN}0.")
    titles = [f"{one.channels[channel]}, r = {one.r[channel]:.2f}" for channel in shown.tolist()]
    with drawing(f"tuning-recovered-{one.dataset}-{one.recording}-{one.target}"):
        figure = draw_recovered(
            one.centre,
            measured=one.measured[:, shown],
            recovered=one.recovered[:, shown],
            titles=titles,
            is_angle=one.is_angle,
            label=plain(one.target),
        )
        return Panel(drawing=svg(figure, alt=caption), caption=caption)


def _connectomes(found: Sequence[Connectome]) -> list[Panel]:
    panels: list[Panel] = []
    for one in found:
        makers: list[Callable[[Connectome], Panel | None]] = [_matrices, _agreement]
        panels.extend(panel for make in makers if (panel := make(one)) is not None)
    return panels


def _matrices(one: Connectome) -> Panel:
    edges = np.triu_indices(len(one.measured), k=1)
    pair = one.measured[edges], one.reconstructed[edges]
    known = np.isfinite(pair[0]) & np.isfinite(pair[1])
    r = np.corrcoef(pair[0][known], pair[1][known])[0, 1]
    caption = (
        f"{one.dataset}, {one.recording} (the first that is scored): connectome of {len(one.measured)} parcels, and "
        f"its {int(known.sum()):,} edges one by one (darker: more edges; dashed: equal), from {one.samples} held-out "
        f"samples; correlation over edges r = {r:.3f}."
    )
    with drawing(f"connectome-{one.dataset}"):
        figure = new_figure(height_in=2.4)
        left, right = figure.subplots(1, 2)
        draw_halves(left, measured=one.measured, reconstructed=one.reconstructed)
        draw_edges(right, measured=one.measured, reconstructed=one.reconstructed)
        return Panel(drawing=svg(figure, alt=caption), caption=caption)


def _agreement(one: Connectome) -> Panel | None:
    mean = {
        model: float(np.nanmean(row)) for model, row in zip(one.models, one.r, strict=True) if np.isfinite(row).any()
    }
    reference = mean.get(TRAINING_MEAN, 0.0)
    dots = [
        Dot(model=model, value=mean[model], ci_low=low, ci_high=high, ours=model.startswith(OURS))
        for model, low, high in zip(one.models, one.low.tolist(), one.high.tolist(), strict=True)
        if model in mean and model not in (NULL, TRAINING_MEAN)
    ]
    if not dots:
        return None
    dashed = f"Dashed: {TRAINING_MEAN}, {reference:.3f}." if TRAINING_MEAN in mean else "Dashed: zero."
    caption = (
        f"{one.dataset}: correlation over edges of the reconstructed with the measured connectome, mean over "
        f"n = {counted(len(one.subjects), 'subject')} with 95 % bootstrap intervals over subjects. {dashed}"
    )
    with drawing(f"connectome-agreement-{one.dataset}"):
        figure = new_figure(height_in=0.7 + 0.24 * len(dots))
        draw_dots(
            figure.subplots(),
            dots=sorted(dots, key=lambda dot: -dot.value),
            null=reference,
            higher_is_better=True,
            label="correlation over edges",
        )
        return Panel(drawing=svg(figure, alt=caption), caption=caption)
