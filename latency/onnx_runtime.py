"""ONNX Runtime, for whoever runs networks in it."""

from __future__ import annotations

import os
from typing import Any


def import_onnxruntime() -> Any:
    """The library, told before it is loaded to report nothing to its makers."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
