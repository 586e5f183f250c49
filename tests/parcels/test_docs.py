"""docs/fmri.md, word for word."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fmri.md"


def _told(number: int, folder: Path) -> str:
    """Run one of the page's examples in a folder; return what it prints."""
    shown = re.findall(r"<!-- tested:begin -->\n(.*?)<!-- tested:end -->", PAGE.read_text(), flags=re.DOTALL)
    assert len(shown) == 2
    command = [sys.executable, "-c", textwrap.dedent(shown[number])]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_volumes(sample_raw: Callable[[str], Path], tmp_path: Path) -> None:
    for file in sample_raw("ds205-bold").iterdir():
        (tmp_path / ("bold.nii.gz" if "volreg" in file.name else "parcellation.nii.gz")).symlink_to(file)
    assert _told(0, tmp_path) == "parcellation fb619590: (82, 116) values, 116 parcels present\n"


def test_cifti(dtseries: Path, tmp_path: Path) -> None:
    (tmp_path / "bold.dtseries.nii").symlink_to(dtseries)
    assert _told(1, tmp_path) == "TR 2.0 s: (16, 19) values, 19 parcels present\n"
