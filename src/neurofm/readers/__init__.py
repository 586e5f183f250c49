"""One native format per module: files become a recording, as the files have it.

A reader is a module of this package with a ``VERSION``, the ``LIBRARIES`` that decide its result, a class
``Options`` (what the catalogue's ``reader_options`` may say) and a function ``read``. A new format is one
new module. Modules are imported when they are used, because their libraries take seconds to load.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast, runtime_checkable

from neurofm.errors import UserError
from neurofm.readers.input import ReaderInput
from neurofm.recording import Recording
from neurofm.settings import Settings

__all__ = [
    "ReaderInput",
    "ReaderModule",
    "outside_inputs",
    "read_recording",
    "reader_module",
    "reader_names",
    "reader_options",
    "reads_outside",
]

_NOT_READERS = ("input", "shared")


class ReaderModule(Protocol):
    """What every reader module has."""

    VERSION: str
    """Raised by hand when the result of `read` changes; part of a unit's key."""
    LIBRARIES: tuple[str, ...]
    """Distributions whose version may change the result."""
    Options: type[Settings]

    def read(self, source: ReaderInput, options: Settings) -> Recording:
        """Read one recording as the files have it; raises `Unreadable` for damaged or impossible input."""
        ...


@runtime_checkable
class ReadsOutside(Protocol):
    """What a reader has that reads more than the dataset's files: an atlas."""

    def outside(self, source: ReaderInput, options: Settings) -> Mapping[str, str]:
        """Return ``<kind>:<value>`` per name of what is read besides; raises `UserError` if it is not there."""
        ...


def reader_names() -> tuple[str, ...]:
    """Return the names that a catalogue entry's ``reader`` may have, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name not in _NOT_READERS))


def reader_module(name: str) -> ReaderModule:
    """Import the reader called `name`.

    Raises
    ------
    UserError
        If there is no such reader; the known ones are listed.
    """
    if name not in reader_names():
        problem = f"reader: there is no reader {name!r}."
        raise UserError(problem, mend=f"use one of {', '.join(reader_names())}")
    return cast("ReaderModule", import_module(f"{__name__}.{name}"))


def reader_options(name: str, data: Mapping[str, Any], *, where: str) -> Settings:
    """Validate a catalogue entry's ``reader_options`` against the reader's own.

    Parameters
    ----------
    name
        The reader.
    data
        The options as the YAML file gives them.
    where
        The file and section, for the error.

    Raises
    ------
    UserError
        For an unknown reader, or for the first option that is unknown, missing or of a wrong type.
    """
    module = reader_module(name)
    mend = f"correct it; the options of reader {name!r} are {', '.join(module.Options.model_fields) or 'none'}"
    return module.Options.parse(dict(data), where=where, mend=mend)


def read_recording(name: str, source: ReaderInput, options: Mapping[str, Any]) -> Recording:
    """Read one recording with the reader called `name`.

    Parameters
    ----------
    name
        The catalogue entry's ``reader``.
    source
        The recording's files and what the catalogue says of them.
    options
        The catalogue entry's ``reader_options``.

    Raises
    ------
    UserError
        For an unknown reader or a wrong option.
    Unreadable
        For a damaged or impossible file; the text names it.
    """
    return reader_module(name).read(source, _options(name, source, options))


def reads_outside(name: str) -> bool:
    """Whether the reader called `name` reads more than the dataset's files."""
    return isinstance(reader_module(name), ReadsOutside)


def outside_inputs(name: str, source: ReaderInput, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of what the reader called `name` reads besides the recording's files; mostly nothing.

    Raises
    ------
    UserError
        If it is not there, or for an unknown reader or a wrong option.
    """
    module = reader_module(name)
    if not isinstance(module, ReadsOutside):
        return {}
    return dict(module.outside(source, _options(name, source, options)))


def _options(name: str, source: ReaderInput, options: Mapping[str, Any]) -> Settings:
    return reader_options(name, options, where=f"data/catalog/{source.dataset}.yaml: reader_options")
