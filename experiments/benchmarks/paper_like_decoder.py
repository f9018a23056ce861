"""A decoder like those of arXiv 2605.05148, as far as they are published, and their time."""

from __future__ import annotations

from torch import Tensor, nn

from latency.lowering import lower_module
from latency.ops import Op

TILES, PAPER_MS = 48, 100.0
# Blocks of each scale: (stride, channels, how many).
SCALES = ((32, 352, 3), (16, 256, 4), (8, 128, 4), (4, 64, 2))


def decoder_ops() -> tuple[Op, ...]:
    """What the decoder of one 512 x 512 tile lowers to: 39.6 kMACs/pixel, 9.7 M parameters."""
    return lower_module(PaperLikeDecoder(), [(SCALES[0][1], 16, 16)], "paper-like decoder")


class PaperLikeDecoder(nn.Module):
    """Chains of 3x3, 1x1, 1x1 at four scales; only MACs and parameters are the paper's."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (_, channels, count) in enumerate(SCALES):
            layers += [_ConvScale311(channels) for _ in range(count)]
            after = SCALES[i + 1][1] * 4 if i + 1 < len(SCALES) else 3 * 16
            factor = 2 if i + 1 < len(SCALES) else 4
            layers += [nn.Conv2d(channels, after, 1), nn.PixelShuffle(factor)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.layers(x)
        return image


class _ConvScale311(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.path(x)
        return out
