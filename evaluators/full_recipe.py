"""How a codec is trained in full: two phases, by a schedule that is fixed before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from evaluators.protocol import SetupError
from evaluators.schedule import risen, warmed_up_cosine
from search_spaces.codec.constants import HYPER_STRIDE
from search_spaces.codec.tiles import MARGIN

_LEAST_CROP = 128  # the five scales of MS-SSIM need more than 96
_ROWS = 400


@dataclass(frozen=True)
class FullRecipe:
    """How a codec is trained in full.

    Phase 1 is rate and squared error. In phase 2 MS-SSIM and LPIPS join, rising over its first
    half, while the squared error keeps half of its weight; a discriminator begins to learn after a
    quarter of it and weighs in from three eighths to three quarters of it; every `seam_every`-th
    step decodes pairs of windows that abut as tiles do.

    Attributes:
        steps: optimiser steps.
        batch: crops a step, of all workers together.
        crop: side of a crop in pixels, a multiple of 32.
        learning_rate: of Adam, warmed up, then by a cosine to a twentieth; by kind of parameter it
            is multiplied (`training.parameter_groups`).
        perceptual_from: share of the steps that phase 1 takes.
        ms_ssim_weight: of 1 - MS-SSIM, in bits a pixel at the middle level.
        lpips_weight: of LPIPS (alex), likewise.
        adversarial_weight: of what the discriminator sees, likewise.
        seam_weight: of the error about seams, likewise.
        seam_every: steps from one of pairs to the next.
        average: of the exponential moving average of the weights.
    """

    steps: int
    batch: int = 4
    crop: int = 128
    learning_rate: float = 2e-3
    perceptual_from: float = 0.5
    ms_ssim_weight: float = 0.5
    lpips_weight: float = 0.6
    adversarial_weight: float = 0.03
    seam_weight: float = 0.5
    seam_every: int = 4
    average: float = 0.998

    def __post_init__(self) -> None:
        if self.crop < _LEAST_CROP or self.crop % HYPER_STRIDE:
            raise SetupError(
                f"crop: a multiple of {HYPER_STRIDE} from {_LEAST_CROP} on, not {self.crop}"
            )
        if not 0 <= self.perceptual_from <= 1:
            raise SetupError(f"perceptual_from: 0 to 1, not {self.perceptual_from:g}")
        least = {"steps": 1, "batch": 1, "seam_every": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise SetupError(f"{name}: at least {value}")

    @property
    def branch_step(self) -> int:
        """No other training goes on from this one."""
        return 0

    @property
    def phase_2(self) -> int:
        """The first step of phase 2."""
        return round(self.perceptual_from * self.steps)

    @property
    def window(self) -> int:
        """Steps that a row of the curve is the mean of."""
        return max(1, self.steps // _ROWS)

    @property
    def pair_length(self) -> int:
        """Pixels along a pair of windows that abut as tiles do: they share two margins."""
        return 2 * self.crop - 2 * MARGIN

    def rate_factor(self, step: int) -> float:
        """Share of the learning rate."""
        return warmed_up_cosine(step, self.steps)

    def perception(self, step: int) -> float:
        """How far the loss has moved to perception, 0 to 1."""
        return risen(step, self.phase_2, self._of_phase_2(0.5))

    def learns_to_discriminate(self, step: int) -> bool:
        """Whether the discriminator learns at a step."""
        begin = self.phase_2 + self._of_phase_2(0.25)
        return self.adversarial_weight > 0 and step >= begin and self.phase_2 < self.steps

    def adversarial(self, step: int) -> float:
        """Weight of what the discriminator sees at a step."""
        begin = self.phase_2 + self._of_phase_2(0.375)
        return self.adversarial_weight * risen(step, begin, self._of_phase_2(0.375))

    def pairs(self, step: int) -> bool:
        """Whether a step is of pairs of windows."""
        return self.seam_weight > 0 and step >= self.phase_2 and step % self.seam_every == 0

    def _of_phase_2(self, share: float) -> float:
        return share * (self.steps - self.phase_2)
