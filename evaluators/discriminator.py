"""Telling decoded images from photographs, patch by patch, for a codec to be trained against.

    image (3) -> 4 x 4 / 2 (32) -> 4 x 4 / 2 (64) -> 4 x 4 / 2 (128) -> 3 x 3 (128) -> 3 x 3 (1)

A logit for every 8 x 8 pixels, each of a patch of 54 (Isola et al. 2017, arXiv 1611.07004). What
counts is by how much a decoded patch's logit is below that of its original (Jolicoeur-Martineau
2018, arXiv 1807.00734): what a patch shows drops out of the difference. Asked of each image by
itself, it had learned next to nothing after hundreds of steps. Spectral norms keep it from running
ahead of the codec (Miyato et al. 2018, arXiv 1802.05957); it has no other norms, whose statistics
would differ between workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from evaluators.checkpoint import optimiser_tensors, restore_optimiser
from evaluators.devices import mixed_precision
from evaluators.protocol import EvaluationError
from evaluators.together import Place

_WIDTHS = (32, 64, 128)
_LEARNING_RATE = 4e-4
_WEIGHTS, _OPTIMISER = "weights.", "optimiser."


def patch_discriminator() -> nn.Sequential:
    """The network. Shape (N, 3, H, W) in [0, 1] -> logits (N, 1, H/8, W/8)."""
    layers: list[nn.Module] = []
    channels = 3
    for width in _WIDTHS:
        layers += [spectral_norm(nn.Conv2d(channels, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
        channels = width
    layers += [spectral_norm(nn.Conv2d(channels, channels, 3, 1, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels, 1, 3, 1, 1)))


class Adversary:
    """A discriminator that learns beside a codec."""

    def __init__(self, seed: int, device: torch.device, place: Place) -> None:
        """At its start.

        Args:
            seed: of its first weights.
            device: where it runs.
            place: among the processes that train together.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = patch_discriminator()
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._shared = place.shared(self.network)
        self._parameters = list(self.network.parameters())
        self._optimiser = torch.optim.Adam(self._parameters, _LEARNING_RATE, betas=(0.5, 0.99))

    def cost(self, decoded: Tensor, images: Tensor) -> Tensor:
        """What a codec loses for images that look less real than the originals, shape (N,).

        Gradients flow to the decoded images alone.
        """
        with self._fixed():
            made, real = self._logits(self.network, decoded, images)
        return functional.softplus(real - made).mean((1, 2, 3))

    def learn(self, decoded: Tensor, images: Tensor) -> Tensor:
        """One step of telling decoded images from the originals; the loss, shape ().

        Raises:
            EvaluationError: the loss is no longer finite.
        """
        made, real = self._logits(self._shared, decoded.detach(), images)
        loss = functional.softplus(made - real).mean()
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        if not math.isfinite(loss.item()):
            raise EvaluationError(f"diverged: the discriminator's loss is {loss.item()}")
        return loss.detach()

    def tensors(self) -> dict[str, Tensor]:
        """All that changes, for a checkpoint."""
        weights = {f"{_WEIGHTS}{name}": v for name, v in self.network.state_dict().items()}
        moments = optimiser_tensors(self._optimiser, self._parameters)
        return weights | {f"{_OPTIMISER}{name}": value for name, value in moments.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what `tensors` returned."""
        self.network.load_state_dict(_under(tensors, _WEIGHTS))
        restore_optimiser(self._optimiser, self._parameters, _under(tensors, _OPTIMISER), 0)

    def _logits(self, network: nn.Module, decoded: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        with mixed_precision(images.device):
            logits: Tensor = network(torch.cat([decoded.clamp(0, 1), images]) * 2 - 1)
        made, real = logits.float().chunk(2)
        return made, real

    @contextmanager
    def _fixed(self) -> Iterator[None]:
        self.network.requires_grad_(False)
        try:
            yield
        finally:
            self.network.requires_grad_(True)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
