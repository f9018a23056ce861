"""The intact files that `fuzz.py` damages: small, made once, the same for every run."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from stream_mutations import Rng, Subject

from evaluators.run import Run
from evaluators.training import parameter_groups
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec
from search_spaces.codec.pictures import encode_picture
from search_spaces.codec.saved import codec_key, save_codec
from search_spaces.space import Choice

SIZES = [(1, 1), (16, 16), (33, 50), (24, 520), (1020, 9)]
QUALITIES = (0.0, 3.5, 7.0)
SMALL: dict[str, Choice] = {"latent_channels": 32, "hyper_channels": 6, "hyper_width": 6}
CODECS: list[dict[str, Choice]] = [
    SMALL | {"coding": "all", "quantisation": "unit", "context": "none"},
    SMALL | {"coding": "grouped", "quantisation": "learned", "context": "checkerboard"},
    SMALL | {"coding": "grouped", "quantisation": "learned", "context": "channels4"},
]
SPACE = {
    "name": "small",
    "about": "What a fuzz damages.",
    "builder": "search_spaces.codec.family:build_design",
    "fixed": {"latent_channels": 32, "hyper_channels": 8, "hyper_width": 8},
    "templates": {
        "scale": {
            "parameters": {
                "depth": {"ordered": [0, 1]},
                "width": {"ordered": [8, 16], "when": "depth > 0"},
                "kernel": {"choices": [3, 5], "when": {"depth": [1]}},
            },
            "constraints": ["depth == 0 or width < 16 or kernel == 3"],
        }
    },
    "stages": {"decoder.half": {"template": "scale"}},
    "parameters": {"decoder.full.depth": {"ordered": [0, 1], "default": 0}},
    "constraints": ["decoder.half.depth >= decoder.full.depth"],
    "reference": {"decoder.half": {"depth": 0}, "decoder.full.depth": 0},
}
EXPERIMENT: dict[str, Any] = {
    "study": "small",
    "space": "space.yaml",
    "budget": {"iphone-17-pro-max": {"encode_ms": 230, "decode_ms": 150}},
    "limits": {"parameters": 1e9},
    "precision": "fp16",
    "margin": 10,
    "objectives": ["bd_rate_psnr", "decode_ms"],
    "searcher": {"name": "nsga2", "population": 12, "model": "ridge"},
    "fidelities": [0.5, 1.0],
    "start": [{"decoder.half.depth": 0}],
    "evaluator": "evaluators.proxy:ProxyEvaluator",
    "data": "sample",
    "device": "cpu",
    "proxy": {"steps": 10, "levels": [1, 3, 5, 7], "level": 3, "crops": 4, "vgg_crops": 0},
    "trials": 24,
    "hours": 8.0,
    "plateau": 200,
    "workers": 2,
    "seed": 0,
}
TABLE: dict[str, Any] = {
    "schema_version": 2,
    "device": "bench",
    "chip": "A1",
    "os_build": "1A1",
    "compute_unit": "CPU",
    "library_versions": {"coremltools": "9.0"},
    "date": datetime.date(2026, 1, 2),
    "speed": "burst",
    "provenance": "measured",
    "margin_percent": 3.0,
    "held_out_error_percent": None,
    "sources": ["a fuzz"],
    "network_factor": 1.0,
    "network_ratios": [0.9, 1.0, 1.1],
    "dispatch": {"median_ms": 0.2, "spread_percent": 1.0, "samples_ms": [0.1, 0.2, 0.3]},
    "cpu": {
        "encode_ns_per_symbol": 5.0,
        "decode_ns_per_symbol": 6.0,
        "ns_per_mac": 0.1,
        "cores": 2,
        "source": "a fuzz",
    },
    "rows": [
        {
            "block": f"block({i})",
            "precision": "fp16",
            "median_ms": 1.0,
            "spread_percent": 0.0,
            "repeats": 2,
            "once_ms": [1.0, 1.0],
            "repeated_ms": [2.0, 2.0],
            "ops": [f"conv {i}"],
        }
        for i in range(3)
    ],
}
MEASURED = {
    "name": "elsewhere",
    "description": "a codec that was measured elsewhere",
    "results": {
        "bpp": [0.1, 0.2, 0.4, 0.8],
        "psnr-rgb": [24.0, 27.0, 30.0, 33.0],
        "ms-ssim-rgb": [0.9, 0.94, 0.97, 0.98],
        "lpips-alex": [0.4, 0.3, 0.2, 0.1],
        "encoding_time": [1.0, 1.0, 1.0, 1.0],
    },
}


@dataclass(frozen=True)
class Given:
    """What is intact.

    Attributes:
        folder: that holds all of it; nothing may change in it.
        outside: an absolute path that no input may write to.
        subjects: codecs with what they wrote; their files are `codec-0.safetensors` and so on.
    """

    folder: Path
    outside: Path
    subjects: list[Subject]

    def bytes_of(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def path(self, name: str) -> str:
        return str(self.folder / name)


def make_given(folder: Path, outside: Path) -> Given:
    """Writes every intact file that needs no study."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    subjects = [_subject(folder, i, rng) for i in range(len(CODECS))]
    write_pictures(folder / "photos", rng)
    for name, content in (("space", SPACE), ("experiment", EXPERIMENT), ("table", TABLE)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "measured.json").write_text(json.dumps(MEASURED))
    return Given(folder, outside, subjects)


def _subject(folder: Path, number: int, rng: Rng) -> Subject:
    torch.manual_seed(0)
    codec = Codec(build_design(CODECS[number])).eval()
    codec.freeze()
    save_codec(codec, CODECS[number], folder / f"codec-{number}.safetensors")
    key = codec_key(codec)
    pictures = [picture(height, width, rng) for height, width in SIZES]
    return Subject(
        codec, key, [encode_picture(codec, p, q, key=key) for p in pictures for q in QUALITIES]
    )


def picture(height: int, width: int, rng: Rng) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Waves and a little noise, shape (H, W, 3)."""
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    smooth = 110 + 60 * np.sin(rows / 9) + 60 * np.cos(columns / 7 + np.arange(3))
    return (smooth + rng.integers(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, rng: Rng) -> None:
    """The same photograph in every format that is likely to be met."""
    folder.mkdir()
    image = Image.fromarray(picture(24, 40, rng))
    image.getexif()[0x0112] = 6
    for ending in ("png", "jpg", "webp", "tif", "bmp", "gif", "ppm", "avif", "jp2", "tga", "ico"):
        image.save(folder / f"photo.{ending}")
    image.save(folder / "packed.tif", compression="tiff_lzw")
    image.convert("L").convert("I;16").save(folder / "deep.png")
    image.convert("RGBA").save(folder / "alpha.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("P").save(folder / "palette.png")


def new_run() -> Run:
    """A training of the smallest codec, at its start."""
    from evaluators.joint import JointRecipe

    torch.manual_seed(0)
    codec = Codec(build_design(CODECS[0]))
    recipe = JointRecipe(4)
    return Run(codec, recipe, 0, parameter_groups(codec, recipe.learning_rate), 0.9)
