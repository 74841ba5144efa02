import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics import _config
from heteromics.errors import PriorError, RecipeError, UnreadableFile
from heteromics.priors._regulon_files import read_regulons
from heteromics.priors.planning import PlanContext
from heteromics.priors.regulons import RegulonConfig, build_regulons, estimate_regulons, merge_targets
from heteromics.priors.sources import AtHand
from tests.priors.prior_files import context_with, fits, tally, written

DOROTHEA = (
    "tf,confidence,target,mor\nTP53,A,GAPDH,1.0\nTP53,C,JUN,-1.0\nJUN,D,TP53,1\nJUN,B,MYC,1\nAP1,A,JUN,1\nJUN,E,JUN,0\n"
)
TRRUST = (
    "TP53\tJUN\tActivation\t11;12\n"
    "TP53\tJUN\tRepression\t13\n"
    "TP53\tGapdh\tUnknown\t14\n"
    "TP53\tGAPDH\tRepression\t15\n"
    "JUN\tTP53\tUnknown\t16\n"
)


def edges(built):
    return [
        (row["tf_id"], row["gene_id"], row["sign"], row["confidence"], row["weight"])
        for row in built.tables["tf_gene"].to_pylist()
    ]


def build(tmp_path, text, config=None, name="list.csv"):
    return build_regulons(context_with({"regulons_own": written(tmp_path / name, text)}), config or RegulonConfig())


def test_dorothea_gives_sign_class_and_no_grade(tmp_path):
    built = build(tmp_path, DOROTHEA)
    assert fits(built)
    assert edges(built) == [
        ("ENSG01", "ENSG02", 1, "A", 1.0),
        ("ENSG01", "ENSG03", -1, "C", 1.0),
        ("ENSG03", "ENSG01", 1, "D", 1.0),
        ("ENSG03", "ENSG03", 0, "E", 1.0),
    ]
    rows = built.tables["tf_gene"].to_pylist()
    assert {row["source"] for row in rows} == {"own"}
    assert rows[0]["evidence"] == "list.csv (DoRothEA), confidence A"


def test_names_that_are_no_gene_are_told_with_their_role(tmp_path):
    built = build(tmp_path, DOROTHEA)
    assert {(match.source, match.name, match.outcome) for match in built.matches["tf_gene"]} == {
        ("list.csv, TFs", "AP1", "absent"),
        ("list.csv, targets", "MYC", "absent"),
        ("list.csv, targets", "GAPDH", "case_folded"),
    }
    counts = {(count.source, count.outcome): count.n for count in built.counts["tf_gene"] if count.n}
    assert counts == {
        ("list.csv", "matched"): 4,
        ("list.csv", "absent"): 2,
        ("list.csv, TFs", "matched"): 2,
        ("list.csv, TFs", "absent"): 1,
        ("list.csv, targets", "matched"): 2,
        ("list.csv, targets", "case_folded"): 1,
        ("list.csv, targets", "absent"): 1,
    }


def test_least_confidence_leaves_lines_out_and_counts_them(tmp_path):
    built = build(tmp_path, DOROTHEA, RegulonConfig(min_confidence="C"))
    assert [edge[3] for edge in edges(built)] == ["A", "C"]
    assert tally(built, "tf_gene")["filtered"] == 2
    poor = "tf,confidence,target,mor\nTP53,D,JUN,1\nAP1,A,JUN,1\n"
    with pytest.raises(
        PriorError, match=r"none of its 2 lines is of class C or better and links two genes(.|\n)*lower"
    ):
        build(tmp_path, poor, RegulonConfig(min_confidence="C"))
    assert len(edges(build(tmp_path, TRRUST, RegulonConfig(min_confidence="A")))) == 3  # it has no classes


def test_trrust_has_no_header_and_contradicts_itself(tmp_path):
    built = build(tmp_path, TRRUST, name="trrust.tsv.gz")
    assert edges(built) == [
        ("ENSG01", "ENSG02", -1, None, 1.0),
        ("ENSG01", "ENSG03", 0, None, 1.0),
        ("ENSG03", "ENSG01", 0, None, 1.0),
    ]
    named = [match for match in built.matches["tf_gene"] if match.outcome == "opposite_signs"]
    assert [(match.name, match.detail) for match in named] == [("TP53 > JUN", "activates and represses; sign 0")]
    counts = {count.outcome: count.n for count in built.counts["tf_gene"] if count.source == "trrust.tsv.gz"}
    assert counts == {"matched": 3, "filtered": 0, "absent": 0, "opposite_signs": 1, "duplicated": 1}
    evidence = built.tables["tf_gene"]["evidence"].to_pylist()
    assert evidence[0] == "trrust.tsv.gz (TRRUST), PubMed 15"  # the line whose sign stands


@pytest.mark.parametrize(
    ("text", "layout", "sign", "weight"),
    [
        pytest.param("source,target,weight\nTP53,JUN,-1\nJUN,TP53,1\n", "CollecTRI", [-1, 1], [1, 1], id="decoupler"),
        pytest.param(
            "source\ttarget\tweight\tconfidence\nTP53\tJUN\t-0.5\tB\nJUN\tTP53\t1\tA\n",
            "CollecTRI",
            [-1, 1],
            [0.5, 1],
            id="graded, tabs",
        ),
        pytest.param(
            "source,target,source_genesymbol,target_genesymbol,is_stimulation,is_inhibition\n"
            "P04637,P05412,TP53,JUN,True,False\nP05412,P04637,JUN,TP53,1,1\n",
            "OmniPath",
            [1, 0],
            [1, 1],
            id="omnipath",
        ),
        pytest.param(
            '"","tf","confidence","target","mor"\n"1","TP53","A","JUN",1\n"2","JUN","B","TP53",-1\n',
            "DoRothEA",
            [1, -1],
            [1, 1],
            id="written by R",
        ),
        pytest.param(
            "tf,confidence,target,mor\r\nTP53,A,JUN,1.0\r\nJUN,A,TP53,0\r\n", "DoRothEA", [1, 0], [1, 1], id="CRLF"
        ),
    ],
)
def test_layouts_are_told_apart_by_their_columns(tmp_path, text, layout, sign, weight):
    read = read_regulons(written(tmp_path / "list.txt", text))
    assert (read.format, read.tf, read.target) == (layout, ["TP53", "JUN"], ["JUN", "TP53"])
    assert (read.sign.tolist(), read.weight.tolist()) == (sign, weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tf,confidence,target\nA,A,B\n", r"found columns tf, confidence, target, expected those of DoRothEA \(tf"),
        ("tf confidence target mor\nTP53 A JUN\n", r"line 2: found 3 columns in 'TP53 A JUN', expected 4 as in line 1"),
        ("tfconfidencetargetmor\n", "separators were lost"),
        ("", "is empty"),
        (
            "tf,confidence,target,mor\nTP53,A,JUN,2\nJUN,A,TP53,-3\n",
            r"line 2: found 2 as mor, expected -1 to 1 \(2 of 2",
        ),
        (
            "tf,confidence,target,mor\nTP53,A,JUN,1\nTP53,A,X,up\n",
            r"line 3: found 'up' as mor, expected a number \(1 of",
        ),
        ("tf,confidence,target,mor\nTP53,F,JUN,1\n", "line 2: found confidence 'F', expected A to E"),
        ("tf,confidence,target,mor\n\n,A,JUN,1\n", r"line 3: a name is empty \(3\)"),
        ("TP53\tJUN\tActivation\t1\nTP53\tJUN\tmaybe\t1\n", "line 2: found 'maybe', expected Activation, Repression"),
        (
            "source_genesymbol,target_genesymbol,is_stimulation,is_inhibition\nTP53,JUN,yes,0\n",
            "line 2: found 'yes' as is_stimulation, expected True or False",
        ),
    ],
)
def test_broken_collections_are_named(tmp_path, text, message):
    with pytest.raises(UnreadableFile, match=message):
        read_regulons(written(tmp_path / "list.csv", text))


def test_truncated_gzip_is_said_to_be(tmp_path):
    lines = "".join(f"TP53,A,GENE{row * 7919 % 65_537},1\n" for row in range(20_000))
    whole = written(tmp_path / "list.csv.gz", "tf,confidence,target,mor\n" + lines).read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFile, match=r"cut.csv.gz: truncated or damaged gzip"):
        read_regulons(tmp_path / "cut.csv.gz")


def test_another_organism_and_no_source_at_all_are_errors(tmp_path):
    with pytest.raises(PriorError, match=r"no line has a gene of table gene at both ends(.|\n)*names: FBgn1, FBgn2"):
        build(tmp_path, "tf,confidence,target,mor\nFBgn1,A,FBgn2,1\n")
    with pytest.raises(RecipeError, match=r"found no source regulons_\*, expected one or more. Fix: --set source.reg"):
        build_regulons(context_with({}), RegulonConfig())


def test_several_collections_stand_beside_each_other(tmp_path):
    files = {
        "regulons_dorothea": written(tmp_path / "d.csv", DOROTHEA),
        "regulons_trrust": written(tmp_path / "t.tsv", TRRUST),
    }
    built = build_regulons(context_with(files), RegulonConfig())
    assert fits(built)
    assert built.tables["tf_gene"]["source"].to_pylist() == ["dorothea"] * 4 + ["trrust"] * 3
    assert [source.label for source in built.sources["tf_gene"]] == ["d.csv", "t.tsv"]


LINES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from([-1, 0, 1]),
        st.integers(0, 4),
        st.sampled_from([0.5, 1.0]),
    ),
    max_size=30,
)


@given(LINES, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_merging_agrees_with_looking_at_each_pair_and_with_any_order(lines, random):
    def merged(rows):
        tf, gene, sign, rank, weight = np.array(rows, np.float64).reshape(-1, 5).T
        whole = (tf.astype(np.int64), gene.astype(np.int64), sign.astype(np.int8), rank.astype(np.int64))
        return merge_targets(*whole, weight)

    expected = []
    for pair, group in itertools.groupby(sorted(lines), key=lambda line: line[:2]):
        found = list(group)
        signs, ranks, weights = ({line[place] for line in found} for place in (2, 3, 4))
        opposite = {1, -1} <= signs
        sign = 0 if opposite else sum(signs)
        expected.append(
            (*pair, sign, min(ranks), max(weights), len(found), opposite, len(ranks) > 1 or len(weights) > 1)
        )
    got = merged(lines)
    columns = [getattr(got, name) for name in ("tf", "gene", "sign", "rank", "weight", "lines", "opposite", "differ")]
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
    assert [lines[row][:2] for row in got.first] == list(zip(got.tf.tolist(), got.gene.tolist(), strict=True))
    shuffled = random.sample(lines, len(lines))
    again = merged(shuffled)
    assert all(np.array_equal(getattr(got, name), getattr(again, name)) for name in got._fields if name != "first")


@pytest.mark.parametrize(("least", "rows"), [(None, 6), ("C", 4), ("A", 2)])
def test_estimate_counts_lines_of_the_classes_kept(tmp_path, least, rows):
    path = written(tmp_path / "list.csv", DOROTHEA)
    plan = PlanContext(None, {"regulons_own": AtHand("regulons_own", "a", "file", path, 1)})
    assert estimate_regulons(plan, RegulonConfig(min_confidence=least)) == {"tf_gene": rows}
    assert estimate_regulons(PlanContext(None, {}), RegulonConfig()) == {"tf_gene": None}


def test_recipe_keys_are_checked():
    assert _config.build(RegulonConfig, {"min_confidence": "B"}, "edges.regulons").min_confidence == "B"
    with pytest.raises(RecipeError, match="edges.regulons.min_confidence"):
        _config.build(RegulonConfig, {"min_confidence": "F"}, "edges.regulons")
