"""The drawings: what is computed for them, and that they hold on odd input."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from neurofm.report.excerpts import evenly
from neurofm.report.figures.curves import Curve, draw_curves, validation_change
from neurofm.report.figures.parcels import correlation
from neurofm.report.figures.raster import angle_of, draw_angle, tuning
from neurofm.report.figures.scoreboard import Dot, draw_dots
from neurofm.report.figures.style import INK, OURS, drawing, new_figure, png, short, svg, thin
from neurofm.report.figures.traces import draw_traces
from neurofm.report.words import number, quality_name


def test_tuning_finds_the_angle_at_which_a_unit_fires() -> None:
    degrees = np.repeat(np.arange(0.0, 360.0, 1.0), 10)
    counts = np.stack([(degrees >= 90) & (degrees < 105), np.ones_like(degrees)], axis=1).astype(np.float64)
    degrees[:5] = np.nan
    rates = tuning(counts, degrees, rate_hz=50.0)
    assert rates.shape == (24, 2)
    assert np.flatnonzero(rates[:, 0]).tolist() == [6]
    assert rates[6, 0] == pytest.approx(50.0)
    np.testing.assert_allclose(rates[:, 1], 50.0)


def test_tuning_where_an_angle_never_occurred_is_unknown() -> None:
    rates = tuning(np.ones((4, 1)), np.full(4, 10.0), rate_hz=1.0)
    assert np.isfinite(rates).sum() == 1


def test_angle_of() -> None:
    known = np.array([0.0, 90.0, 180.0, 350.0])
    columns = np.stack([np.cos(np.deg2rad(known)), np.sin(np.deg2rad(known))], axis=1)
    np.testing.assert_allclose(angle_of(columns), known, atol=1e-9)


def test_an_angle_that_wraps_is_not_joined() -> None:
    axes = Figure().subplots()
    draw_angle(axes, time_s=np.arange(4.0), degrees=np.array([350.0, 358.0, 3.0, 8.0]), name="heading")
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == [False, False, True, False]


def test_thinning_keeps_the_peaks() -> None:
    values = np.zeros(100_000)
    values[33_333], values[77_777] = 5.0, -7.0
    time_s, thinned = thin(np.arange(100_000.0), values, points=1000)
    assert len(thinned) <= 1000
    assert (thinned.max(), thinned.min()) == (5.0, -7.0)
    assert time_s[thinned.argmax()] == 33_333


def test_evenly_takes_usable_channels_only() -> None:
    usable = np.ones(100, dtype=np.bool_)
    usable[[0, 99]] = False
    taken = evenly(usable, most=5)
    assert len(taken) == 5
    assert (taken[0], taken[-1]) == (1, 98)
    assert usable[taken].all()
    assert evenly(usable, most=1000).tolist() == np.flatnonzero(usable).tolist()


def test_correlation_of_known_signals() -> None:
    wave = np.sin(np.arange(100.0))
    np.testing.assert_allclose(correlation(np.stack([wave, -2 * wave], axis=1)), [[1, -1], [-1, 1]], atol=1e-12)


def test_validation_change_is_relative_to_the_first_measurement() -> None:
    nan = float("nan")
    curve = Curve(
        step=np.arange(4.0), train=np.zeros(4), validation=np.array([nan, -2.0, -3.0, -1.0]), best_step=2, fold=1
    )
    np.testing.assert_allclose(validation_change(curve), [nan, 0.0, -50.0, 50.0])


@pytest.mark.parametrize(("best_step", "told"), [(50, "fold 2: 0.812"), (25, "fold 2: 0.793"), (0, "fold 2")])
def test_the_legend_says_the_validation_loss_that_was_kept(best_step: int, told: str) -> None:
    curve = Curve(
        step=np.array([25.0, 50.0]),
        train=np.array([0.9, 1.1]),
        validation=np.array([0.793, 0.812]),
        best_step=best_step,
        fold=2,
    )
    figure = new_figure(height_in=3.0)
    draw_curves(figure, curves=[curve])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [told]
    # The null is in sight among training losses from 0.9 to 1.1.
    assert np.asarray(figure.axes[0].lines[-1].get_ydata()).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("losses", "told"), [([0.4, 0.6], "null \u2191 1"), ([1.2, 1.6], "null \u2193 1")])
def test_a_null_that_is_out_of_sight_is_said(losses: list[float], told: str) -> None:
    nan = float("nan")
    curve = Curve(
        step=np.array([25.0, 50.0, 75.0]),
        train=np.array([losses[0], nan, losses[1]]),
        validation=np.array([nan, 0.8, nan]),
        best_step=50,
        fold=0,
    )
    figure = new_figure(height_in=3.0)
    draw_curves(figure, curves=[curve])
    assert figure.axes[0].get_title(loc="right") == told
    # A kind of mask that no step had in between is still one line.
    assert np.asarray(figure.axes[0].lines[0].get_xdata()).tolist() == [25.0, 75.0]


def dot(model: str, value: float) -> Dot:
    return Dot(model=model, value=value, ci_low=value - 0.02, ci_high=value + 0.02, ours=model.startswith("neurofm"))


@pytest.mark.parametrize(("sign", "higher"), [(1.0, True), (-1.0, False)])
def test_one_bad_score_does_not_squeeze_the_others(sign: float, *, higher: bool) -> None:
    axes = Figure().subplots()
    dots = [dot("neurofm", sign * 0.5), dot("ridge", sign * 0.4), dot("diverged", sign * -40.0)]
    draw_dots(axes, dots=dots, null=0.0, higher_is_better=higher, label="R²")
    low, high = axes.get_xlim()
    assert high - low < 1.0
    assert f"{sign * -40.0:.3f}" in [text.get_text() for text in axes.texts], "its value is still written"


@pytest.mark.parametrize("values", [[0.0], [-0.3, -0.2]], ids=["equal to the null", "all below the null"])
def test_scores_that_do_not_beat_the_null_are_on_the_axis(values: list[float]) -> None:
    axes = Figure().subplots()
    draw_dots(axes, dots=[dot(f"m{v}", v) for v in values], null=0.0, higher_is_better=True, label="R²")
    low, high = axes.get_xlim()
    assert all(low <= value <= high for value in [*values, 0.0])


def test_names_cannot_be_formulas_or_markup() -> None:
    with drawing("names"):
        figure = new_figure(height_in=2)
        draw_traces(
            figure.subplots(),
            time_s=np.arange(50.0),
            values=np.random.default_rng(0).normal(size=(50, 2)),
            names=["$\\frac{$", "<b>&"],
            unit="$",
            common_scale=True,
        )
        text = svg(figure, alt='a "quoted" <alt>')
    assert "$\\frac{$" in text
    assert "&lt;b&gt;&amp;" in text
    assert "<b>" not in text
    assert 'aria-label="a &#34;quoted&#34; &lt;alt&gt;"' in text


def test_drawings_follow_the_pages_colours_and_repeat() -> None:
    def draw(name: str) -> tuple[str, bytes]:
        with drawing(name):
            figure = new_figure(height_in=2)
            axes = figure.subplots()
            axes.plot([0, 1], [0, 1], color=OURS)
            axes.set_title("title")
            return svg(figure, alt="a line"), png(figure, dpi=50)

    first, again, other = draw("one"), draw("one"), draw("two")
    assert first == again
    assert "var(--ours)" in first[0]
    assert "var(--ink)" in first[0]
    assert INK not in first[0]
    assert not set(re.findall(r'id="([^"]+)"', first[0])) & set(re.findall(r'id="([^"]+)"', other[0]))


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (1.23456, "1.23"), (1234.6, "1,235"), (0.00012, "0.00012"), (float("nan"), "\N{EN DASH}")],
)
def test_number(value: float, written: str) -> None:
    assert number(value) == written


@pytest.mark.parametrize(
    ("name", "written"), [("mean_rate_hz", "mean rate (Hz)"), ("tsnr_median", "tsnr median"), ("s", "s")]
)
def test_quality_name(name: str, written: str) -> None:
    assert quality_name(name) == written


def test_short_stays_on_one_line() -> None:
    assert short("a\nb  c") == "a b c"
    assert len(short("x" * 100, limit=10)) == 10
