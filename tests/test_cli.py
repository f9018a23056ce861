"""The commands as a person or a script meets them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import toy

from nas.record.store import TrialStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of 14 trials, some of them failed."""
    folder = tmp_path_factory.mktemp("cli")
    toy.write_experiment(folder, trials=14, proxy={"failing_depth": 2})
    with toy.ray_cluster() as address:
        done = toy.nas(folder, "search", "experiment.yaml", "--ray-address", address)
    assert done.returncode == 0, done.stderr
    (folder / "search.txt").write_text(done.stdout)
    return folder


def document(folder: Path, *arguments: str) -> Any:
    """What `--json` prints: the whole of stdout must be one document."""
    done = toy.nas(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def table_rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line[:1].isdigit()]


def test_front_has_the_documented_fields(folder: Path) -> None:
    front = document(folder, "front", "toy")
    assert front["study"] == "toy"
    assert front["objectives"] == ["loss", "decode_ms"]
    assert front["budget"] == {"iphone-17-pro-max": {"decode_ms": 150}}
    assert front["provenance"]["iphone-17-pro-max"]["kind"] == "analytic"
    for entry in front["front"]:
        assert {"trial", "key", "choices", "parameters", "kmacs_per_pixel"} <= set(entry)
        assert {"decode_ms", "decode_ms_upper", "network_ms", "coding_ms"} <= set(entry)
        latency = entry["latency"]["iphone-17-pro-max"]
        assert latency["decode_ms"] == entry["decode_ms"]


def test_table_json_and_trials_agree(folder: Path) -> None:
    front = document(folder, "front", "toy")["front"]
    printed = toy.nas(folder, "front", "toy").stdout
    assert printed == "".join((folder / "search.txt").read_text().partition("plot: ")[:1])
    rows = table_rows(printed)
    assert [int(row[0]) for row in rows] == [entry["trial"] for entry in front]
    for row, entry in zip(rows, front, strict=True):
        assert row[1:3] == [f"{entry['loss']:.2f}", f"{entry['decode_ms']:.1f}"]
    shown = document(folder, "show", "toy", rows[1][0])
    assert {name: shown[name] for name in front[1]} == front[1]


def test_front_is_drawn(folder: Path) -> None:
    (folder / "runs/toy/front.png").unlink()
    assert toy.nas(folder, "front", "toy").returncode == 0
    picture = folder / "runs/toy/front.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(picture.parent.glob("*.png")) == [picture]


def test_front_says_that_latencies_were_not_measured(folder: Path) -> None:
    printed = " ".join(toy.nas(folder, "front", "toy").stdout.split())
    assert "latencies are analytic, not measured on a device" in printed
    assert "the budget is held against the point estimate" in printed


def test_show_explains_a_failed_trial(folder: Path) -> None:
    counts = document(folder, "studies")[0]["trials"]
    assert counts["complete"] + counts["failed"] == counts["asked"] == 14
    trials = TrialStore.open(f"sqlite:///{folder}/runs/nas.db", "toy").trials()
    number = next(trial.number for trial in trials if trial.state == "failed")
    failed = document(folder, "show", "toy", str(number))
    assert failed["error"] == "collapsed: the output is constant"
    assert "EvaluationError: collapsed" in Path(failed["log"]).read_text()
    printed = toy.nas(folder, "show", "toy", str(failed["trial"])).stdout
    assert "error: collapsed: the output is constant" in printed


def test_show_adds_up_the_latency_by_block(folder: Path) -> None:
    trial = document(folder, "show", "toy", "0")
    blocks = trial["blocks"]["iphone-17-pro-max"]["decode"]
    assert len(blocks) == trial["choices"]["depth"]
    assert sum(ms for *_, ms in blocks) <= trial["network_ms"]


def test_studies_lists_what_there_is(folder: Path) -> None:
    (study,) = document(folder, "studies")
    assert (study["study"], study["space"]) == ("toy", "toy")
    assert "loss, decode_ms" in toy.nas(folder, "studies").stdout


def test_space_has_the_documented_fields(folder: Path) -> None:
    space = document(folder, "space", "toy.yaml")
    low, high = space["kmacs_per_pixel"]
    assert (space["name"], space["size"], space["exact"]) == ("toy", 72, True)
    assert space["block_signatures"] == 9
    assert 0 < low < high
    assert [p["name"] for p in space["parameters"]] == ["depth", "width", "mixing", "groups"]


def test_shipped_space_is_found_by_name(folder: Path) -> None:
    assert document(folder, "space", "tiny")["size"] > 10**5


def test_check_says_what_a_search_would_meet(folder: Path) -> None:
    found = document(folder, "check", "experiment.yaml")
    assert (found["size"], found["share_inside_budget"]) == (72, 1.0)
    assert found["seconds"] == 14 * 30


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serch", "experiment.yaml"], "'serch'. Did you mean 'search'?"),
        (["search"], "Missing argument 'EXPERIMENT_YAML'"),
        (["search", "experiment.yaml", "--trails", "3"], "Did you mean '--trials'?"),
        (["search", "experiment.yaml", "--trials", "0"], "'--trials'"),
        (["search", "experiment.yaml", "--study", "a/b"], "--study: 'a/b' is not a name"),
        (["search", "none.yaml"], "cannot read none.yaml: No such file"),
        (["check", "none.yaml"], "cannot read none.yaml: No such file"),
        (["space", "x" * 300 + ".yaml"], "xxx: File name too long"),
        (["front", "tox"], "no study 'tox' in sqlite:///runs/nas.db; did you mean 'toy'?"),
        (["front", "toy", "--storage", "sqlite:///no.db"], "there is no such file yet"),
        (["show", "toy", "99"], "study 'toy' has no trial 99; it has 0 to 13"),
        (["space", "tinny"], "no search space 'tinny'"),
    ],
)
def test_wrong_request_is_one_line_and_exit_2(
    folder: Path, arguments: list[str], expected: str
) -> None:
    done = toy.nas(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nas: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert not (folder / "no.db").exists()


def test_help_and_version_exit_0(folder: Path) -> None:
    for arguments in (["--help"], ["search", "-h"], ["--version"]):
        done = toy.nas(folder, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_dashboard_serves_the_study_on_this_machine_only(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "nas", "dashboard", "toy", "--port", str(port)]
    with (folder / "dashboard.txt").open("w") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file)
    try:
        studies = json.loads(_fetched(f"http://127.0.0.1:{port}/api/studies"))
        assert [study["study_name"] for study in studies["study_summaries"]] == ["toy"]
        assert f"http://127.0.0.1:{port}/dashboard" in (folder / "dashboard.txt").read_text()
    finally:
        process.terminate()  # ends it even in the middle of a request
        assert process.wait(timeout=60) == -signal.SIGTERM


def _fetched(address: str) -> bytes:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                return bytes(response.read())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
