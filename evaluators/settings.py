"""Settings of the proxy: what stands under `proxy:` in an experiment, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evaluators.decoder import Recipe
from evaluators.joint import JointRecipe
from search_spaces.blocks import Precision
from search_spaces.codec.constants import LEVELS

Training = Literal["decoder", "joint"]

_LEAST = {"steps": 0, "batch": 1, "crops": 1, "vgg_crops": 0, "decoder_first": 0}


@dataclass(frozen=True)
class ProxySettings:
    """How candidates are trained and scored.

    Attributes:
        training: `decoder` (on cached latents) or `joint` (the whole codec).
        anchor: a codec file whose weights candidates begin from; None begins from scratch.
        parents: whether a candidate begins from the nearest one that the study has trained; its
            score then hangs on what was trained before it.
        data: a folder of photographs, or `sample`.
        device: `auto` (CUDA, then MPS, then the CPU), or a torch device.
        steps: optimiser steps of a candidate; 0 scores what it begins with.
        batch: crops a step; None stands for 8 of 64 pixels (decoder) or 2 of 128 (joint).
        learning_rate: of Adam; None stands for 3e-3 (decoder) or 2e-3 (joint).
        perceptual_from: share of the steps after which LPIPS, in joint training MS-SSIM too, joins
            the squared error.
        perceptual_weight: of what joins; 0 leaves it out.
        shared_steps: optimiser steps of the shared part; 0 takes the anchor's encoder and entropy
            model as they are, whatever the candidate has.
        levels: quality levels that are trained and scored, at least four of 0 to 7.
        level: the one of them at which `bpp_coded`, `psnr`, `ms_ssim` and `lpips` are reported.
        crops: held-back crops of 192 x 192 that are scored, at most.
        vgg_crops: of them, that LPIPS is checked on with vgg at `level`; 0 leaves it out.
        stop_early: ends a training that would not reach the front, see `evaluators.stopping`.
        decoder_first: optimiser steps of a rung below joint training: the decoder alone, on the
            anchor's latents; candidates that fall behind there are not trained jointly. 0 for none.
        seed: of the shared part.
        precision: that a trained decoder is rounded to before it is scored.
    """

    training: Training = "decoder"
    anchor: str | None = None
    parents: bool = False
    data: str = "sample"
    device: str = "auto"
    steps: int = 500
    batch: int | None = None
    learning_rate: float | None = None
    perceptual_from: float = 0.5
    perceptual_weight: float = 1.0
    shared_steps: int = 1200
    levels: tuple[int, ...] = (1, 3, 5, 7)
    level: int = 3
    crops: int = 24
    vgg_crops: int = 4
    stop_early: bool = False
    decoder_first: int = 0
    seed: int = 0
    precision: Precision = "fp16"

    def __post_init__(self) -> None:
        if len(set(self.levels)) < 4 or not set(self.levels) <= set(range(LEVELS)):
            raise ValueError(f"levels: at least four different ones of 0 to {LEVELS - 1}")
        if self.level not in self.levels:
            raise ValueError(f"level: one of levels, {list(self.levels)}")
        if self.shared_steps < 0 or (self.shared_steps == 0 and self.anchor is None):
            raise ValueError("shared_steps: at least 1, or 0 with an anchor")
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name}: at least {least}")
        if self.decoder_first and (self.training != "joint" or self.anchor is None):
            raise ValueError("decoder_first: a rung below training: joint, with an anchor")
        if self.parents and self.training != "decoder":
            raise ValueError("parents: of decoders; leave it out for joint training")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError("learning_rate: above 0")
        if self.perceptual_weight < 0 or not 0 <= self.perceptual_from <= 1:
            raise ValueError("perceptual_weight: at least 0; perceptual_from: 0 to 1")

    @property
    def decoder_recipe(self) -> Recipe:
        """Of a decoder alone."""
        return Recipe(
            steps=self.steps,
            batch=self.batch or 8,
            learning_rate=self.learning_rate or 3e-3,
            perceptual_from=self.perceptual_from,
            perceptual_weight=self.perceptual_weight,
        )

    @property
    def joint_recipe(self) -> JointRecipe:
        """Of a whole codec."""
        usual = JointRecipe(self.steps)
        return JointRecipe(
            steps=self.steps,
            batch=self.batch or usual.batch,
            learning_rate=self.learning_rate or usual.learning_rate,
            perceptual_from=self.perceptual_from if self.perceptual_weight else 1.0,
            ms_ssim_weight=self.perceptual_weight * usual.ms_ssim_weight,
            lpips_weight=self.perceptual_weight * usual.lpips_weight,
        )
