import json
import re

import pytest
import yaml

from heteromics.data.manifest import load_manifest
from heteromics.errors import FetchError, RecipeError

SHA = "0" * 64
ENTRY = {
    "description": "x",
    "organism": "human",
    "version": "1",
    "licence": "CC0",
    "citation": "none",
    "format": "txt",
    "files": [{"name": "a.txt", "sha256": SHA, "bytes": 3, "urls": ["https://example.org/a.txt"]}],
}


def write(tmp_path, entry=None, file=None, **changes):
    entry = {**(entry or ENTRY), **changes}
    if file is not None:
        entry["files"] = [{**ENTRY["files"][0], **file}]
        entry["files"][0] = {key: value for key, value in entry["files"][0].items() if value is not None}
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({"manifest": 1, "datasets": {"set": entry}}))
    return path


def test_shipped_manifest_holds_the_sets_users_want_and_invents_no_checksum():
    manifest = load_manifest()
    wanted = {
        "cite_mosaic_pbmc_midas", "cite_bmmc_neurips2021", "multiome_snareseq_mop", "prior_gtf_mm10_gencode_vM25",
        "string_v12_human", "string_v12_mouse", "gencode_human_v46", "gencode_mouse_vM25", "grch38_fasta",
        "grcm38_fasta", "grch38_sizes", "grcm38_sizes", "msigdb_hallmark_human", "msigdb_hallmark_mouse",
        "jaspar_2024_core_vertebrates", "collectri", "cite_bmmc_neurips2021_full", "multiome_bmmc_neurips2021_full",
    }  # fmt: skip
    assert wanted <= set(manifest)
    assert {file.name for file in manifest["string_v12_human"].files} == {
        f"9606.protein.{kind}.v12.0.txt.gz" for kind in ("links", "links.detailed", "info", "aliases")
    }
    assert not any(manifest[name].verified for name in ("string_v12_human", "grch38_fasta", "collectri"))
    assert manifest["cite_mosaic_pbmc_midas"].verified


def test_rows_are_plain_and_complete():
    rows = load_manifest().rows()
    assert len(rows) == len(load_manifest())
    mosaic = next(row for row in json.loads(json.dumps(rows)) if row["name"] == "cite_mosaic_pbmc_midas")
    assert (mosaic["files"], mosaic["bytes"], mosaic["source"]) == (1, 2_789_920, "package scmidas==0.3.0")
    assert all(row["licence"] and row["citation"] and row["organism"] for row in rows)
    unknown = next(row for row in rows if row["name"] == "string_v12_human")
    assert unknown["bytes"] is None
    assert unknown["verified"] is False


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param({"sha256": None}, "give sha256, or `unverified: true`", id="no checksum"),
        pytest.param({"unverified": True}, "give sha256, or `unverified: true`", id="both"),
        pytest.param({"sha256": "abc"}, "found sha256 'abc', expected 64 hexadecimal digits", id="short checksum"),
        pytest.param({"urls": None}, "found 0 sources, expected exactly one", id="no source"),
        pytest.param({"derived_from": "b"}, "found 2 sources, expected exactly one", id="two sources"),
        pytest.param({"urls": ["ftp://x/y"]}, "found address 'ftp://x/y', expected http(s)", id="ftp"),
        pytest.param({"name": "../a"}, "found file name '../a', expected a path below", id="escapes"),
        pytest.param({"name": "/a"}, "found file name '/a', expected a path below", id="absolute"),
        pytest.param({"packing": "gzip"}, "`packing: gzip` needs `published`", id="no content checksum"),
        pytest.param({"published": {"sha256": SHA, "bytes": 1}}, "`published` needs `packing", id="no packing"),
        pytest.param({"packing": "bz2"}, "found 'bz2', expected one of 'none', 'gzip', 'gunzip'", id="packing"),
        pytest.param({"bites": 3}, "unknown key 'bites'. Did you mean 'bytes'?", id="misspelt key"),
        pytest.param(
            {"urls": None, "package": {"wheel": "scmidas", "member": "m"}},
            "found 'scmidas', expected a pinned",
            id="unpinned",
        ),
        pytest.param(
            {"urls": None, "package": {"member": "m"}}, "names either wheel or sdist", id="neither wheel nor sdist"
        ),
    ],
)  # fmt: skip
def test_a_wrong_file_entry_is_named(tmp_path, file, message):
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        load_manifest(write(tmp_path, file=file))
    assert "manifest.yaml: set.files[0]" in str(caught.value)


def test_a_missing_licence_and_doubled_files_are_named(tmp_path):
    entry = {key: value for key, value in ENTRY.items() if key != "licence"}
    with pytest.raises(RecipeError, match=r"manifest.yaml: set: missing licence\."):
        load_manifest(write(tmp_path, entry))
    with pytest.raises(RecipeError, match=r"file names are used twice: a\.txt\."):
        load_manifest(write(tmp_path, files=ENTRY["files"] * 2))
    with pytest.raises(RecipeError, match="found no file, expected at least one"):
        load_manifest(write(tmp_path, files=[]))


def test_another_schema_version_is_refused(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("manifest: 2\ndatasets: {}\n")
    with pytest.raises(RecipeError, match="m.yaml.manifest: found 2, expected one of 1"):
        load_manifest(path)


def test_unknown_names_offer_the_nearest():
    manifest = load_manifest()
    with pytest.raises(
        FetchError, match="data_manifest.yaml has no item 'string_v12_humans'. Did you mean 'string_v12_human'"
    ):
        manifest["string_v12_humans"]
    with pytest.raises(FetchError, match=r"item 'collectri' has no file 'x'. Known: CollecTRI_regulons.csv\."):
        manifest["collectri"]["x"]
