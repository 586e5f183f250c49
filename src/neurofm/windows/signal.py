"""Signal: one recording's samples as stored, and how they become the numbers that are learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.splits import Segment
from neurofm.windows.samples import Damage, Samples


@dataclass(frozen=True, kw_only=True)
class StoredSignal:
    """One recording as the store is given it."""

    samples: Samples | npt.NDArray[Any]
    """[time, channel] uint8 or int16."""
    valid: npt.NDArray[np.bool_]
    """[time]"""
    gain: npt.NDArray[np.float32]
    """[channel]; a window is ``stored * gain + bias``, 0 where it is not valid."""
    bias: npt.NDArray[np.float32]
    """[channel]"""

    def row_bytes(self, *, bfloat16: bool) -> int:
        """Return the bytes of a sample of all channels in the store."""
        return self.samples.shape[1] * (2 if bfloat16 else self.samples.dtype.itemsize)

    def standardised(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """[time, channel] of what was stored."""
        return np.asarray(stored.astype(np.float32) * self.gain + self.bias, dtype=np.float32)

    def fill(self, segments: Sequence[Segment], out: npt.NDArray[np.uint8], *, bfloat16: bool) -> list[Damage]:
        """Decode segments, end to end, into bytes; returns the damage that was met."""
        rows = out.view(np.int16 if bfloat16 else self.samples.dtype).reshape(-1, self.samples.shape[1])
        known = len(self.samples.damage) if isinstance(self.samples, Samples) else 0
        at = 0
        for segment in segments:
            into = rows[at : at + segment.stop - segment.start]
            at += len(into)
            if bfloat16:
                # Here, because evaluation and pages read views without it.
                import torch  # noqa: PLC0415

                z = self.standardised(self.samples[segment.start : segment.stop])
                into[...] = torch.from_numpy(z).to(torch.bfloat16).view(torch.int16).numpy()
            elif isinstance(self.samples, Samples):
                self.samples.read(segment.start, segment.stop, out=into)
            else:
                into[...] = self.samples[segment.start : segment.stop]
        return list(self.samples.damage.values())[known:] if isinstance(self.samples, Samples) else []
