"""Machine: what the last bits of a sum depend on, beside code, settings and data."""

from __future__ import annotations

import platform
from importlib.metadata import version

import numpy as np
import scipy.linalg  # noqa: F401  # loads its own BLAS, which is asked for below
import torch
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # it has no stubs

from neurofm.settings import Settings
from neurofm.units.processor import processor_facts

_LIBRARIES = ("h5py", "mne", "nibabel", "nilearn", "numcodecs", "numpy", "pynwb", "scikit-learn", "scipy", "zarr")
"""Whose arithmetic ends up in shards, models and scores; torch says itself which build it is."""


class Machine(Settings):
    """What the last bits depend on. Two equal machines give equal bytes; on others sums may round differently."""

    processor: dict[str, str]
    """What it is, and which kernels numpy, torch and the BLAS libraries chose for it."""
    libraries: dict[str, str]

    @property
    def name(self) -> str:
        """The processor, for people."""
        return self.processor.get("model name") or self.processor["machine"]

    def differences(self, other: Machine) -> list[str]:
        """Say in what another machine differs from this one; empty if results must be equal to the last bit."""
        found = []
        for mine, theirs in ((self.processor, other.processor), (self.libraries, other.libraries)):
            found += [
                f"{name}: {mine.get(name, 'none')} / {theirs.get(name, 'none')}"
                for name in sorted(mine.keys() | theirs.keys())
                if mine.get(name) != theirs.get(name)
            ]
        return found


def this_machine() -> Machine:
    """Describe this process's processor, kernels and libraries."""
    blas = {
        f"{pool['internal_api']} {pool['version']} for {pool.get('architecture', 'any')}"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    return Machine(
        processor={
            **processor_facts(),
            "numpy kernels": " ".join(_numpy_kernels()),
            "torch kernels": str(torch.backends.cpu.get_cpu_capability()),
            "blas": ", ".join(sorted(blas)),
        },
        libraries={
            "libc": " ".join(platform.libc_ver()),
            "torch": str(torch.__version__),
            **{name: version(name) for name in _LIBRARIES},
        },
    )


def _numpy_kernels() -> list[str]:
    config = np.show_config(mode="dicts")
    return sorted(config["SIMD Extensions"]["found"]) if config else []
