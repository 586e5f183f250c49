"""Cache: what was computed of recordings, up to so many bytes; what was asked for longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

MOST_BYTES = 256 * 2**20
"""Of one cache: cores of 129 channels of EEG take 35 MB each, and a thousand recordings are met."""


def bytes_of(value: Any) -> int:
    """Memory of all tensors of a value: of dataclasses, sequences and mappings, those within them."""
    if isinstance(value, Tensor):
        return value.nbytes
    if is_dataclass(value) and not isinstance(value, type):
        return sum(bytes_of(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, Mapping):
        return sum(map(bytes_of, value.values()))
    return sum(map(bytes_of, value)) if isinstance(value, list | tuple) else 0


class Cache(Generic[Key, Value]):
    """Keeps what was made, and makes it again, to the same bits, where it had to go.

    Parameters
    ----------
    most_bytes
        The latest is kept even where it alone is more.
    size
        Memory that a value takes.
    """

    def __init__(self, *, most_bytes: int = MOST_BYTES, size: Callable[[Value], int] = bytes_of) -> None:
        self._most_bytes, self._size = most_bytes, size
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.bytes = 0
        """Of all that is kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return what is kept under a key, or make it."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        value = make()
        size = self._size(value)
        self._kept[key] = value, size
        self.bytes += size
        while self.bytes > self._most_bytes and len(self._kept) > 1:
            _, (_, gone) = self._kept.popitem(last=False)
            self.bytes -= gone
        return value

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self.bytes = 0
