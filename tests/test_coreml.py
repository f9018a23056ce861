"""Timing on a phone: the exchange with its model runner app, replayed."""

from __future__ import annotations

import dataclasses
import gc
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_phone import EXCHANGES, PHONE, TABLET, Connection
from torch import nn

from latency.conversion import model_of, quiet
from latency.measure import coreml
from latency.measure.backend import MeasureError, Package
from latency.measure.coreml import CoreMLPhone
from search_spaces.blocks import Network, Precision, Shape, Step
from search_spaces.codec import coding_blocks

with quiet():
    import coremltools
    from coremltools.models.ml_program.experimental import remote_device

RECORDED_MS = [1.512, 1.49875, 1.504321]  # the first prediction warms up
PACKAGE = Package(
    "quantise-1",
    Network(
        ("learned", "latents"),
        (Step("quantise", coding_blocks.Quantise(4, True), ("latents", "learned")),),
        ("quantise",),
    ),
    {"latents": (4, 32, 32), "learned": (8, 32, 32)},
    "fp16",
)
# A failed visit leaves a loaded model whose destructor fails in coremltools.
ignore_destructors = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    return Connection(monkeypatch)


def methods(*exchanges: str) -> list[str]:
    return [message["method"] for name in exchanges for message in EXCHANGES[name]]


def one_line_of(act: Callable[[], object], said: str) -> str:
    with pytest.raises(MeasureError, match=said) as error:
        act()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_samples_are_the_recorded_durations_without_the_warm_up(
    connection: Connection, folder: Path
) -> None:
    connection.exchanges = ["answered"]
    assert CoreMLPhone("iphone-x", folder).sample_ms(PACKAGE, 3) == RECORDED_MS
    (session,) = connection.started
    names = ["Load", *["Prediction"] * 4, "Unload"]
    assert session.methods == [f"MLModelService.{name}" for name in names]


def test_inputs_sent_are_fp16_of_the_packages_shapes(connection: Connection, folder: Path) -> None:
    connection.exchanges = ["answered"]
    CoreMLPhone("iphone-x", folder).sample_ms(PACKAGE, 3)
    (session,) = connection.started
    predictions = [each for each in session.requests if each["method"].endswith("Prediction")]
    assert len(predictions) == 4
    for request in predictions:
        sent = request["params"]["inputs"]
        shapes = {name: each["shape"] for name, each in sent.items()}
        assert shapes == {"input_0": [1, 8, 32, 32], "input_1": [1, 4, 32, 32]}
        assert {each["dataType"] for each in sent.values()} == {"Float16"}
        assert session.sizes[request["id"]] == 2 * (8 + 4) * 32 * 32


@pytest.mark.parametrize(
    ("unit", "sent"), [("cpuAndNeuralEngine", "CPU_AND_NE"), ("cpuOnly", "CPU_ONLY")]
)
def test_compute_unit_reaches_the_phone(
    unit: str, sent: str, connection: Connection, folder: Path
) -> None:
    connection.exchanges = ["answered"]
    CoreMLPhone("iphone-x", folder, unit).sample_ms(PACKAGE, 3)
    (session,) = connection.started
    assert {request["params"]["computeUnits"] for request in session.requests} == {sent}


def test_unknown_compute_unit_is_refused(folder: Path) -> None:
    one_line_of(lambda: CoreMLPhone("iphone-x", folder, "gpu"), "no compute unit 'gpu'; Core ML")


def test_app_is_started_once_for_several_visits(connection: Connection, folder: Path) -> None:
    connection.exchanges = ["answered+answered"]
    phone = CoreMLPhone("iphone-x", folder)
    assert [phone.sample_ms(PACKAGE, 3) for _ in range(2)] == [RECORDED_MS] * 2
    (session,) = connection.started
    assert session.methods == methods("answered", "answered")
    loads = [each["params"]["modelID"] for each in session.requests if "Load" in each["method"]]
    assert len(set(loads)) == 2


def test_app_that_died_between_visits_is_started_anew(connection: Connection, folder: Path) -> None:
    connection.exchanges = ["answered", "answered"]
    phone = CoreMLPhone("iphone-x", folder)
    phone.sample_ms(PACKAGE, 3)
    connection.started[0].alive = False
    assert phone.sample_ms(PACKAGE, 3) == RECORDED_MS
    assert [session.methods for session in connection.started] == [methods("answered")] * 2


@ignore_destructors
@pytest.mark.parametrize("failure", ["refused", "mismatched", "silent"])
def test_failed_visit_is_made_again_from_its_beginning(
    failure: str, connection: Connection, folder: Path
) -> None:
    connection.exchanges = [failure, failure, "answered"]
    assert CoreMLPhone("iphone-x", folder).sample_ms(PACKAGE, 3) == RECORDED_MS
    assert [session.alive for session in connection.started] == [False, False, True]
    visits = [methods(failure), methods(failure), methods("answered")]
    assert [session.methods for session in connection.started] == visits


@ignore_destructors
@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("refused", r"Error Code -32001\] Failed to run the model\."),
        ("mismatched", "Mismatched model ID"),
        ("silent", "ERROR: no such file"),
    ],
)
def test_visit_that_keeps_failing_names_the_package(
    failure: str, said: str, connection: Connection, folder: Path
) -> None:
    connection.exchanges = [failure] * 4
    phone = CoreMLPhone("iphone-x", folder)
    message = one_line_of(lambda: phone.sample_ms(PACKAGE, 3), said)
    assert message.startswith("quantise-1 did not run on iphone-x, tried 3 times: ")
    assert [session.alive for session in connection.started] == [False] * 3


def test_fp32_is_refused_before_the_phone_is_asked(tmp_path: Path) -> None:
    package = dataclasses.replace(PACKAGE, precision="fp32")
    phone = CoreMLPhone("iphone-x", tmp_path)
    one_line_of(lambda: phone.sample_ms(package, 3), "not fp32; measure with --precision fp16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exchanges", [["answered"], ["silent", "answered"]])
def test_visit_prints_nothing_and_leaves_no_files(
    exchanges: list[str],
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # as outside of pytest
    connection.exchanges = list(exchanges)
    CoreMLPhone("iphone-x", tmp_path / "packages").sample_ms(PACKAGE, 3)
    gc.collect()
    assert capfd.readouterr() == ("", "")
    assert tempfile.tempdir == str(temporary)
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    for session in connection.started:
        assert not list(session.working_directory.iterdir())
    assert [path.suffix for path in (tmp_path / "packages").iterdir()] == [".mlpackage"]


def test_kept_package_is_not_made_again(
    connection: Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.exchanges = ["answered", "answered"]
    CoreMLPhone("iphone-x", folder).sample_ms(PACKAGE, 3)

    def unwanted(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(coreml, "model_of", unwanted)
    again = CoreMLPhone("iphone-y", folder)
    assert again.sample_ms(PACKAGE, 3) == RECORDED_MS
    with pytest.raises(AssertionError):
        again.sample_ms(dataclasses.replace(PACKAGE, precision="w8"), 3)


def test_package_that_another_process_made_meanwhile_is_used(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.exchanges = ["answered"]
    made: list[Path] = []

    def raced(module: nn.Module, shapes: list[Shape], precision: Precision) -> Any:
        model = model_of(module, shapes, precision)
        made.append(tmp_path / f"{coreml._identity(PACKAGE)}.mlpackage")
        with quiet():
            model.save(str(made[0]))
        (made[0] / "theirs").touch()
        return model

    monkeypatch.setattr(coreml, "model_of", raced)
    assert CoreMLPhone("iphone-x", tmp_path).sample_ms(PACKAGE, 3) == RECORDED_MS
    assert list(tmp_path.iterdir()) == made
    assert (made[0] / "theirs").exists()


def test_unusable_folder_is_an_error_that_says_what_next(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    phone = CoreMLPhone("iphone-x", tmp_path / "file")
    one_line_of(lambda: phone.sample_ms(PACKAGE, 3), "set NAS_CACHE_DIR")


def test_device_is_described_as_a_tables_header_has_it(
    connection: Connection, folder: Path
) -> None:
    known = CoreMLPhone("iphone-17-pro-max", folder).describe()
    assert known.chip == "A19 Pro"
    assert known.os_build == "iOS 26.1 (23B85)"
    assert known.compute_unit == "cpuAndNeuralEngine"
    versions = {"coremltools": coremltools.__version__, "torch": torch.__version__}
    assert dict(known.library_versions) == versions
    assert known.reference_ms is None
    assert CoreMLPhone("iphone-x", folder).describe().chip == "unknown"


def test_tablet_is_a_device_too(connection: Connection, folder: Path) -> None:
    connection.phones = [TABLET]
    assert CoreMLPhone("ipad-x", folder).describe().os_build == "iPadOS 26.1 (23B85)"


@pytest.mark.parametrize(
    ("phones", "said"),
    [
        ([], "needs one iPhone or iPad: none is connected; plug it in"),
        ([PHONE, TABLET], r"several are connected \(A phone, A tablet\); unplug the others"),
        (
            [dataclasses.replace(PHONE, developer_mode_state="disabled")],
            "A phone is not in developer mode: turn it on under Settings",
        ),
    ],
)
def test_phone_that_cannot_be_used_is_an_error_that_says_what_next(
    phones: list[Any], said: str, connection: Connection, folder: Path
) -> None:
    connection.phones = phones
    phone = CoreMLPhone("iphone-x", folder)
    one_line_of(phone.describe, said)
    one_line_of(lambda: phone.sample_ms(PACKAGE, 1), said)


@pytest.mark.parametrize(
    ("team", "said"),
    [
        ("", "Error Code 65.*; set NAS_DEVELOPMENT_TEAM$"),
        ("AB12CD34EF", "Error Code 65.*; unlock it and trust its developer$"),
        ("x; rm -r", "'x; rm -r' is no team identifier"),
    ],
)
def test_app_that_does_not_start_is_an_error_that_says_what_next(
    team: str, said: str, connection: Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Any, credentials: Any, __: Path) -> Any:
        assert credentials.development_team == team
        raise remote_device._AppBuilder.Error(None, error_code=65)

    monkeypatch.setenv("NAS_DEVELOPMENT_TEAM", team)
    monkeypatch.setattr(remote_device.Device, "prepare_for_model_debugging", fail)
    phone = CoreMLPhone("iphone-x", folder)
    one_line_of(lambda: phone.sample_ms(PACKAGE, 3), said)


@pytest.mark.skipif(shutil.which("devicectl") is not None, reason="Xcode is here")
def test_machine_without_xcode_says_what_is_missing(folder: Path) -> None:
    said = one_line_of(CoreMLPhone("iphone-16-pro", folder).describe, "devicectl was not found")
    assert said.startswith(
        "measuring iphone-16-pro needs a Mac with Xcode 16 or later and the phone connected by"
        " cable: devicectl was not found on this machine ("
    )
