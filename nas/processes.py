"""Whether a process of this machine is still there."""

from __future__ import annotations

import os
from pathlib import Path


def runs(pid: int) -> bool:
    """Whether a process with this number lives, whoever owns it.

    One that has ended and that its parent has not asked after yet does not live: Linux keeps its
    number. Elsewhere it counts as living until then.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _ended(pid)


def _ended(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # The state stands behind the name, which is in brackets and may hold anything.
    return status.rpartition(")")[2].split()[:1] == ["Z"]
