"""Choosing a reader by name, and its options."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from neurofm.catalog import RecordingRule
from neurofm.errors import UserError
from neurofm.readers import reader_module, reader_names, reader_options

KNOWN = (
    "alf",
    "bids",
    "caiman",
    "cnmfe",
    "eeg_files",
    "fif",
    "fmriprep",
    "inscopix",
    "minian",
    "neurosuite",
    "nifti",
    "nwb",
    "nwb1",
    "sessinfo",
    "suite2p",
    "tables",
    "trials",
)


def test_known_readers() -> None:
    assert reader_names() == KNOWN


@pytest.mark.parametrize("name", KNOWN)
def test_every_reader_keeps_the_contract(name: str) -> None:
    module = reader_module(name)
    assert module.VERSION
    assert module.LIBRARIES
    assert module.Options.model_config["extra"] == "forbid"
    assert callable(module.read)


def test_unknown_reader_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=rf"no reader 'edf'.*{', '.join(KNOWN)}"):
        reader_module("edf")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("tables", {"axes": "channel_time", "tr_s": 2.0}, "`atlas`: required key is missing"),
        ("tables", {"axes": "channel_time", "tr_s": "2", "atlas": "AAL"}, "`tr_s`"),
        ("tables", {"axes": "channel_time", "tr_s": 0.0, "atlas": "AAL"}, "`tr_s`"),
        ("fif", {"pick": "eeg"}, "`pick`: unknown key"),
        ("nwb", {"targets": {"hd": {"paths": [], "kind": "angle"}}}, "`targets.hd.paths`"),
        ("nwb", {"targets": {"hd": {"paths": ["a/b"], "kind": "polar"}}}, "`targets.hd.kind`"),
    ],
)
def test_wrong_option_is_named(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        reader_options(name, options, where="data/catalog/x.yaml: reader_options")
    assert "data/catalog/x.yaml: reader_options" in str(error.value)
    assert said in str(error.value)


def test_importing_the_room_loads_no_format_library() -> None:
    code = (
        "import sys, neurofm.readers, neurofm.preprocess; "
        "sys.exit(any(name in sys.modules for name in ('mne', 'mne_bids', 'nilearn', 'one', 'pynwb')))"
    )
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(source)}, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("page", ["ibl", "neurosuite"])
def test_examples_of_the_formats_pages_are_entries(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats" / f"{page}.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        entry = YAML(typ="safe").load(example)
        RecordingRule.parse(entry["recordings"], where=page, mend="-")
        reader_options(entry["reader"], entry.get("reader_options", {}), where=page)
