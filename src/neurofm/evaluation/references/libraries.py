"""Libraries of references that are not ours: none is needed to start, and what is missing is said with its mend."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from neurofm.errors import UserError

SERIES = {"cebra": ("cebra", "0.6"), "poyo": ("torch_brain", "0.1")}
"""Library and series of versions by reference. Later series of torch_brain cannot be imported without ray, 200 MB."""


def check_library(reference: str) -> None:
    """Refuse a reference whose library is not here; nothing is imported.

    Raises
    ------
    UserError
        With what installs it.
    """
    if reference not in SERIES:
        return
    package, series = SERIES[reference]
    mend = f"`pip install 'neurofm[references]'`, or take `{reference}` out of `evaluate.references`"
    if find_spec(package) is None:
        raise UserError(
            f"evaluate.references: `{reference}` needs the package {package}, which is not installed.", mend=mend
        )
    if not version(package).startswith(f"{series}."):
        raise UserError(
            f"evaluate.references: `{reference}` needs {package} {series}, and {version(package)} is installed.",
            mend=mend,
        )


def library(reference: str, module: str = "") -> Any:
    """Import a reference's library, or a module of it.

    Raises
    ------
    UserError
        If it is not installed.
    """
    check_library(reference)
    return import_module(SERIES[reference][0] + module)
