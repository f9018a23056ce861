"""The page of pictures that `perceptual.py` writes: one file, readable offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from PIL import Image

from evaluators.photos import Pixels

_NAMES = {"original": "Original", "ours": "Ours", "avif": "AVIF"}
_METRICS = {"psnr": "PSNR, dB", "ms_ssim": "MS-SSIM", "lpips": "LPIPS alex", "lpips_vgg": "vgg"}
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left }
.row { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem; margin: 1rem 0 1.6rem }
figure { margin: 0 } img { width: 100%; image-rendering: pixelated; display: block }
figcaption { font-size: 13px }
"""


@dataclass(frozen=True)
class Shown:
    """One photograph of the page.

    Attributes:
        photo: its name.
        pictures: the same cut of original, ours and AVIF's.
        scores: of both codecs, on the whole photograph.
    """

    photo: str
    pictures: Mapping[str, Pixels]
    scores: Mapping[str, Mapping[str, float]]


def page(shown: Sequence[Shown], result: Mapping[str, Any]) -> str:
    """HTML with the table of means and the pictures of some photographs."""
    rows = "".join(_table_row(level) for level in result["levels"])
    head = "".join(f"<th>{name}</th>" for name in ("bpp", *_METRICS.values()))
    pictures = "".join(_figures(each) for each in shown)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Ours and AVIF at equal bytes</title>
<style>{_STYLE}</style>
<h1>Ours and AVIF at equal bytes</h1>
<p>Means over {len(result["photographs"])} photographs; AVIF ({escape(result["avif"])}) never has
fewer bytes. <code>{escape(result["command"])}</code></p>
<table><tr><th>level</th>{head}</tr>{rows}</table>
<p>Cuts from the middle of the {len(shown)} photographs of {escape(result["pictures"])}, all of
them, at one level; figures are of the whole photograph.</p>
{pictures}</html>
"""


def _table_row(level: Mapping[str, Any]) -> str:
    rows = ""
    for who in ("ours", "avif"):
        cells = "".join(f"<td>{_figure(level[who], m)}</td>" for m in ("bpp", *_METRICS))
        rows += f"<tr><td>{level['level']} {_NAMES[who]}</td>{cells}</tr>"
    return rows


def _figures(shown: Shown) -> str:
    figures = ""
    for name, pixels in shown.pictures.items():
        caption = f"<b>{_NAMES[name]}</b>"
        if name in shown.scores:
            scores = shown.scores[name]
            caption += f" {scores['bpp']:.3f} bpp<br>" + ", ".join(
                f"{label} {_figure(scores, metric)}" for metric, label in _METRICS.items()
            )
        else:
            caption += f"<br>{escape(shown.photo)}"
        alt = f"{_NAMES[name]}, {escape(shown.photo)}"
        figures += f'<figure><img alt="{alt}" src="{_data(pixels)}"><figcaption>{caption}'
        figures += "</figcaption></figure>"
    return f'<div class="row">{figures}</div>'


def _figure(scores: Mapping[str, float], metric: str) -> str:
    return f"{scores[metric]:.2f}" if metric == "psnr" else f"{scores[metric]:.3f}"


def _data(pixels: Pixels) -> str:
    """A picture as a data URI, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
