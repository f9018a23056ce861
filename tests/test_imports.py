"""Which module may import which, and what `nas --help` must not."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "search_spaces": set[str](),
    "latency": {"search_spaces"},
    "evaluators": {"search_spaces"},
    "nas": {"search_spaces", "latency", "evaluators"},
}
HEAVY = ("torch", "ray", "pymoo", "optuna", "coremltools", "matplotlib", "pandas", "scipy")


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_lies_below_them(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        others = set(imported(file)) & (set(ROOMS) | {"experiments", "tests"}) - {room}
        assert others <= ROOMS[room], f"{file.relative_to(ROOT)} imports {others - ROOMS[room]}"


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["front", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules]))\n"
        f"sys.argv = ['nas', *{arguments!r}]\n"
        "from nas.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Usage: nas" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_only_the_converter_file_imports_coremltools_at_module_level() -> None:
    for file in ROOT.glob("nas/**/*.py"):
        assert "coremltools" not in set(imported(file))
