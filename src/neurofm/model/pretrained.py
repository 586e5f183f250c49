"""Pretrained: the files of a checkpoint, checked against what its ``config.json`` says of them.

``huggingface_hub``'s `PyTorchModelHubMixin` is not used, since it would write a second ``config.json`` of its own;
`neurofm.model.hub` fetches and sends these files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from neurofm.errors import UserError
from neurofm.model.settings import ModelSettings
from neurofm.recording import Modality

SCHEMA = "neurofm-model/4"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
STATISTICS = "statistics.safetensors"
FILES = (CONFIG, WEIGHTS, STATISTICS)
"""All of a checkpoint."""

Made = TypeVar("Made", bound=nn.Module)

MEND = "restore it with `dvc checkout`, or train again with `dvc repro pretrain`"


def load_network(make: Callable[..., Made], folder: Path) -> Made:
    """Load the network of a checkpoint, ready to be applied.

    Parameters
    ----------
    make
        Called with `ModelSettings` and `patch_samples`, per modality.
    folder
        Of the checkpoint.

    Raises
    ------
    UserError
        If a file is missing, truncated or of another size than ``config.json`` says.
    """
    config = read_config(folder)
    weights = read_tensors(folder, WEIGHTS, config=config)
    try:
        settings = ModelSettings.parse(config["model"], where=f"{folder / CONFIG}: model", mend=MEND)
        patches = {Modality(name): window["patch_samples"] for name, window in config["windows"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(folder, error) from None
    network = make(settings, patch_samples=patches)
    refuse_other_size(weights, network.state_dict(), folder=folder)
    network.load_state_dict(weights)
    return network.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json``.

    Raises
    ------
    UserError
        If it is missing, damaged, or of another version of the schema.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        schema = config.get("schema")
    except (OSError, ValueError, AttributeError) as error:
        raise unreadable(folder, error) from None
    if schema != SCHEMA:
        raise UserError(
            f"{folder / CONFIG}: schema is {schema!r}, this version reads {SCHEMA!r}.",
            mend="train again with `dvc repro pretrain`",
        )
    return dict(config)


def describe_file(content: bytes) -> dict[str, Any]:
    """Return what ``config.json`` says of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_tensors(folder: Path, name: str, *, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read a file of tensors.

    Parameters
    ----------
    folder, name
        Where it is.
    config
        What `read_config` gave.

    Raises
    ------
    UserError
        If it is missing, truncated or changed.
    """
    try:
        content = (folder / name).read_bytes()
        refuse_changed(content, config["files"][name], name=name)
        tensors: dict[str, Tensor] = load(content)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise unreadable(folder, error) from None
    return tensors


def refuse_changed(content: bytes, told: Mapping[str, Any], *, name: str) -> None:
    """Refuse a file that is not what ``config.json`` says.

    Raises
    ------
    ValueError
        That says what differs.
    """
    if len(content) != told["bytes"]:
        raise ValueError(f"{name} has {len(content)} bytes, and had {told['bytes']} when it was written")
    if describe_file(content) != told:
        raise ValueError(f"{name} is not what was written: its SHA-256 differs")


def refuse_other_size(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, folder: Path) -> None:
    """Refuse weights of another network than the one that ``config.json`` describes.

    Raises
    ------
    UserError
        That names the first tensor that differs, and both shapes.
    """
    shapes = [{name: list(value.shape) for name, value in one.items()} for one in (weights, expected)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        here, there = (str(one.get(name, "absent")) for one in shapes)
        if here != there:
            raise UserError(
                f"{folder}: not a readable model: {name} is {here} in {WEIGHTS}, and {there} in a network of the size "
                f"that {CONFIG} says.",
                mend=MEND,
            )


def unreadable(folder: Path, error: Exception) -> UserError:
    """Say in one line that a checkpoint cannot be read."""
    what = " ".join(str(error).split())
    return UserError(f"{folder}: not a readable model: {what}.", mend=MEND)
