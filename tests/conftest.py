"""Shared fixtures: the local mirror of real data, and small planted data."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mirror() -> Path:
    folder = os.environ.get("HETEROMICS_DATA")
    if not folder:
        pytest.skip("HETEROMICS_DATA names no local mirror of the manifest")
    return Path(folder).resolve()
