"""Core ML packages as they are saved: what their operations read and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latency import conversion, lowering
from latency.conversion import LoweringError, model_of, network_module, quiet
from search_spaces.blocks import Block, Network, Precision, Step
from search_spaces.build import fold
from search_spaces.codec import blocks, coding_blocks, edge_blocks

with quiet():
    import coremltools
    from coremltools import proto

INT8_OPS = {"conv", "conv_transpose", "linear", "matmul"}
FLOATS = {proto.MIL_pb2.DataType.FLOAT16, proto.MIL_pb2.DataType.FLOAT32}
KINDS: tuple[Block, ...] = (
    blocks.ConvScale311(16, 32, 2, 3, "gelu", True),
    blocks.Inverted(16, 32, 5, 2, "relu", True),
    blocks.Resample("haar", 16, 12, 64, 2, True, True, False),
    blocks.Resample("strided", 16, 12, 64, 2, False, True, True),
    edge_blocks.Stem(2, 16),
    coding_blocks.Quantise(16, True),
)


class Program:
    """A saved package, read back."""

    def __init__(self, file: Path) -> None:
        spec = coremltools.models.MLModel(str(file), skip_model_load=True).get_spec()
        main = spec.mlProgram.functions["main"]
        block = main.block_specializations[main.opset]
        self.inputs = {each.name: each.type.multiArrayType for each in spec.description.input}
        self.leaving = {each.name: each.type.multiArrayType for each in spec.description.output}
        self.outputs = set(block.outputs)
        self.ops = [op for op in block.operations if op.type != "const"]
        self.constants = [op for op in block.operations if op.type == "const"]
        self.made_by = {out.name: op for op in block.operations for out in op.outputs}

    def of(self, *types: str) -> list[Any]:
        return [op for op in self.ops if op.type in types]

    def made(self, op: Any, argument: str) -> Any:
        """What makes an argument of an operation; None for an input of the program."""
        return self.made_by.get(op.inputs[argument].arguments[0].name)

    def readers(self, name: str) -> list[Any]:
        return [
            op
            for op in self.ops
            if any(each.name == name for value in op.inputs.values() for each in value.arguments)
        ]

    def activations(self, op: Any) -> list[Any]:
        """What makes the inputs that are no constants."""
        made = {name: self.made(op, name) for name in op.inputs}
        return [each for each in made.values() if each is None or not each.type.startswith("const")]


def saved(block: Block, precision: Precision, folder: Path) -> Program:
    module = conversion.randomise(fold(block.build()))
    file = folder / "block.mlpackage"
    with quiet():
        model_of(module, block.input_shapes, precision).save(str(file))
    return Program(file)


def dtype(value: Any) -> int:
    return int(value.type.tensorType.dataType)


@pytest.mark.parametrize("block", KINDS, ids=lambda block: block.signature)
def test_fp16_package_has_fp16_tensors_at_its_border_and_no_cast(
    block: Block, tmp_path: Path
) -> None:
    program = saved(block, "fp16", tmp_path)
    shapes = [(f"input_{i}", (1, *shape)) for i, shape in enumerate(block.input_shapes)]
    assert [(name, tuple(each.shape)) for name, each in program.inputs.items()] == shapes
    border = [*program.inputs.values(), *program.leaving.values()]
    assert {each.dataType for each in border} == {proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT16}
    assert not program.of("cast", "quantize", "dequantize", "constexpr_affine_dequantize")
    assert {dtype(out) for op in program.ops for out in op.outputs} == {
        proto.MIL_pb2.DataType.FLOAT16
    }


@pytest.mark.parametrize("precision", ["w8", "w8a8"])
@pytest.mark.parametrize("block", KINDS, ids=lambda block: block.signature)
def test_every_weight_is_int8_with_a_scale_a_channel(
    block: Block, precision: Precision, tmp_path: Path
) -> None:
    program = saved(block, precision, tmp_path)
    weights = [program.made(op, "weight") for op in program.of("conv", "conv_transpose", "linear")]
    assert len(weights) == sum(op.type in INT8_OPS for op in program.ops)
    for op in weights:
        assert op.type == "constexpr_affine_dequantize"
        assert dtype(op.attributes["quantized_data"]) == proto.MIL_pb2.DataType.INT8
        shape = [each.constant.size for each in op.outputs[0].type.tensorType.dimensions]
        axis = op.attributes["axis"].immediateValue.tensor.ints.values[0]
        (scales,) = op.attributes["scale"].type.tensorType.dimensions
        assert scales.constant.size == shape[axis]
    for constant in program.constants:
        tensor = constant.outputs[0].type.tensorType
        if tensor.dataType in FLOATS:
            assert tensor.rank < 2


@pytest.mark.parametrize("precision", ["fp16", "w8"])
def test_only_w8a8_has_int8_activations(precision: Precision, tmp_path: Path) -> None:
    assert not saved(KINDS[0], precision, tmp_path).of("quantize", "dequantize")


@pytest.mark.parametrize("block", KINDS, ids=lambda block: block.signature)
def test_int8_operations_of_w8a8_read_and_write_int8(block: Block, tmp_path: Path) -> None:
    assert_int8(saved(block, "w8a8", tmp_path))


def assert_int8(program: Program) -> None:
    for op in program.of(*INT8_OPS):
        for restored in program.activations(op):
            assert restored is not None
            assert restored.type == "dequantize"
            assert dtype(program.made(restored, "input").outputs[0]) == proto.MIL_pb2.DataType.INT8
        result = op.outputs[0].name
        after = program.readers(result)
        if len(after) == 1 and after[0].type in ("relu", "gelu"):
            result = after[0].outputs[0].name
            after = program.readers(result)
        assert after or result in program.outputs
        assert {each.type for each in after} <= {"quantize"}
    pairs = [dtype(op.outputs[0]) for op in program.of("quantize")]
    assert len(pairs) == len(program.of("dequantize"))
    assert set(pairs) <= {proto.MIL_pb2.DataType.INT8}


def test_skip_connection_reads_what_the_convolution_reads(tmp_path: Path) -> None:
    program = saved(KINDS[0], "w8a8", tmp_path)
    (add,) = program.of("add")
    first = program.of("conv")[0]
    assert program.made(first, "x") in program.activations(add)
    assert [op.type for op in program.readers("input_0")] == ["quantize"]
    assert len(program.of("quantize")) == 4


def test_program_without_int8_operations_has_no_pairs(tmp_path: Path) -> None:
    program = saved(coding_blocks.Quantise(16, True), "w8a8", tmp_path)
    assert [op.type for op in program.ops if "quantize" in op.type] == []
    assert program.of("round")


class Mixed(nn.Module):
    """Two matrix products, one of activations alone; a result that is read and leaves too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 32)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        shared = self.first(left)
        return shared @ right, shared


def test_matrix_products_are_int8_and_what_leaves_is_not(tmp_path: Path) -> None:
    file = tmp_path / "mixed.mlpackage"
    with quiet():
        model_of(conversion.randomise(Mixed()), [(8, 16), (32, 4)], "w8a8").save(str(file))
    program = Program(file)
    assert [op.type for op in program.of(*INT8_OPS)] == ["linear", "matmul"]
    product = program.of("matmul")[0]
    assert [op.type for op in program.activations(product)] == ["dequantize", "dequantize"]
    assert {program.made_by[name].type for name in program.outputs} == {"linear", "matmul"}


class Eigen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.eigvalsh(x)
        return values


@pytest.mark.parametrize(
    ("precision", "said"), [("w8", "in w8: "), ("fp32", "fp16, w8 or w8a8, not fp32")]
)
def test_what_cannot_be_converted_is_an_error_of_one_line(precision: Precision, said: str) -> None:
    with pytest.raises(lowering.LoweringError, match=said) as error:
        model_of(Eigen(), [(4, 4)], precision)
    assert "\n" not in str(error.value)
    assert type(error.value) is LoweringError


def test_network_module_leaves_torchs_generator_as_it_was() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    block = blocks.ConvScale311(8, 16, 2, 2, "relu", True)
    module = network_module(Network(("x",), (Step("y", block, ("x",)),), ("y",)))
    assert torch.equal(torch.get_rng_state(), before)
    assert not [part for part in module.modules() if nn.utils.parametrize.is_parametrized(part)]
