import gzip

import pytest

from heteromics.errors import BeyondChromosome, ChromNamesDisagree, DataError, RecipeError, UnreadableFile
from heteromics.priors import PriorStore
from heteromics.priors.regions import PeakRegionConfig, RegionConfig, build_peak_region, build_regions
from heteromics.priors.schemas import SCHEMAS
from tests.priors.prior_files import context_with, fits, written

CCRE = """\
track name=ccre
chr2\t50\t80
chr1\t100\t200\tEH1\t3.5
chr1\t150\t250\t.\t.
chr1\t100\t200\tEH9\t9
chrUn_1\t5\t9
"""


def regions_of(tmp_path, config=None, **sets):
    files = {f"regions_{name}": written(tmp_path / f"{name}.bed.gz", text) for name, text in sets.items()}
    context = context_with(files)
    return context, build_regions(context, config or RegionConfig())


def test_sets_are_read_in_order_and_say_what_they_leave_out(tmp_path):
    _, built = regions_of(tmp_path, ccre=CCRE, chip="chr1\t100\t200\tpeak1\t7\n")
    assert fits(built)
    rows = built.tables["region"].select(["region_id", "region_set", "name", "score"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("ccre:chr1:100-200", "ccre", "EH1", 3.5),
        ("ccre:chr1:150-250", "ccre", "", None),
        ("ccre:chr2:50-80", "ccre", "", None),
        ("chip:chr1:100-200", "chip", "peak1", 7.0),
    ]
    assert [(match.source, match.name, match.outcome) for match in built.matches["region"]] == [
        ("ccre.bed.gz", "chrUn_1:5-9", "wrong_assembly"),
        ("ccre.bed.gz", "chr1:100-200", "duplicated"),
    ]
    assert {(count.source, count.outcome): count.n for count in built.counts["region"]} == {
        ("ccre.bed.gz", "matched"): 3,
        ("ccre.bed.gz", "wrong_assembly"): 1,
        ("ccre.bed.gz", "duplicated"): 1,
        ("chip.bed.gz", "matched"): 1,
    }


def test_regions_of_another_assembly_or_style_stop_the_build(tmp_path):
    with pytest.raises(BeyondChromosome, match="1 of 2 regions of far.bed.gz end beyond their chromosome in toy"):
        regions_of(tmp_path, far="chr1\t1\t2\nchr2\t1\t10001\n")
    with pytest.raises(ChromNamesDisagree, match=r"`nodes\.region\.chrom_style: ucsc`"):
        regions_of(tmp_path, plain="1\t1\t2\n")
    _, built = regions_of(tmp_path, RegionConfig(chrom_style="ucsc"), plain="1\t1\t2\n")
    assert built.tables["region"]["region_id"].to_pylist() == ["plain:chr1:1-2"]


def test_broken_regions_are_named(tmp_path):
    with pytest.raises(UnreadableFile, match=r"line 2: found 'chr1\\tx\\t5', expected chromosome, start and end"):
        regions_of(tmp_path, broken="chr1\t1\t2\nchr1\tx\t5\n")
    with pytest.raises(UnreadableFile, match="no interval in it"):
        regions_of(tmp_path, nothing="#\n")
    with pytest.raises(DataError, match=r"1 of 2 intervals hold no base: chr1:5-5"):
        regions_of(tmp_path, zero="chr1\t1\t2\nchr1\t5\t5\n")
    with pytest.raises(RecipeError, match=r"no source regions_\*"):
        regions_of(tmp_path)
    with pytest.raises(ValueError, match="min_overlap_bp: found 0, expected 1 or more"):
        PeakRegionConfig(min_overlap_bp=0)


def test_line_ends_blanks_and_short_gzip_are_dealt_with(tmp_path):
    _, built = regions_of(tmp_path, dos="chr1\t1\t2\tA\r\nchr1 5 9 B 3\r\n\r\n")
    assert built.tables["region"]["name"].to_pylist() == ["A", "B"]
    assert built.tables["region"]["score"].to_pylist() == [None, 3.0]
    path = tmp_path / "cut.bed.gz"
    path.write_bytes(gzip.compress("".join(f"chr1\t{n * 7}\t{n * 7 + 3}\n" for n in range(999)).encode())[:900])
    with pytest.raises(UnreadableFile, match="truncated or damaged gzip"):
        build_regions(context_with({"regions_cut": path}), RegionConfig())


def test_peaks_meet_the_regions_they_share_enough_bases_with(tmp_path):
    context, built = regions_of(tmp_path, ccre=CCRE, chip="chr1\t190\t300\n")
    context.connection.execute(SCHEMAS["region"].create_sql())
    context.connection.register("rows", built.tables["region"])
    context.connection.execute("INSERT INTO region BY NAME SELECT * FROM rows")
    for name, start, end in (("a", 0, 101), ("b", 195, 260), ("c", 5_000, 5_100)):
        context.connection.execute("INSERT INTO peak VALUES (?, 'chr1', ?, ?)", [name, start, end])
    edges = build_peak_region(context, PeakRegionConfig())
    assert fits(edges)
    rows = edges.tables["peak_region"].to_pylist()
    assert [(row["peak_id"], row["region_id"], row["overlap"]) for row in rows] == [
        ("a", "ccre:chr1:100-200", 1),
        ("b", "ccre:chr1:100-200", 5),
        ("b", "ccre:chr1:150-250", 55),
        ("b", "chip:chr1:190-300", 65),
    ]
    assert rows[3]["evidence"] == "at least 1 bp shared with a region of set chip"
    assert {(count.source, count.outcome): count.n for count in edges.counts["peak_region"]} == {
        ("peak", "matched"): 2,
        ("peak", "out_of_reach"): 1,
        ("region ccre", "matched"): 2,
        ("region ccre", "out_of_reach"): 1,
        ("region chip", "matched"): 1,
        ("region chip", "out_of_reach"): 0,
    }
    wide = build_peak_region(context, PeakRegionConfig(min_overlap_bp=60)).tables["peak_region"]
    assert wide["region_id"].to_pylist() == ["chip:chr1:190-300"]


def test_a_recipe_builds_regions_beside_the_rest(recipe):
    written(recipe.parent / "ccre.bed", "chr1\t950\t1000\nchr2\t4000\t4100\n")
    text = recipe.read_text().replace("sources: {", "sources: {regions_ccre: ccre.bed, ")
    recipe.write_text(text.replace("  peak: {}\n", "  peak: {}\n  region: {}\n") + "  peak_region: {}\n")
    with PriorStore.build(recipe, recipe.with_name("r.duckdb"), progress=False) as store:
        assert store.frame("peak_region")[["peak_id", "region_id", "overlap"]].values.tolist() == [
            ["chr1:900-1100", "ccre:chr1:950-1000", 50]
        ]
        assert store.frame("provenance").query("table_name == 'region'")["source"].tolist() == ["ccre.bed"]
