"""The page about EEG and MNE's reports, from real recordings with one channel spoilt."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.eeg.quality import Exclude
from neurofm.files import write_json
from neurofm.params import Params
from neurofm.preprocess import preprocess_recording
from neurofm.preprocess.eeg import ModalitySettings
from neurofm.recording import Channels, Clock, Events, Modality, Recording, Signal
from neurofm.report.build import build_report
from neurofm.report.eeg_quality import measure_rows, most_suspicious
from neurofm.report.inputs import read_inputs
from neurofm.report.recordings import ReportRecording, recordings_of
from neurofm.report.settings import ReportSettings
from neurofm.report.spectra import seen, spectrum
from neurofm.report.words import MISSING
from neurofm.report.written import RecordingQuality
from neurofm.shards import Provenance, read_shard, write_shard
from tests.browser import open_page
from tests.eeg.real import eegmat
from tests.report.conftest import PROJECT
from tests.report.test_build import Page

SECONDS, RATE_HZ = 24, 500
SPOILT = "T4"
FAILURE = "sub-91_eeg.edf: truncated"
RECORDINGS = {"sub-03": "03_1", "sub-04": "04_1", "sub-07": "07_1", "sub-10": "10_1"}
"""None of them has a bad channel of its own."""
LIMITS = Exclude(max_bad_channel_fraction=0.05)
CLEAN = {
    "tier": "clean",
    "highpass_hz": 0.5,
    "lowpass_hz": 45.0,
    "rate_hz": 100.0,
    "amplitude_limit_uv": None,
    "clean": {"artefacts": "none"},
    "exclude": LIMITS.model_dump(),
}


@pytest.fixture(scope="module")
def entries() -> list[CatalogEntry]:
    entry = load_entry("mne-sample-eeg", root=PROJECT)
    return [entry.model_copy(update={"id": "cleaned", "title": "Title <of> it"})]


@pytest.fixture(scope="module")
def few(settings: ReportSettings) -> ReportSettings:
    return settings.model_copy(update={"eeg_pages": 2, "table_rows": 3})


@pytest.fixture(scope="module")
def group(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path, entries: list[CatalogEntry], params: Params
) -> Path:
    """Root of a project: four recordings, of which the last has a spoilt channel, and one that could not be read."""
    root = tmp_path_factory.mktemp("eeg")
    described: dict[str, Any] = {}
    for name, file in RECORDINGS.items():
        recording = _recording(shared_data, name, file, spoilt=name == "sub-10")
        done = preprocess_recording(
            recording, settings=ModalitySettings.parse(CLEAN, where="-", mend="-"), common=params.preprocess.common
        )
        path = root / "data" / "shards" / entries[0].id / f"{name}.zarr.zip"
        write_shard(done, provenance=_provenance(), path=path)
        shard = read_shard(path)
        described[name] = {
            "status": "succeeded",
            "channels": shard.stored.shape[1],
            "usable_channels": int(shard.usable.sum()),
            "quality": dict(shard.recording.quality),
        }
    described["sub-91"] = {"status": "failed", "reason": FAILURE}
    write_json(root / "metrics" / "quality" / "cleaned.json", {"dataset": "cleaned", "recordings": described})
    return root


def _recording(shared_data: Path, name: str, file: str, *, spoilt: bool) -> Recording:
    raw = eegmat(shared_data, file).raw
    values = raw.get_data(tmax=SECONDS)[:, : SECONDS * RATE_HZ].T.copy()
    if spoilt:
        # An electrode that hangs in the air: many times the amplitude, of another moment.
        values[:, raw.ch_names.index(SPOILT)] = 30 * values[::-1, 0]
    return Recording(
        dataset="cleaned",
        subject=f"eegmat:{name}",
        session="",
        run="",
        task="rest",
        species="Homo sapiens",
        modality=Modality.EEG,
        channels=Channels(
            id=tuple(raw.ch_names),
            position=np.array([one["loc"][:3] for one in raw.info["chs"]]),
            position_unit="m",
            space="head",
        ),
        clock=Clock(id=f"cleaned/{name}"),
        signal=Signal(values=values, sampling_rate_hz=float(RATE_HZ), units="V"),
        events=Events(
            onset_s=np.array([2.0, 9.0, 15.0]), duration_s=np.zeros(3), label=("<b>tone</b>", "tone 2", "tone 2")
        ),
        scalars={"line_freq_hz": 50.0},
    )


def _provenance() -> Provenance:
    return Provenance(
        archive="http", source_id="-", version="1", files=(), licence="-", citation="-", libraries={"mne": "1"}
    )


def _build(root: Path, entries: list[CatalogEntry], settings: ReportSettings) -> str:
    build_report(
        root=root, datasets=entries, settings=settings, out=root / "reports" / "report.html", eeg_limits=LIMITS
    )
    return (root / "reports" / "eeg.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(group: Path, entries: list[CatalogEntry], few: ReportSettings) -> str:
    return _build(group, entries, few)


@pytest.fixture(scope="module")
def spoilt_page(group: Path, text: str) -> str:
    assert text
    return (group / "reports" / "eeg" / "cleaned" / "sub-10.html").read_text(encoding="utf-8")


def words_of(text: str) -> str:
    return " ".join(" ".join(Page(text).texts).split())


def test_every_exclusion_stands_first_with_its_number(text: str) -> None:
    words = words_of(text)
    assert "5 recordings: 3 included" in words
    assert "2 left out" in words
    share = "no: share of bad channels 0.05263, more than 0.05 (max_bad_channel_fraction)"
    assert f"sub-10 {share}" in words
    assert f"sub-91 no: {FAILURE}" in words
    assert max(words.index("sub-10 no"), words.index("sub-91 no")) < min(
        words.index(f"{name} yes") for name in RECORDINGS if name != "sub-10" and f"{name} yes" in words
    )
    assert "2 more in metrics/quality/cleaned.json" in words


def test_numbers_of_a_recording_are_those_of_its_quality(group: Path, text: str) -> None:
    quality = read_shard(group / "data" / "shards" / "cleaned" / "sub-10.zarr.zip").recording.quality
    assert quality["bad_channels"] == SPOILT
    line, slope, blinks = (float(str(quality[name])) for name in ("line_ratio", "spectral_slope", "blink_fraction"))
    assert f"24 s {line:.3g} 1 of 19 {100 * blinks:.3g} %" in words_of(text)
    assert f"{slope:.3g}" in words_of(text)


def test_limits_say_how_many_are_beyond_them(group: Path, entries: list[CatalogEntry], text: str) -> None:
    rows = {
        row[0]: row
        for row in measure_rows(recordings_of("cleaned", read_inputs(root=group, datasets=entries)), limits=LIMITS)
    }
    assert rows["share of bad channels"][1:] == (
        "at most 5 % (max_bad_channel_fraction)",
        "1",
        "4 of 4",
        "0 %",
        "0 %",
        "5.26 %",
    )
    assert rows["usable time"][1:4] == ("none", MISSING, "4 of 4")
    assert "at most 5 % (max_bad_channel_fraction)" in words_of(text)


def test_the_spoilt_electrode_is_the_one_on_the_map(text: str) -> None:
    (caption,) = (one for one in re.findall("<figcaption>(.*?)</figcaption>", text) if one.startswith("How often"))
    assert caption.endswith(
        f"over 4 recordings: 18 never (hollow). Most often {SPOILT} 25 %. Shards read: 4 of 5 recordings."
    )
    for drawing in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        ET.fromstring(drawing)


def test_spectra_are_of_valid_samples_and_usable_channels(group: Path) -> None:
    shard = read_shard(group / "data" / "shards" / "cleaned" / "sub-03.zarr.zip")
    frequency, power = spectrum(shard)
    values = shard.values()[:, shard.usable][shard.valid]
    assert frequency[1] - frequency[0] == pytest.approx(0.25)
    # Parseval: the power of the median channel lies within that of all.
    low, high = np.sort(values.var(axis=0))[[0, -1]]
    assert low < power.sum() * 0.25 < high
    half = replace(shard, valid=np.arange(len(shard.valid)) < 100)
    assert len(spectrum(half)[0]) == 0


def test_shards_that_are_read_are_bounded_and_spread(group: Path, entries: list[CatalogEntry]) -> None:
    recordings = recordings_of("cleaned", read_inputs(root=group, datasets=entries))
    found = seen(recordings, shards=group / "data" / "shards" / "cleaned", most=2)
    assert [one.recording for one in found] == ["sub-10", "sub-07"]
    assert [one.used for one in found] == [False, True]


def test_the_most_suspicious_come_first() -> None:
    def one(name: str, *, blinks: float | None, muscle: float, reason: str = "") -> ReportRecording:
        quality = RecordingQuality(status="succeeded", quality={"blink_fraction": blinks, "muscle_fraction": muscle})
        return ReportRecording(recording=name, quality=quality, reason=reason)

    recordings = [
        one("calm", blinks=0.0, muscle=0.0),
        one("out", blinks=0.0, muscle=0.0, reason="-"),
        one("both", blinks=0.4, muscle=0.5),
        one("muscle", blinks=0.1, muscle=0.5),
        one("unknown", blinks=None, muscle=0.1),
    ]
    assert [found.recording for found in most_suspicious(recordings)] == ["out", "both", "muscle", "unknown", "calm"]


def test_reports_of_mne_are_linked_bounded_and_lead_back(group: Path, text: str, spoilt_page: str) -> None:
    links = [attrs["href"] or "" for attrs in Page(text).all("a")]
    inside = [link for link in links if link.startswith("eeg/")]
    assert inside[0] == "eeg/cleaned/sub-10.html"
    assert len(inside) == 2
    written = sorted(
        path.relative_to(group / "reports").as_posix() for path in (group / "reports" / "eeg").rglob("*.html")
    )
    assert written == sorted(inside)
    assert 'href="../../eeg.html"' in spoilt_page
    report = Page((group / "reports" / "report.html").read_text())
    assert "eeg.html" in [attrs.get("href") for attrs in report.all("a")]


def test_a_report_says_what_was_done_to_the_recording(spoilt_page: str) -> None:
    words = unescape(spoilt_page)
    assert "no: share of bad channels 0.05263" in words
    steps = ["notch", "bad channels", "high pass", "interpolate", "reference", "band pass", "reject"]
    places = [spoilt_page.find(f"<td>{step}</td>") for step in steps]
    assert -1 not in places
    assert places == sorted(places)
    for title in (
        "What was done",
        "Whole recording",
        "Traces",
        "Power spectrum",
        "Sensors",
        "Events in time",
        "Quality",
    ):
        assert f'class="text-decoration-none">{title}</a>' in spoilt_page
    assert f"<td>filled from others</td><td>{SPOILT}</td>" in spoilt_page


def test_a_report_of_mne_fetches_nothing_and_names_are_no_markup(spoilt_page: str) -> None:
    assert "default-src 'none'" in spoilt_page
    head = spoilt_page.index("Content-Security-Policy")
    assert head < spoilt_page.index("<script")
    assert not re.search(r"""<(script|link|img|iframe)[^>]+(src|href)=["']?https?:""", spoilt_page)
    assert "<b>tone</b>" not in spoilt_page
    assert "&lt;b&gt;tone&lt;/b&gt;" in spoilt_page


def test_same_inputs_same_bytes(
    group: Path, tmp_path: Path, text: str, entries: list[CatalogEntry], few: ReportSettings
) -> None:
    spoilt_page = (group / "reports" / "eeg" / "cleaned" / "sub-10.html").read_text()
    again = Path(shutil.copytree(group, tmp_path / "again"))
    stale = again / "reports" / "eeg" / "cleaned" / "gone.html"
    stale.write_text("of a recording that is no more")
    assert _build(again, entries, few) == text
    assert (again / "reports" / "eeg" / "cleaned" / "sub-10.html").read_text() == spoilt_page
    assert not stale.exists()


def test_without_eeg_there_is_a_page_that_says_so(tmp_path: Path, few: ReportSettings) -> None:
    text = _build(tmp_path, [], few)
    assert "No EEG dataset has been preprocessed" in text
    assert (tmp_path / "reports" / "eeg").is_dir()
    assert "eeg.html" not in (tmp_path / "reports" / "report.html").read_text()


@pytest.mark.parametrize("width_px", [390, 1280])
def test_a_browser_shows_it_without_scrolling_sideways(group: Path, text: str, tmp_path: Path, width_px: int) -> None:
    page = open_page(group / "reports" / "eeg.html", width_px=width_px, folder=tmp_path)
    assert page.scroll_width <= width_px
    assert page.figures == text.count("<svg")
    assert page.foreign == 0
