import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from heteromics.errors import DataError, DuplicateNames, StoreError
from heteromics.interpret import expressed_share, regulatory_network, tf_gene_edges
from heteromics.priors import PriorStore
from tests.priors.toy_stores import write_store

GENES, PEAKS, FACTORS = 12, 15, 5


def tables(seed=0):
    rng = np.random.default_rng(seed)
    genes = [f"E{i:02d}" for i in range(GENES)]
    peaks = [f"chr1:{i}000-{i}500" for i in range(PEAKS)]

    def some_of(left, right, share):
        return [pair for pair in itertools.product(left, right) if rng.random() < share]

    return {
        "chromosome": [{"chrom": "chr1", "code": 0, "size": 10**6}],
        "gene": [
            {"gene_id": one, "symbol": f"S{i}", "chrom": "chr1", "tss": 1_000 * i, "strand": "+-"[i % 2]}
            for i, one in enumerate(genes)
        ],
        "peak": [
            {"peak_id": one, "chrom": "chr1", "chrom_start": i * 1_000, "chrom_end": i * 1_000 + 500}
            for i, one in enumerate(peaks)
        ],
        "tf_peak": [
            {"tf_id": tf, "peak_id": peak, "motifs": 1 + i % 3, "score": 5 + 9 * rng.random(), "p_value": rng.random()}
            for i, (tf, peak) in enumerate(some_of(genes[:FACTORS], peaks, 0.4))
        ],
        "tf_gene": [
            {
                "tf_id": tf,
                "gene_id": gene,
                "source": source,
                "sign": int(rng.integers(-1, 2)),
                "weight": float(rng.integers(1, 5)) / 4,
            }
            for source in ("one", "two")
            for tf, gene in some_of(genes[: FACTORS + 1], genes, 0.4)
        ],
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with PriorStore.open(write_store(tmp_path_factory.mktemp("network") / "toy.duckdb", tables())) as store:
        yield store


def random_links(seed=1, groups=("A", "B"), size=40):
    rng = np.random.default_rng(seed)
    pairs = list(itertools.product(range(GENES), range(PEAKS)))
    parts = []
    for group in groups:
        chosen = rng.permutation(len(pairs))[:size]
        rows = [(f"S{pairs[i][0]}", f"chr1:{pairs[i][1]}000-{pairs[i][1]}500", group) for i in chosen]
        parts.append(pd.DataFrame(rows, columns=["gene", "peak", "group"]).assign(score=rng.normal(size=size)))
    return pd.concat(parts, ignore_index=True)


def by_hand(links, made, require, score_min=-np.inf, p_max=np.inf):
    """All factors x links, one after the other."""
    ids = {row["symbol"]: row["gene_id"] for row in made["gene"]}
    symbol = {value: key for key, value in ids.items()}
    found = set()
    for gene, peak, group in links[["gene", "peak", "group"]].itertuples(index=False):
        for tf in symbol:
            hit = [
                one
                for one in made["tf_peak"]
                if (one["tf_id"], one["peak_id"]) == (tf, peak)
                and one["score"] >= score_min
                and one["p_value"] <= p_max
            ]
            known = [one for one in made["tf_gene"] if (one["tf_id"], one["gene_id"]) == (tf, ids[gene])]
            if {"motif": bool(hit), "regulon": bool(known)}.items() >= dict.fromkeys(require, True).items():
                signs = {one["sign"] for one in known} - {0}
                found.add(
                    (
                        symbol[tf],
                        peak,
                        gene,
                        group,
                        hit[0]["p_value"] if hit else None,
                        hit[0]["motifs"] if hit else 0,
                        signs.pop() if len(signs) == 1 else 0,
                        ",".join(sorted(one["source"] for one in known)),
                        max((one["weight"] for one in known), default=0.0),
                    )
                )
    return found


@pytest.mark.parametrize("require", [("motif",), ("regulon",), ("motif", "regulon")])
@pytest.mark.parametrize("limits", [{}, {"motif_score_min": 9.0}, {"motif_p_max": 0.5, "motif_score_min": 7.0}])
def test_the_network_is_every_factor_that_has_what_it_needs(store, require, limits):
    links = random_links()
    network = regulatory_network(links, store, require=require, **limits)
    columns = ["tf", "peak", "gene", "group", "motif_p", "motifs", "sign", "source", "weight"]
    table = network[columns].astype(object).where(network[columns].notna(), None)
    expected = by_hand(
        links, tables(), require, limits.get("motif_score_min", -np.inf), limits.get("motif_p_max", np.inf)
    )
    assert len(network) == len(expected) > 10
    assert set(table.itertuples(index=False, name=None)) == expected
    merged = network.merge(links, on=["gene", "peak", "group"], suffixes=("", "_given"))
    np.testing.assert_array_equal(merged["link_score"], merged["score_given"])


def test_the_score_is_the_rank_product_within_the_group(store):
    links = random_links()
    network = regulatory_network(links, store, require=("motif", "regulon"))
    for group, rows in network.groupby("group"):
        product = np.ones(len(rows))
        for key, column, turn in (
            (["gene", "peak"], "link_score", 1),
            (["tf", "peak"], "motif_p", -1),
            (["tf", "gene"], "weight", 1),
        ):
            each = rows.drop_duplicates(key)
            rank = dict(
                zip(map(tuple, each[key].to_numpy()), stats.rankdata(turn * each[column]) / len(each), strict=True)
            )
            product *= [rank[tuple(pair)] for pair in rows[key].to_numpy()]
        np.testing.assert_allclose(rows["score"], product ** (1 / 3), err_msg=group)
        assert rows["score"].is_monotonic_decreasing


def test_a_link_that_beats_its_null_ranks_by_z_and_keeps_its_test(store):
    links = random_links(groups=("A",)).assign(fdr=np.linspace(0, 1, 40))
    links["z"] = -links["score"]
    network = regulatory_network(links, store, fdr_max=0.5)
    assert network["fdr"].max() <= 0.5
    assert network["z"].min() > 0
    above = links[links["z"] > 0]
    turned = regulatory_network(above.assign(score=above["z"]).drop(columns="z"), store, fdr_max=0.5)
    key = ["tf", "peak", "gene"]
    both = network.merge(turned, on=key)
    assert len(both) == len(network)
    np.testing.assert_allclose(both["score_x"], both["score_y"])
    unknown = regulatory_network(links.assign(z=np.where(links["z"] > 0, np.nan, links["z"])), store)
    assert unknown.attrs["match"]["links_without_z"] == (links["z"] > 0).sum()
    assert unknown["score"].notna().all()


def test_rows_in_another_order_give_the_same_network(store):
    links = random_links()
    key = ["group", "tf", "peak", "gene"]
    one, other = (
        regulatory_network(table, store).sort_values(key, ignore_index=True)
        for table in (links, links.sample(frac=1, random_state=3))
    )
    pd.testing.assert_frame_equal(one, other)


def test_what_does_not_join_is_counted_and_named(store):
    links = random_links(groups=("A",))
    lost = pd.DataFrame({"gene": ["S0", "NOBODY", "s1"], "peak": ["chr9:1-2", "chr1:0-500", "chr1_0_500"]})
    network = regulatory_network(pd.concat([links, lost.assign(group="A", score=1.0)]), store)
    match = network.attrs["match"]
    assert match["links"] == match["links_kept"] == 43
    assert (match["genes_absent"], match["genes_absent_names"]) == (1, ["NOBODY"])
    assert (match["peaks_absent"], match["peaks_absent_names"]) == (1, ["chr9:1-2"])
    assert match["links_absent"] == 2
    assert match["rows"] == len(network)
    placed = network[network["peak"] == "chr1_0_500"]  # joined by its interval; the gene in any case
    assert set(placed["peak_id"]) == {"chr1:0000-0500"}
    assert set(placed["gene_id"]) == {"E01"}
    hits = {row["peak_id"] for row in tables()["tf_peak"]}
    inside = pd.concat([links, lost[2:]])
    ids = inside["peak"].replace({"chr1_0_500": "chr1:0000-0500"})
    assert match["links_without_factor"] == int((~ids.isin(hits)).sum())


def test_links_without_groups_are_of_one(store):
    links = random_links(groups=("A",)).drop(columns="group")
    network = regulatory_network(links, store)
    assert set(network["group"]) == {"all"}
    assert len(network) == len(regulatory_network(random_links(groups=("A",)), store, groups=["A"]))


def test_a_factor_has_the_name_of_the_links(store):
    links = random_links(groups=("A",))
    ids = links.assign(gene=links["gene"].map(lambda name: f"E{int(name[1:]):02d}"))
    network = regulatory_network(ids, store)
    assert set(network.loc[network["tf_id"].isin(set(ids["gene"])), "tf"]) <= set(ids["gene"])
    outside = network[~network["tf_id"].isin(set(ids["gene"]))]
    assert outside["tf"].str.startswith("S").all()


def test_a_name_that_is_taken_gives_way_to_the_identifier(tmp_path):
    made = tables()
    made["gene"][3]["symbol"] = "E07"  # the identifier of another gene, which the links name
    made["gene"][1]["symbol"] = made["gene"][2]["symbol"] = "TWIN"
    with PriorStore.open(write_store(tmp_path / "same.duckdb", made)) as store:
        links = random_links(groups=("A",))
        links = links[~links["gene"].isin(["S1", "S2", "S3"])].replace({"gene": {"S7": "E07"}})
        network = regulatory_network(links, store)
    shown = dict(zip(network["tf_id"], network["tf"], strict=True))
    assert shown == {"E00": "S0", "E01": "E01", "E02": "E02", "E03": "E03", "E04": "S4"}


def test_factors_that_the_group_does_not_express_are_left_out(store):
    links = random_links()
    share = pd.DataFrame({"A": [0.9, 0.05, 0.5], "B": [0.2, 0.3, 0.0]}, index=["S0", "S1", "E02"])
    network = regulatory_network(links, store, tf_expressed=share, tf_expressed_min=0.1)
    kept = set(zip(network["tf_id"], network["group"], strict=True))
    assert kept <= {("E00", "A"), ("E02", "A"), ("E00", "B"), ("E01", "B")}
    values = dict(zip(zip(network["tf_id"], network["group"], strict=True), network["expressed"], strict=True))
    assert values[("E00", "A")] == 0.9
    assert values[("E01", "B")] == 0.3
    everything = regulatory_network(links, store, tf_expressed=share)
    assert len(everything) == len(regulatory_network(links, store))
    assert everything.attrs["match"]["factors_not_measured"] == 2
    assert set(everything.loc[everything["expressed"].isna(), "tf_id"]) == {"E03", "E04"}
    left_out = network.attrs["match"]["rows_of_factors_not_expressed"]
    assert left_out == len(everything) - len(network) > 0


def test_nothing_kept_is_an_empty_network_with_all_columns(store):
    links = random_links().assign(fdr=0.5)
    empty, full = (regulatory_network(links, store, fdr_max=limit) for limit in (0.1, 1.0))
    assert len(empty) == 0
    assert list(empty) == list(full)
    assert list(tf_gene_edges(empty)) == list(tf_gene_edges(full))


def test_edges_of_factors_and_genes_sum_over_peaks(store):
    network = regulatory_network(random_links(), store)
    edges = tf_gene_edges(network)
    assert not edges.duplicated(["tf", "gene", "group"]).any()
    assert len(edges) == len(network.drop_duplicates(["tf", "gene", "group"]))
    for row in edges.itertuples():
        rows = network[(network["tf"] == row.tf) & (network["gene"] == row.gene) & (network["group"] == row.group)]
        assert row.n_peaks == len(rows)
        assert row.best == rows["score"].max()
        assert row.summed == pytest.approx(rows["score"].sum())
        assert row.best_peak in set(rows.loc[rows["score"] == row.best, "peak"])
        assert row.link_score == rows["link_score"].max()


def test_expressed_share_agrees_with_counting():
    rng = np.random.default_rng(0)
    rna = ad.AnnData(
        rng.poisson(0.5, (30, 4)).astype(float),
        obs=pd.DataFrame({"type": rng.choice(list("xyz"), 30)}, index=[f"c{i}" for i in range(30)]),
    )
    share = expressed_share(rna, "type")
    for group in "xyz":
        np.testing.assert_allclose(share[group], (rna.X[(rna.obs["type"] == group).to_numpy()] > 0).mean(0))
    np.testing.assert_allclose(expressed_share(rna)["all"], (rna.X > 0).mean(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"require": ()}, "require: found nothing, expected one or both of motif, regulon"),
        ({"require": ("motif", "chip")}, "require: found chip, motif, expected one or both of motif, regulon"),
        ({"fdr_max": 0.1}, "links: found columns gene, peak, group, score; 1 of 4 expected ones are not there: fdr"),
        ({"groups": ["A", "C", "D"]}, "groups: 2 of 3 are not among the links: C, D. Groups: A, B"),
        (
            {"tf_expressed": pd.DataFrame({"A": [1.0]}, index=["S0"])},
            "tf_expressed: no column for 1 of 2 groups of links: B",
        ),
        ({"tf_expressed": pd.DataFrame(1.0, ["S0", "S0"], ["A", "B"])}, "tf_expressed: 1 of 2 gene names repeat"),
    ],
)
def test_what_cannot_be_asked_is_refused(store, options, message):
    with pytest.raises(DataError, match=message):
        regulatory_network(random_links(), store, **options)


def test_links_of_another_store_or_twice_are_refused(store):
    links = random_links(groups=("A",))
    with pytest.raises(DataError, match=r"none of their \d+ genes is in .*toy.duckdb \(assembly toy\): XS\d+"):
        regulatory_network(links.assign(gene="X" + links["gene"]), store)
    with pytest.raises(DataError, match=r"none of their \d+ peaks is in"):
        regulatory_network(links.assign(peak="9" + links["peak"]), store)
    with pytest.raises(DuplicateNames, match="links: 40 of 80 rows repeat a gene-peak pair of their group"):
        regulatory_network(pd.concat([links, links]), store)


def test_a_store_without_hits_or_targets_says_so(tmp_path):
    made = tables()
    without = {name: {key: rows for key, rows in made.items() if key != name} for name in ("tf_peak", "tf_gene")}
    with (
        PriorStore.open(write_store(tmp_path / "a.duckdb", without["tf_peak"])) as one,
        pytest.raises(StoreError, match="has no table 'tf_peak'"),
    ):
        regulatory_network(random_links(), one)
    with PriorStore.open(write_store(tmp_path / "b.duckdb", without["tf_gene"])) as one:
        network = regulatory_network(random_links(), one)
        assert len(network) == len(by_hand(random_links(), made, ("motif",)))
        assert set(network["source"]) == {""}
        with pytest.raises(StoreError, match="has no table 'tf_gene'"):
            regulatory_network(random_links(), one, require=("regulon",))


def test_a_network_too_large_is_refused_before_it_is_made(store, monkeypatch):
    monkeypatch.setattr("heteromics.interpret.network.MOST_ROWS", 50)
    rows = len(by_hand(random_links(), tables(), ("motif",)))
    with pytest.raises(DataError, match=f"the network would have {rows} rows from 80 links, at most 50 are made"):
        regulatory_network(random_links(), store)
