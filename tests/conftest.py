"""Fixtures shared by all tests."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
if "NAS_STATE_DIR" not in os.environ:  # of the user running them, tests leave nothing behind
    os.environ["NAS_STATE_DIR"] = tempfile.mkdtemp(prefix="nas-tests-")
    atexit.register(shutil.rmtree, os.environ["NAS_STATE_DIR"], ignore_errors=True)

import pytest

from search_spaces.load import load_space
from search_spaces.space import SearchSpace


@pytest.fixture(scope="session")
def tiny() -> SearchSpace:
    return load_space("tiny")
