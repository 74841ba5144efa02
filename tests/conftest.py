"""Shared fixtures: the local mirror of real data; where it is required, a skipped real-data test is a failure."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: see heteromics.cli
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process for each core


def pytest_collection_modifyitems(items):
    """Run files with slow tests first, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def mirror() -> Path:
    folder = os.environ.get("HETEROMICS_DATA")
    if not folder:
        pytest.skip("HETEROMICS_DATA names no local mirror of the manifest")
    return Path(folder).resolve()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and "realdata" in item.path.parts and os.environ.get("HETEROMICS_REALDATA_REQUIRED"):
        report.outcome = "failed"
        report.longrepr = f"a real-data test was skipped although a mirror is at hand: {report.longrepr}"
    return report
