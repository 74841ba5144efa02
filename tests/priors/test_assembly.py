import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteromics.errors import BeyondChromosome, ChromNamesDisagree, PriorError, UnreadableFile, WrongAssembly
from heteromics.priors import PriorStore
from heteromics.priors._accessions import REFERENCES
from heteromics.priors.assembly import STYLES, accessions, check_ends, check_names, read_sizes, recognised, to_style


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("chr1\t1000\nchrM\t16\n", id="chrom.sizes"),
        pytest.param("chr1 1000\r\nchrM 16\r\n", id="blanks and DOS line ends"),
        pytest.param("chr1\t1000\t6\t60\t61\nchrM\t16\t1030\t60\t61\n", id="fai"),
        pytest.param("name\tlength\trole\nchr1\t1000\tassembled\nchrM\t16\tassembled\n", id="seqinfo"),
    ],
)
def test_sizes_are_read_from_each_form(tmp_path, text):
    path = tmp_path / "sizes"
    path.write_bytes(text.encode())
    assert read_sizes(path) == {"chr1": 1000, "chrM": 16}
    path.write_bytes(gzip.compress(text.encode()))
    assert read_sizes(path) == {"chr1": 1000, "chrM": 16}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chr1\t1000\nchr2\tlong\n", "line 2: found 'chr2\\tlong', expected a name and a length"),
        ("chr1\t1000\nchr1\t1000\n", "line 2: chromosome chr1 is given twice"),
        ("# nothing\n", "no chromosome in it"),
        ("chr1\t0\n", "line 1"),
    ],
)
def test_broken_sizes_name_the_line(tmp_path, text, said):
    path = tmp_path / "sizes"
    path.write_text(text)
    with pytest.raises(UnreadableFile) as error:
        read_sizes(path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("ucsc", "ensembl"),
    [
        ("chr1", "1"),
        ("chrX", "X"),
        ("chrM", "MT"),
        ("chr2L", "2L"),
        ("chrIV", "IV"),
        ("chrUn_KI270742v1", "KI270742.1"),
        ("chr1_KI270706v1_random", "KI270706.1"),
        ("chr4_GL456216_random", "GL456216.1"),
    ],
)
def test_styles_convert_both_ways(ucsc, ensembl):
    assert to_style([ucsc], "ensembl") == [ensembl]
    assert to_style([ensembl], "ucsc", known=[ucsc]) == [ucsc]


def test_scaffolds_with_a_prefix_set_before_their_ensembl_name_are_known():
    known = ["chrUn_KI270438v1", "chrM"]
    assert to_style(["chrKI270438.1", "chrMT", "chrGL000008.2"], "ucsc", known=known) == [*known, "chrGL000008.2"]
    assert to_style(["chrKI270438.1", "chrMT"], "ensembl") == ["KI270438.1", "MT"]


def test_sizes_in_the_other_style_are_converted_too():
    sizes = ["1", "MT", "KI270706.1"]
    assert to_style(sizes, "ucsc", known=sizes) == ["chr1", "chrM", "KI270706.1"]


ACCESSIONS = {name: accessions(name) for name in REFERENCES}
NAMES = st.one_of(
    st.sampled_from(["chrM", "MT", "M", "chrMT", "chr", "chr1_KI270706v1_random", "KI270706.1", "chrUn_X", "chrEBV"]),
    st.sampled_from(["chrKI270706.1", "chrUn_KI270438v1", "chrKI270438.1", "chr4_GL456216_random", "chrchr5", "chr5"]),
    st.sampled_from(["NC_000001.11", "NC_000001.10", "NC_012920.1", "NC_000067.6", "NT_187361.1", "NC_000001"]),
    st.text(alphabet="chrM0123456789XYTLIVabU_.-", min_size=1, max_size=12),
)


@given(st.lists(NAMES), st.sampled_from(["ucsc", "ensembl"]), st.lists(NAMES))
def test_conversion_is_idempotent(names, style, known):
    known = [name for name in known if recognised([name]) is None]
    once = to_style(names, style, known=known)
    assert to_style(once, style, known=known) == once


@given(st.lists(NAMES), st.sampled_from(sorted(REFERENCES)))
def test_conversion_to_accessions_is_idempotent(names, assembly):
    known = [*ACCESSIONS[assembly], "NC_012920.1"]
    names = [name for name in names if recognised([name]) in {None, assembly}]
    once = to_style(names, "ncbi", known=known)
    assert to_style(once, "ncbi", known=known) == once


@given(st.sampled_from(sorted(REFERENCES)), st.permutations(STYLES))
def test_primary_chromosomes_make_the_round_of_all_styles(assembly, styles):
    names = to_style(ACCESSIONS[assembly], styles[-1], known=ACCESSIONS[assembly])
    assert len(set(names)) == len(ACCESSIONS[assembly])
    once = names
    for style in styles:
        once = to_style(once, style, known=ACCESSIONS[assembly])
    assert once == names


@pytest.mark.parametrize(
    ("assembly", "plain", "accession"),
    [
        ("GRCh37", "1", "NC_000001.10"),
        ("GRCh38", "1", "NC_000001.11"),
        ("GRCh38", "Y", "NC_000024.10"),
        ("GRCm38", "2", "NC_000068.7"),
        ("GRCm39", "X", "NC_000086.8"),
    ],
)
def test_accessions_are_those_of_the_assembly(assembly, plain, accession):
    assert to_style([plain, f"chr{plain}"], "ncbi", known=ACCESSIONS[assembly]) == [accession] * 2
    assert to_style([accession], "ucsc") == [f"chr{plain}"]
    assert recognised([accession]) == assembly


def test_mitochondria_have_accessions_that_tell_no_assembly():
    assert to_style(["NC_012920.1", "NC_005089.1"], "ensembl") == ["MT", "MT"]
    assert to_style(["chrM", "MT"], "ncbi", known=["NC_012920.1"]) == ["NC_012920.1"] * 2
    assert recognised(["NC_012920.1"]) is None


def test_accessions_cannot_be_made_up():
    with pytest.raises(ChromNamesDisagree, match=r"2 of 3 names \(chr1, X\) would need an accession"):
        to_style(["chr1", "X", "scaffold_1"], "ncbi", known=["chr1"])
    with pytest.raises(PriorError, match="accessions are known of GRCh37, GRCh38, GRCm38, GRCm39; found T2T"):
        accessions("T2T")


@pytest.mark.parametrize("known", [["NC_000001.11"], {"chr1": 248_956_422}, {"1": 248_956_422}])
def test_the_version_of_an_accession_tells_the_wrong_assembly(known):
    said = r"1 accessions are its, such as NC_000001\.10(.|\n)*Expected GRCh38(.|\n)*recipe of GRCh37"
    with pytest.raises(WrongAssembly, match="these chromosome names are of GRCh37: " + said):
        to_style(["NC_000001.10", "NC_000002.12"], "ucsc", known=known)
    with pytest.raises(WrongAssembly, match="genes of g are of GRCh37: " + said):
        check_names("genes of g", {"NC_000001.10"}, "assembly hg38", known)
    assert to_style(["NC_000001.11"], "ucsc", known=known) == ["chr1"]


def test_accessions_are_explained_as_such():
    with pytest.raises(ChromNamesDisagree, match=r"(?s)As UCSC names, 2 of 2 names.*`chrom_style: ucsc`"):
        check_names("peaks", {"NC_000001.11", "NC_000002.12"}, "assembly", {"chr1", "chr2", "chrX"})
    with pytest.raises(ChromNamesDisagree, match=r"(?s)As NCBI accessions, 1 of 1 names.*`chrom_style: ncbi`"):
        check_names("peaks", {"1"}, "assembly", {"NC_000001.11"})


def test_lengths_tell_the_assembly():
    for name, reference in REFERENCES.items():
        sizes = dict(zip(reference.chromosomes, reference.lengths, strict=True))
        assert recognised(sizes) == name
        assert recognised({f"chr{chrom}": size for chrom, size in sizes.items()}) == name
    assert recognised({"chr1": 10_000, "chr2": 5_000}) is None


def test_a_store_can_be_named_by_accessions(recipe):
    (recipe.parent / "chrom.sizes").write_text("NC_000001.11\t10000\nNC_000002.12\t5000\n")
    sets = ["assembly.chrom_style=ncbi", "nodes.gene.chrom_style=ncbi", "nodes.peak.chrom_style=ncbi"]
    with PriorStore.build(recipe, recipe.with_name("ncbi.duckdb"), sets=sets, progress=False) as store:
        assert set(store.frame("gene")["chrom"]) == {"NC_000001.11", "NC_000002.12"}
        assert set(store.frame("gene_peak")["gene_id"]) == {"ENSG00000000001", "ENSG00000000002", "ENSG00000000003"} | {
            "ENSG00000000004"
        }


def test_a_store_cannot_be_named_by_accessions_its_sizes_do_not_hold(recipe):
    with pytest.raises(ChromNamesDisagree, match="give chromosome sizes under accessions"):
        PriorStore.build(recipe, recipe.with_name("ncbi.duckdb"), sets=["assembly.chrom_style=ncbi"], progress=False)


def test_disagreeing_styles_are_explained():
    with pytest.raises(ChromNamesDisagree) as error:
        check_names(
            "genes of g.gtf", {"1", "2", "X", "KI1.1"}, "assembly GRCh38", {"chr1", "chr2", "chrX"},
            key="nodes.gene.chrom_style",
        )  # fmt: skip
    assert str(error.value) == (
        "genes of g.gtf and assembly GRCh38 have no chromosome name in common.\n"
        "  genes of g.gtf: 1, 2, KI1.1 ... (4 names)\n"
        "  assembly GRCh38: chr1, chr2, chrX (3 names)\n"
        "  With a 'chr' prefix, 3 of 4 names would match.\n"
        "  Fix: set `nodes.gene.chrom_style: ucsc` in the recipe, which converts the names of genes of g.gtf."
    )


def test_mixed_styles_are_an_error_too():
    with pytest.raises(ChromNamesDisagree, match=r"mixes chromosome name styles: 1 of 3 names match only if converted"):
        check_names("peaks", {"chr1", "2", "chrUn_foreign"}, "assembly", {"chr1", "chr2"})
    with pytest.raises(
        ChromNamesDisagree, match=r"2 of 4 names match only if converted(.|\n)*4 of 4 names would match"
    ):
        check_names("peaks", {"chr1", "1", "chr2", "2"}, "assembly", {"chr1", "chr2"})  # files of two styles in one


def test_scaffolds_of_hg19_are_lower_case_and_versionless():
    known = ["chr1_gl000191_random", "chrUn_gl000211", "chr17_ctg5_hap1"]
    ensembl = ["GL000191.1", "GL000211.1", "chr17_ctg5_hap1"]
    assert to_style(known, "ensembl") == ensembl
    assert to_style(ensembl, "ucsc", known) == known


def test_foreign_names_are_another_organism():
    with pytest.raises(ChromNamesDisagree, match="is this the same organism"):
        check_names("peaks", {"scaffold_1"}, "assembly", {"chr1"})


def test_some_unknown_names_pass_the_guard():
    check_names("peaks", {"chr1", "HLA-A"}, "assembly", {"chr1", "chr2"})


def test_ends_beyond_the_chromosome_are_counted():
    end = np.array([1000, 1001, 4000, 9_999])
    with pytest.raises(BeyondChromosome) as error:
        check_ends(
            "peaks of x", "tiny", list("abcd"), ["chr1", "chr1", "chr2", "other"], end, {"chr1": 1000, "chr2": 3000}
        )
    assert str(error.value).startswith("2 of 4 peaks of x end beyond their chromosome in tiny, on 2 chromosomes: b, c.")
    assert "c ends at 4,000, chr2 has 3,000 bp (1,000 fewer)" in str(error.value)
    assert "another assembly" in str(error.value)


def test_an_end_at_the_last_base_is_inside():
    check_ends("peaks", "tiny", ["a"], ["chr1"], np.array([1000]), {"chr1": 1000})
    check_ends("peaks", "tiny", [], [], np.array([], dtype=np.int64), {"chr1": 1000})
