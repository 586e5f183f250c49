"""Run by EEGDash's own Python: EEGDash's table of trials of each events table named, as JSON.

The function is pure pandas, but its module and package import braindecode, and with it torch. They are stood in for.
"""

import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

import pandas as pd


def main() -> None:
    """Print a list with one table per argument, each a list of rows."""
    for name, attributes in (
        ("mne", {"io": ModuleType("io")}),
        ("mne.io", {"Raw": object}),
        ("mne_bids", {"get_bids_path_from_fname": None}),
        ("braindecode", {}),
        ("braindecode.datasets", {}),
        ("braindecode.datasets.base", {"BaseConcatDataset": object}),
    ):
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(attributes)
    vars(sys.modules["mne"])["io"] = sys.modules["mne.io"]
    package = importlib.util.find_spec("eegdash")  # found, not imported
    assert package is not None
    assert package.submodule_search_locations
    path = f"{package.submodule_search_locations[0]}/hbn/windows.py"
    spec = importlib.util.spec_from_file_location("windows", path)
    assert spec is not None
    assert spec.loader is not None
    windows: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(windows)
    tables = [windows.build_trial_table(pd.read_csv(name, sep="\t")) for name in sys.argv[1:]]
    json.dump([json.loads(table.to_json(orient="records", double_precision=15)) for table in tables], sys.stdout)


if __name__ == "__main__":
    main()
