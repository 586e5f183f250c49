"""docs/fmri.md, word for word."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fmri.md"


def test_what_the_page_shows(sample_raw: Callable[[str], Path], tmp_path: Path) -> None:
    (shown,) = re.findall(r"<!-- tested:begin -->\n(.*?)<!-- tested:end -->", PAGE.read_text(), flags=re.DOTALL)
    for file in sample_raw("ds205-bold").iterdir():
        (tmp_path / ("bold.nii.gz" if "volreg" in file.name else "parcellation.nii.gz")).symlink_to(file)
    command = [sys.executable, "-c", textwrap.dedent(shown)]
    told = subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert told == "parcellation fb619590: (82, 116) values, 116 parcels present\n"
