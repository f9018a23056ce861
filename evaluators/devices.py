"""Where torch runs."""

from __future__ import annotations

import contextlib

import torch

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
    """bfloat16 where it is fast and safe: on CUDA and on CPUs; full precision elsewhere."""
    if device.type in ("cuda", "cpu"):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
