"""Sources that are cut off, not those promised, or missing: a clear error, and the store that was there stays."""

import gzip
import hashlib

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from heteromics.data.manifest import load_manifest
from heteromics.errors import ChecksumMismatch, PriorError, UnreadableFile
from heteromics.priors import build_store
from heteromics.priors._writer import check_columns
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.sources import Sources, checksum, parse_locations

GTF = 'chr1\thavana\tgene\t{0}\t{0}9\t.\t+\t.\tgene_id "ENSG{0}"; gene_name "G{0}"; gene_type "lncRNA";'
STRING = "edges.interactions={min_score: 0}"
LINKS = "source.string_links=links.txt"
ALIASES = "source.string_aliases=aliases.txt"

TEXTS = {
    "sizes": ("", "chr{0}\t1000000", []),
    "gtf": ("", GTF, []),
    "peaks": ("", "chr1\t{0}\t{0}9", []),
    "blacklist": ("", "chr1\t{0}\t{0}9", []),
    "genes": ("", "G{0}", []),
    "gmt": ("", "SET{0}\tna\tALPHA\tBETA", []),
    "aliases_hgnc": (
        "hgnc_id\tsymbol\talias_symbol\tprev_symbol\tensembl_gene_id",
        "HGNC:{0}\tG{0}\tA{0}\tP{0}\tE{0}",
        [],
    ),
    "regions_ccre": ("", "chr1\t{0}\t{0}9", ["nodes.region={}"]),
    "pairs_list": ("", "ALPHA\tG{0}\t0.5", ["edges.pairs={}"]),
    "regulons_trrust": ("", "ALPHA\tG{0}\tActivation\t1", ["edges.regulons={}"]),
    "antibodies": ("", "CD{0}", ["edges.antibodies={}"]),
    "string_links": ("protein1 protein2 combined_score", "9606.ENSP1 9606.ENSP{0} 900", [STRING, ALIASES]),
    "string_info": (
        "#string_protein_id\tpreferred_name\tprotein_size\tannotation",
        "9606.ENSP{0}\tG{0}\t9\tnone",
        [STRING, LINKS],
    ),
    "string_aliases": ("#string_protein_id\talias\tsource", "9606.ENSP{0}\tG{0}\tEnsembl_gene", [STRING, LINKS]),
    "motifs": ("", ">M{0}\tG{0}\nA [ {0} 0 ]\nC [ 0 {0} ]\nG [ 0 0 ]\nT [ 0 0 ]", ["nodes.motif={}"]),
}


@pytest.fixture
def built(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "links.txt").write_text("protein1 protein2 combined_score\n9606.ENSP1 9606.ENSP2 900\n")
    (tmp_path / "aliases.txt").write_text("#string_protein_id\talias\tsource\n9606.ENSP1\tALPHA\tEnsembl_gene\n")
    db = tmp_path / "priors.duckdb"
    build_store(recipe, db, progress=False)
    return db


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("source", TEXTS)
def test_a_truncated_gzip_is_named_and_the_old_store_stays(recipe, built, source):
    head, line, sets = TEXTS[source]
    numbers = np.random.default_rng(0).permutation(np.arange(10_000, 40_000))
    text = "\n".join([*([head] if head else []), *(line.format(number) for number in numbers)])
    whole = gzip.compress(text.encode())
    path = built.with_name(f"cut_{source}.gz")
    path.write_bytes(whole[: len(whole) * 9 // 10])
    before = digest(built)
    with pytest.raises(UnreadableFile, match=rf"cut_{source}\.gz: truncated or damaged gzip(.|\n)*Fix: fetch the file"):
        build_store(recipe, built, sets=[f"source.{source}={path}", *sets], force=True, progress=False)
    assert digest(built) == before


def test_a_damaged_hdf5_source_is_not_taken_for_a_full_disk(recipe, built, tmp_path):
    path = tmp_path / "atac.h5ad"
    names = [f"chr1:{start}-{start + 1}" for start in range(5_000)]
    data = anndata.AnnData(np.zeros((1, len(names)), dtype=np.float32), var=pd.DataFrame(index=names))
    data.write_h5ad(path, compression="gzip")
    with h5py.File(path) as file:
        chunk = file["var"]["_index"].id.get_chunk_info(0)
    damaged = bytearray(path.read_bytes())
    damaged[chunk.byte_offset + 20 : chunk.byte_offset + chunk.size] = bytes(chunk.size - 20)
    path.write_bytes(damaged)
    before = digest(built)
    with pytest.raises(UnreadableFile, match=r"builder nodes\.peak cannot read a file: (.|\n)*peaks \(.*atac\.h5ad\)"):
        build_store(recipe, built, sets=[f"source.peaks={path}"], force=True, progress=False)
    assert digest(built) == before


def test_a_mirror_whose_file_is_not_the_promised_one_is_an_error(recipe, built, tmp_path):
    item, file = next(
        (item, file)
        for item in (load_manifest()[name] for name in load_manifest())
        for file in item.files
        if file.sha256 and file.name.endswith((".gmt", ".txt", ".tsv", ".gz"))
    )
    wrong = tmp_path / "mirror" / item.name / file.name
    wrong.parent.mkdir(parents=True)
    wrong.write_text("SET_ONE\tna\tALPHA\n")
    before = digest(built)
    with pytest.raises(ChecksumMismatch, match=file.name):
        build_store(
            recipe,
            built,
            sets=[f"source.gmt=manifest:{item.name}/{file.name}"],
            mirror=tmp_path / "mirror",
            force=True,
            progress=False,
        )
    assert digest(built) == before
    assert not list(tmp_path.glob("*.building-*"))


def test_a_source_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UnreadableFile, match=r"none\.gz cannot be read"):
        checksum(tmp_path / "none.gz")


def test_the_checksum_of_a_large_file_is_shown_as_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("heteromics.priors.sources.SHOWN_FROM", 0)
    monkeypatch.setattr("heteromics.priors.sources.BLOCK", 1_000)
    path, shown = tmp_path / "large.txt", []
    path.write_bytes(bytes(range(250)) * 10)

    def track(items, description, total):
        items = list(items)
        shown.append((description, total, [len(item) for item in items]))
        return items

    sources = Sources(parse_locations({"gmt": str(path)}, tmp_path, "recipe"), progress=False)
    assert sources.read("gmt", track).sha256 == digest(path)
    assert shown == [("checksum of large.txt (MB)", 3, [1_000, 1_000, 500])]
    assert sources("gmt") is sources.read("gmt", track)
    assert len(shown) == 1


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"size": [1, None]}, "table pathway: column size is NULL in 1 of 2 rows, expected a value in each."),
        ({"pathway_id": [None, None]}, "column pathway_id is NULL in 2 of 2 rows"),
    ],
)
def test_null_where_none_may_be_is_named(columns, said):
    table = pa.table({"pathway_id": ["a", "b"], "description": ["", ""], "size": [1, 2], **columns})
    with pytest.raises(PriorError) as error:
        check_columns(SCHEMAS["pathway"], table)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [("gene_gene", "weight", "a number in each"), ("peak_attribute", "gc", "NULL where there is no value")],
)
@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_nan_is_no_value(name, column, expected, kind):
    types = {"VARCHAR": "x", "BIGINT": 1, "DOUBLE": 0.5}
    table = pa.table({one.name: [types[one.type]] * 3 for one in SCHEMAS[name].columns})
    place = table.column_names.index(column)
    check_columns(SCHEMAS[name], table)
    with_nan = table.set_column(place, column, pa.array([0.5, np.nan, np.nan], kind))
    with pytest.raises(PriorError) as error:
        check_columns(SCHEMAS[name], with_nan)
    assert str(error.value) == f"table {name}: column {column} is NaN in 2 of 3 rows, expected {expected}."


def test_nan_may_stand_in_arrays_and_null_where_the_schema_says_so():
    frequency = pa.FixedSizeListArray.from_arrays(pa.array([np.nan, 1.0, 0.5, 0.5], pa.float32()), 2)
    check_columns(SCHEMAS["peak_kmer"], pa.table({"peak_id": ["a", "b"], "frequency": frequency}))
    nothing = pa.nulls(1, pa.float64())
    check_columns(
        SCHEMAS["peak_attribute"],
        pa.table({"peak_id": ["a"], "width": [1], "gc": nothing, "cpg_oe": nothing, "n_share": nothing}),
    )
