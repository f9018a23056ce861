"""A front as characters, for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COLUMNS, _HEIGHT = 100, 12
_BESIDE = 26  # columns for ticks on the left, and for the arrow that the label stands behind


def front(document: Mapping[str, Any]) -> str:
    """The first two objectives, the front as `o`, what it dominates as dots.

    Args:
        document: from `entries.study_document`, with an entry on the front; one objective is
            drawn over the trials.

    Returns:
        Lines of at most 100 characters.
    """
    import plotille

    names = document["objectives"]
    x, y = (names[1], names[0]) if len(names) > 1 else ("trial", names[0])
    figure = plotille.Figure()
    figure.x_label, figure.y_label = x[:24], y[:10]
    figure.width = _COLUMNS - _BESIDE - len(figure.x_label)
    figure.height, figure.with_colors, figure.origin = _HEIGHT, False, False
    figure.x_ticks_fkt = lambda value, _: f"{value:.4g}"
    figure.y_ticks_fkt = lambda value, _: f"{value:10.4g}"
    for entries, marker in ((document["dominated"], None), (document["front"], "o")):
        if entries:
            columns = [[float(e[name]) for e in entries] for name in (x, y)]
            figure.scatter(*columns, marker=marker)
    return "\n".join(line.rstrip("⠀ ") for line in figure.show().splitlines())
