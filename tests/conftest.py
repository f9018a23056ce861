"""Fixtures shared by all tests."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
if "NAS_STATE_DIR" not in os.environ:  # of the user running them, tests leave nothing behind
    os.environ["NAS_STATE_DIR"] = tempfile.mkdtemp(prefix="nas-tests-")
    atexit.register(shutil.rmtree, os.environ["NAS_STATE_DIR"], ignore_errors=True)

import postgresql as own_postgresql
import pytest

from search_spaces.load import load_space
from search_spaces.space import SearchSpace


@pytest.fixture(scope="session")
def tiny() -> SearchSpace:
    return load_space("tiny")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[own_postgresql.Server]:
    """A PostgreSQL server of this test run alone."""
    try:
        with own_postgresql.running_server() as server:
            yield server
    except own_postgresql.NoServerError as reason:
        pytest.skip(f"no PostgreSQL to test with: {reason}")
