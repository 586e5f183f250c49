"""docs/splits.md: what it shows to be written is read, and does what it says."""

from __future__ import annotations

import io
import re

from ruamel.yaml import YAML

from neurofm.catalog import Overlaps
from neurofm.splits import SplitSettings
from tests.conftest import PROJECT


def test_examples_are_read() -> None:
    text = (PROJECT / "docs" / "splits.md").read_text()
    blocks = [YAML(typ="safe").load(io.StringIO(block)) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    rows = [block for block in blocks if isinstance(block, list)]
    settings = [block["split"] for block in blocks if isinstance(block, dict)]
    assert len(rows) == len(settings) == 1
    known = Overlaps.parse({"known": rows[0]}, where="docs", mend="")
    assert known.ids(["my-lab:mouse-7"])["my-lab:mouse-7"] == ("my-lab:mouse-7", "peyrache-lab:A2929")
    assert SplitSettings.parse(settings[0], where="docs", mend="").leave_out == "subject"
