import sys
from dataclasses import dataclass
from json import loads

import pytest

from heteromics.cli import main


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return loads(self.out)


@pytest.fixture
def run(capsys, monkeypatch):
    """Run one command line in this process; exit status, stdout and stderr come back."""

    def command(*args):
        monkeypatch.setattr(sys, "argv", ["heteromics", *map(str, args)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        code = left.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return command
