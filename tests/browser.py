"""A page in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Page:
    """What a browser makes of a page."""

    scroll_width: int
    """Pixels; more than its window: it scrolls sideways."""
    figures: int
    foreign: int
    """Scripts, and what would be fetched."""


def open_page(path: Path, *, width_px: int, folder: Path) -> Page:
    """Open a page in Chromium; skips where there is none, unless this is CI."""
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium; .ci/run installs it")
        pytest.skip("chromium is not installed; Debian's package is called chromium")
    (folder / "probe.html").write_text(f"""<iframe style="width:{width_px}px;height:900px;border:0"
        src="{path.as_uri()}" onload="const page = this.contentDocument;
        document.title = [page.documentElement.scrollWidth, page.querySelectorAll('svg').length,
        page.querySelectorAll('[src^=http], link[href^=http], script').length].join(' ')"></iframe>""")
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--allow-file-access-from-files"),
            *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"),
            (folder / "probe.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
    assert found, done.stdout[:500]
    return Page(*map(int, found.groups()))
