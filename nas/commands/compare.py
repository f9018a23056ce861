"""`nas compare`: a codec beside others on the same photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nas.commands.options import json_option, show, warn

if TYPE_CHECKING:
    from nas.codec_files import Model

_PEERS = ("jpeg", "webp", "avif", "heic", "jxl")
# As people and results files write them -> as documents do.
_METRICS = {
    "psnr": "psnr",
    "ms-ssim": "ms_ssim",
    "lpips-alex": "lpips",
    "lpips-vgg": "lpips_vgg",
}
_path = click.Path(path_type=Path)


def _levels(_: click.Context, __: click.Parameter, text: str) -> list[float]:
    levels = []
    for part in text.split(","):
        try:
            level = float(part)
        except ValueError:
            raise click.BadParameter(f"{part.strip()!r} is no number") from None
        if not (0 <= level <= 7 and level * 16 == int(level * 16)):
            raise click.BadParameter(f"{part.strip()} is no sixteenth of 0 to 7")
        levels.append(level)
    return sorted(set(levels))


def _chosen(text: str, known: tuple[str, ...], option: str) -> list[str]:
    """Names of a list with commas, in their usual order."""
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise click.UsageError(f"{option}: {name!r} is none of {', '.join(known)}")
    return [name for name in known if name in names]


@click.command()
@click.argument("model", type=_path)
@click.argument("folder", metavar="DIR", type=_path)
@click.option(
    "--images", is_flag=True, help="Score images made elsewhere: MODEL is a folder of originals."
)
@click.option(
    "--bpp", metavar="X|FILE", help="Of --images: bits per pixel, or a CSV or JSON file by name."
)
@click.option(
    "--levels",
    default="0,1,2,3,4,5,6,7",
    show_default=True,
    callback=_levels,
    metavar="Q,…",
    help="The model's qualities, sixteenths of 0 to 7.",
)
@click.option(
    "--peers", default=",".join(_PEERS), show_default=True, metavar="NAME,…", help="Or none."
)
@click.option(
    "--measured",
    multiple=True,
    type=_path,
    metavar="FILE",
    help="A codec measured elsewhere, in CompressAI's layout; may be repeated.",
)
@click.option(
    "--metrics",
    default=",".join(_METRICS),
    show_default=True,
    metavar="NAME,…",
    help="Leave out lpips-vgg where time is short: it takes most of it.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N photographs.")
@click.option("-o", "--out", type=_path, metavar="FOLDER", help="Default a folder in runs/.")
@json_option
def compare(
    model: Path,
    folder: Path,
    images: bool,
    bpp: str | None,
    levels: list[float],
    peers: str,
    measured: tuple[Path, ...],
    metrics: str,
    limit: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Compares a codec with JPEG, WebP, AVIF, HEIC and JPEG XL on the photographs of DIR.

    Files are written, read back and scored; a folder gets curves, BD-rates and pictures at equal
    bytes. Stopped, the same command goes on. MODEL is a codec file.

    nas compare --images REF DIR --bpp X scores images that others made.
    """
    scored = [_METRICS[name] for name in _chosen(metrics, tuple(_METRICS), "--metrics")]
    if not scored:
        raise click.UsageError(f"--metrics: none is given; expected some of {', '.join(_METRICS)}")
    if images:
        return _images(model, folder, bpp, scored, limit, out, as_json)
    if bpp is not None:
        raise click.UsageError("--bpp states the rate of --images; a model's files have their own")
    from nas.codec_files import load_model
    from nas.comparison.run import Request, compare
    from nas.display import comparison_tables

    loaded = load_model(model)
    wanted = [] if peers.strip() == "none" else _chosen(peers, _PEERS, "--peers")
    target = out or _default(loaded, folder)
    request = Request(folder, levels, wanted, measured, scored, limit, target)
    document = compare(loaded, request)
    for why in [*document["left_out"].values(), *document["failed"].values()]:
        warn(why)
    show(document, comparison_tables.comparison(document, _written(target)), as_json)
    return 1 if document["failed"] else 0


COMMANDS = (compare,)


def _images(
    reference: Path,
    folder: Path,
    bpp: str | None,
    metrics: list[str],
    limit: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    if bpp is None:
        raise click.UsageError("--images needs --bpp: the rate of the images, or a file of rates")
    from nas.comparison.images import score_images
    from nas.display import comparison_tables
    from nas.folders import RUNS

    target = out or RUNS / f"images-{folder.resolve().name}"
    document = score_images(reference, folder, bpp, metrics, limit, target)
    files = [f"{target}/comparison.json", f"{target}/codecs/"]
    show(document, comparison_tables.images(document, files), as_json)
    return 0


def _default(model: Model, folder: Path) -> Path:
    from nas.folders import RUNS

    return RUNS / f"compare-{model.key.hex()[:8]}-{folder.resolve().name}"


def _written(target: Path) -> list[Any]:
    return [f"{target}/{name}" for name in ("comparison.html", "comparison.json", "curves.png")]
