"""Precision: a network in another number format, and what goes into it."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from neurofm.model.neurofm import Query, Visible

Given = TypeVar("Given", Visible, Query)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """A number format: how a network is brought into it, and what it reads."""

    name: str
    dtype: torch.dtype
    """Of what the network reads and says."""
    convert: Callable[[nn.Module], nn.Module]
    """From a copy of the network."""
    devices: tuple[str, ...] = ("cpu", "cuda")


def _as(dtype: torch.dtype) -> Callable[[nn.Module], nn.Module]:
    return lambda network: network.to(dtype)


def _int8(network: nn.Module) -> nn.Module:
    """Weights of linear layers as int8, one scale a layer; what they read is quantised as it comes."""
    with warnings.catch_warnings():
        # torch.ao is to move to torchao, which would be one dependency more for what torch still has.
        warnings.simplefilter("ignore")
        quantise: Any = torch.ao.quantization.quantize_dynamic
        made: nn.Module = quantise(network, {nn.Linear}, dtype=torch.qint8)
    return made


PRECISIONS = (
    Precision(name="fp32", dtype=torch.float32, convert=_as(torch.float32)),
    Precision(name="bf16", dtype=torch.bfloat16, convert=_as(torch.bfloat16)),
    Precision(name="fp16", dtype=torch.float16, convert=_as(torch.float16)),
    # Dynamic quantisation has kernels for the CPU alone.
    Precision(name="int8", dtype=torch.float32, convert=_int8, devices=("cpu",)),
)
"""The first is what the others are compared with."""


def in_precision(network: nn.Module, precision: Precision, *, device: torch.device) -> nn.Module:
    """Return a copy of a network in another number format, in evaluation mode."""
    return precision.convert(copy.deepcopy(network).eval()).to(device)


def given(what: Given, *, dtype: torch.dtype, device: torch.device) -> Given:
    """Return what a network reads, in its number format and where it is; what is not float32 stays as it is."""
    made: Given = _cast(what, dtype, device)
    return made


def bytes_of(network: nn.Module) -> int:
    """Size of a network's weights on disk."""
    state: Mapping[str, Any] = network.state_dict()
    if all(isinstance(value, Tensor) and not value.is_quantized for value in state.values()):
        return len(save({name: value.cpu().contiguous() for name, value in state.items()}))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(state, file)
    return file.tell()


def _cast(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=dtype if value.dtype is torch.float32 else value.dtype)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _cast(getattr(value, one.name), dtype, device) for one in fields(value)})
    return value
