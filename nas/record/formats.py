"""Which version of this program wrote a study, and whether this one can read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas import __version__
from nas.record.storage import StudyError

# Raised whenever a program that knows only the formats before would read a study wrongly.
# 1: studies that do not say; a fact of a trial each by itself, or claim and outcome in one piece.
# 2: that a claim came to nothing stands beside the outcome.
FORMAT = 2
KEY = "format"


def require_readable(study: str, attributes: Mapping[str, Any]) -> None:
    """Fails on a study in a format that is newer than this program.

    Args:
        study: its name.
        attributes: of the study.

    Raises:
        StudyError: says who wrote it.
    """
    known = attributes.get(KEY, 1)
    if known > FORMAT:
        versions = attributes.get("about", {}).get("versions", {})
        writer = versions.get("nas-codecs", "a newer version")
        raise StudyError(
            f"study {study!r} is in format {known} (begun by nas-codecs {writer}); this is"
            f" {__version__}, which reads formats up to {FORMAT}: upgrade nas-codecs"
        )
