"""What a user has named on this machine: a record alone makes no command import code.

An experiment or a space may name Python of its own. Whoever names the file has it run; a study that
somebody else recorded only says where such a file was, and that is not enough.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from search_spaces.document import read_declared
from search_spaces.parameter import SpaceError

_OWN = "search_spaces."


def remember(*sources: str | Path) -> None:
    """Keeps that a user named experiments or spaces; where nothing can be kept, nothing is."""
    known = _known()
    new = [line for source in sources if (line := _line(source)) not in known]
    with suppress(OSError):
        _file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(_file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in new))  # one write: drivers may be several


def is_named(source: str | Path) -> bool:
    """Whether a user has named a file, or an import path, here before."""
    return _line(source) in _known()


def holds_no_code(source: str) -> bool:
    """Whether a space, as for `load_space`, is of this package's blocks: data, whoever wrote it."""
    try:
        builder = read_declared(Path(source)).builder
    except (SpaceError, OSError, ValueError):
        return False
    return builder is not None and builder[0].startswith(_OWN)


def _line(source: str | Path) -> str:
    """One line that stands for it alone."""
    return str(source).encode("unicode_escape", "surrogatepass").decode()


def _known() -> set[str]:
    try:
        return set(_file().read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return set()


def _file() -> Path:
    """`named.txt` in NAS_STATE_DIR when that is set, else in the user's state folder."""
    from platformdirs import user_state_dir

    return Path(os.environ.get("NAS_STATE_DIR") or user_state_dir("nas-codecs")) / "named.txt"
