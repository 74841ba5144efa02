import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics import _config
from heteromics.errors import PriorError, RecipeError, UnreadableFile
from heteromics.priors.pairs import PairsConfig, build_pairs, estimate_pairs, merge_pairs, read_pairs, weights_of
from heteromics.priors.planning import PlanContext
from heteromics.priors.sources import AtHand
from tests.priors.prior_files import context_with, fits, written

COSTS = (
    "from,to,cost\n"
    "TP53,JUN,0.25\n"
    "JUN,TP53,1\n"
    "GAPDH,TP53,3\n"
    "Gapdh,ENSG01.2,3\n"
    "JUN,JUN,0.1\n"
    "MYC,TP53,0.5\n"
    "Y_RNA,TP53,0.5\n"
)


def build(tmp_path, text, config=None, name="list.csv"):
    return build_pairs(context_with({"pairs_own": written(tmp_path / name, text)}), config or PairsConfig())


def rows(built):
    return [(row["gene_a"], row["gene_b"], row["weight"]) for row in built.tables["gene_gene"].to_pylist()]


def test_costs_become_weights_and_each_pair_is_stored_once(tmp_path):
    built = build(tmp_path, COSTS)
    assert fits(built)
    assert rows(built) == [("ENSG01", "ENSG02", 0.25), ("ENSG01", "ENSG03", 0.8)]
    row = built.tables["gene_gene"].to_pylist()[1]
    assert (row["source"], row["evidence"]) == ("own", "list.csv: TP53 JUN, cost 0.25")


def test_everything_left_out_is_counted_and_named(tmp_path):
    built = build(tmp_path, COSTS)
    counts = {(count.source, count.outcome): count.n for count in built.counts["gene_gene"] if count.n}
    assert counts == {
        ("list.csv", "matched"): 2,
        ("list.csv", "absent"): 2,
        ("list.csv", "self_loop"): 1,
        ("list.csv", "conflicting"): 1,
        ("list.csv", "duplicated"): 1,
        ("list.csv, names", "matched"): 3,
        ("list.csv, names", "case_folded"): 1,
        ("list.csv, names", "version_stripped"): 1,
        ("list.csv, names", "absent"): 1,
        ("list.csv, names", "ambiguous"): 1,
    }
    named = {(match.name, match.outcome): match.detail for match in built.matches["gene_gene"]}
    assert named["TP53 JUN", "conflicting"] == "2 lines, weight 0.8 stands"
    assert named["Y_RNA", "ambiguous"] == "fits ENSG04, ENSG05"
    assert named["MYC", "absent"] == "not in the annotation"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("TP53 JUN\nGAPDH JUN\n", [("ENSG01", "ENSG03", 1), ("ENSG02", "ENSG03", 1)], id="bare, blanks"),
        pytest.param("gene_a;gene_b\nTP53;JUN\n", [("ENSG01", "ENSG03", 1)], id="header without score, semicolons"),
        pytest.param("TP53\tJUN\t700\n", [("ENSG01", "ENSG03", 700)], id="score without header, tabs"),
        pytest.param("a,b,miscore\r\nTP53,JUN,0.5\r\n\r\n", [("ENSG01", "ENSG03", 0.5)], id="CRLF"),
        pytest.param('"from","to","cost"\n"TP53","JUN",1\n', [("ENSG01", "ENSG03", 0.5)], id="quoted"),
    ],
)
def test_delimiter_and_header_are_found(tmp_path, text, expected):
    assert rows(build(tmp_path, text)) == expected
    assert rows(build(tmp_path, text, name="list.csv.gz")) == expected


def test_settings_go_by_the_name_of_the_list(tmp_path):
    files = {"pairs_one": written(tmp_path / "1.csv", COSTS), "pairs_two": written(tmp_path / "2.csv", COSTS)}
    config = PairsConfig(score_is={"two": "weight"}, min_weight={"two": 0.5})
    built = build_pairs(context_with(files), config)
    assert fits(built)
    assert [(row["source"], row["weight"]) for row in built.tables["gene_gene"].to_pylist()] == [
        ("one", 0.25),
        ("one", 0.8),
        ("two", 3.0),
        ("two", 1.0),
    ]
    left_out = [
        count.n for count in built.counts["gene_gene"] if (count.source, count.outcome) == ("2.csv", "filtered")
    ]
    assert left_out == [2]  # JUN with itself, 0.1, and TP53 with JUN, 0.25
    with pytest.raises(RecipeError, match="found settings for three, expected names of lists: one, two"):
        build_pairs(context_with(files), PairsConfig(min_weight={"three": 1}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TP53,JUN,0.5\nTP53,0.5\n", r"line 2: found 2 columns in 'TP53,0.5', expected 3 as in line 1"),
        ("TP53JUN0.5\n", "separators were lost"),
        ("from,to,cost\nTP53,JUN,high\n", r"line 2: found 'high' as cost, expected a number \(1 of 1"),
        ("from,to,cost\nTP53,JUN,-1\nJUN,TP53,inf\n", r"line 2: found -1 as cost, expected 0 to .* \(2 of 2"),
        ("TP53,JUN,nan\n", "line 1: found nan as score"),
        ("TP53,JUN,NA\nJUN,TP53,1\n", r"line 1: found 'NA' as score, expected a number \(1 of 2"),
        ("TP53,JUN,\nJUN,TP53,1\n", "line 1: found '' as score, expected a number"),
        ('TP53,JUN,1\nJUN,"TP53,1\nA,B,1\n', "line 2: found 2 columns in 'JUN,\"TP53,1', expected 3"),
        ('TP53,JUN\nJUN,"TP53\n"A,B\n', "line 3: found 1 columns"),
        ("from,to,cost\n,JUN,1\n", "line 2: a name is empty"),
        ("a,b,c,d\n", r"found 4 columns \(a, b, c, d\), expected two of gene names and at most one score"),
        ("", "is empty"),
    ],
)
def test_broken_lists_are_named(tmp_path, text, message):
    with pytest.raises(UnreadableFile, match=message):
        read_pairs(written(tmp_path / "list.csv", text))


def test_truncated_gzip_is_said_to_be(tmp_path):
    text = "".join(f"GENE{row},GENE{row * 7919 % 65_537},0.{row}\n" for row in range(20_000))
    whole = written(tmp_path / "list.csv.gz", text).read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFile, match=r"cut.csv.gz: truncated or damaged gzip"):
        read_pairs(tmp_path / "cut.csv.gz")


def test_nothing_to_link_is_an_error(tmp_path):
    with pytest.raises(PriorError, match=r"no line has a gene of table gene at both ends"):
        build(tmp_path, "FBgn1,FBgn2\n")
    with pytest.raises(
        PriorError, match=r"none of its 7 lines links two different genes(.|\n)*lower edges.pairs.min_weight.own"
    ):
        build(tmp_path, COSTS, PairsConfig(min_weight={"own": 2}))
    with pytest.raises(RecipeError, match=r"found no source pairs_\*"):
        build_pairs(context_with({}), PairsConfig())
    with pytest.raises(RecipeError, match="links of table gene_gene are named string by another builder"):
        build_pairs(context_with({"pairs_string": written(tmp_path / "list.csv", COSTS)}), PairsConfig())


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.25, 0.5, 1.0])), max_size=30))
@settings(max_examples=80, deadline=None)
def test_merging_agrees_with_looking_at_each_pair(lines):
    lines = [(a, b, weight) for a, b, weight in lines if a != b]
    a, b, weight = np.array(lines, np.float64).reshape(-1, 3).T
    merged = merge_pairs(a.astype(np.int64), b.astype(np.int64), weight)
    expected = []
    for pair, group in itertools.groupby(sorted((*sorted(line[:2]), line[2]) for line in lines), lambda line: line[:2]):
        found = [line[2] for line in group]
        expected.append((*pair, max(found), len(found), len(set(found)) > 1))
    columns = (merged.a, merged.b, merged.weight, merged.lines, merged.differ)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
    assert [lines[row][2] for row in merged.first] == merged.weight.tolist()


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
def test_a_smaller_cost_never_weighs_less(costs):
    weight = weights_of(np.sort(costs), "cost")
    assert (np.diff(weight) <= 0).all()
    assert (weight > 0).all()


def test_estimate_adds_up_the_lists_at_hand(tmp_path):
    path = written(tmp_path / "list.csv", COSTS)
    plan = PlanContext(None, {name: AtHand(name, "a", "file", path, 1) for name in ("pairs_one", "pairs_two")})
    assert estimate_pairs(plan, PairsConfig()) == {"gene_gene": 2 * len(COSTS.splitlines())}
    assert estimate_pairs(PlanContext(None, {}), PairsConfig()) == {"gene_gene": None}


def test_recipe_keys_are_checked():
    made = _config.build(PairsConfig, {"score_is": {"x": "cost"}, "min_weight": {"x": 1}}, "edges.pairs")
    assert made == PairsConfig(score_is={"x": "cost"}, min_weight={"x": 1.0})
    with pytest.raises(RecipeError, match="score_is.x: found 'price', expected one of 'weight', 'cost'"):
        _config.build(PairsConfig, {"score_is": {"x": "price"}}, "edges.pairs")
