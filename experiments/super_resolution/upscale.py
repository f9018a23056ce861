"""What is searched: networks that double the sides of an image, tile by tile.

    low ─┬─ bicubic ──────────────────────────────┐
         └─ stem ─ features.0 ─ features.1 ─ ... ─ head ─ high

The upper path is fixed interpolation and the control: what the lower one adds starts at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces.blocks import Block, Design, Network, Shape, Stage, Step
from search_spaces.space import Choice

if TYPE_CHECKING:
    from torch import Tensor

FACTOR = 2
TILE = 512  # side of a tile of the output; the networks run at half of it
TILES = 48  # of 12 megapixels
COLOURS = 3
_LOW = TILE // FACTOR
_EXPANSION = 2
_TAPS = (-0.0234375, 0.2265625, 0.8671875, -0.0703125, 0.0)  # Keys, a = -0.5, a quarter to the left


@dataclass(frozen=True)
class Convolution:
    """The size of one convolution with bias.

    Attributes:
        inputs: channels read.
        outputs: channels written.
        kernel: side of the square kernel, odd.
        groups: as in torch.
    """

    inputs: int
    outputs: int
    kernel: int
    groups: int = 1

    @property
    def weights(self) -> int:
        """Multiply-accumulates a pixel, and parameters without the bias."""
        return self.inputs // self.groups * self.outputs * self.kernel**2

    def build(self) -> Any:
        """The torch module."""
        from torch import nn

        margin = self.kernel // 2
        made = nn.Conv2d(self.inputs, self.outputs, self.kernel, 1, margin, groups=self.groups)
        nn.init.kaiming_normal_(made.weight, nonlinearity="relu")  # deep plain chains stay awake
        assert made.bias is not None
        nn.init.zeros_(made.bias)
        return made


@dataclass(frozen=True)
class Bicubic:
    """low -> image of twice its sides by cubic convolution; nothing is trained.

    Attributes:
        size: side of the low-resolution tile.
    """

    size: int

    @property
    def signature(self) -> str:
        """What it is and the size it runs at: equal signatures cost the same."""
        return f"bicubic(size={self.size})"

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Without the batch dimension, in call order."""
        return ((COLOURS, self.size, self.size),)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return COLOURS * FACTOR**2 * len(_TAPS) ** 2 * self.size**2

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return 0

    def build(self) -> Any:
        """The torch module, (N, 3, h, w) -> (N, 3, 2 h, 2 w)."""
        import torch
        from torch import nn
        from torch.nn import functional as F

        left = torch.tensor(_TAPS)
        phases = torch.stack([left, left.flip(0)])  # of even and of odd output pixels
        kernels = torch.einsum("ai,bj->abij", phases, phases).reshape(-1, 1, len(_TAPS), len(_TAPS))

        class Module(nn.Module):
            kernels: Tensor

            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("kernels", kernels.repeat(COLOURS, 1, 1, 1), persistent=False)

            def forward(self, low: Tensor) -> Tensor:
                margins = (len(_TAPS) // 2,) * 4
                padded = F.pad(low, margins, mode="replicate")
                return F.pixel_shuffle(F.conv2d(padded, self.kernels, groups=COLOURS), FACTOR)

        return Module()


@dataclass(frozen=True)
class Learned:
    """Convolutions and ReLU at low resolution.

    Attributes:
        kind: `stem` (low -> features); `plain` (one convolution), `residual` (features + two of
            them) or `depthwise` (features + depthwise convolution, expansion, projection); `head`
            (features, image -> corrected image).
        width: channels of the features.
        kernel: side of the square kernels, odd.
        size: side of the low-resolution tile.
    """

    kind: str
    width: int
    kernel: int
    size: int

    @property
    def signature(self) -> str:
        """What it is and the size it runs at: equal signatures cost the same."""
        return f"{self.kind}({self.width}, k={self.kernel}, size={self.size})"

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Without the batch dimension, in call order."""
        channels = COLOURS if self.kind == "stem" else self.width
        image = (COLOURS, FACTOR * self.size, FACTOR * self.size)
        return ((channels, self.size, self.size), *([image] if self.kind == "head" else []))

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """In order of execution."""
        width, inner, kernel = self.width, _EXPANSION * self.width, self.kernel
        return {
            "stem": (Convolution(COLOURS, width, kernel),),
            "plain": (Convolution(width, width, kernel),),
            "residual": (Convolution(width, width, kernel),) * 2,
            "depthwise": (
                Convolution(width, width, kernel, groups=width),
                Convolution(width, inner, 1),
                Convolution(inner, width, 1),
            ),
            "head": (Convolution(width, COLOURS * FACTOR**2, kernel),),
        }[self.kind]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(convolution.weights for convolution in self.convolutions) * self.size**2

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(c.weights + c.outputs for c in self.convolutions)

    def build(self) -> Any:
        """The torch module, of features of any size; a head starts out silent."""
        from torch import nn

        path = _path(self)

        class Module(nn.Module):
            def __init__(self, kind: str) -> None:
                super().__init__()
                self.kind = kind
                self.path = nn.Sequential(*path)

            def forward(self, x: Tensor, image: Tensor | None = None) -> Tensor:
                y: Tensor = self.path(x)
                if self.kind in ("stem", "plain"):
                    return y
                return y + (x if image is None else image)

        return Module(self.kind)


def build_design(choices: Mapping[str, Choice]) -> Design:
    """One stage, `upscale`, from a tile of low resolution to one of 512 x 512.

    Args:
        choices: `features.width`, `features.depth`, `features.block` and, of depthwise blocks,
            `features.kernel`.
    """
    width = int(choices["features.width"])
    kernel = int(choices.get("features.kernel", 3))
    feature = Learned(str(choices["features.block"]), width, kernel, _LOW)
    chain: list[tuple[str, Block]] = [("stem", Learned("stem", width, 3, _LOW))]
    chain += [(f"features.{i}", feature) for i in range(int(choices["features.depth"]))]
    names = ["low", *(name for name, _ in chain)]
    steps = [Step(name, block, (names[i],)) for i, (name, block) in enumerate(chain)]
    head = Step("high", Learned("head", width, 3, _LOW), (names[-1], "bicubic"))
    bicubic = Step("bicubic", Bicubic(_LOW), ("low",))
    network = Network(("low",), (bicubic, *steps, head), ("high",))
    return Design({"upscale": Stage(network)}, TILES, TILE**2)


def _path(block: Learned) -> list[Any]:
    """The layers of a block; what is added to something else starts small, in a head at zero."""
    from torch import nn

    *first, last = [convolution.build() for convolution in block.convolutions]
    if block.kind in ("stem", "plain"):
        return [last, nn.ReLU()]
    last.weight.data.mul_(0.0 if block.kind == "head" else 0.5)
    if block.kind == "head":
        return [last, nn.PixelShuffle(FACTOR)]
    return [*first, nn.ReLU(), last]
