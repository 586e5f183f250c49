"""Programs beside Python: container engines, Slurm, the GPU's driver."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from neurofm.containers import find_engine
from neurofm.errors import UserError
from neurofm.operations.doctor.finding import Finding, note, ok, problem
from neurofm.operations.doctor.place import PATIENCE_S, Place, ask
from neurofm.operations.images import container_problems
from neurofm.operations.preflight import executor_problems
from neurofm.params import Params
from neurofm.units import ExecutorName
from neurofm.units.slurm_queue import require_slurm


def engine(place: Place) -> Iterator[Finding]:
    """Look for a container engine that answers; and for the image, if stages are to run in one."""
    wanted = place.site.container
    try:
        found = find_engine(place.site.engine)
    except UserError as error:
        what = error.problem.rstrip(".")
        yield problem(what, mend=error.mend) if wanted else note(f"{what}: stages run without one", mend=error.mend)
        return
    if not wanted:
        yield ok(f"{found.name} answers ({found.program})")
        return
    amiss = container_problems(place.site, root=place.root)
    for line in amiss:
        what, _, mend = line.partition(" Mend: ")
        yield problem(what, mend=mend)
    if not amiss:
        yield ok(f"{found.name} answers, and has the image {place.site.image!r}")


def slurm(place: Place) -> Iterator[Finding]:
    """Ask Slurm, if recordings are to be worked on there."""
    if place.site.executor is not ExecutorName.SLURM:
        yield ok("not asked: executor is local")
        return
    require_slurm()
    said = ask(["scontrol", "ping"])
    if said is None or said.code:
        told = said.complaint or said.out.strip() if said else ""
        yield problem(f"Slurm's controller does not answer: {told}", mend="scontrol ping; try again when it answers")
        return
    refused = _refused(place.params, place)
    for text in refused:
        told, _, mend = text.partition(" Mend: ")
        yield problem(told, mend=mend)
    if not refused:
        yield ok("Slurm answers, and would take what site.yaml asks for")


def _refused(params: Params | None, place: Place) -> list[str]:
    return executor_problems(params, site=place.site) if params else []


def gpu(_: Place) -> Iterator[Finding]:
    """Say whether there is a GPU, and whether PyTorch can use it."""
    asked = ask(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    if asked is None:
        yield ok("none, and none is needed: neurofm trains on the processor")
        return
    torch: Any = importlib.import_module("torch")  # Takes seconds, so only where there is something to see.
    sees, built = torch.cuda.is_available(), torch.version.cuda
    what = f"PyTorch {torch.__version__}"
    if sees:
        names = sorted({torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())})
        yield ok(f"{', '.join(names)}; {what} sees it. neurofm trains on the processor")
    elif asked.code:
        complaint = asked.complaint or asked.out.strip()
        yield note(
            f"nvidia-smi fails ({complaint[:120]}); neurofm trains on the processor",
            mend="sudo modprobe nvidia; restart after an update of the driver"
            if asked.code != 124
            else f"restart: the driver did not answer within {PATIENCE_S:g} s",
        )
    else:
        card = asked.out.strip().splitlines()[0] if asked.out.strip() else "a GPU"
        why = (
            "is built without CUDA"
            if built is None
            else f"is built for CUDA {built}, which this driver may be too old for"
        )
        mend = (
            "uv pip install --reinstall torch==2.13.0 (without a local wheel: UV_FIND_LINKS=)"
            if built is None
            else "update the driver (nvidia-smi shows the newest CUDA that it knows)"
        )
        yield note(f"{card}: not seen, since {what} {why}. neurofm trains on the processor", mend=mend)
