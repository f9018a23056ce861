"""torchvision beside a CPU build of torch."""

from __future__ import annotations

import contextlib


def declare_missing_operators() -> None:
    """Lets torchvision be imported although its operators may be missing.

    PyPI's torchvision for Linux is built for CUDA. Beside a CPU build of torch its library does
    not load, and its import fails on describing the two operators that it then lacks. LPIPS and
    image classifiers use neither, so that declaring them is enough.
    """
    import torch
    from torch import library

    if torch.cuda.is_available():
        return
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # declared before
            library.define(
                f"torchvision::{name}",
                "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor",
            )
