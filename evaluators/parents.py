"""Weights from the nearest codec that a study has trained before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from search_spaces.blocks import Design
from search_spaces.codec.family import build_design
from search_spaces.json_text import parse_json


def nearest_codec(design: Design, files: Iterable[Path]) -> Path | None:
    """The codec file whose networks have most in common with a design.

    Args:
        design: that is to be trained.
        files: of codecs, from `save_codec`; others are passed over.

    Returns:
        None without any; of several as near, the first by name.
    """
    found = ((_apart(design, other), file) for file in sorted(files) if (other := _design(file)))
    return min(found, default=(0, None), key=lambda one: one[0])[1]


def _design(file: Path) -> Design | None:
    try:
        with safe_open(file, "pt") as content:
            return build_design(parse_json(content.metadata()["choices"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _apart(a: Design, b: Design) -> int:
    """How many blocks only one of the two has."""
    return len(set(a.blocks.items()) ^ set(b.blocks.items()))
