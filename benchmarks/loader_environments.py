"""Environments of their own for the libraries that the loader and training benchmarks run beside ours.

They are made with ``uv`` under ``.neurofm`` on first need: about 3 GB in all, most of it torch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "tensorstore": ("tensorstore==0.1.86", "numpy==2.4.6"),
    "zarrs": ("zarrs==0.2.3", "zarr==3.1.6", "numpy==2.4.6"),
    "temporaldata": ("temporaldata==0.1.6", "numpy==2.4.6"),
    "litdata": ("litdata==0.2.76", "torch==2.13.0", "numpy==2.4.6"),
    # 0.13 wants numpy below 2.2.
    "mosaicml": ("mosaicml-streaming==0.13.0", "torch==2.13.0", "numpy==2.1.3"),
    # Trains POYO; pulls ray.
    "torch_brain": ("torch_brain==0.2.1", "torch==2.13.0", "numpy==2.4.6"),
    "webdataset": ("webdataset==1.0.2", "numpy==2.4.6"),
}
"""The loader of torch_brain 0.2.1 reads with temporaldata; its own dataset adds sampling, not reading."""


class NoEnvironment(Exception):
    """The packages could not be installed; the text says why."""


def python_of(name: str | None, *, folder: Path) -> Path:
    """Return the interpreter of an environment, made first if it is not there; None is the project's own.

    Raises
    ------
    NoEnvironment
        If its packages cannot be installed.
    """
    if name is None:
        return Path(sys.executable)
    packages = ENVIRONMENTS[name]
    ready, place = "\n".join(packages), folder / name
    marker = place / ".packages"
    if marker.is_file() and marker.read_text() == ready:
        return place / "bin" / "python"
    print(f"making {place}: {', '.join(packages)}", file=sys.stderr)
    shutil.rmtree(place, ignore_errors=True)
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        raise NoEnvironment("there is no uv")
    # uv does not read pip's settings; a site's own wheels (pip's find-links) are honoured all the same.
    variables = os.environ | {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    for command in (
        [uv, "venv", "--quiet", "--no-python-downloads", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), *packages],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=variables)
        if done.returncode:
            raise NoEnvironment((done.stderr.strip().splitlines() or ["uv failed"])[-1])
    marker.write_text(ready)
    return place / "bin" / "python"
