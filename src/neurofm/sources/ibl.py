"""Being written."""

from pathlib import Path
from typing import Any

from neurofm.fetch.ask import Ask
from neurofm.sources.listing import Listing


def is_fixed(source: Any) -> bool:
    """Say whether the version alone fixes every byte."""
    raise NotImplementedError


def list_files(source: Any, *, ask: Ask, work: Path) -> Listing:
    """List the files."""
    raise NotImplementedError
