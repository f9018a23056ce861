"""What is installed is what is declared and what was tested."""

from __future__ import annotations

import tomllib
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from setuptools import find_packages

ROOT = Path(__file__).parent.parent


def declared() -> dict[str, Requirement]:
    found = [Requirement(text) for text in requires("nas-codecs") or []]
    return {r.name.lower(): r for r in found if r.marker is None}


def test_only_the_four_rooms_are_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    include = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    top_level = {name.split(".")[0] for name in find_packages(str(ROOT), include=include)}
    assert top_level == {"nas", "search_spaces", "latency", "evaluators"}


def test_installed_versions_are_inside_the_declared_bounds() -> None:
    for name, requirement in declared().items():
        assert requirement.specifier.contains(version(name), prereleases=True), requirement


def test_the_known_bounds_are_declared() -> None:
    known = declared()
    assert not known["numpy"].specifier.contains("2.4.0")  # coremltools 9.0 fails on it
    assert not known["optuna"].specifier.contains("4.9.0")
    assert known["optuna"].specifier.contains("5.0.0")


def test_the_tested_versions_are_inside_the_declared_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    bounded = declared().keys() & pins.keys()
    assert {"torch", "optuna", "pymoo", "coremltools", "lpips", "ray", "numpy", "pandas"} <= bounded
    for name in bounded:
        assert declared()[name].specifier.contains(pins[name]), name
