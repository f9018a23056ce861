"""What is read may be somebody else's: nothing of it runs, climbs out, or is drawn as a page's own.

Tested elsewhere: expressions are parsed, not evaluated (`test_expression_errors.py`); forged codec
files (`test_saved.py`), bitstreams (`test_bitstream.py`) and exports (`test_export.py`); foreign
LPIPS weights (`test_perceptual.py`); that the dashboard serves this machine only (`test_cli.py`).
"""

from __future__ import annotations

import ast
import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import recorded_studies
import toy
import yaml
from safetensors.torch import load_file, save_file

from nas.folders import study_folder
from nas.report.page import embed_pictures

ROOT = Path(__file__).parent.parent
ROOMS = ("nas", "search_spaces", "latency", "evaluators")
# Calls that run, or unpack, what they are given.
RUNNING = {
    "eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "marshal.load", "marshal.loads", "shelve.open", "joblib.load", "dill.load", "torch.jit.load",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "shutil.unpack_archive",
    "runpy.run_path",
}  # fmt: skip
EVIL = "open('ran', 'w').close()\n"


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str | None, str]:
    return {one.arg: ast.unparse(one.value) for one in call.keywords}


def sources() -> list[Path]:
    return [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]


def test_no_call_runs_what_a_file_holds() -> None:
    assert len(sources()) > 150
    for file in sources():
        for name, call in calls(file):
            given = keywords(call)
            assert name not in RUNNING, f"{file}: {name}"
            assert given.get("shell") in (None, "False"), f"{file}: {name}"
            assert given.get("allow_pickle") in (None, "False"), f"{file}: {name}"
            assert not name.endswith((".extractall", ".extract")), f"{file}: {name}"
            if name == "torch.load":
                assert given.get("weights_only") == "True", file


def test_one_file_unpickles_and_knows_arrays_alone() -> None:
    importing = [
        f for f in sources() if "pickle" in f.read_text() and "import pickle" in f.read_text()
    ]
    assert [file.name for file in importing] == ["perceptual.py"]


def test_yaml_loaders_are_the_safe_one() -> None:
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base) for base in node.bases]
                assert not any("Loader" in b and b not in ("yaml.SafeLoader", "FileSystemLoader")
                               for b in bases), f"{file}: {bases}"  # fmt: skip


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch ran']", "!!python/name:os.system", "!x 1"]
)
def test_yaml_tags_build_nothing(tmp_path: Path, tag: str) -> None:
    (tmp_path / "experiment.yaml").write_text(f"study: {tag}\n")
    done = toy.nas(tmp_path, "check", "experiment.yaml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with a study of a few trials."""
    recorded_studies.recorded(tmp_path, rows=range(0, 12, 3))
    return tmp_path


def change_about(folder: Path, **changes: str) -> None:
    """Forges where a study says that it was recorded from."""
    with sqlite3.connect(folder / "runs/nas.db") as connection:
        query = "select value_json from study_user_attributes where key = 'about'"
        about = {**json.loads(connection.execute(query).fetchone()[0]), **changes}
        update = "update study_user_attributes set value_json = ? where key = 'about'"
        connection.execute(update, (json.dumps(about),))
    connection.close()


@pytest.mark.parametrize("form", ["import path", "python file", "yaml"])
@pytest.mark.parametrize("command", ["retarget", "report", "front", "show"])
def test_a_space_that_only_a_record_names_is_not_imported(
    study: Path, form: str, command: str
) -> None:
    (study / "evil.py").write_text(EVIL + "def space(*_): ...\n")
    (study / "evil.yaml").write_text(yaml.safe_dump({**toy.SPACE, "builder": "./evil.py:space"}))
    forms = {"import path": "evil:space", "python file": f"{study}/evil.py:space"}
    change_about(study, space_file=forms.get(form, f"{study}/evil.yaml"))
    arguments = {"retarget": ["--decode-ms", "100"], "show": ["0"]}.get(command, [])
    done = toy.nas(study, command, "toy", *arguments)
    assert not (study / "ran").exists()
    if command in ("retarget", "report"):
        assert "was never named here; name it with --space" in done.stderr
        assert done.stderr.count("\n") <= 2
    assert done.returncode == (2 if command == "retarget" else 0)


def test_a_space_named_by_the_user_is_imported(study: Path) -> None:
    change_about(study, space_file="/elsewhere/toy.yaml")
    there = toy.nas(study, "retarget", "toy", "--decode-ms", "100", "--space", "toy.yaml")
    assert there.returncode == 0, there.stderr


@pytest.mark.parametrize("command", [["confirm", "toy"], ["train", "toy", "0"], ["report", "toy"]])
def test_an_experiment_that_only_a_record_names_is_not_run(study: Path, command: list[str]) -> None:
    (study / "evil.py").write_text(EVIL)
    forged = {**toy.EXPERIMENT, "evaluator": "./evil.py:Evaluator"}
    (study / "forged.yaml").write_text(yaml.safe_dump(forged))
    change_about(study, file=f"{study}/forged.yaml")
    done = toy.nas(study, *command)
    assert not (study / "ran").exists()
    if command[0] != "report":
        assert done.returncode == 2
        assert "was never named here; name it with --experiment" in done.stderr


def test_what_was_named_once_is_known_to_other_commands(study: Path) -> None:
    state = Path(os.environ["NAS_STATE_DIR"])
    assert f"{study}/experiment.yaml" in (state / "named.txt").read_text()
    assert stat.S_IMODE((state / "named.txt").stat().st_mode) == 0o600
    assert toy.nas(study, "retarget", "toy", "--decode-ms", "100").returncode == 0


@pytest.mark.parametrize("key", ["builder", "evaluator", "oracle", "module"])
def test_metadata_of_a_codec_file_name_no_code(tmp_path: Path, key: str) -> None:
    (tmp_path / "evil.py").write_text(EVIL)
    anchor = ROOT / "experiments/results/anchor.safetensors"
    choices = json.dumps({key: "./evil.py:Name"})
    metadata = {"format": "nas-codec 1", "choices": choices, key: "./evil.py:Name"}
    save_file(load_file(anchor), tmp_path / "codec.safetensors", metadata)
    (tmp_path / "a.nasc").write_bytes(b"NASC")
    done = toy.nas(tmp_path, "decompress", "codec.safetensors", "a.nasc", "a.png")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "..", ".", "a/b", "a\0b", "x" * 300, "\u202ex", "sm\u0430ll", "", "-x", "a\n"],
)
def test_a_study_names_a_folder_of_runs_only(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name of letters"):
        study_folder(name)


@pytest.mark.parametrize("command", [["front"], ["report"], ["show", "0"]])
def test_a_recorded_name_cannot_climb_out_of_runs(study: Path, command: list[str]) -> None:
    with sqlite3.connect(study / "runs/nas.db") as connection:
        connection.execute("update studies set study_name = '../../climbed'")
    connection.close()
    done = toy.nas(study, command[0], "../../climbed", *command[1:])
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("nas: study: '../../climbed' is not a name")
    assert not (study.parent / "climbed").exists()
    assert not (study / "climbed").exists()


def test_a_page_embeds_pictures_and_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n...")
    style = 'data:image/png;base64,"), url("http://elsewhere'
    pictures = {0: str(tmp_path / "secret"), 1: str(tmp_path / "picture.png"), 2: style, 3: "\0"}
    embed_pictures([{"front": [0], "pictures": pictures}])
    assert pictures[0] == str(tmp_path / "secret")
    assert pictures[1].startswith("data:image/png;base64,iVBOR")
    assert 2 not in pictures


def test_names_and_errors_are_text_in_a_report(study: Path) -> None:
    script = "</script><img src=x onerror=alert(1)>"
    with sqlite3.connect(study / "runs/nas.db") as connection:
        connection.execute("update studies set study_name = ?", (script,))
    connection.close()
    done = toy.nas(study, "report", script, "-o", "page.html")
    assert done.returncode == 0, done.stderr
    assert "<img src=x" not in (study / "page.html").read_text()


def test_names_are_text_in_a_comparison(tmp_path: Path) -> None:
    from PIL import Image

    script = "<img src=x onerror=alert(1)>"
    (tmp_path / "photos").mkdir()
    photo = Image.effect_noise((64, 48), 40).convert("RGB")
    photo.save(tmp_path / f"photos/{script}.png")
    results = {"bpp": [0.1, 0.2, 0.4, 0.8], "psnr-rgb": [24, 27, 30, 33]}
    measured = {"name": f"</script>{script}", "description": script, "results": results}
    (tmp_path / "measured.json").write_text(json.dumps(measured))
    anchor = str(ROOT / "experiments/results/anchor.safetensors")
    options = ["--metrics", "psnr", "--peers", "none", "--measured", "measured.json", "-o", "out"]
    done = toy.nas(tmp_path, "compare", anchor, "photos", *options)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/comparison.html").read_text()
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page
    assert "</script><img" not in page


def test_a_served_report_is_for_this_machine_and_its_own_name(study: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "nas", "report", "toy", "--serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=study, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/"
        assert b"<title>toy: front" in fetched(address, f"localhost:{port}")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetched(address, f"elsewhere.example:{port}")
        assert listening(port) == {"127.0.0.1"}
    finally:
        process.terminate()
        process.wait(timeout=60)


def fetched(address: str, host: str) -> bytes:
    deadline = time.monotonic() + 120
    while True:
        try:
            request = urllib.request.Request(address, headers={"Host": host})
            with urllib.request.urlopen(request, timeout=60) as response:
                return bytes(response.read())
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def listening(port: int) -> set[str]:
    """Addresses that a port is open on, as Linux tells."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A" and int(local.split(":")[1], 16) == port:
            found.add(socket.inet_ntoa(bytes.fromhex(local.split(":")[0])[::-1]))
    return found


def run_code(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_local_cluster_asks_for_a_token_and_keeps_its_files_private(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom nas.ray_cluster import ray_cluster\n"
        "with ray_cluster(Path('logs').resolve(), 1):\n"
        "    import ray, stat\n"
        "    from ray._raylet import AuthenticationMode, get_authentication_mode\n"
        "    folder = Path(ray._private.worker._global_node.get_temp_dir_path()).parent\n"
        "    private = stat.S_IMODE(folder.stat().st_mode)\n"
        "    token = get_authentication_mode() == AuthenticationMode.TOKEN\n"
        "print(private, token)\n"
    )
    done = run_code(code, tmp_path)
    assert done.stdout.split() == [str(0o700), "True"], done.stdout + done.stderr


def test_files_have_the_permissions_that_their_owner_wants(tmp_path: Path) -> None:
    code = (
        "import os, stat, pathlib\nos.umask(0o077)\n"
        "from search_spaces.files import replacing\n"
        "with replacing(pathlib.Path('a')) as unfinished:\n"
        "    print(stat.S_IMODE(unfinished.stat().st_mode))\n"
        "print(stat.S_IMODE(os.stat('a').st_mode))\n"
    )
    done = run_code(code, tmp_path)
    assert done.stdout.split() == [str(0o600)] * 2, done.stderr


def test_onnx_runtime_reports_nothing(tmp_path: Path) -> None:
    code = "from latency.onnx_runtime import import_onnxruntime\nimport_onnxruntime()\n"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.iterdir())
