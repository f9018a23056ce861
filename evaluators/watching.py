"""What a candidate scores while it trains: its curve, by which a training may be stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from evaluators import scoring
from evaluators.metrics import psnr, to_8_bit
from evaluators.perceptual import load_lpips
from evaluators.protocol import StoppedEarly
from evaluators.scoring import HeldBack
from evaluators.stopping import hopeless, milestones
from search_spaces.codec.model import Codec

WATCHED_CROPS = 6


class Watcher:
    """Collects a candidate's curve, and ends a training that does not come to the bar.

    Attributes:
        curve: `step`, `seconds`, `level` and scores, an entry a watched step.
    """

    def __init__(self, steps: int, perceptual_from: float, level: int, bar: Mapping[str, float]):
        """Nothing is watched yet.

        Args:
            steps: of the training.
            perceptual_from: share of them after which perception joins the loss.
            level: that is watched.
            bar: what each phase has to come to, see `evaluators.stopping`.
        """
        self.curve: list[dict[str, Any]] = []
        self._joins, self._level, self._bar = perceptual_from * steps, level, bar
        self._ends = {"distortion_db": round(self._joins), "perception_db": steps}
        self._began = time.monotonic()

    @torch.no_grad()
    def add(
        self,
        step: int,
        crops: HeldBack,
        index: int,
        codec: Codec,
        device: torch.device,
        rate: bool = False,
    ) -> None:
        """Scores the codec as it stands after so many steps.

        Args:
            step: optimiser steps done.
            crops: as the codec codes them.
            index: of the watched level in `crops`.
            codec: with averaged weights, in evaluation mode.
            device: where it is.
            rate: whether candidates differ in rate, so that it is recorded.

        Raises:
            StoppedEarly: it will not come to the bar.
        """
        images = to_8_bit(scoring.decoded(codec, crops, index, self._level, device))
        originals = crops.pixels.to(device).float() / 255
        entry = {"psnr": psnr(images, originals).mean().item()}
        if step > self._joins:
            entry["lpips"] = load_lpips("alex").to(device)(images, originals).mean().item()
        if rate:
            entry["bpp_estimated"] = crops.bpp_estimated[:, index].mean().item()
        seconds = time.monotonic() - self._began
        self.curve.append({"step": step, "seconds": seconds, "level": self._level, **entry})
        if self._bar and (reason := hopeless(self.curve, self._ends, self._bar)):
            raise StoppedEarly(reason, {"curve": self.curve, "milestones": milestones(self.curve)})
