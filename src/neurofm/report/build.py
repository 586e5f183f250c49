"""The report: one page that says how it went, others that go into detail, and two pictures for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from neurofm.catalog import CatalogEntry
from neurofm.eeg.quality import Exclude
from neurofm.evaluation.row import Row
from neurofm.files import write_atomic
from neurofm.recording import Modality
from neurofm.report.animals import animal_datasets
from neurofm.report.differences import difference_panels, difference_words
from neurofm.report.eeg import eeg_datasets
from neurofm.report.excerpts import Excerpt
from neurofm.report.figures.scoreboard import draw_dots
from neurofm.report.figures.style import drawing, new_figure, png
from neurofm.report.flow import draw_flow, trace
from neurofm.report.fmri import fmri_datasets
from neurofm.report.incoming import draw_time, incoming
from neurofm.report.inputs import ReportInputs, read_inputs
from neurofm.report.learned import sections
from neurofm.report.learning import (
    dots_of,
    fold_columns,
    fold_rows,
    reconstruction_panels,
    score_panels,
)
from neurofm.report.settings import ReportSettings
from neurofm.report.tables import (
    SCORE_COLUMNS,
    left_out,
    origins,
    quality_tables,
    score_rows,
    seeds,
    totals,
    versions,
)
from neurofm.report.verdict import compare, group_scores, metric_name, verdict
from neurofm.report.words import MODALITY_WORDS, plain


def build_report(
    *,
    root: Path,
    datasets: Sequence[CatalogEntry],
    settings: ReportSettings,
    out: Path,
    eeg_limits: Exclude | None = None,
) -> None:
    """Write the report, and beside it the pages of fMRI, EEG (with ``eeg/``), animals and model, and two pictures.

    It reads quality, splits, training, scores and connectivity under `root`, and one shard per dataset (of fMRI
    three, of EEG as many as the settings say). A piece that is not there leaves its section out. The pages open
    offline: but for links from one to the other they refer to no file. The same inputs give the same bytes.

    Parameters
    ----------
    root
        The project's root.
    datasets
        Which datasets it is about.
    settings
        How much is drawn.
    out
        Where to write it; `root`-relative paths are resolved by the caller.
    eeg_limits
        Which EEG recordings preprocessing keeps out, for the page; None is what it does by default.

    Raises
    ------
    UserError
        For a metrics file that is not what its stage writes.
    Unreadable
        For a damaged shard.
    """
    inputs = read_inputs(root=root, datasets=datasets)
    drawn, excerpts = incoming(inputs, shards=root / "data" / "shards", settings=settings)
    comparisons = compare(inputs.scores)
    traced = [trace(entry, inputs, root=root) for entry in inputs.entries]
    fmri = fmri_datasets(inputs, root=root, settings=settings)
    eeg = eeg_datasets(inputs, root=root, settings=settings, limits=eeg_limits or Exclude(), pages=out.with_name("eeg"))
    animals = animal_datasets(inputs, shards=root / "data" / "shards", settings=settings)
    page = _template("report.html.j2").render(
        has_fmri=bool(fmri),
        has_eeg=bool(eeg),
        has_animals=bool(animals),
        totals=totals(inputs),
        verdict=verdict(comparisons),
        comparisons=comparisons,
        incoming=drawn,
        quality=quality_tables(inputs, most=settings.table_rows),
        left_out=left_out(inputs),
        fold_columns=fold_columns(inputs.training),
        fold_rows=fold_rows(inputs.training),
        reconstructions=reconstruction_panels(inputs.examples, settings=settings),
        differences=difference_panels(inputs.differences),
        difference_words=difference_words(inputs.differences),
        score_panels=score_panels(inputs.scores),
        score_columns=SCORE_COLUMNS,
        score_rows=score_rows(inputs.scores),
        flow=draw_flow(inputs, traced, root=root),
        origins=origins(inputs, traced, excerpts=excerpts, most=settings.table_rows),
        seeds=seeds(inputs),
        versions=versions(),
    )
    write_atomic(out, page.encode())
    fmri_page = _template("fmri.html.j2").render(datasets=fmri, versions=versions())
    write_atomic(out.with_name("fmri.html"), fmri_page.encode())
    eeg_page = _template("eeg.html.j2").render(datasets=eeg, versions=versions())
    write_atomic(out.with_name("eeg.html"), eeg_page.encode())
    animals_page = _template("animals.html.j2").render(datasets=animals, versions=versions())
    write_atomic(out.with_name("animals.html"), animals_page.encode())
    model_page = _template("model.html.j2").render(sections=sections(inputs), versions=versions())
    write_atomic(out.with_name("model.html"), model_page.encode())
    write_atomic(out.with_name("overview.png"), overview(inputs, excerpts=excerpts, settings=settings))
    write_atomic(out.with_name("scoreboard.png"), scoreboard(inputs.scores, dpi=settings.png_dpi))


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        # Names, reasons and citations come from other people's files.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    environment.filters["metric"] = metric_name
    return environment.get_template(name)


def overview(inputs: ReportInputs, *, excerpts: Mapping[str, Excerpt], settings: ReportSettings) -> bytes:
    """Draw one recording of each modality, of the dataset of which most recordings are used, as a PNG."""
    shown: dict[Modality, Excerpt] = {}
    for entry in sorted(inputs.entries, key=lambda entry: -len(inputs.taking_part(entry.id))):
        if entry.id in excerpts and excerpts[entry.id].shard.usable.any():
            shown.setdefault(entry.modality, excerpts[entry.id])
    with drawing("overview"):
        modalities = [modality for modality in Modality if modality in shown]
        columns = min(3, max(1, len(modalities)))
        rows = max(1, -(-len(modalities) // columns))
        figure = new_figure(height_in=2.9 * rows, width_in=4.0 * columns)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(modalities) :]:
            axes.set_axis_off()
        if not modalities:
            figure.text(0.5, 0.5, "no recording to be shown", ha="center")
        for axes, modality in zip(grid.flat, modalities, strict=False):
            draw_time(axes, shown[modality], settings)
            axes.set_title(f"{MODALITY_WORDS[modality]} · {shown[modality].shard.recording.dataset}")
            axes.set_xlabel("time (s)")
        return png(figure, dpi=settings.png_dpi)


def scoreboard(scores: Sequence[Row], *, dpi: int) -> bytes:
    """Draw the whole scoreboard as one PNG."""
    groups = [(group, dots) for group in group_scores(scores) if (dots := dots_of(group))]
    with drawing("scoreboard"):
        columns = min(2, max(1, len(groups)))
        rows = max(1, -(-len(groups) // columns))
        tallest = max((len(dots) for _, dots in groups), default=1)
        figure = new_figure(height_in=(1.0 + 0.22 * tallest) * rows, width_in=5.2 * columns)
        figure.set_layout_engine("constrained", wspace=0.08, hspace=0.05)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(groups) :]:
            axes.set_axis_off()
        if not groups:
            figure.text(0.5, 0.5, "nothing was scored", ha="center")
        for axes, (group, dots) in zip(grid.flat, groups, strict=False):
            first = group[0]
            draw_dots(
                axes,
                dots=dots,
                null=first.null,
                higher_is_better=first.higher_is_better,
                label=metric_name(first),
            )
            axes.set_title(f"{first.dataset} · {plain(first.task)}")
        return png(figure, dpi=dpi)
