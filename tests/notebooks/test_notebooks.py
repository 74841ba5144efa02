"""Every notebook runs from start to end, and stands beside the text that is reviewed with the same cells."""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.py"))


def cells(path):
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def test_there_is_a_notebook():
    assert "01_priors" in NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_start_to_end(name, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "Agg", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", str(NOTEBOOKS / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_has_the_cells_of_its_text_and_small_outputs(name):
    notebook = NOTEBOOKS / f"{name}.ipynb"
    assert cells(notebook) == cells(NOTEBOOKS / f"{name}.py")
    assert notebook.stat().st_size < 600_000
    executed = [cell for cell in jupytext.read(notebook).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in executed)
    assert not any(output.output_type == "error" for cell in executed for output in cell.outputs)
    assert str(Path.home()) not in notebook.read_text()
