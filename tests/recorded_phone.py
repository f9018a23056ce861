"""A phone whose model runner app answers as recorded, in place of devicectl and Xcode.

All else of coremltools runs: its service polls, its socket writes requests and reads responses.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from latency.conversion import quiet

with quiet():
    from coremltools.models.ml_program.experimental import async_wrapper, remote_device

RECORDING = Path(__file__).parent / "recordings" / "coreml_exchange.json"
EXCHANGES: dict[str, list[dict[str, Any]]] = json.loads(RECORDING.read_text())
PHONE = remote_device.Device(
    name="A phone",
    type=remote_device.DeviceType.IPHONE,
    identifier="0F",
    udid="1F",
    os_version="26.1",
    os_build_number="23B85",
    developer_mode_state="enabled",
    state=remote_device.DeviceState.CONNECTED,
    session=None,
)


class Session:
    """The app on the phone: answers as recorded, through files as devicectl copies them."""

    def __init__(self, exchange: list[dict[str, Any]], folder: Path) -> None:
        self.working_directory = folder / "build"
        self.left = list(exchange)
        self.requests: list[dict[str, Any]] = []
        self.sizes: dict[str, int] = {}
        self.answers: dict[str, bytes] = {}
        self.alive = True

    def is_alive(self) -> bool:
        return self.alive

    def stop(self) -> None:
        self.alive = False

    def send_file_to_app(self, source_path: Path, destination: str) -> object:
        *_, kind, request, _ = destination.split("/")
        if kind == "resources":
            self.sizes[request] = source_path.stat().st_size
        else:
            self._answer(json.loads(source_path.read_text()))
        return object()

    def receive_file_from_app(self, destination_path: Path, source: str) -> object:
        if source not in self.answers:
            raise remote_device._DeviceCtlError(b"ERROR: no such file\nmore", 1)
        destination_path.write_bytes(self.answers[source])
        return object()

    def _answer(self, request: dict[str, Any]) -> None:
        self.requests.append(request)
        recorded = self.left.pop(0) if self.left else {"result": None}
        if recorded["result"] is None:
            return
        result = {"modelID": request["params"]["modelID"], **recorded["result"]}
        answer = {**recorded, "jsonrpc": "2.0", "id": request["id"], "result": result}
        folder = f"Documents/modelrunnerd/responses/{request['id']}"
        self.answers[f"{folder}/message.json"] = json.dumps(answer).encode()
        size = sum(each["storage"]["size"] for each in result.get("outputs", {}).values())
        self.answers[f"{folder}/{recorded.get('resource')}"] = bytes(size)

    @property
    def methods(self) -> list[str]:
        return [request["method"] for request in self.requests]


TABLET = dataclasses.replace(PHONE, name="A tablet", type=remote_device.DeviceType.IPAD)


class Connection:
    """What is connected; starting the app takes the next of the exchanges."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.phones = [PHONE]
        self.exchanges: list[str] = []
        self.started: list[Session] = []
        service = functools.partial(remote_device._DeviceCtlRemoteService, poll_time=0)
        monkeypatch.setattr(remote_device, "_DeviceCtlRemoteService", service)
        monkeypatch.setattr(async_wrapper, "compile_model", _compile)
        device = remote_device.Device
        monkeypatch.setattr(device, "get_connected_devices", staticmethod(self._found))
        monkeypatch.setattr(
            device, "prepare_for_model_debugging", lambda *given: self._prepare(*given)
        )

    def _found(self, kind: remote_device.DeviceType) -> list[Any]:
        return [phone for phone in self.phones if phone.type == kind]

    async def _prepare(self, phone: Any, credentials: Any, folder: Path) -> Any:
        names = self.exchanges.pop(0).split("+")
        messages = [message for name in names for message in EXCHANGES[name]]
        self.started.append(Session(messages, folder))
        return dataclasses.replace(phone, session=self.started[-1])


def _compile(model: str, destination_path: str) -> None:
    shutil.copytree(model, destination_path)
