"""A codec whole: working untrained, exact in its integers, whatever it is made of."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from evaluators.passes import linear_image, to_tensor
from evaluators.photos import Pixels, find_photos, load_photos
from search_spaces.build import run
from search_spaces.codec import entropy
from search_spaces.codec.constants import LEVELS, SCALES
from search_spaces.codec.context import CONTEXTS, Context
from search_spaces.codec.family import build_design
from search_spaces.codec.model import Codec, level_of, one_hot, sixteenths
from search_spaces.codec.saved import save_codec
from search_spaces.space import Choice

SMALL: dict[str, Choice] = {"latent_channels": 48, "hyper_channels": 12, "hyper_width": 16}
BLOCKS = ("convscale311", "inverted", "convnext", "residual")
QUALITIES = (0.0, 2.0, 4.0, 7.0)


def drawn(seed: int) -> dict[str, Choice]:
    """Choices of a random corner of the family, at full latents and small width."""
    rng = np.random.default_rng(seed)

    def one(*values: Choice) -> Choice:
        return values[rng.integers(len(values))]

    choices: dict[str, Choice] = {
        "latent_channels": one(128, 192),
        "quantisation": one("unit", "learned"),
        "context": one(*CONTEXTS),
        "coding": one("all", "grouped"),
    }
    for side in ("encoder", "decoder"):
        choices[f"{side}.resampling"] = one("haar", "shuffle", "strided")
        choices[f"{side}.activation"] = one("relu", "leaky_relu", "silu", "gelu", "hardswish")
        choices[f"{side}.scaled"] = one(False, True)
        if side == "decoder":
            choices["decoder.heads"] = one("every", "last")
        for scale in SCALES:
            if (side, scale) == ("encoder", "full") or rng.random() < 0.4:
                continue
            choices[f"{side}.{scale}.depth"] = one(1, 2)
            choices[f"{side}.{scale}.width"] = one(8, 12)
            choices[f"{side}.{scale}.block"] = one(
                "convscale311", "inverted", "convnext", "residual"
            )
            choices[f"{side}.{scale}.kernel"] = one(3, 5, 7)
            choices[f"{side}.{scale}.attention"] = one("none", "se", "eca")
    return choices


def untrained(**choices: Choice) -> Codec:
    torch.manual_seed(0)
    return Codec(build_design(choices)).eval()


def stirred(**choices: Choice) -> Codec:
    """With random weights wherever a fresh codec has zeros, so that nothing is trivially right."""
    codec = untrained(**choices)
    with torch.no_grad():
        for name, parameter in codec.named_parameters():
            if ".transform." not in name and not name.endswith(".table"):
                parameter.add_(0.05 * torch.randn_like(parameter))
    codec.freeze()
    return codec


@pytest.fixture(scope="module")
def photo() -> Pixels:
    (first, *_) = load_photos(find_photos("sample").held_back, 192)
    return first.pixels[:256, :384]


def jpeg_psnr(pixels: Pixels, size: int) -> float:
    """PSNR of the best JPEG of at most `size` bytes; 0 where none is as small."""
    best = 0.0
    for quality in range(1, 60):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        if file.tell() <= size:
            decoded = np.asarray(Image.open(file), dtype=float)
            best = max(best, 10 * np.log10(255**2 / ((decoded - pixels) ** 2).mean()))
    return best


def psnr_of(image: Tensor, pixels: Pixels) -> float:
    return -10 * float(torch.log10(((image.clamp(0, 1) - to_tensor(pixels)) ** 2).mean()))


@pytest.mark.parametrize("seed", range(6))
def test_untrained_every_corner_of_the_family_is_at_least_jpeg(seed: int, photo: Pixels) -> None:
    codec = untrained(**drawn(seed))
    for quality in (1.0, 4.0):
        coded = codec.compress(to_tensor(photo), quality)
        decoded = codec.decompress(coded.data, *photo.shape[:2], quality)
        assert psnr_of(decoded, photo) > jpeg_psnr(photo, len(coded.data))


@pytest.mark.parametrize("seed", range(6))
def test_untrained_the_learned_path_adds_nothing(seed: int, photo: Pixels) -> None:
    codec = untrained(**drawn(seed))
    coded = codec.compress(to_tensor(photo), 3.0)
    latents = codec.latents(coded.symbols, coded.hyper, 3.0)
    linear = linear_image(codec, latents, level_of(3.0))
    torch.testing.assert_close(codec.decode(coded.symbols, coded.hyper, 3.0), linear)


@pytest.mark.parametrize("seed", range(4))
def test_every_parameter_learns_once_its_head_is_awake(seed: int, photo: Pixels) -> None:
    codec = untrained(**drawn(seed)).train()
    optimiser = torch.optim.Adam(codec.parameters(), lr=1e-3)
    images = to_tensor(photo)[..., :64, :96]
    network = codec.design.stages["decode"].network
    seen: set[str] = set()
    for _ in range(4):
        bits, latents = codec.noisy_rate(images, one_hot(4))
        given = {"latents": latents, "level": one_hot(4)}
        decoded = run(network, codec.steps, given)[network.outputs[0]] + 0.5
        loss = bits.mean() / images[0].numel() + 100 * (decoded - images).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        named = codec.named_parameters()
        seen |= {n for n, p in named if p.grad is not None and p.grad.abs().sum() > 0}
        optimiser.step()
    assert {name for name, _ in codec.named_parameters()} == seen


@pytest.mark.parametrize("coding", ["all", "grouped"])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("sides", [(16, 16), (48, 80), (64, 144)])
def test_the_decoder_gets_the_symbols_that_were_coded(
    sides: tuple[int, int], context: str, coding: str, photo: Pixels
) -> None:
    codec = stirred(**SMALL, context=context, coding=coding, quantisation="learned")
    for quality in (0.0, 3.1875, 7.0):
        coded = codec.compress(to_tensor(photo[: sides[0], : sides[1]]), quality)
        symbols, hyper = codec.read(coded.data, *sides, quality)
        assert torch.equal(symbols, coded.symbols)
        assert torch.equal(hyper, coded.hyper)
        assert symbols.shape[-2:] == (sides[0] // 16, sides[1] // 16)
        assert coded.symbols.abs().sum() > 0


def test_another_process_with_other_threads_reads_the_same_symbols(
    tmp_path: Path, photo: Pixels
) -> None:
    choices: dict[str, Choice] = {**SMALL, "context": "2x2", "coding": "grouped"}
    codec = stirred(**choices)
    coded = codec.compress(to_tensor(photo), 4.0)
    save_codec(codec, choices, tmp_path / "codec.safetensors")
    (tmp_path / "data").write_bytes(coded.data)
    program = (
        "import sys, hashlib, torch; from pathlib import Path;"
        "from search_spaces.codec.saved import load_codec;"
        "torch.set_num_threads(int(sys.argv[2])); folder = Path(sys.argv[1]);"
        "codec = load_codec(folder / 'codec.safetensors');"
        "read = codec.read((folder / 'data').read_bytes(), 256, 384, 4.0);"
        "np = [v.to(torch.int32).numpy().tobytes() for v in read];"
        "print(hashlib.sha256(b''.join(np)).hexdigest())"
    )
    digests = set()
    for threads in ("1", "2", "3"):
        command = [sys.executable, "-c", program, str(tmp_path), threads]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    symbols, hyper = codec.read(coded.data, 256, 384, 4.0)
    assert torch.equal(symbols, coded.symbols)
    assert torch.equal(hyper, coded.hyper)
    assert len(digests) == 1


@pytest.mark.parametrize("coding", ["all", "grouped"])
def test_bytes_written_are_what_likelihoods_say(coding: str, photo: Pixels) -> None:
    codec = untrained(coding=coding)
    for quality in QUALITIES:
        coded = codec.compress(to_tensor(photo), quality)
        bits = codec.estimated_bits(coded, quality)
        assert abs(8 * len(coded.data) - bits) < 0.005 * bits + 24


def test_rate_and_quality_rise_with_the_quality_level(photo: Pixels) -> None:
    codec = untrained()
    sizes, qualities = [], []
    for quality in np.arange(0, LEVELS - 0.5, 0.5).tolist():
        coded = codec.compress(to_tensor(photo), quality)
        sizes.append(len(coded.data))
        qualities.append(psnr_of(codec.decode(coded.symbols, coded.hyper, quality), photo))
    assert sizes == sorted(set(sizes))
    assert qualities == sorted(set(qualities))


@pytest.mark.parametrize("quality", [-1, 7.5, 3.01, float("nan")])
def test_a_quality_off_the_scale_is_refused(quality: float) -> None:
    with pytest.raises(ValueError, match="quality"):
        sixteenths(quality)


def test_a_damaged_stream_is_an_error_or_other_symbols_never_a_crash(photo: Pixels) -> None:
    codec = untrained(**SMALL, coding="grouped")
    data = codec.compress(to_tensor(photo), 4.0).data
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        mutant = bytearray(data)
        mutant[rng.integers(len(mutant))] ^= 1 << int(rng.integers(8))
        try:
            codec.read(bytes(mutant), *photo.shape[:2], 4.0)
        except entropy.BitstreamError:
            refused += 1
    assert refused > 90


@pytest.mark.parametrize("kind", CONTEXTS)
@pytest.mark.parametrize("sides", [(2, 2), (5, 3), (32, 32)])
def test_groups_of_a_context_share_out_all_latents_evenly(
    kind: str, sides: tuple[int, int]
) -> None:
    groups = np.broadcast_to(Context(kind).group_of(8, *sides), (8, *sides))
    counts = np.bincount(groups.ravel(), minlength=Context(kind).groups)
    assert len(counts) == Context(kind).groups
    assert counts.min() > 0
    if sides == (32, 32):
        assert counts.max() == counts.min()


@pytest.mark.parametrize("kind", [kind for kind in CONTEXTS if kind != "none"])
def test_a_group_is_refined_by_the_groups_before_it_alone(kind: str) -> None:
    codec = stirred(**SMALL, context=kind, quantisation="learned")
    network = codec.design.stages["decode"].network
    groups = np.broadcast_to(Context(kind).group_of(48, 6, 6), (48, 6, 6))
    symbols, hyper = torch.randn(1, 48, 6, 6).mul(3).round(), torch.randn(1, 12, 3, 3).round()

    def parameters(given: Tensor) -> Tensor:
        last = f"context.{Context(kind).groups - 1}"
        inputs = {"symbols": given, "hyper": hyper, "level": one_hot(3)}
        mu, _ = run(network, codec.steps, inputs, (last,))[last].chunk(2, 1)
        return mu[0]

    before = parameters(symbols)
    for group in range(Context(kind).groups):
        later = torch.from_numpy(groups >= group)
        changed = parameters(torch.where(later, symbols + 5, symbols))
        assert torch.equal(changed[torch.from_numpy(groups <= group)], before[groups <= group])
        if group < Context(kind).groups - 1:
            assert not torch.equal(changed[groups > group], before[groups > group])
