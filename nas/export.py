"""From a codec to a folder that an app takes it from: the whole of `nas export`."""

from __future__ import annotations

import platform
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from nas.exporting import folder as folders
from nas.exporting import integers, onnx_networks
from nas.exporting.coreml import PRECISIONS, Precision, Progress, Rounding
from nas.exporting.packages import TENSORS, Origin
from nas.exporting.photographs import SIDE, photographs
from nas.exporting.quantised import MOST_LOST_DB
from nas.exporting.readme import readme
from search_spaces.blocks import Design
from search_spaces.codec.bitstream import VERSION
from search_spaces.codec.constants import LEVELS, QUALITY_STEPS, TILE
from search_spaces.codec.deployed import deployed, output_names, tensor_shapes
from search_spaces.codec.saved import CODEC_FILE, codec_key, load_choices, load_codec
from search_spaces.codec.tiles import CORE, MARGIN

_LIBRARIES = ("nas-codecs", "torch", "coremltools", "constriction", "numpy")


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        codec: its file.
        origin: what the codec is, for the manifest.
        out: the folder to make.
        precisions: of the Core ML packages.
        onnx: whether ONNX is written too.
        calibrate: a folder of photographs, or `sample`.
        force: whether an export that is there is replaced.
    """

    codec: Path
    origin: str
    out: Path
    precisions: Sequence[Precision] = PRECISIONS
    onnx: bool = True
    calibrate: str = "sample"
    force: bool = False


def export(request: Request, progress: Progress) -> dict[str, Any]:
    """Exports a codec.

    Returns:
        The manifest, JSON-ready.

    Raises:
        CodecFileError: no codec, a folder that is there, or ONNX is not installed.
        SetupError: photographs are missing.
        LoweringError: Core ML cannot express a network.
        OutputError: the folder cannot be written.
    """
    folders.require_free(request.out, request.force)
    if request.onnx:
        onnx_networks.require_onnx("onnx", "onnxruntime")
    codec, choices = load_codec(request.codec), load_choices(request.codec)
    rounding = Rounding(codec, photographs(request.calibrate), progress)
    origin = Origin(codec_key(codec).hex(), choices)
    with folders.whole_folder(request.out, request.force) as folder:
        shutil.copyfile(request.codec, folder / CODEC_FILE)
        integers.write_integers(codec, folder / integers.FILE)
        onnx = _onnx(rounding, folder / onnx_networks.FOLDER) if request.onnx else None
        packages = {p: rounding.write(p, origin, folder / "coreml" / p) for p in request.precisions}
        facts = {**_facts(request, rounding, origin), "precisions": packages, "onnx": onnx}
        (folder / "README.md").write_text(readme(facts), encoding="utf-8")
        return folders.write_manifest(folder, facts)


def losses_beyond(manifest: Mapping[str, Any]) -> list[str]:
    """What to say of precisions that lose more than is allowed, a line each."""
    return [
        f"{name} loses {about['most_psnr_lost_db']:.2f} dB, more than {MOST_LOST_DB:g}; calibrate"
        " it on other photographs (--calibrate), or take fp16"
        for name, about in manifest["precisions"].items()
        if about["most_psnr_lost_db"] > MOST_LOST_DB
    ]


def _onnx(rounding: Rounding, folder: Path) -> dict[str, Any]:
    """Writes ONNX and holds it against torch."""
    rounding.progress("writing ONNX", 0, 1)
    onnx_networks.write_onnx(rounding.codec, folder)
    photograph = rounding.photos.measured[0]

    def crop(height: int, width: int) -> Tensor:
        return photograph.tile(1, 1, 2, 2)[..., :height, :width]

    found = onnx_networks.difference(onnx_networks.onnx_runner(folder), rounding.codec, crop)
    found.require_small()
    return {
        "precision": "fp32",
        "integers_that_differ_from_torch": found.symbols,
        "integers_compared": found.of,
        "largest_difference_of_a_pixel": found.image,
        "versions": {name: version(name) for name in ("onnx", "onnxruntime")},
    }


def _facts(request: Request, rounding: Rounding, origin: Origin) -> dict[str, Any]:
    codec, photos = rounding.codec, rounding.photos
    return {
        "origin": request.origin,
        "codec_key": origin.key,
        "choices": dict(origin.choices),
        "bitstream_version": VERSION,
        "grouped_coding": codec.grouped,
        "tile": {"pixels": TILE, "core_pixels": CORE, "margin_pixels": MARGIN},
        "level": {"levels": LEVELS, "steps_a_level": QUALITY_STEPS, "encoding": TENSORS["level"]},
        "networks": _networks(codec.design),
        "tensors": {
            name: {"shape": [1, *shape], "dtype": "fp16", "units": TENSORS[name]}
            for name, shape in tensor_shapes(codec.design).items()
        },
        "integer_layout": integers.LAYOUT,
        "run_on_a_device": False,
        "calibrated_on": f"{request.calibrate}: {len(photos.calibration)} crops of {SIDE} pixels",
        "measured_on": list(photos.names),
        "command": shlex.join(["nas", *sys.argv[1:]]),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()} {platform.system()}",
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _networks(design: Design) -> dict[str, Any]:
    networks = deployed(design).items()
    return {
        name: {"inputs": list(network.inputs), "outputs": list(output_names(name, network))}
        for name, network in networks
    }
