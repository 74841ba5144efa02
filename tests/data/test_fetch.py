import gzip
import hashlib
import io
import logging
import re
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pooch
import pytest

from heteromics.data import fetch as fetch_module
from heteromics.data._transfer import open_member
from heteromics.data.fetch import fetch, locate, whereabouts
from heteromics.data.manifest import File, Item, Manifest, Package, Published, load_manifest
from heteromics.errors import ChecksumMismatch, FetchError

BODY = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()


def sha(content):
    return hashlib.sha256(content).hexdigest()


def manifest_of(*files, name="set"):
    item = Item(name, "d", "human", "1", "CC0", "none", "bin", tuple(files))
    return Manifest({name: item})


def promised(content, *urls, name="a.bin", **other):
    return File(name, urls=urls, sha256=sha(content), bytes=len(content), **other)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv("HETEROMICS_DATA", raising=False)
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_download_then_cache(server, tmp_path):
    server.files["a"] = BODY
    manifest = manifest_of(promised(BODY, server.url("a")))
    folder = fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert (folder / "a.bin").read_bytes() == BODY
    assert fetch("set", to=tmp_path, manifest=manifest) == tmp_path / "set"
    assert server.requests == [("a", None)]
    assert left_in(tmp_path) == ["a.bin"]


def test_a_broken_transfer_is_continued_where_it_stopped(server, tmp_path):
    server.files["a"] = BODY
    server.break_after = [15 << 16, 8 << 16]
    fetch("set", to=tmp_path, manifest=manifest_of(promised(BODY, server.url("a"))), progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY
    assert server.requests == [("a", None), ("a", f"bytes={15 << 16}-"), ("a", f"bytes={23 << 16}-")]
    assert left_in(tmp_path) == ["a.bin"]


def test_without_progress_nothing_is_said(server, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(pooch.get_logger().handlers[0], "stream", sys.stderr)  # pooch took stderr at import
    server.files["a"] = BODY
    manifest = manifest_of(promised(BODY, server.url("a")))
    for number, progress in enumerate((True, False, True)):
        server.break_after = [15 << 16]
        fetch("set", to=tmp_path / str(number), manifest=manifest, progress=progress)
        said = capfd.readouterr()
        assert said.out == ""
        assert ("Downloading file" in said.err, "2 more times" in said.err) == (progress, progress)
        assert bool(said.err) is progress


@pytest.mark.parametrize("declare_length", [True, False], ids=["length told", "length not told"])
def test_what_came_is_kept_for_the_next_run_and_never_under_the_final_name(server, tmp_path, declare_length):
    server.files["a"] = BODY
    server.declare_length = declare_length
    server.break_after = [15 << 16, 0, 0]
    manifest = manifest_of(promised(BODY, server.url("a")))
    with pytest.raises(FetchError, match=r"1 of 1 files of 'set' could not be had") as caught:
        fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert "983,040 bytes are kept and will be continued" in str(caught.value)
    assert left_in(tmp_path) == ["a.bin.part", "a.bin.part.tag"]
    fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY
    assert server.requests[-1] == ("a", f"bytes={15 << 16}-")


def test_a_server_that_forgets_ranges_sends_all_again(server, tmp_path):
    server.files["a"] = BODY
    server.ranges = False
    server.break_after = [1_000_000]
    fetch("set", to=tmp_path, manifest=manifest_of(promised(BODY, server.url("a"))), progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY


def test_a_part_of_another_version_is_not_continued(server, tmp_path):
    server.files["a"], server.tag = BODY, '"v2"'
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "set/a.bin.part.tag").write_text('"v1"')
    manifest = manifest_of(File("a.bin", urls=(server.url("a"),), unverified=True))
    fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY


def test_a_part_without_version_or_checksum_is_not_continued(server, tmp_path):
    server.files["a"], server.tag = BODY, None
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.bin.part").write_bytes(b"x" * 1000)
    manifest = manifest_of(File("a.bin", urls=(server.url("a"),), unverified=True))
    fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY
    assert server.requests == [("a", None)]


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_part_that_is_whole_is_only_checked(server, tmp_path, size):
    server.files["a"] = BODY
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.bin.part").write_bytes(BODY)
    manifest = manifest_of(File("a.bin", urls=(server.url("a"),), sha256=sha(BODY), bytes=size))
    fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY
    assert server.requests == ([] if size else [("a", f"bytes={len(BODY)}-")])


def test_a_part_longer_than_the_file_is_dropped(server, tmp_path):
    server.files["a"] = BODY
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.bin.part").write_bytes(BODY + b"x")
    fetch("set", to=tmp_path, manifest=manifest_of(promised(BODY, server.url("a"))), progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY


def test_wrong_bytes_name_expected_and_found_and_leave_nothing(server, tmp_path):
    server.files["a"] = b"other"
    manifest = manifest_of(promised(b"right", server.url("a")))
    with pytest.raises(ChecksumMismatch) as caught:
        fetch("set", to=tmp_path, manifest=manifest, progress=False)
    message = str(caught.value)
    assert f"expected: sha256 {sha(b'right')}, 5 bytes" in message
    assert f"found:    sha256 {sha(b'other')}, 5 bytes" in message
    assert server.url("a") in message
    assert left_in(tmp_path) == []


def test_a_wrong_start_kept_from_before_is_found_by_the_checksum(server, tmp_path):
    server.files["a"] = BODY
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.bin.part").write_bytes(b"x" * 1000)
    manifest = manifest_of(promised(BODY, server.url("a")))
    with pytest.raises(ChecksumMismatch, match="is not the file the manifest promises"):
        fetch("set", to=tmp_path, manifest=manifest, progress=False)
    fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY


def test_the_second_address_is_tried_and_all_failures_are_listed(server, tmp_path):
    server.files["b"] = BODY
    fetch("set", to=tmp_path, manifest=manifest_of(promised(BODY, server.url("a"), server.url("b"))), progress=False)
    assert (tmp_path / "set/a.bin").read_bytes() == BODY
    with pytest.raises(FetchError) as caught:
        fetch("none", to=tmp_path, progress=False,
              manifest=manifest_of(promised(BODY, server.url("x"), server.url("y")), name="none"))  # fmt: skip
    assert f"{server.url('x')}: 404" in str(caught.value)
    assert f"{server.url('y')}: 404" in str(caught.value)
    assert "Fix: check the network, or name a mirror" in str(caught.value)


def test_an_unverified_file_is_remembered(server, tmp_path, caplog):
    server.files["a"] = b"first"
    manifest = manifest_of(File("a.bin", urls=(server.url("a"),), unverified=True))
    with caplog.at_level(logging.WARNING):
        fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert f"set/a.bin has no checksum in the manifest: its sha256 is {sha(b'first')}" in caplog.text
    assert (tmp_path / "set/a.bin.sha256").read_text() == f"{sha(b'first')}  a.bin\n"
    fetch("set", to=tmp_path, manifest=manifest, progress=False)
    (tmp_path / "set/a.bin").write_bytes(b"changed")
    with pytest.raises(ChecksumMismatch, match=re.escape("remove")):
        fetch("set", to=tmp_path, manifest=manifest, progress=False)


def test_files_are_packed_and_unpacked_as_the_manifest_says(server, tmp_path):
    server.files["plain"], server.files["packed"] = BODY, gzip.compress(BODY, 1)
    elsewhere = gzip.compress(BODY, 1, mtime=7)
    packed = File(
        "a.gz", urls=(server.url("plain"),), sha256=sha(elsewhere), bytes=len(elsewhere), packing="gzip",
        published=Published(sha(BODY), len(BODY)),
    )  # fmt: skip
    unpacked = File("b", urls=(server.url("packed"),), sha256=sha(BODY), bytes=len(BODY), packing="gunzip")
    manifest = manifest_of(packed, unpacked)
    folder = fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert gzip.decompress((folder / "a.gz").read_bytes()) == BODY
    assert (folder / "b").read_bytes() == BODY
    fetch("set", to=tmp_path, manifest=manifest, progress=False)  # the same content under other compression is accepted
    assert len(server.requests) == 2
    (folder / "a.gz").write_bytes(b"no gzip")
    with pytest.raises(ChecksumMismatch):
        fetch("set", to=tmp_path, manifest=manifest, progress=False)


def test_a_broken_gzip_is_named(server, tmp_path):
    server.files["packed"] = gzip.compress(BODY)[:-100]
    manifest = manifest_of(File("b", urls=(server.url("packed"),), unverified=True, packing="gunzip"))
    with pytest.raises(FetchError, match="what came is not a whole gzip file"):
        fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert left_in(tmp_path) == []


def test_the_mirror_comes_first_and_stays_in_place(tmp_path, monkeypatch):
    (tmp_path / "mirror/set").mkdir(parents=True)
    (tmp_path / "mirror/set/a.bin").write_bytes(BODY)
    manifest = manifest_of(promised(BODY, "http://127.0.0.1:9/never"))
    item = manifest["set"]
    assert whereabouts(item, to=tmp_path / "out") == "to fetch"
    assert fetch("set", mirror=tmp_path / "mirror", manifest=manifest) == tmp_path / "mirror/set"
    monkeypatch.setenv("HETEROMICS_DATA", str(tmp_path / "mirror"))
    assert fetch("set", manifest=manifest) == tmp_path / "mirror/set"
    assert locate("set/a.bin", manifest=manifest) == tmp_path / "mirror/set/a.bin"
    assert whereabouts(item) == "mirror"
    assert fetch("set", to=tmp_path / "out", manifest=manifest) == tmp_path / "out/set"
    assert left_in(tmp_path / "out") == ["a.bin"]
    monkeypatch.delenv("HETEROMICS_DATA")
    assert whereabouts(item, to=tmp_path / "out") == "cache"


def test_wrong_bytes_in_the_mirror_are_an_error_not_a_reason_to_download(server, tmp_path):
    server.files["a"] = BODY
    (tmp_path / "mirror/set").mkdir(parents=True)
    (tmp_path / "mirror/set/a.bin").write_bytes(BODY[:-1])
    manifest = manifest_of(promised(BODY, server.url("a")))
    for get in (lambda **how: fetch("set", **how), lambda **how: locate("set/a.bin", **how)):
        with pytest.raises(ChecksumMismatch, match="2,999,999 bytes") as caught:
            get(mirror=tmp_path / "mirror", manifest=manifest)
        assert "or repair the mirror" in str(caught.value)
    assert server.requests == []


def test_a_mirror_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(FetchError, match="named by --mirror, is not a folder"):
        fetch("collectri", mirror=tmp_path / "nowhere")


def test_a_partial_result_is_a_failure_that_names_the_rest(server, tmp_path):
    server.files["a"] = BODY
    made = File("b.h5ad", derived_from="a.bin transposed", sha256=sha(b""), bytes=0)
    manifest = manifest_of(promised(BODY, server.url("a")), made)
    with pytest.raises(FetchError, match="1 of 2 files of 'set' could not be had") as caught:
        fetch("set", to=tmp_path, manifest=manifest, progress=False)
    assert "b.h5ad: it is to be had from a mirror only: made from a.bin transposed. Fix: name a mirror" in str(
        caught.value
    )
    assert left_in(tmp_path) == ["a.bin"]
    assert whereabouts(manifest["set"], to=tmp_path) == "partly"


def test_default_cache_is_that_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module.pooch, "os_cache", lambda name: tmp_path / name)
    (tmp_path / "heteromics/set").mkdir(parents=True)
    (tmp_path / "heteromics/set/a.bin").write_bytes(BODY)
    manifest = manifest_of(promised(BODY, "http://127.0.0.1:9/never"))
    assert locate("set/a.bin", manifest=manifest) == tmp_path / "heteromics/set/a.bin"


def tiny_wheel(folder):
    info = "tiny_data-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_data/a.bin", BODY)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def local_index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    folder.mkdir()
    tiny_wheel(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def from_wheel(member, pin="tiny-data==1.0", content=BODY, name="a.bin"):
    return File(name, package=Package(member, wheel=pin), sha256=sha(content), bytes=len(content))


def test_members_of_a_wheel_with_one_pip_call(local_index, tmp_path, monkeypatch):
    calls = []
    run = fetch_module.Packages._download
    monkeypatch.setattr(fetch_module.Packages, "_download", lambda *args: calls.append(1) or run(*args))
    manifest = manifest_of(from_wheel("tiny_data/a.bin"), from_wheel("tiny_data/a.bin", name="b.bin"))
    folder = fetch("set", to=tmp_path / "out", manifest=manifest, progress=False)
    assert (folder / "a.bin").read_bytes() == (folder / "b.bin").read_bytes() == BODY
    assert calls == [1]
    assert left_in(tmp_path / "out") == ["a.bin", "b.bin"]


def test_package_failures_say_what_and_how_to_go_on(local_index, tmp_path):
    def get(*files):
        fetch("set", to=tmp_path / "out", manifest=manifest_of(*files), progress=False)

    with pytest.raises(FetchError, match=r"pip could not download tiny-data==2.0: ERROR: No matching distribution"):
        get(from_wheel("tiny_data/a.bin", pin="tiny-data==2.0"))
    with pytest.raises(FetchError, match=r"tiny_data-1.0-py3-none-any.whl has no member 'tiny_data/b.bin'"):
        get(from_wheel("tiny_data/b.bin"))
    with pytest.raises(ChecksumMismatch, match="tiny_data/a.bin of tiny-data==1.0 is not the file the manifest"):
        get(from_wheel("tiny_data/a.bin", content=b"other"))
    assert left_in(tmp_path / "out") == []


def test_a_python_without_pip_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho 'No module named pip' >&2; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(FetchError, match="has no pip. Fix: python -m ensurepip"):
        fetch("set", to=tmp_path, manifest=manifest_of(from_wheel("x")), progress=False)


def test_member_of_a_source_distribution_lies_below_its_top_folder(tmp_path):
    archive = tmp_path / "tiny-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("tiny-1.0/data/a.bin", "tiny-1.0/other/data/a.bin"):
            content = name.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    with open_member(archive, Package("data/a.bin", sdist="tiny==1.0")) as handle:
        assert handle.read() == b"tiny-1.0/data/a.bin"
    with (
        pytest.raises(FetchError, match="tiny-1.0.tar.gz has no member 'a.bin'"),
        open_member(archive, Package("a.bin", sdist="tiny==1.0")),
    ):
        pass


def test_locate_names_the_file_that_could_not_be_had(server, tmp_path):
    made = File("b.h5ad", derived_from="a.bin transposed", sha256=sha(b""), bytes=0)
    manifest = manifest_of(promised(BODY, server.url("a")), made)
    with pytest.raises(FetchError, match=r"^set/b\.h5ad: it is to be had from a mirror only: made from a\.bin"):
        locate("set/b.h5ad", to=tmp_path, manifest=manifest)
    with pytest.raises(FetchError, match=r"^set/a\.bin: could not be downloaded\.\n(.|\n)*404"):
        locate("set/a.bin", to=tmp_path, manifest=manifest, progress=False)


@pytest.mark.parametrize("name", ["set", "set/"])
def test_locate_wants_item_and_file(name):
    with pytest.raises(FetchError, match="names no file. Expected ITEM/FILE, for example set/"):
        locate(name)


def test_the_published_wheel_of_the_demo_set(tmp_path):
    path = locate("cite_mosaic_pbmc_midas/quickstart_pbmc_mosaic.h5mu", to=tmp_path, progress=False)
    assert path.stat().st_size == load_manifest()["cite_mosaic_pbmc_midas"].bytes
