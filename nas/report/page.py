"""From studies to one HTML file that needs nothing else: no server, no network."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas.display.plot import label
from nas.display.tables import DIGITS

_FOLDER = Path(__file__).parent
_SCRIPTS = ("front.js", "charts.js", "details.js", "page.js")
_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURES_BYTES = 1_500_000  # of all embedded ones: the page stays below 8 MB


def page_document(studies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All that a page shows, JSON-ready; `studies` from `report.study.study`."""
    names = {name for one in studies for name in _figures(one)}
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("nas-codecs", "optuna", "plotly")},
        "labels": {name: label(name) for name in sorted(names)},
        "digits": dict(DIGITS),
        "integers": sorted({name for one in studies for name in one["integers"]}),
        "studies": list(studies),
    }


def page(document: Mapping[str, Any], live_seconds: float = 0) -> str:
    """The page.

    Args:
        document: from `page_document`.
        live_seconds: how often it asks its server for a newer document; 0 for a file.
    """
    from jinja2 import Environment, FileSystemLoader
    from plotly.offline import get_plotlyjs

    # What comes from files and names is in the document, which is text to the page.
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True)
    return environment.get_template("page.html").render(
        title=", ".join(one["study"] for one in document["studies"]),
        style=_read("page.css"),
        plotly=get_plotlyjs(),
        scripts=[_read(name) for name in _SCRIPTS],
        document=packed(document),
        live_seconds=live_seconds,
    )


def packed(document: Mapping[str, Any]) -> str:
    """JSON, compressed, as text that needs no escaping."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def embed_pictures(studies: Iterable[Mapping[str, Any]]) -> None:
    """Puts pictures into the document as far as they have place: those of the fronts first.

    Others, and those whose files are gone or are no PNG, leave their path.

    Args:
        studies: from `report.study.study`; their `pictures` are changed.
    """
    left = _PICTURES_BYTES
    for one in studies:
        pictures = one["pictures"]
        for trial in dict.fromkeys([*one["front"], *pictures]):
            content = _picture(pictures.get(trial), left)
            if content is None and str(pictures.get(trial)).startswith("data:"):
                del pictures[trial]  # a record names files; the page draws nothing else of it
            if content is not None:
                pictures[trial] = f"data:image/png;base64,{base64.b64encode(content).decode()}"
                left -= len(content)


def _picture(path: str | None, most_bytes: int) -> bytes | None:
    """A PNG's content: whatever else a record names stays out of a page that is handed on."""
    try:
        file = Path(path or "")
        if not path or not file.is_file() or file.stat().st_size > most_bytes:
            return None
        content = file.read_bytes()
    except (OSError, TypeError, ValueError):  # no path that this system could have
        return None
    return content if content.startswith(_PNG) else None


def _figures(study: Mapping[str, Any]) -> set[str]:
    timed = {name for columns in study["latency"].values() for name in columns}
    return {*study["metrics"], *study["prices"], *timed, *study["objectives"]}


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
