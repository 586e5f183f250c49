"""The page of the model: what is drawn are the numbers that came in, and an empty section says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from neurofm.evaluation.calibration_row import CalibrationRow
from neurofm.evaluation.difference import Differences
from neurofm.evaluation.few_shot_row import FewShotRow
from neurofm.evaluation.findings import TRAINING_MEAN, Confusion, Connectome, Embedding, Findings, Tuning
from neurofm.report.calibration import calibration_panels
from neurofm.report.differences import difference_panels, difference_words
from neurofm.report.few_labels import few_shot_panels
from neurofm.report.figures.classes import style_of
from neurofm.report.figures.confusion import draw_confusion
from neurofm.report.figures.connectome import draw_edges, draw_halves
from neurofm.report.figures.embedding import draw_classes
from neurofm.report.figures.few_shot import Rise, draw_rises
from neurofm.report.figures.forest import Branch, draw_forest
from neurofm.report.figures.recovered import draw_recovered
from neurofm.report.inputs import read_inputs
from neurofm.report.learned import sections
from tests.report.conftest import difference

NAN = float("nan")


def confusion(model: str, counts: list[list[float]]) -> Confusion:
    return Confusion(
        dataset="eegmat",
        modality="eeg",
        task="classification:arithmetic",
        model=model,
        ours=model.startswith("neurofm"),
        unit="window",
        subjects=6,
        classes=("not arithmetic", "arithmetic"),
        counts=np.array(counts),
    )


def embedding(**changes: Any) -> Embedding:
    rng = np.random.default_rng(0)
    plain: dict[str, Any] = {
        "dataset": "eegmat",
        "modality": "eeg",
        "recording": "",
        "fold": 0,
        "point": "window",
        "explained": np.array([0.6, 0.2]),
        "xy": rng.normal(size=(40, 2)),
        "held_out": np.repeat([0.0, 1.0], 20),
        "labels": ("subject", "arithmetic"),
        "classes": (("a", "b"), ("not arithmetic", "arithmetic")),
        "values": np.stack([np.tile([0.0, 1.0], 20), np.r_[np.zeros(15), np.ones(15), np.full(10, NAN)]]),
    }
    return Embedding(**{**plain, **changes})


def tuning(*, is_angle: bool = True) -> Tuning:
    centre = np.linspace(7.5, 352.5, 24)
    curve = 1 + np.cos(np.deg2rad(centre[:, None] - [90.0, 200.0]))
    return Tuning(
        dataset="cells",
        recording="r",
        modality="spikes",
        target="head_direction",
        model="neurofm-probe",
        is_angle=is_angle,
        unit="spikes/s",
        patches=1234,
        patch_s=0.1,
        median_error=10.25,
        channels=("u0", "u1"),
        centre=centre,
        measured=curve * [1.0, 5.0],
        recovered=curve * [0.8, 4.0],
        r=np.array([0.91, 0.99]),
        r_shifted=np.array([-0.02, -0.04]),
    )


def connectome() -> Connectome:
    rng = np.random.default_rng(2)
    measured = np.atleast_2d(np.corrcoef(rng.normal(size=(6, 50)) + rng.normal(size=50)))
    return Connectome(
        dataset="rest",
        modality="fmri",
        recording="s1",
        samples=128,
        measured=measured,
        reconstructed=np.clip(1.2 * measured, -1, 1),
        models=("neurofm", "null", "ridge", TRAINING_MEAN),
        subjects=("s1", "s2", "s3"),
        r=np.array([[0.8, 0.9, 0.7], [NAN] * 3, [0.5, 0.6, 0.4], [0.6, 0.65, 0.55]]),
        low=np.array([0.72, NAN, 0.42, 0.56]),
        high=np.array([0.88, NAN, 0.58, 0.64]),
    )


def few_shot_row(model: str, share: float | None, value: float, **changes: Any) -> FewShotRow:
    plain: dict[str, Any] = {
        "dataset": "eegmat",
        "modality": "eeg",
        "task": "classification:arithmetic",
        "metric": "auc",
        "model": model,
        "protocol": "none" if model == "null" else "linear_probe",
        "labels": "3 per group" if share is None else f"{100 * share:g} %",
        "share": share,
        "examples": 3 if share is None else None,
        "shown": 6.0 if share is None else 200 * share,
        "seeds": 5,
        "value": value,
        "ci_low": value - 0.05,
        "ci_high": value + 0.05,
        "ci_unit": "subject",
        "n": 6,
        "difference_to_scratch": None,
        "difference_ci_low": None,
        "difference_ci_high": None,
    }
    return FewShotRow.model_validate({key: v for key, v in (plain | changes).items() if key in FewShotRow.model_fields})


def test_an_empty_project_says_what_is_missing(tmp_path: Path) -> None:
    made = sections(read_inputs(root=tmp_path, datasets=[]))
    assert [section.id for section in made] == [
        *("curves", "few-labels", "calibration", "confusions", "embeddings", "tuning", "connectomes"),
    ]
    assert all(not section.panels and section.missing.endswith(".") for section in made)


def test_every_finding_becomes_a_panel_with_its_numbers(tmp_path: Path) -> None:
    inputs = read_inputs(root=tmp_path, datasets=[])
    findings = Findings(
        confusions=(confusion("neurofm-probe", [[30, 10], [5, 15]]), confusion("logistic_power", [[20, 20], [5, 15]])),
        embeddings=(embedding(),),
        tunings=(tuning(),),
        connectomes=(connectome(),),
    )
    object.__setattr__(inputs, "findings", findings)
    made = {section.id: section.panels for section in sections(inputs)}
    (matrix,) = made["confusions"]
    assert "n = 60 windows of 6 subjects" in matrix.caption
    for words in ("75%", "50%", "neurofm-probe", "logistic_power"):
        assert words in matrix.drawing
    by_subject, by_state = made["embeddings"]
    assert "n = 40 windows, 20 of them scored" in by_subject.caption
    assert "n = 30 windows, 10 of them scored" in by_state.caption
    assert "component 1 (60% of the variance)" in by_subject.drawing
    (curves,) = made["tuning"]
    assert "over 2 channels 0.95; \N{MINUS SIGN}0.03 when" in curves.caption
    assert "error of what is decoded: 10.2°" in curves.caption
    assert curves.drawing.index("u1, r = 0.99") < curves.drawing.index("u0, r = 0.91"), "the stronger first"
    halves, agreement = made["connectomes"]
    edges = np.triu_indices(6, k=1)
    one = connectome()
    r = np.corrcoef(one.measured[edges], one.reconstructed[edges])[0, 1]
    assert "15 edges one by one (darker: more edges; dashed: equal), from 128 held-out samples" in halves.caption
    assert halves.caption.endswith(f"r = {r:.3f}.")
    assert "n = 3 subjects" in agreement.caption
    assert "training mean, 0.600" in agreement.caption
    assert "0.800" in agreement.drawing
    assert "null<" not in agreement.drawing


def test_a_confusion_matrix_has_shares_of_the_truth() -> None:
    axes = Figure().subplots()
    draw_confusion(axes, counts=np.array([[3.0, 1.0], [0.0, 8.0]]), classes=("a", "b"), title="m", named=True)
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), np.array([[0.75, 0.25], [0.0, 1.0]]))
    assert [text.get_text() for text in axes.texts] == ["75%\n3", "25%\n1", "0%\n0", "100%\n8"]


def test_points_are_drawn_where_they_are_filled_where_held_out() -> None:
    one = embedding()
    axes = Figure().subplots()
    draw_classes(
        axes,
        xy=one.xy,
        which=one.values[1],
        names=one.classes[1],
        held_out=one.held_out,
        explained=one.explained.tolist(),
    )
    unknown, *lines = axes.lines
    assert len(unknown.get_xdata()) == 10  # type: ignore[arg-type]
    for line, (index, held) in zip(lines, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        inside = (one.values[1] == index) & (one.held_out == held)
        np.testing.assert_array_equal(line.get_xydata(), one.xy[inside])
        assert (line.get_markerfacecolor() == "none") == (held == 0)


def test_classes_are_told_apart_by_mark_too() -> None:
    styles = [style_of(index) for index in range(40)]
    assert len(set(styles)) == 40
    assert len({mark for _, mark in styles[:8]}) == 8


def test_a_connectome_is_measured_below_and_reconstructed_above() -> None:
    one = connectome()
    left, right = Figure().subplots(1, 2)
    draw_halves(left, measured=one.measured, reconstructed=one.reconstructed)
    shown = np.ma.filled(np.ma.asarray(left.images[0].get_array()).astype(np.float64), NAN)
    assert shown[4, 1] == one.measured[4, 1]
    assert shown[1, 4] == one.reconstructed[1, 4]
    assert np.isnan(shown.diagonal()).all()
    draw_edges(right, measured=one.measured, reconstructed=one.reconstructed)
    assert np.nansum(np.ma.filled(np.ma.asarray(right.images[0].get_array()).astype(np.float64), NAN)) == 15


@pytest.mark.parametrize("is_angle", [True, False])
def test_both_tuning_curves_are_drawn(is_angle: bool) -> None:  # noqa: FBT001  # a parameter of the test
    one = tuning(is_angle=is_angle)
    figure = draw_recovered(
        one.centre,
        measured=one.measured,
        recovered=one.recovered,
        titles=one.channels,
        is_angle=is_angle,
        label="head direction",
    )
    measured, recovered = figure.axes[1].lines
    for line, curve in ((measured, one.measured[:, 1]), (recovered, one.recovered[:, 1])):
        np.testing.assert_array_equal(np.asarray(line.get_ydata())[:24], curve)


def test_few_shot_curves_have_their_points_and_what_pretraining_gained() -> None:
    gained = {"difference_to_scratch": 0.08, "difference_ci_low": -0.01, "difference_ci_high": 0.15}
    rows = [
        *(few_shot_row("neurofm", share, 0.6 + share / 10) for share in (0.01, 0.1, 1.0)),
        few_shot_row("neurofm-network", 0.1, 0.62, protocol="fine_tune", **gained),
        few_shot_row("neurofm-network", 0.1, 0.62, **gained),
        few_shot_row("neurofm-scratch", 0.1, 0.54),
        few_shot_row("null", 0.1, 0.5),
        few_shot_row("neurofm", None, 0.58),
    ]
    by_share, by_examples = few_shot_panels(rows)
    assert "auc" not in by_share.caption
    assert "area under the ROC curve by share of the labels, mean over 5 draws" in by_share.caption
    assert "over draws and n = 6 (subject)" in by_share.caption
    assert "untrained, paired: +0.080 (\N{MINUS SIGN}0.010 to +0.150), linear probe; " in by_share.caption
    assert by_share.caption.endswith("+0.080 (\N{MINUS SIGN}0.010 to +0.150), fine-tuned.")
    assert "by examples per group" in by_examples.caption
    assert few_shot_panels([]) == []
    figure = Figure()
    axes = figure.subplots()
    rise = Rise(
        name="neurofm",
        model="neurofm",
        dotted=False,
        shown=np.array([2.0, 20.0, 200.0]),
        value=np.array([0.6, 0.61, 0.7]),
        low=np.array([0.5, 0.6, 0.65]),
        high=np.array([0.7, 0.65, 0.75]),
        ours=True,
        null=False,
    )
    ticks = [(2.0, "1 %\n(2)"), (2.2, "5 %\n(2.2)"), (1.9, "10 %\n(1.9)"), (200.0, "100 %\n(200)")]
    draw_rises(axes, rises=[rise], ticks=ticks, label="AUC")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1 %, 5 %, 10 %\n(2)", "100 %\n(200)"]
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), np.stack([rise.shown, rise.value], axis=1))  # type: ignore[arg-type]


def test_a_model_has_one_colour_in_all_panels_whoever_stands_beside_it() -> None:
    everyone = [f"model {number}" for number in range(9)]
    drawn: dict[str, tuple[object, object]] = {}
    for shown in (everyone, everyone[3:]):
        axes = Figure().subplots()
        values = np.array([0.1, 0.2])
        rises = [
            Rise(
                name=name,
                model=name,
                dotted=False,
                shown=values,
                value=values,
                low=values,
                high=values,
                ours=False,
                null=False,
            )
            for name in shown
        ]
        draw_rises(axes, rises=rises, ticks=[(0.1, "few")], label="R2", others=everyone)
        for line in axes.lines:
            name, style = str(line.get_label()), (line.get_color(), line.get_marker())
            assert drawn.setdefault(name, style) == style
    assert len(set(drawn.values())) == len(everyone)


def test_curves_far_below_the_null_leave_the_axis_and_it_says_how_far() -> None:
    axes = Figure().subplots()
    values = np.array([-5.8, 0.5])
    rise = Rise(
        name="neurofm",
        model="neurofm",
        dotted=False,
        shown=np.array([2.0, 200.0]),
        value=values,
        low=values,
        high=values,
        ours=True,
        null=False,
    )
    draw_rises(axes, rises=[rise], ticks=[(2.0, "5 s"), (200.0, "all")], label="R2")
    assert axes.get_ylim()[0] == -1.0
    assert "\N{MINUS SIGN}5.8" in axes.texts[0].get_text()


def test_calibration_curves_say_how_far_ours_is_from_the_best_linear() -> None:
    plain = {
        "dataset": "eegmat",
        "modality": "eeg",
        "task": "masked_reconstruction",
        "metric": "R2",
        "n": 24,
        "ci_low": 0.4,
        "ci_high": 0.6,
        "ci_unit": "subject",
        "linear": "gaussian",
        "minus_linear": None,
        "minus_linear_ci_low": None,
        "minus_linear_ci_high": None,
    }
    ours = {"model": "neurofm", "minus_linear": -0.02, "minus_linear_ci_low": -0.05, "minus_linear_ci_high": 0.01}
    rows = [
        CalibrationRow.model_validate({**plain, **model, "calibration": name, "seconds": seconds, "value": value})
        for name, seconds, value in (("10 s", 10.0, 0.5), ("all", 40.0, 0.55))
        for model in (ours, {"model": "gaussian"}, {"model": "null"}, {"model": "null_train"})
    ]
    (panel,) = calibration_panels(rows)
    assert "n = 24 (subject)" in panel.caption
    assert "\N{MINUS SIGN}0.020 (\N{MINUS SIGN}0.050 to +0.010) on gaussian with 10 s" in panel.caption
    assert "null_train" in panel.drawing
    assert calibration_panels([]) == []


def test_a_forest_has_every_difference_and_its_p() -> None:
    axes = Figure().subplots()
    near = Branch(name="a", against="x", value=0.02, low=0.01, high=0.03, p=0.0001, clear=True)
    far = Branch(name="b", against="y", value=-0.01, low=-4.0, high=0.05, p=0.21, clear=False)
    draw_forest(axes, branches=[near, far, near], label="difference in R²")
    low, high = axes.get_xlim()
    assert low > -1, "one wide interval does not squeeze the others"
    assert high > 0.03
    written = [text.get_text() for text in axes.texts]
    assert written == ["+0.020\xa0\xa0<.001", "\N{MINUS SIGN}0.010\xa0\xa0.210", "+0.020\xa0\xa0<.001"]
    marks = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in marks] == [0.02, -0.01, 0.02]  # type: ignore[index]


def test_differences_are_told_by_metric_and_after_correction() -> None:
    rows = (
        difference(dataset="won", value=0.05, ci_low=0.04, ci_high=0.06),
        difference(dataset="lost"),
        difference(dataset="level", value=0.01, p=0.03, p_holm=0.09),
        difference(dataset="won", metric="bits_per_spike", value=0.03, n=12),
    )
    found = Differences(comparisons=4, differences=rows)
    r2, bits = difference_panels(found)
    assert r2.caption.startswith("bits per spike") != bits.caption.startswith("bits per spike")
    assert "n = 9 a row" in r2.caption + bits.caption
    assert "all 4 comparisons" in r2.caption
    assert "clearly ahead in 2 and clearly behind in 1" in difference_words(found)
    assert difference_words(Differences()) == ""
    assert difference_panels(Differences()) == []
