"""The whole page, from real recordings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.files import write_json
from neurofm.report.build import build_report
from neurofm.report.settings import ReportSettings
from tests.report.conftest import read_json

HEADINGS = [
    "What came in",
    "Quality per recording",
    "Training",
    "Hidden and reconstructed",
    "Scoreboard",
    "Provenance",
]


class Page(HTMLParser):
    """What a page consists of, as a browser would take it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for found, attrs in self.tags if found == tag]


Build = Callable[..., str]


@pytest.fixture
def build(entries: list[CatalogEntry], settings: ReportSettings) -> Build:
    def built(root: Path, datasets: list[CatalogEntry] | None = None) -> str:
        out = root / "reports" / "report.html"
        build_report(root=root, datasets=datasets or entries, settings=settings, out=out)
        return out.read_text(encoding="utf-8")

    return built


@pytest.fixture(scope="session")
def text(finished: Path, entries: list[CatalogEntry], settings: ReportSettings) -> str:
    out = finished / "page" / "report.html"
    build_report(root=finished, datasets=entries, settings=settings, out=out)
    return out.read_text(encoding="utf-8")


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text)


def test_every_section_is_there_in_order(text: str) -> None:
    assert headings(text) == HEADINGS


def test_the_page_needs_nothing_but_itself(text: str) -> None:
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    sources = [attrs[key] for _, attrs in page.tags for key in ("src", "xlink:href", "srcset") if key in attrs]
    assert sources
    assert all(source is not None and source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert len(text) < 8_000_000


def test_every_figure_has_words_and_is_sound(text: str) -> None:
    page = Page(text)
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    # Two per dataset in "what came in", one reconstruction, three scoreboards, one metric's differences.
    assert len(drawings) == len(page.all("figure")) == len(page.all("figcaption")) == 2 * 4 + 1 + 3 + 1
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert len(root.get("aria-label") or "") > 30
        assert root.get("width") is None, "a fixed width would not shrink on a phone"
    ids = re.findall(r'\bid="([^"]+)"', "".join(drawings))
    assert len(ids) == len(set(ids)), "an id that repeats makes one figure use another's clip path"


def test_wide_tables_scroll_in_their_own_box(text: str) -> None:
    assert text.count("<table") == text.count('<div class="scroll" tabindex="0"><table')


def test_what_it_says_of_the_data(text: str) -> None:
    words = " ".join(" ".join(Page(text).texts).split())
    assert "better than the null on 3 of 3 comparisons" in words
    assert "behind on 3" in words
    assert "too short: 1 s, one window is 2 s" in words
    assert "broken.mat: truncated" in words
    assert "a329216d2108dac0fff3fd3326c99f52f1bec6c354c2cdb330978e558caeb1f2" in words, "digest of the NWB file"
    assert "https://doi.org/10.7554/eLife.85786" in [attrs.get("href") for attrs in Page(text).all("a")]


def test_same_inputs_same_bytes(finished: Path, tmp_path: Path, text: str, build: Build) -> None:
    again = Path(shutil.copytree(finished, tmp_path / "again"))
    assert build(again) == text
    for picture in ("overview.png", "scoreboard.png"):
        content = (again / "reports" / picture).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert content == (finished / "page" / picture).read_bytes()


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("data/shards", "What came in"),
        ("metrics/quality", "Quality per recording"),
        ("metrics/pretrain.json", "Training"),
        ("reports/reconstructions.npz", "Hidden and reconstructed"),
        ("metrics/scoreboard.json", "Scoreboard"),
        ("data/manifests", None),
        ("data/splits.json", None),
    ],
)
def test_a_missing_piece_leaves_its_section_out(
    project: Path, entries: list[CatalogEntry], build: Build, missing: str, gone: str | None
) -> None:
    path = project / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    page = build(project, [entry for entry in entries if entry.id == "hcp-rest"])
    assert headings(page) == [heading for heading in HEADINGS if heading != gone]


def test_an_empty_project_still_has_its_provenance(tmp_path: Path, build: Build) -> None:
    page = build(tmp_path)
    assert headings(page) == ["Provenance"]
    assert "No model has been scored yet." in page


@pytest.mark.parametrize("name", ["scoreboard", "pretrain"])
def test_a_foreign_metrics_file_is_named(project: Path, build: Build, name: str) -> None:
    write_json(project / "metrics" / f"{name}.json", [{"surprise": 1}])
    with pytest.raises(UserError, match=rf"metrics/{name}\.json"):
        build(project)


def test_hostile_names_stay_text(project: Path, entries: list[CatalogEntry], build: Build) -> None:
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $\\frac{$"
    eeg = next(entry for entry in entries if entry.id == "mne-sample-eeg")
    hostile = eeg.model_copy(
        update={"title": attack, "citation": attack, "doi": '"><script>', "licence_url": "javascript:alert(3)"}
    )
    quality = project / "metrics" / "quality" / "mne-sample-eeg.json"
    content = read_json(quality)
    (recording,) = content["recordings"].values()
    recording |= {"subject": attack, "quality": {attack: attack}}
    write_json(quality, content)
    board = project / "metrics" / "scoreboard.json"
    rows = [row | {"model": row["model"] + attack} for row in read_json(board) if row["dataset"] == "mne-sample-eeg"]
    write_json(board, rows)
    page = Page(build(project, [hostile]))
    assert not page.all("script")
    assert not page.all("img")
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    links = [attrs.get("href") or "" for attrs in page.all("a")]
    assert links
    assert all(link.startswith("https://") or link in {"eeg.html", "animals.html", "model.html"} for link in links)
    assert any(attack in text for text in page.texts), "it is shown, as text"
