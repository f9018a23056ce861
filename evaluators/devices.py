"""Where torch runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from evaluators.protocol import SetupError


def torch_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA where there is one, then MPS, then the CPU.

    Raises:
        SetupError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0]
        raise SetupError(f"device: {name!r} cannot be used ({reason}); try auto") from None
    return device


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bfloat16 where it is fast and safe: on CUDA and CPUs with matrix tiles; else full precision.

    A CPU that only multiplies bfloat16 vectors loses more by converting than it gains: a step of
    either training took 1.1 to 1.4 times as long as in full precision.
    """
    if device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_amx_tile_supported()):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def fused_adam(parameters: Sequence[Tensor | Mapping[str, Any]], rate: float) -> torch.optim.Adam:
    """Adam as one kernel a step where there is one: everywhere but on MPS.

    Args:
        parameters: or groups of them, all on one device.
        rate: learning rate.
    """
    groups: list[Any] = list(parameters)
    flat = [
        p for group in groups for p in (group["params"] if isinstance(group, dict) else [group])
    ]
    fused = all(parameter.device.type != "mps" for parameter in flat)
    return torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99), fused=fused)
