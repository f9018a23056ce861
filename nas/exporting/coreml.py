"""Packages of one precision: networks rounded, measured and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from latency.lowering import package_ops
from nas.exporting import packages
from nas.exporting.networks import exported_networks, folded, half_runner, round_weights, runner
from nas.exporting.photographs import LEVELS, Measured, Photographs, measure
from nas.exporting.quantised import QUANTISED, Quantised, least_kept, quantise
from search_spaces.codec.deployed import NETWORKS, deployed
from search_spaces.codec.deployed_codec import DeployedCodec, Runner
from search_spaces.codec.model import Codec, level_of

Precision = Literal["fp16", "w8a8"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "w8a8")
# Called with what is being done, work done, and work in all.
Progress = Callable[[str, int, int], None]
Kept = Mapping[str, frozenset[str]]

_EXACT_PARTS = ["linear transforms", "entropy model", "bases of heads"]
_TRIED = 3  # calibration crops that choices of precision are made by


@dataclass(frozen=True)
class Rounding:
    """A codec on its way to packages.

    Attributes:
        codec: trained and frozen.
        photos: to calibrate and measure on.
        progress: of what takes seconds.
    """

    codec: Codec
    photos: Photographs
    progress: Progress

    @cached_property
    def exact(self) -> Runner:
        """The networks in full precision."""
        return runner(exported_networks(folded(self.codec)))

    @cached_property
    def halved(self) -> Codec:
        """Folded, its weights rounded to fp16."""
        rounded = folded(self.codec)
        round_weights(rounded)
        return rounded

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """What fp16 packages are made of: weights in full precision, which Core ML rounds."""
        return dict(exported_networks(folded(self.codec)))

    @cached_property
    def baseline(self) -> Measured:
        """Full precision on the photographs that losses are measured on."""
        return self._measured("full precision", self.exact, self.photos.measured)

    def rounded(self, precision: Precision) -> tuple[dict[str, Quantised], dict[str, Any]]:
        """The networks of 8 bits, and what the manifest says of all three at a precision."""
        quantised, kept = self._quantised() if precision == "w8a8" else ({}, {})
        simulated = {**exported_networks(self.halved), **_simulations(quantised)}
        measured = self._measured(precision, half_runner(simulated), self.photos.measured)
        return quantised, measured.against(self.baseline) | _parts(precision, quantised, kept)

    def write(self, precision: Precision, origin: packages.Origin, folder: Path) -> dict[str, Any]:
        """Writes three packages into a folder; what the manifest says of them.

        Raises:
            LoweringError: Core ML cannot express a network.
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True)
        quantised, facts = self.rounded(precision)
        operations = {}
        for i, name in enumerate(NETWORKS):
            self.progress(f"writing {precision}", i, len(NETWORKS))
            of_8_bits = name in quantised
            module = quantised[name].final() if of_8_bits else self.modules[name]
            stated = precision if of_8_bits else "fp16"
            file = folder / f"{name}.mlpackage"
            packages.write_package(name, module, self.codec.design, stated, origin, file)
            operations[name] = len(package_ops(file))  # read back, so that it can be read
        return {**facts, "operations": operations}

    def _quantised(self) -> tuple[dict[str, Quantised], Kept]:
        """Encoder and decoder, with as little kept in fp16 as the loss allows."""
        crops = self.photos.calibration[:_TRIED]
        exact = self._measured("full precision", self.exact, crops)

        def lost_db(kept: Kept) -> float:
            simulated = _simulations(self._quantise(kept))
            run = runner({**exported_networks(self.halved), **simulated})
            found = self._measured("w8a8", run, crops)
            return max(a - b for a, b in zip(exact.psnr_db, found.psnr_db, strict=True))

        networks = deployed(self.codec.design)
        kept, _ = least_kept({name: networks[name] for name in QUANTISED}, lost_db)
        return self._quantise(kept), kept

    def _quantise(self, kept: Kept) -> dict[str, Quantised]:
        networks, inputs = deployed(self.codec.design), self._inputs
        return {n: quantise(networks[n], self.halved.steps, kept[n], inputs[n]) for n in QUANTISED}

    @cached_property
    def _inputs(self) -> dict[str, list[tuple[Tensor, ...]]]:
        """What quantised networks are given for the calibration crops."""
        images: list[tuple[Tensor, ...]] = []
        latents: list[tuple[Tensor, ...]] = []
        for i, crop in enumerate(self.photos.calibration):
            self.progress("calibrating", i, len(self.photos.calibration))
            for level in map(level_of, LEVELS):
                images.append((crop - 0.5, level))
                integers = self.exact("encoder", images[-1])
                latents.append((*self.exact("context_decoder", (*integers, level)), level))
        return {"encoder": images, "decoder": latents}

    def _measured(self, name: str, run: Runner, crops: tuple[Tensor, ...]) -> Measured:
        count = iter(range(1, len(LEVELS) * len(crops) + 1))

        def tick() -> None:
            self.progress(f"measuring {name}", next(count), len(LEVELS) * len(crops))

        return measure(DeployedCodec(self.codec, run), crops, tick)


def _simulations(quantised: Mapping[str, Quantised]) -> dict[str, nn.Module]:
    return {name: each.simulated for name, each in quantised.items()}


def _parts(precision: Precision, quantised: Mapping[str, Quantised], kept: Kept) -> dict[str, Any]:
    if precision == "fp16":
        return {"fp16_parts": ["all"]}
    scales = sorted(scale for some in kept.values() for scale in some)
    layers = {name: list(each.layers) for name, each in quantised.items()}
    return {"fp16_parts": [*_EXACT_PARTS, *scales], "w8a8_layers": layers}
