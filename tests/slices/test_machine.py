"""Machine: equal ones must give equal bytes, and what differs is named."""

from __future__ import annotations

import os
import subprocess
import sys

from neurofm.slices.machine import Machine, this_machine


def test_what_differs_is_named() -> None:
    one = Machine(processor={"model": "17", "blas": "openblas for Zen"}, libraries={"numpy": "2.4.6"})
    other = Machine(processor={"model": "17", "blas": "openblas for Haswell"}, libraries={"numpy": "2.4.7", "mne": "1"})
    assert one.differences(one) == []
    assert one.differences(other) == [
        "blas: openblas for Zen / openblas for Haswell",
        "mne: none / 1",
        "numpy: 2.4.6 / 2.4.7",
    ]


def test_another_process_is_the_same_machine() -> None:
    code = "from neurofm.slices.machine import this_machine; print(this_machine().model_dump_json())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    here = this_machine()
    assert here.differences(Machine.model_validate_json(done.stdout)) == []
    assert {"machine", "instructions", "blas", "numpy kernels", "torch kernels"} <= here.processor.keys()
    assert {"numpy", "scipy", "torch"} <= here.libraries.keys()
