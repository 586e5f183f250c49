"""The page about fMRI, from real runs whose motion is known."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.connectivity.make import make_connectivity
from neurofm.files import write_json
from neurofm.params import Params
from neurofm.recording import Step
from neurofm.report.build import build_report
from neurofm.report.carpets import chosen, limits_mm
from neurofm.report.fmri import makers_of
from neurofm.report.inputs import read_inputs
from neurofm.report.motion import recording_rows
from neurofm.report.recordings import ReportRecording, recordings_of
from neurofm.report.settings import ReportSettings
from neurofm.report.written import DatasetConnectivity, MadeBy, RecordingQuality
from neurofm.shards import read_shard
from tests.browser import open_page
from tests.movers import mover, write_movers
from tests.report.conftest import PROJECT
from tests.report.test_build import Page

RUNS = 12
REASON = "mean FD 1.9 mm is above 0.5 mm"
FAILURE = "sub-91_desc-confounds_timeseries.tsv: 120 rows, the image has 168 volumes"
LIMITS: dict[str, float | None] = {
    "scrub.fd_threshold_mm": 0.5,
    "exclude.max_mean_fd_mm": 0.3,
    "exclude.max_fd_outlier_fraction": 0.4,
    "highpass_hz": 0.01,
}
STAND_IN = Step(name="stand_in", version="1", params={"description": "Made for tests"})
LIGHT = Step(name="neurofm-light", version="1", params={"description": "Light"})


def test_what_came_after_fmriprep_is_told_too() -> None:
    written = MadeBy(recordings=1, names=("fMRIPrep", "XCP-D"), description="")
    (line,) = makers_of(DatasetConnectivity(made_by={"fMRIPrep 1, then XCP-D 2": written}))
    assert not line.foreign
    assert line.alarm == "Derivatives of XCP-D, another pipeline."


@pytest.fixture(scope="module")
def entries() -> list[CatalogEntry]:
    entry = load_entry("gw-rest", root=PROJECT)
    return [entry.model_copy(update={"id": name, "title": f"Title of {name}"}) for name in ("moved", "plain", "stand")]


@pytest.fixture(scope="module")
def group(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path, entries: list[CatalogEntry], params: Params
) -> Path:
    """Root of a project with connectivity: with confounds, without, and of stand-ins."""
    root = tmp_path_factory.mktemp("group")
    shards = root / "data" / "shards"
    motions = np.linspace(0.05, 0.3, RUNS)
    moved = {f"sub-{n:02d}": mover(shared_data, n, motion=float(motions[n * 5 % RUNS])) for n in range(RUNS)}
    moved["sub-90"] = mover(shared_data, 90, motion=1.0, excluded=REASON)
    write_movers(shards / "moved", moved)
    write_movers(shards / "plain", {f"sub-{n:02d}": mover(shared_data, n, maker=None) for n in range(4)})
    write_movers(shards / "stand", {f"sub-{m.name}": mover(shared_data, 1, maker=m) for m in (STAND_IN, LIGHT)})
    for entry in entries:
        recordings = {path.name.removesuffix(".zarr.zip"): described(path) for path in (shards / entry.id).iterdir()}
        if entry.id == "moved":
            recordings["sub-91"] = {"status": "failed", "reason": FAILURE}
        quality = root / "metrics" / "quality" / f"{entry.id}.json"
        write_json(quality, {"dataset": entry.id, "recordings": recordings})
    make_connectivity(
        entries,
        shards=shards,
        out=root / "data" / "connectivity",
        metrics=root / "metrics" / "connectivity.json",
        settings=params.connectivity.model_copy(update={"permutations": 99, "bootstrap_samples": 100}),
    )
    return root


def described(path: Path) -> dict[str, Any]:
    shard = read_shard(path)
    return {
        "status": "succeeded",
        "channels": shard.stored.shape[1],
        "usable_channels": int(shard.usable.sum()),
        "quality": dict(shard.recording.quality),
    }


@pytest.fixture(scope="module")
def build(entries: list[CatalogEntry], settings: ReportSettings) -> Callable[..., str]:
    def built(root: Path, datasets: list[CatalogEntry] | None = None) -> str:
        chosen_entries = entries if datasets is None else datasets
        build_report(root=root, datasets=chosen_entries, settings=settings, out=root / "reports" / "report.html")
        return (root / "reports" / "fmri.html").read_text(encoding="utf-8")

    return built


@pytest.fixture(scope="module")
def text(group: Path, build: Callable[..., str]) -> str:
    return build(group)


def words_of(text: str) -> str:
    return " ".join(" ".join(Page(text).texts).split())


def section(text: str, dataset: str) -> str:
    return text[text.index(f'<section id="{dataset}">') :].split("</section>", maxsplit=1)[0]


def test_every_exclusion_stands_first_with_its_reason(text: str) -> None:
    words = words_of(section(text, "moved"))
    assert f"{RUNS + 2} recordings: {RUNS} included" in words
    assert words.index(f"sub-90 no: {REASON}") < words.index(f"sub-91 no: {FAILURE}") < words.index("sub-00 yes")


def test_tables_never_cut_exclusions(group: Path, entries: list[CatalogEntry]) -> None:
    moved = recordings_of("moved", read_inputs(root=group, datasets=entries))
    rows, hidden = recording_rows(moved, most=1)
    assert [row[0] for row in rows] == ["sub-90", "sub-91"]
    assert hidden == RUNS


def test_numbers_of_a_recording_are_those_of_its_quality(group: Path, text: str) -> None:
    quality = read_shard(group / "data" / "shards" / "moved" / "sub-03.zarr.zip").recording.quality
    fd, share, minutes = (quality[name] for name in ("fd_mean_mm", "fd_outlier_fraction", "usable_minutes"))
    assert isinstance(fd, float)
    assert isinstance(share, float)
    assert isinstance(minutes, float)
    row = f"sub-03 yes {fd:.3g} {100 * share:.1f} % 1.1 83 {minutes:.3g} 63 of 64 1 0.97"
    assert row in words_of(section(text, "moved"))


def test_who_made_the_derivatives_is_told_and_others_than_fmriprep_loudly(text: str) -> None:
    moved, plain, stand = (section(text, name) for name in ("moved", "plain", "stand"))
    assert "fMRIPrep 25.2.5" in moved
    assert "robust fMRI preprocessing pipeline" in moved
    assert 'class="alarm"' not in moved
    assert 'class="alarm"' not in plain
    assert "no pipeline is named" in plain
    assert stand.count('class="alarm"') == stand.count("No fMRIPrep.") == 2
    assert "<code>stand_in 1</code>" in stand
    assert "<code>neurofm-light 1</code>" in stand


def test_figures_are_there_as_far_as_there_is_something_to_draw(text: str) -> None:
    def captions(dataset: str) -> list[str]:
        return [one.split(":")[0] for one in re.findall("<figcaption>(.*?)</figcaption>", section(text, dataset))]

    motion = ["Lowest motion", "Median motion", "Highest motion"]
    assert captions("moved")[1:] == [*motion, "Connectome", "QC-FC"]
    assert captions("moved")[0].startswith(f"Mean framewise displacement of {RUNS + 1} recordings")
    assert captions("plain") == ["One of the first recordings"] * 3 + ["Connectome"]
    for drawing in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        ET.fromstring(drawing)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_before_is_drawn_only_where_there_is_one(text: str) -> None:
    assert "before cleaning" in words_of(section(text, "moved"))
    assert "before" not in words_of(section(text, "plain"))
    assert "0 recordings with framewise displacement, QC-FC needs 10" in words_of(section(text, "plain"))


def test_carpets_mark_what_is_left_out(group: Path, text: str) -> None:
    shard = read_shard(group / "data" / "shards" / "moved" / "sub-90.zarr.zip")
    caption = next(c for c in re.findall("<figcaption>(.*?)</figcaption>", text) if c.startswith("Highest motion"))
    assert f"sub-90, mean FD 1.94 mm; {int((~shard.valid).sum())} of 168 volumes left out (marked)" in caption
    assert f"Takes no part: {REASON}." in caption


def test_lowest_median_and_highest_are_chosen(tmp_path: Path) -> None:
    moved = []
    for name, fd in (("a", 0.3), ("b", 0.1), ("c", None), ("d", 0.2), ("e", 0.5), ("f", 0.4), ("gone", 9.0)):
        quality = RecordingQuality(status="succeeded", quality={"fd_mean_mm": fd})
        moved.append(ReportRecording(recording=name, quality=quality, reason=""))
        if name != "gone":
            (tmp_path / f"{name}.zarr.zip").touch()
    assert [one.recording for _, one in chosen(moved, shards=tmp_path)] == ["b", "a", "e"]
    assert [why for why, _ in chosen(moved, shards=tmp_path)] == ["Lowest motion", "Median motion", "Highest motion"]
    assert [(why, one.recording) for why, one in chosen(moved[:1], shards=tmp_path)] == [
        ("The only recording with motion measured", "a")
    ]
    assert [one.recording for _, one in chosen(moved[2:3], shards=tmp_path)] == ["c"]


def test_limits_are_those_that_the_steps_name() -> None:
    steps = [Step(name="clean", version="1", params=LIMITS)]
    assert limits_mm(steps) == {"limit of a volume": 0.5, "limit of the mean": 0.3}
    steps = [Step(name="clean", version="1", params=LIMITS | {"exclude.max_mean_fd_mm": None})]
    assert limits_mm(steps) == {"limit of a volume": 0.5}


def test_the_page_needs_nothing_but_itself_and_links_back(group: Path, text: str) -> None:
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    links = [attrs["href"] or "" for attrs in page.all("a")]
    assert [link for link in links if not link.startswith("https://doi.org/")] == ["report.html"]
    report = Page((group / "reports" / "report.html").read_text())
    assert "fmri.html" in [attrs.get("href") for attrs in report.all("a")]
    assert text.count("<table") == text.count('<div class="scroll" tabindex="0"><table')


def test_same_inputs_same_bytes(group: Path, tmp_path: Path, text: str, build: Callable[..., str]) -> None:
    assert build(Path(shutil.copytree(group, tmp_path / "again"))) == text


def test_without_fmri_there_is_a_page_that_says_so(tmp_path: Path, build: Callable[..., str]) -> None:
    text = build(tmp_path, [])
    assert "No fMRI dataset has been preprocessed" in text
    assert "fmri.html" not in (tmp_path / "reports" / "report.html").read_text()


def test_a_broken_metrics_file_is_named(group: Path, tmp_path: Path, entries: list[CatalogEntry]) -> None:
    root = Path(shutil.copytree(group, tmp_path / "broken"))
    write_json(root / "metrics" / "connectivity.json", {"moved": {"recordings": "many"}})
    with pytest.raises(Exception, match=r"connectivity\.json.*Mend"):
        read_inputs(root=root, datasets=entries)


@pytest.mark.parametrize("width_px", [390, 1280])
def test_a_browser_shows_it_without_scrolling_sideways(group: Path, text: str, tmp_path: Path, width_px: int) -> None:
    page = open_page(group / "reports" / "fmri.html", width_px=width_px, folder=tmp_path)
    assert page.scroll_width <= width_px
    assert page.figures == text.count("<svg")
    assert page.foreign == 0
