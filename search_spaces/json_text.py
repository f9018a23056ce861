"""JSON that somebody else may have written."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes, **options: Any) -> Any:
    """What a JSON text holds.

    Args:
        text: of a whole document.
        options: of `json.loads`.

    Raises:
        ValueError: it is no JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as problem:
        raise ValueError(str(problem)) from None
