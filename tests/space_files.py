"""Space files for tests: text beside what every one of them needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.load import load_space
from search_spaces.space import SearchSpace, SpaceError

HEAD = "name: mine\nbuilder: search_spaces.codec.family:build_design\n"
SCALE = """
templates:
  scale:
    parameters:
      depth: {ordered: [1, 2, 3]}
      width: {ordered: [8, 16], when: depth > 1}
      block: {choices: [residual, inverted], default: residual}
    constraints: [depth < 3 or width > 8]
"""


def written(folder: Path, text: str | bytes, name: str = "mine.yaml") -> Path:
    """The file that holds a text."""
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def loaded(folder: Path, text: str) -> SearchSpace:
    """The space of a text below a name and a builder."""
    return load_space(written(folder, HEAD + text))


def refused(file: Path) -> str:
    """The error about a file: one line of bearable length that names it."""
    with pytest.raises(SpaceError) as caught:
        load_space(file)
    message = str(caught.value)
    assert file.name in message
    assert message.isprintable()
    assert len(message) < 400 + 3 * len(str(file))
    for noise in ("union[", "function-", "[key]", "unicode string", "tuple", "Traceback", "{"):
        assert noise not in message
    return message
