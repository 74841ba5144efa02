import doctest
import importlib
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import heteromics

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(module.name for module in pkgutil.walk_packages(heteromics.__path__, "heteromics."))


@pytest.mark.parametrize("name", ["heteromics", *MODULES])
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        heteromics.nothing  # noqa: B018
    assert "priors" in dir(heteromics)


def test_wheel_carries_recipes_and_manifest(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT],
        check=True,
        capture_output=True,
        text=True,
    )
    (wheel,) = tmp_path.glob("heteromics-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"heteromics/recipes/{kind}/{path.name}"
        for kind in ("priors", "graphs")
        for path in (ROOT / kind).glob("*.yaml")
    }
    assert len(expected) >= 5
    assert {name for name in names if name.startswith("heteromics/recipes/")} == expected | {
        "heteromics/recipes/data_manifest.yaml"
    }
    assert {"heteromics/py.typed", "heteromics/priors/antibodies.csv"} <= names


@pytest.mark.slow
def test_readme_example_runs_as_printed(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = text.split("```python\n", 1)[1].split("```", 1)[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    smaller = (  # the demo runs it at its own size
        "from functools import partial; from heteromics import data; "
        "data.simulate = partial(data.simulate, data.SyntheticConfig(n_cells=400))\n"
    )
    command = [sys.executable, "-c", smaller + example]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
