"""Shared fixtures: the local mirror of real data; where it is required, a skipped real-data test is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: see heteromics.cli
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process for each core


def pytest_collection_modifyitems(items):
    """Run files with slow tests first, so that no process is left alone with one at the end.

    Tests of real data are not traced, so that coverage is the same where there is no mirror.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.get_closest_marker("realdata"):
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def mirror() -> Path:
    folder = os.environ.get("HETEROMICS_DATA")
    if not folder:
        pytest.skip("HETEROMICS_DATA names no local mirror of the manifest")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def uncompiled(tmp_path_factory):
    """Run code that makes ``found`` of ``given`` where numba compiles nothing, which takes it longer than small inputs.

    Both are arrays by name; the code runs in a process of its own.
    """

    def run(code, **given):
        folder = tmp_path_factory.mktemp("uncompiled")
        np.savez(folder / "given.npz", **given)
        whole = f"import numpy as np\ngiven = np.load('given.npz')\n{code}\nnp.savez('found.npz', **found)"
        environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
        subprocess.run([sys.executable, "-W", "ignore", "-c", whole], cwd=folder, env=environment, check=True)
        return dict(np.load(folder / "found.npz"))

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and "realdata" in item.path.parts and os.environ.get("HETEROMICS_REALDATA_REQUIRED"):
        report.outcome = "failed"
        report.longrepr = f"a real-data test was skipped although a mirror is at hand: {report.longrepr}"
    return report
