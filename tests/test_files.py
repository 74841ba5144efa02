import hashlib

import numpy as np
import pytest

from heteromics._files import sha256_of, whole_folder, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_checksum_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    for text in ("old", "new"):
        with whole_folder(tmp_path / "deep" / "out") as fresh:
            (fresh / "file").write_text(text)
            assert not (tmp_path / "deep" / "out" / "file").exists() or text == "new"
    assert (tmp_path / "deep" / "out" / "file").read_text() == "new"
    assert names(tmp_path / "deep") == ["out"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    with whole_folder(tmp_path / "out") as fresh:
        (fresh / "file").write_text("old")

    def fail():
        with whole_folder(tmp_path / "out") as half:
            (half / "file").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_json_takes_numpy_numbers_and_refuses_the_rest(tmp_path):
    write_json(tmp_path / "a.json", {"n": np.int64(3)})
    assert (tmp_path / "a.json").read_text() == '{\n  "n": 3\n}\n'
    with pytest.raises(TypeError, match="set has no JSON form"):
        write_json(tmp_path / "a.json", {"n": {1}})
    assert (tmp_path / "a.json").read_text() == '{\n  "n": 3\n}\n'
    assert names(tmp_path) == ["a.json"]
