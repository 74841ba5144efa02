import gzip
import re

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from heteromics.errors import (
    BeyondChromosome,
    ChromNamesDisagree,
    DataError,
    DuplicateNames,
    MissingModality,
    UnreadableFile,
)
from heteromics.priors import PriorStore
from heteromics.priors.peaks import check_peaks, parse_peak_names, read_peaks


@pytest.mark.parametrize(
    ("name", "chrom"),
    [
        ("chr1:100-200", "chr1"),
        ("chr1-100-200", "chr1"),
        ("chr1_100_200", "chr1"),
        ("1:100-200", "1"),
        ("chrUn_KI270742v1:100-200", "chrUn_KI270742v1"),
        ("chr1_KI270706v1_random_100_200", "chr1_KI270706v1_random"),
        ("GL000194.1-100-200", "GL000194.1"),
        ("scaffold_12_100_200", "scaffold_12"),
        ("HLA-A*01:01:01-100-200", "HLA-A*01:01:01"),
    ],
)
def test_names_are_taken_apart(name, chrom):
    peaks, unparsable = parse_peak_names([name])
    assert (peaks.name, peaks.chrom, peaks.start.tolist(), peaks.end.tolist()) == ([name], [chrom], [100], [200])
    assert unparsable == []


@pytest.mark.parametrize("name", ["GAPDH", "chr1:100", "chr1:a-b", "chr1:-5-10-", "", ":1-2", "chr1:1,000-2,000"])
def test_what_is_no_interval_is_named(name):
    peaks, unparsable = parse_peak_names(["chr1:1-2", name])
    assert (peaks.name, unparsable) == (["chr1:1-2"], [name])


@given(
    st.text(alphabet="abcXYZ019_.-*:", min_size=1, max_size=15),
    st.integers(0, 10**9),
    st.integers(1, 10**6),
    st.sampled_from([":-", "--", "__", ":_", "_-"]),
)
def test_names_round_trip(chrom, start, width, marks):
    peaks, _ = parse_peak_names([f"{chrom}{marks[0]}{start}{marks[1]}{start + width}"])
    assert (peaks.chrom, peaks.start[0], peaks.end[0]) == ([chrom], start, start + width)


def test_no_names_give_no_peaks():
    peaks, unparsable = parse_peak_names([])
    assert (peaks.name, peaks.start.dtype, unparsable) == ([], np.int64, [])


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_bed_and_lists_of_names_are_read(tmp_path, pack):
    path = tmp_path / "peaks.txt"  # the suffix says nothing
    path.write_bytes(pack(b"track name=x\n#c\nchr1\t5\t10\tname\t0\n\r\nchr2 7 9\r\nchr3_1_2\n"))
    assert read_peaks(path)[0].name == ["chr1:5-10", "chr2:7-9", "chr3_1_2"]


def test_a_broken_bed_line_is_named(tmp_path):
    path = tmp_path / "peaks.bed"
    path.write_text("chr1\t5\t10\nchr1\tx\t10\n")
    with pytest.raises(UnreadableFile, match=r"peaks\.bed, line 2: found 'chr1\\tx\\t10', expected chromosome, start"):
        read_peaks(path)
    path.write_text("# empty\n")
    with pytest.raises(UnreadableFile, match="no peak in it"):
        read_peaks(path)


def test_a_truncated_gzip_is_no_short_file(tmp_path):
    path = tmp_path / "peaks.bed.gz"
    path.write_bytes(gzip.compress(b"".join(b"chr1\t%d\t%d\n" % (n * 7, n * 7 + 3) for n in range(5000)))[:2000])
    with pytest.raises(UnreadableFile, match="truncated or damaged gzip"):
        read_peaks(path)


def anndata_of(names, **var):
    matrix = sparse.csr_matrix(np.ones((2, len(names)), dtype=np.float32))
    return ad.AnnData(matrix, var=pd.DataFrame(var, index=names))


def test_only_var_names_of_the_atac_modality_are_read(tmp_path):
    path = tmp_path / "atac.h5ad"
    anndata_of(["chr1:1-5", "chr2:3-9"]).write_h5ad(path)
    assert read_peaks(path)[0].name == ["chr1:1-5", "chr2:3-9"]
    anndata_of(["GAPDH", "chr2:3-9"], feature_types=["Gene Expression", "Peaks"]).write_h5ad(path)
    assert read_peaks(path)[0].name == ["chr2:3-9"]
    anndata_of(["GAPDH", "chr2:3-9"], feature_types=["gene_expression", "ATAC"]).write_h5ad(path)
    assert read_peaks(path)[0].name == ["chr2:3-9"]
    anndata_of(["GAPDH"], feature_types=["Gene Expression"]).write_h5ad(path)
    with pytest.raises(MissingModality, match="holds no atac modality: found Gene Expression"):
        read_peaks(path)


def test_mudata_is_read_by_modality(tmp_path):
    path = tmp_path / "multi.h5mu"
    with mudata.set_options(pull_on_update=False):
        mudata.MuData({"rna": anndata_of(["A"]), "atac": anndata_of(["chr1:1-5"])}).write(path)
        assert read_peaks(path)[0].name == ["chr1:1-5"]
        mudata.MuData({"rna": anndata_of(["A"]), "prot": anndata_of(["P"])}).write(path)
    with pytest.raises(MissingModality, match="found prot, rna"):
        read_peaks(path)


def test_a_file_that_is_no_hdf5_is_said_so(tmp_path):
    path = tmp_path / "atac.h5ad"
    path.write_text("chr1:1-2")
    with pytest.raises(UnreadableFile, match="not a readable HDF5 file"):
        read_peaks(path)


def test_peaks_without_a_base_are_counted():
    peaks, _ = parse_peak_names(["chr1:5-9", "chr1:5-5", "chr1:9-5", "chr1:7-7"])
    with pytest.raises(DataError) as error:
        check_peaks(peaks, "peaks of x")
    assert "3 of 4 peaks hold no base (2 of width zero, 1 that end before they start)" in str(error.value)
    assert "chr1:5-5, chr1:9-5, chr1:7-7" in str(error.value)


def test_peaks_listed_twice_are_named_also_under_another_spelling():
    peaks, _ = parse_peak_names(["chr1:5-9", "chr1_5_9", "chr1:6-9", "chr1:6-9"])
    with pytest.raises(
        DuplicateNames, match=re.escape("2 of 4 peaks are listed more than once: chr1_5_9 (= chr1:5-9), chr1:6-9")
    ):
        check_peaks(peaks, "peaks of x")


def test_the_table_is_ordered_and_reports_what_it_leaves_out(recipe):
    (recipe.parent / "peaks.txt").write_text("chr2:5-9\nchr1_50_90\nchr1-5-9\nchrUn_9:1-2\nGAPDH\n")
    sets = [
        "source.peaks=" + str(recipe.parent / "peaks.txt"),
        "edges.gene_peak=false",
        "nodes.peak.on_unmatched=report",
    ]
    with PriorStore.build(recipe, recipe.with_name("p.duckdb"), sets=sets, progress=False) as store:
        peaks = store.frame("peak")
        assert peaks.values.tolist() == [
            ["chr1-5-9", "chr1", 5, 9],
            ["chr1_50_90", "chr1", 50, 90],
            ["chr2:5-9", "chr2", 5, 9],
        ]
        report = store.match_report("peak")
        assert report[["source", "name", "outcome", "detail"]].values.tolist() == [
            ["peaks.txt", "GAPDH", "unparsable", "expected chr1:100-200, chr1-100-200 or chr1_100_200"],
            ["peaks.txt", "chrUn_9:1-2", "wrong_assembly", "tiny has no chrUn_9"],
        ]
        assert store.frame("peak_attribute")["width"].tolist() == [4, 40, 4]


def build_with(recipe, text, *sets):
    (recipe.parent / "given.bed").write_text(text)
    sets = [f"source.peaks={recipe.parent / 'given.bed'}", *sets]
    return PriorStore.build(recipe, recipe.with_name("p.duckdb"), sets=sets, progress=False)


def test_unparsable_names_stop_the_build_unless_they_are_to_be_reported(recipe):
    with pytest.raises(
        DataError, match=r"peaks of given\.bed: 1 of 2 names are no interval: GAPDH\.(.|\n)*on_unmatched: report"
    ):
        build_with(recipe, "chr1:5-9\nGAPDH\n")


def test_peaks_beyond_the_chromosome_stop_the_build(recipe):
    with pytest.raises(BeyondChromosome, match="2 of 3 peaks of given.bed end beyond their chromosome in tiny"):
        build_with(recipe, "chr1\t9000\t10001\nchr2\t1\t6000\nchr1\t5\t10000\n")
    assert not recipe.with_name("p.duckdb").exists()


def test_peaks_of_the_other_style_stop_the_build_and_can_be_converted(recipe):
    with pytest.raises(ChromNamesDisagree, match=r"Fix: set `nodes\.peak\.chrom_style: ucsc`"):
        build_with(recipe, "1\t900\t1100\n2\t5\t9\n")
    with build_with(recipe, "1\t900\t1100\n2\t5\t9\n", "nodes.peak.chrom_style=ucsc") as store:
        assert store.frame("peak")[["peak_id", "chrom"]].values.tolist() == [["1:900-1100", "chr1"], ["2:5-9", "chr2"]]
