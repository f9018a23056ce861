"""What an export holds, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def export_table(document: Mapping[str, Any]) -> RenderableType:
    """Parts with their sizes, and what rounding costs."""
    table = Table("files", "MB", "PSNR lost, dB", "bytes more", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for part, size in _sizes(document["files"]).items():
        lost, more = _losses(document["precisions"].get(PurePosixPath(part).name))
        table.add_row(part, f"{size / 1e6:.1f}", lost, more)
    return Group(
        Text(f"{document['folder']}: codec {document['codec_key']}"), table, *_notes(document)
    )


def _sizes(files: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Bytes of files at the top, of `onnx`, and of each precision."""
    sizes: dict[str, int] = {}
    for name, about in files.items():
        path = PurePosixPath(name)
        depth = 2 if path.parts[0] == "coreml" else 1
        part = "/".join(path.parts[:depth])
        sizes[part] = sizes.get(part, 0) + about["bytes"]
    return sizes


def _losses(about: Mapping[str, Any] | None) -> tuple[str, str]:
    """Ranges over the levels."""
    if about is None:
        return "", ""
    # Plus 0, so that nothing is written as -0.
    lost = [round(value, 2) + 0.0 for value in about["psnr_lost_db"]]
    more = [round(value, 1) + 0.0 for value in about["bytes_more_percent"]]
    return f"{min(lost):.2f} to {max(lost):.2f}", f"{min(more):+.1f} to {max(more):+.1f} %"


def _notes(document: Mapping[str, Any]) -> list[Text]:
    measured = len(document["measured_on"])
    notes = [f"losses are simulated, on {measured} photographs; nothing ran on a device"]
    if onnx := document["onnx"]:
        notes.append(
            f"ONNX Runtime against torch: {onnx['integers_that_differ_from_torch']} of"
            f" {onnx['integers_compared']:,} integers differ, pixels by"
            f" {onnx['largest_difference_of_a_pixel']:.1g} at most"
        )
    return [Text(note) for note in notes]
