"""The look that all figures share, and how a figure becomes SVG or PNG, the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_IN = 5.0
"""Every panel has this width, so that text has one size across the page and stays readable on a phone."""

INK = "#1b1f24"
MUTED = "#667079"
RULE = "#cfd5db"
PAPER = "#fffffe"
"""Fills what must hide a line behind it."""
# Blue, vermilion and green of Okabe & Ito's colour-blind-safe palette (https://jfly.uni-koeln.de/color/).
OURS = "#d55e00"
BASELINE = "#0072b2"
THIRD = "#009e73"

_THEME = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    OURS: "var(--ours)",
    BASELINE: "var(--baseline)",
    THIRD: "var(--third)",
    "#000000": "var(--ink)",  # MNE draws its head outline in black
}
"""Colours that the page's style sheet replaces, so that figures follow the light and dark schemes."""

_STYLE = {
    "font.size": 8.5,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout on every machine
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 0.9,
    "path.simplify_threshold": 0.2,
    "image.composite_image": False,
    # Names come from outside: "$" in one must not be read as a formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
}


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Draw inside this block: sets the look, and makes the ids inside the SVG depend on `name` only."""
    with style.context(["default", {**_STYLE, "svg.hashsalt": name}]):
        yield


def new_figure(*, height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Make an empty figure whose parts are laid out without overlaps."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def svg(figure: Figure, *, alt: str) -> Markup:
    """Return the figure as an ``<svg>`` element for a page, in the page's colours.

    Parameters
    ----------
    figure
        Drawn inside `drawing`.
    alt
        What a reader who cannot see it is told; escaped here.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    # matplotlib's group names would repeat from figure to figure; nothing refers to them.
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    for colour, variable in _THEME.items():
        body = body.replace(colour, variable)
    body = "\n".join(line.strip() for line in body.splitlines() if line.strip())
    start = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()}'
    # The drawing is matplotlib's, which escapes every text that it is given.
    return Markup(f'{start} role="img" aria-label="{escape(alt)}">{body}')  # noqa: S704


def png(figure: Figure, *, dpi: int) -> bytes:
    """Return the figure as a PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def short(text: str, *, limit: int = 26) -> str:
    """Cut `text` to `limit` characters, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def thin(
    time_s: npt.NDArray[np.float64], values: npt.NDArray[np.floating], *, points: int = 1200
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.floating]]:
    """Keep the extremes of each stretch, so that a long trace is drawn with about `points` points and keeps its peaks.

    Parameters
    ----------
    time_s, values
        [time]
    """
    step = -(-2 * len(values) // points)
    if step <= 2:
        return time_s, values
    blocks = len(values) // step
    blocked = values[: blocks * step].reshape(blocks, step)
    first = np.arange(blocks) * step
    kept = np.sort(np.concatenate([first + blocked.argmin(axis=1), first + blocked.argmax(axis=1)]))
    return time_s[kept], values[kept]


def bare(axes: Axes) -> None:
    """Leave only the bottom axis."""
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
