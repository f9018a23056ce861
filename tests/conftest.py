"""Fixtures shared by all tests."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from search_spaces.load import load_space
from search_spaces.space import SearchSpace


@pytest.fixture(scope="session")
def tiny() -> SearchSpace:
    return load_space("tiny")
