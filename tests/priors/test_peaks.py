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
from heteromics.priors.links import Intervals
from heteromics.priors.peaks import (
    PeakConfig,
    check_peaks,
    overlapping_neighbours,
    parse_peak_names,
    peaks_of_columns,
    read_peaks,
)


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
        ("chr1\t100\t200", "chr1"),
        ("chrUn_KI270742v1 100 200", "chrUn_KI270742v1"),
        ("NC_000001.11-100-200", "NC_000001.11"),
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
    st.sampled_from([":-", "--", "__", ":_", "_-", "\t\t", "  "]),
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


@pytest.mark.parametrize(
    ("columns", "start"),
    [
        pytest.param({"chrom": ["chr1", "chr2"], "start": [4, 10], "end": [9, 20]}, [4, 10], id="0-based"),
        pytest.param({"Chromosome": ["chr1", "chr2"], "Start": [4, 10], "End": [9, 20]}, [4, 10], id="pyranges"),
        pytest.param({"seqnames": ["chr1", "chr2"], "start": [4, 10], "end": [9, 20]}, [3, 9], id="GRanges"),
        pytest.param(
            {"seqnames": ["chr1", "chr2"], "start": [4, 10], "end": [9, 20], "width": [5, 10]},
            [4, 10],
            id="width says 0-based",
        ),
        pytest.param(
            {"chrom": ["chr1", "chr2"], "start": [4, 10], "end": [9, 20], "width": [6, 11]}, [3, 9], id="width says 1"
        ),
        pytest.param(
            {"chrom": ["chr1", "chr2"], "start": [4, 10], "end": [9, 20], "width": [1, 1]}, [4, 10], id="another width"
        ),
    ],
)
def test_columns_stand_in_for_names_that_are_no_intervals(tmp_path, columns, start):
    path = tmp_path / "atac.h5ad"
    anndata_of(["peak1", "peak2"], **columns).write_h5ad(path)
    peaks, unparsable = read_peaks(path)
    assert (peaks.name, peaks.chrom, unparsable) == (["peak1", "peak2"], ["chr1", "chr2"], [])
    assert (peaks.start.tolist(), peaks.end.tolist()) == (start, [9, 20])


def test_names_that_are_intervals_stand_before_columns(tmp_path):
    path = tmp_path / "atac.h5ad"
    anndata_of(["chr1:1-5"], chrom=["chr9"], start=[7], end=[9]).write_h5ad(path)
    assert read_peaks(path)[0].chrom == ["chr1"]


def test_columns_without_whole_numbers_leave_their_peak_unparsable():
    rows = {"chrom": ["chr1", "chr1", None, "chr2"], "start": [1, 1.5, 3, "x"], "end": [5, 9, 9, 9]}
    peaks, unparsable = peaks_of_columns(pd.DataFrame(rows, index=["a", "b", "c", "d"]))
    assert (peaks.name, unparsable) == (["a"], ["b", "c", "d"])
    assert peaks_of_columns(pd.DataFrame({"chrom": ["chr1"]}, index=["a"])) is None


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


def test_a_file_of_mixed_styles_stops_the_build(recipe):
    with pytest.raises(ChromNamesDisagree, match=r"peaks of given\.bed mixes chromosome name styles: 1 of 2 names"):
        build_with(recipe, "chr1\t900\t1100\n2\t5\t9\n")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 9)), max_size=12))
def test_overlapping_neighbours_agree_with_all_pairs(rows):
    rows = sorted(rows)
    chrom, start, width = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    partner = overlapping_neighbours(Intervals(chrom, start, start + width))
    share = (chrom[:, None] == chrom) & (start[:, None] < start + width) & (start < (start + width)[:, None])
    np.fill_diagonal(share, val=False)
    assert ((partner >= 0) == share.any(axis=1)).all()
    assert all(share[row, other] for row, other in enumerate(partner.tolist()) if other >= 0)


def test_overlapping_peaks_stay_and_are_named(recipe):
    with build_with(recipe, "chr1\t5\t9\nchr1\t8\t12\nchr1\t12\t15\nchr2\t5\t9\n") as store:
        assert len(store.frame("peak")) == 4
        report = store.match_report("peak")
        assert report[["name", "outcome", "detail"]].values.tolist() == [
            ["chr1:5-9", "overlapping", "shares bases with chr1:8-12"],
            ["chr1:8-12", "overlapping", "shares bases with chr1:5-9"],
        ]
        summary = store.frame("match_summary").query("table_name == 'peak'")
        assert dict(zip(summary["outcome"], summary["n"], strict=True)) == {"matched": 2, "overlapping": 2}


BLACKLIST = "chr1\t0\t100\tHigh Signal Region\nchr1\t90\t110\tLow Mappability\nchrUn_1\t0\t9\n"


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (0, ["chr1:110-120"]),
        (0.5, ["chr1:107-117", "chr1:110-120"]),
        (0.6, ["chr1:105-115", "chr1:107-117", "chr1:110-120"]),
        (1, ["chr1:105-115", "chr1:107-117", "chr1:110-120"]),
    ],
)
def test_peaks_in_the_blacklist_are_left_out_and_named(recipe, share, kept):
    (recipe.parent / "blacklist.bed").write_text(BLACKLIST)
    sets = [f"source.blacklist={recipe.parent / 'blacklist.bed'}", f"nodes.peak.blacklist_share={share}"]
    text = "chr1\t95\t105\nchr1\t105\t115\nchr1\t107\t117\nchr1\t110\t120\n"
    with build_with(recipe, text, *sets) as store:
        assert store.frame("peak")["peak_id"].tolist() == kept
        left_out = store.match_report("peak").query("outcome == 'filtered'").set_index("name")["detail"]
        assert left_out["chr1:95-105"] == "10 bp of it in blacklist.bed"
        assert set(left_out.index) | set(kept) == {"chr1:95-105", "chr1:105-115", "chr1:107-117", "chr1:110-120"}
        assert "blacklist.bed" in store.frame("provenance").query("table_name == 'peak'")["source"].tolist()


def test_a_blacklist_of_another_assembly_or_style_stops_the_build(recipe):
    path = recipe.parent / "blacklist.bed"
    path.write_text("chr1\t0\t10001\n")
    with pytest.raises(BeyondChromosome, match=r"1 of 1 regions of blacklist blacklist\.bed end beyond"):
        build_with(recipe, "chr1\t5\t9\n", f"source.blacklist={path}")
    path.write_text("chr1\t9\t9\n")
    with pytest.raises(DataError, match="1 of 1 intervals hold no base: chr1:9-9"):
        build_with(recipe, "chr1\t5\t9\n", f"source.blacklist={path}")
    path.write_text("1\t0\t10\n")
    with pytest.raises(ChromNamesDisagree, match=r"`nodes\.peak\.blacklist_chrom_style: ucsc`"):
        build_with(recipe, "chr1\t5\t9\n", f"source.blacklist={path}")
    sets = [f"source.blacklist={path}", "nodes.peak.blacklist_chrom_style=ucsc"]
    with build_with(recipe, "chr1\t5\t9\nchr1\t20\t30\n", *sets) as store:
        assert store.frame("peak")["peak_id"].tolist() == ["chr1:20-30"]


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"blacklist_share: found 1\.5, expected a share from 0 to 1"):
        PeakConfig(blacklist_share=1.5)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "peaks.bed"
    path.write_bytes("chr1\t0\t10\nchr1\t20\t30\n".encode("utf-8-sig"))
    peaks, unparsable = read_peaks(path)
    assert peaks.chrom == ["chr1", "chr1"]
    assert unparsable == []
