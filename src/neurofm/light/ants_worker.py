"""ANTs, asked. Runs as a script inside antspyx's own environment and knows nothing of `neurofm`.

Questions come as JSON lines on standard input (see `_TASKS`), and each is answered by one JSON line on standard output:
what the task found, or ``{"error": ..}``. Everything that ANTs prints goes to standard error. Images are ``.npy`` files
of float32 with their grid in ITK's terms (LPS); transforms are ITK's own files.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # with more, sums depend on which thread is first

import ants  # reads the variable
import numpy as np

_BOLD_TO_BOLD = {
    "type_of_transform": "Rigid",
    "aff_metric": "mattes",
    "aff_sampling": 64,
    "aff_iterations": (100, 50),
    "aff_shrink_factors": (2, 1),
    # Interpolation blurs a volume by how far it lies off the grid, and similarity then prefers some places: smoothing
    # both images hides that (docs/light.md).
    "aff_smoothing_sigmas": (2, 1),
}
_RIGID = {
    "type_of_transform": "Rigid",
    "aff_iterations": (1000, 500, 100),
    "aff_shrink_factors": (4, 2, 1),
    "aff_smoothing_sigmas": (2, 1, 1),
}
_KINDS: dict[str, dict[str, Any]] = {
    "rigid": _RIGID,
    "affine": {"type_of_transform": "Affine"},
    "syn": {"type_of_transform": "SyN", "reg_iterations": (40, 20, 0)},
    "syn-fine": {"type_of_transform": "SyN", "reg_iterations": (40, 20, 10)},
}


def _image(given: dict[str, Any], values: Any = None) -> Any:
    """Make ANTs's image of an array [x, y, z]; of a file, where no values are given."""
    values = np.load(given["array"]) if values is None else values
    return ants.from_numpy(
        np.ascontiguousarray(values, dtype=np.float32),
        origin=tuple(given["origin"]),
        spacing=tuple(given["spacing"]),
        direction=np.array(given["direction"]),
    )


def motion(question: dict[str, Any]) -> dict[str, Any]:
    """Register every volume to the reference; the transforms take a point of the reference to the volume."""
    reference, mask = _image(question["reference"]), _image(question["mask"])
    volumes = np.load(question["volumes"], mmap_mode="r")
    share = min(0.5, question["samples"] / np.prod(reference.shape))
    found = []
    for number, values in enumerate(volumes):
        moving = _image(question["reference"], values)
        registered = ants.registration(
            reference,
            moving,
            mask=mask,
            mask_all_stages=True,
            aff_random_sampling_rate=share,
            random_seed=question["seed"],
            outprefix=f"{question['prefix']}{number:05d}_",
            **_BOLD_TO_BOLD,
        )
        (path,) = registered["fwdtransforms"]
        transform = ants.read_transform(path)
        found.append({"path": path, "parameters": list(transform.parameters), "centre": list(_fixed(transform))})
    return {"transforms": found}


def _fixed(transform: Any) -> Any:
    return [float(value) for value in transform.fixed_parameters]


def register(question: dict[str, Any]) -> dict[str, Any]:
    """Register one image to another; the answer's transforms are in the order in which a fixed point goes through."""
    mask = question.get("mask")
    registered = ants.registration(
        _image(question["fixed"]),
        _image(question["moving"]),
        mask=_image(mask) if mask else None,
        mask_all_stages=True,
        random_seed=question["seed"],
        outprefix=question["prefix"],
        **_KINDS[question["kind"]],
    )
    return {"transforms": registered["fwdtransforms"]}


def invert(question: dict[str, Any]) -> dict[str, Any]:
    """Write the inverse of a linear transform."""
    inverse = ants.read_transform(question["transform"]).invert()
    ants.write_transform(inverse, question["to"])
    return {"transforms": [question["to"]]}


def resample(question: dict[str, Any]) -> dict[str, Any]:
    """Write images on another grid, each through its own transforms in one go; outside its field of view it is 0."""
    given, target = question["volumes"], question["target"]
    volumes = np.load(given["array"], mmap_mode="r")
    grid = _image(target, np.zeros(target["shape"], dtype=np.float32))
    out = np.lib.format.open_memmap(
        question["to"], mode="w+", dtype=np.float32, shape=(len(question["transforms"]), *target["shape"])
    )
    for number, transforms in enumerate(question["transforms"]):
        moved = ants.apply_transforms(
            grid,
            _image(given, volumes[number]),
            transforms,
            whichtoinvert=[False] * len(transforms),
            interpolator=question["interpolator"],
            singleprecision=True,
        )
        out[number] = moved.numpy()
    out.flush()
    return {}


_TASKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "motion": motion,
    "register": register,
    "invert": invert,
    "resample": resample,
}


def main() -> None:
    """Answer questions until there are no more."""
    # ANTs prints: its standard output becomes our standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = _TASKS[question["task"]](question)
        except Exception as error:  # noqa: BLE001  # which errors ANTs raises is not documented; the asker says them
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
