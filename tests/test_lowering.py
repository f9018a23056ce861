"""Lowering: blocks to Core ML operations, each once, on disk."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latency import lowering
from latency.ops import Op
from search_spaces.blocks import Block, Shape
from search_spaces.build import NetworkModule, fold
from search_spaces.codec import blocks, coding_blocks, edge_blocks
from search_spaces.codec.family import build_design
from search_spaces.space import Choice

EVERY_KIND: tuple[Block, ...] = (
    blocks.ConvScale311(16, 128, 2, 3, "gelu", True),
    blocks.Residual(16, 256, 3, "leaky_relu", True),
    blocks.Inverted(16, 256, 5, 2, "relu", False),
    blocks.Inverted(16, 128, 7, 2, "silu", True),
    blocks.ConvNeXt(16, 128, 7, 4, "hardswish", True),
    blocks.SqueezeExcite(16, 256),
    blocks.EfficientAttention(16, 256),
    blocks.Scale(16, 256),
    *(
        blocks.Resample(kind, 16, 12, 64, 2, upwards, True, False)
        for kind in ("haar", "shuffle", "strided")
        for upwards in (False, True)
    ),
    edge_blocks.Stem(2, 16),
    edge_blocks.Head(2, 16),
    edge_blocks.LatentStem(128, 32),
    edge_blocks.LatentHead(128, 32),
    coding_blocks.Analysis(128),
    coding_blocks.Synthesis(128),
    coding_blocks.HyperAnalysis(128, 24, 48),
    coding_blocks.ScaleDecoder(128, 24, 48, False),
    coding_blocks.ContextDecoder(128, 24, 48, True),
    coding_blocks.Quantise(128, True),
    coding_blocks.Dequantise(128, True),
    coding_blocks.ContextStep(128, True, 48, "checkerboard", 1),
    coding_blocks.ContextStep(128, True, 48, "2x2", 2),
    coding_blocks.ContextStep(128, False, 48, "channels2", 1),
)
# Every kind of block, resampling, context and attention, in two whole codecs.
RICH = {
    "quantisation": "learned",
    "context": "checkerboard",
    "encoder.scaled": True,
    "encoder.resampling": "strided",
    "encoder.half.depth": 1,
    "encoder.half.block": "inverted",
    "encoder.quarter.depth": 1,
    "encoder.quarter.block": "convnext",
    "encoder.quarter.kernel": 7,
    "encoder.sixteenth.depth": 1,
    "decoder.scaled": True,
    "decoder.sixteenth.depth": 1,
    "decoder.sixteenth.block": "convscale311",
    "decoder.eighth.depth": 1,
    "decoder.eighth.attention": "eca",
    "decoder.half.depth": 2,
    "decoder.half.block": "convscale311",
    "decoder.heads": "last",
}
PLAIN = {
    "context": "channels2",
    "encoder.half.depth": 1,
    "encoder.half.attention": "se",
    "encoder.resampling": "shuffle",
    "decoder.quarter.depth": 1,
    "decoder.quarter.block": "inverted",
    "decoder.quarter.attention": "se",
    "decoder.full.depth": 1,
    "decoder.full.width": 8,
    "decoder.resampling": "shuffle",
}


@dataclass(frozen=True)
class Eigen:
    """A block that Core ML has no operation for."""

    signature: str = "eigen(size=4)"
    input_shapes: tuple[Shape, ...] = ((4, 4),)
    macs: int = 0
    parameters: int = 0

    def build(self) -> nn.Module:
        return _Eigen()


class _Eigen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lowered")


@pytest.mark.parametrize("choices", [RICH, PLAIN], ids=["rich", "plain"])
@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_network_operations_are_the_union_of_those_of_its_blocks(
    stage: str, choices: dict[str, Choice], cache: Path
) -> None:
    network = build_design(choices).stages[stage].network
    shapes = {"image": (3, 512, 512), "level": (8,), "hyper": (24, 16, 16)}
    shapes["symbols"] = (128, 32, 32)
    inputs = [shapes[name] for name in network.inputs]
    whole = lowering.lower_module(fold(NetworkModule(network)), inputs, stage)
    parts = [op for block in network.blocks for op in lowering.lower(block, cache)]
    assert Counter(op.text for op in whole) == Counter(op.text for op in parts)


@pytest.mark.parametrize("block", EVERY_KIND, ids=lambda block: block.signature)
def test_operations_count_the_macs_that_the_block_states(block: Block, cache: Path) -> None:
    assert sum(op.macs for op in lowering.lower(block, cache)) == block.macs


def test_stem_folds_to_one_convolution(cache: Path) -> None:
    ops = lowering.lower(edge_blocks.Stem(2, 16), cache)
    convolutions = [op.weights for op in ops if op.type in ("conv", "matmul")]
    assert convolutions == [((16, 12, 3, 3), (16,))]


@pytest.mark.parametrize("factor", [2, 4])
def test_haar_resampling_lowers_to_the_plain_convolution_of_its_size(
    factor: int, cache: Path
) -> None:
    down = blocks.Resample("haar", 16, 12, 64, factor, False, True, False)
    up = blocks.Resample("haar", 16, 12, 64, factor, True, True, True)
    plain = {
        down: nn.Conv2d(16, 12, factor, factor),
        up: nn.ConvTranspose2d(16, 12, factor, factor),
    }
    for block, convolution in plain.items():
        (alone,) = lowering.lower_module(convolution, block.input_shapes[:1], "plain")
        first, second = lowering.lower(block, cache)
        assert first == alone
        assert second.type == "add"


def test_border_casts_are_left_out(cache: Path) -> None:
    types = [op.type for op in lowering.lower(coding_blocks.Quantise(128, False), cache)]
    assert types == ["sub", "round"]


def test_line_of_an_operation_tells_strides_and_groups_apart(cache: Path) -> None:
    (conv, *_) = lowering.lower(blocks.Inverted(16, 256, 5, 2, "relu", False), cache)
    assert conv.text == (
        "conv 1x16x256x256 w16x1x5x5 w16 -> 1x16x256x256"
        " dilations=1x1 groups=16 pad=2x2x2x2 strides=1x1 fp16"
    )


def test_second_lowering_reads_the_disk(cache: Path) -> None:
    block = coding_blocks.Quantise(64, False)
    lowering.lower(block, cache)
    file = lowering.cache_file(block, cache)
    file.write_text(file.read_text().replace('"round"', '"ceil"'))
    assert [op.type for op in lowering.lower(block, cache)] == ["sub", "ceil"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"ops": [{"type": "conv"}]}'])
def test_damaged_cache_file_is_made_again(damage: str, cache: Path) -> None:
    block = coding_blocks.Quantise(32, False)
    intact = lowering.lower(block, cache)
    lowering.cache_file(block, cache).write_text(damage)
    assert not lowering.is_lowered(block, cache)
    assert lowering.lower(block, cache) == intact
    assert lowering.is_lowered(block, cache)


def test_lowering_leaves_torchs_generator_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    lowering.lower(edge_blocks.Stem(2, 16), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_inexpressible_block_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(lowering.LoweringError, match=r"eigen\(size=4\) cannot be lowered") as error:
        lowering.lower(Eigen(), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_unusable_cache_folder_is_an_error_that_says_what_next(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(lowering.LoweringError, match="set NAS_CACHE_DIR"):
        lowering.lower(coding_blocks.Quantise(16, False), tmp_path / "file")


def test_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path))
    assert lowering.cache_file(coding_blocks.Quantise(16, False)).parent == tmp_path / "lowered"


def test_changed_source_beside_a_block_is_lowered_anew(tmp_path: Path) -> None:
    (tmp_path / "family.py").write_text(
        "class Mine:\n    signature, input_shapes = 'mine()', ((3, 8, 8),)\n"
    )
    ask = "from family import Mine; from latency.lowering import cache_file; "
    command = [sys.executable, "-c", ask + "print(cache_file(Mine()).name)"]

    def name() -> str:
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, check=True
        ).stdout.decode()

    first = name()
    assert name() == first
    (tmp_path / "modules.py").write_text("WIDTH = 4\n")
    assert name() != first


def test_processes_that_lower_at_once_agree_in_silence(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from latency.lowering import lower;"
        "from search_spaces.codec.coding_blocks import Quantise;"
        "lower(Quantise(8, False), Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in running:
        assert process.communicate() == (b"", b"")
        assert process.returncode == 0
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"]
    assert len(lowering.lower(coding_blocks.Quantise(8, False), tmp_path)) == 2


def test_operation_keeps_its_shapes_through_the_disk(tmp_path: Path) -> None:
    made = lowering.lower(coding_blocks.Quantise(8, False), tmp_path)
    read = lowering.lower(coding_blocks.Quantise(8, False), tmp_path)
    assert made == read
    assert isinstance(read[0], Op)
    assert hash(read) == hash(made)
