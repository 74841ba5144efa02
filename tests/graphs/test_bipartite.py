import anndata as ad
import duckdb
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from heteromics.errors import DuplicateNames, EmptyCells, GraphError, NotCounts
from heteromics.graphs import HeteroGraph, PairBatcher, bipartite
from heteromics.graphs._attributes import attribute_table, summaries
from heteromics.graphs.bipartite import windows
from heteromics.graphs.pairs import EXPRESSES, OPENS, REACHES
from heteromics.priors.schemas import SCHEMAS
from heteromics.tasks import make_pairs

CHROMS = {"chr1": 0, "chr2": 1, "chrX": 2}


class FakeStore:
    """The part of a prior store that the builder reads."""

    path, info = "store.duckdb", {"assembly": "toy", "chrom_style": "ucsc", "recipe_hash": "0"}

    def __init__(self, genes, peaks, fasta=True):
        self.frames = {
            "chromosome": pd.DataFrame({"chrom": list(CHROMS), "code": list(CHROMS.values()), "size": 10_000}),
            "gene": genes[["gene_id", "symbol", "chrom", "tss"]].assign(
                chrom_start=genes["tss"], chrom_end=genes["tss"]
            ),
            "gene_attribute": genes[["gene_id", "strand_sign", "length"]].assign(exon_length=pd.NA),
            "peak": peaks[["peak_id", "chrom", "chrom_start", "chrom_end"]],
            "peak_attribute": peaks[["peak_id"]].assign(
                width=peaks["chrom_end"] - peaks["chrom_start"],
                gc=np.linspace(0.3, 0.6, len(peaks)) if fasta else np.nan,
                cpg_oe=np.nan,
            ),
        }

        self.connection = duckdb.connect()
        for name, frame in self.frames.items():
            self.connection.register("shown", frame)
            self.connection.execute(f"CREATE TABLE {name} AS FROM shown")
        self.connection.execute(SCHEMAS["match_report"].create_sql())

    def tables(self):
        return list(self.frames)

    def frame(self, name):
        return self.frames[name]


def toy(seed=0, cells=12, n_genes=14, n_peaks=40, **options):
    """Genes and peaks in an order that has nothing to do with the genome; the last of each is not in the store."""
    rng = np.random.default_rng(seed)
    chrom = np.array(list(CHROMS))
    genes = pd.DataFrame(
        {
            "gene_id": [f"ENSG{i:02}" for i in range(n_genes)],
            "symbol": [f"G{i}" for i in range(n_genes)],
            "chrom": chrom[rng.integers(0, 3, n_genes)],
            "tss": rng.integers(0, 5_000, n_genes),
            "strand_sign": rng.choice([-1, 1], n_genes),
            "length": rng.integers(100, 2_000, n_genes),
        }
    )
    start = rng.permutation(n_peaks) * 120
    peaks = pd.DataFrame({"chrom": chrom[rng.integers(0, 3, n_peaks)], "chrom_start": start, "chrom_end": start + 100})
    peaks["peak_id"] = [f"{c}:{s}-{e}" for c, s, e in zip(*(peaks[k] for k in peaks), strict=True)]
    obs = pd.DataFrame({"cell_type": list("ab") * (cells // 2)}, index=[f"c{i}" for i in range(cells)])
    made = []
    for size, names in ((n_genes, genes["symbol"]), (n_peaks, peaks["peak_id"])):
        counts = rng.poisson(0.7, (cells, size)) + (np.arange(size) == rng.integers(0, size - 1, (cells, 1)))
        made.append(ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs, pd.DataFrame(index=list(names))))
    return *made, FakeStore(genes.iloc[:-1], peaks.iloc[:-1], **options)


def dense(graph, etype):
    indptr, indices, eids = graph.adjacency(etype)
    shape = graph.num_nodes(etype[0]), graph.num_nodes(etype[2])
    values = graph.edata(etype)["weight"][eids.long()]
    return sparse.csr_matrix((values.numpy(), indices.numpy(), indptr.numpy()), shape=shape).toarray()


def edges_of(batch):
    indptr, target = batch.edges()
    return torch.repeat_interleave(torch.arange(len(batch.gene)), indptr.diff()), target


def test_edges_are_the_counts_under_their_names():
    rna, atac, store = toy()
    graph = bipartite(rna, atac, store).validate()
    for data, etype in ((rna, EXPRESSES), (atac, OPENS)):
        names = graph.names[etype[2]]
        np.testing.assert_array_equal(dense(graph, etype), data[:, names].X.toarray())
    assert graph.kind == "bipartite"
    assert graph.meta["categories"] == {"cell_type": ["a", "b"]}
    assert graph.ndata("rna_cell")["cell_type"].tolist() == [0, 1] * 6
    assert graph.meta["chromosomes"] == list(CHROMS)


def test_features_are_sorted_and_placed_as_in_the_store():
    rna, atac, store = toy()
    graph = bipartite(rna, atac, store)
    genes = store.frame("gene").set_index("symbol")
    chrom, position = (graph.ndata("gene")[name].numpy() for name in ("chrom", "position"))
    for name, code, place in zip(graph.names["gene"], chrom, position, strict=True):
        expected = (CHROMS[genes.chrom[name]], genes.tss[name]) if name in genes.index else (-1, 0)
        assert (code, place) == expected
    for side in ("gene", "peak"):
        key = [
            tuple(pair)
            for pair in torch.stack([graph.ndata(side)[n].long() for n in ("chrom", "position")], 1).tolist()
        ]
        assert key == sorted(key)


def test_what_does_not_join_is_kept_out_of_attention_and_named():
    rna, atac, store = toy()
    graph = bipartite(rna, atac, store)
    assert graph.meta["match"]["gene"] == {"absent": 1, "matched": 13, "unplaced": ["G13"]}
    assert graph.meta["match"]["peak"]["unplaced"] == [atac.var_names[-1]]
    row = graph.index("gene", ["G13"])[0]
    batcher = PairBatcher(graph)
    batch = batcher.batch(np.stack([np.arange(12)] * 2, 1))
    source, _ = edges_of(batch)
    assert (batch.gene == row).any()
    assert not (batch.gene[source] == row).any()


def test_a_renamed_gene_is_found_through_the_alias_table_of_the_store():
    rna, atac, store = toy()
    rna.var_names = ["Park2" if name == "G3" else name for name in rna.var_names]
    assert "Park2" in bipartite(rna, atac, store).meta["match"]["gene"]["unplaced"]
    store.frames["gene_alias"] = pd.DataFrame(
        {"gene_id": ["ENSG03"], "alias": ["Park2"], "kind": ["previous_symbol"], "source": ["names.txt"]}
    )
    store.connection.register("shown", store.frames["gene_alias"])
    store.connection.execute("CREATE TABLE gene_alias AS FROM shown")
    assert bipartite(rna, atac, store).meta["match"]["gene"] == {
        "absent": 1, "alias": 1, "matched": 12, "unplaced": ["G13"],
    }  # fmt: skip


def test_peaks_written_in_another_way_join_by_interval():
    rna, atac, store = toy()
    atac.var_names = [name.replace(":", "_").replace("-", "_") for name in atac.var_names]
    assert bipartite(rna, atac, store).meta["match"]["peak"] == {
        "absent": 1,
        "alias": 39,
        "unplaced": [atac.var_names[-1]],
    }


def test_gene_ids_go_before_names():
    rna, atac, store = toy()
    rna.var["gene_id"] = [f"ENSG{i:02}.3" for i in range(14)]
    rna.var_names = [f"alias{i}" for i in range(14)]
    assert bipartite(rna, atac, store).meta["match"]["gene"]["version_stripped"] == 13


@pytest.mark.parametrize("column", ["gene_id", "gene_ids"])
def test_genes_without_an_identifier_join_by_name(column):
    rna, atac, store = toy()
    rna.var[column] = [np.nan if i in (2, 5) else f"ENSG{i:02}" for i in range(14)]
    rna.var_names = [name if i in (2, 5) else f"alias{i}" for i, name in enumerate(rna.var_names)]
    match = bipartite(rna, atac, store).meta["match"]["gene"]
    assert match == {"absent": 1, "matched": 13, "unplaced": ["alias13"]}


def test_attributes_come_from_training_cells_alone():
    rna, atac, store = toy()
    training = [f"c{i}" for i in range(6)]
    graph = bipartite(rna, atac, store, training_cells=training, standardise=False)
    other = rna.copy()
    other.X[6:] = other.X[6:] * 5
    again = bipartite(other, atac, store, training_cells=np.arange(12) < 6, standardise=False)
    torch.testing.assert_close(graph.ndata("gene")["attributes"], again.ndata("gene")["attributes"])
    names = graph.meta["attribute_names"]
    assert names["gene"] == ["strand", "log_length", "mean", "variance", "share"]
    assert names["peak"] == ["gc", "share"]  # all peaks have one width: nothing to learn from
    share = graph.ndata("gene")["attributes"][:, 4].numpy()
    np.testing.assert_allclose(share, (rna[:6, graph.names["gene"]].X.toarray() > 0).mean(0))


def test_attributes_are_standardised_and_unknown_ones_are_average():
    rna, atac, store = toy()
    graph = bipartite(rna, atac, store)
    values = graph.ndata("gene")["attributes"]
    placed = graph.ndata("gene")["chrom"] >= 0
    np.testing.assert_allclose(values[:, 2].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(values[:, 2].std(correction=0), 1, atol=1e-6)
    assert values[~placed, 0].tolist() == [0.0]
    np.testing.assert_allclose(values[placed, 0].mean(), 0, atol=1e-6)


def test_an_attribute_that_no_feature_has_is_left_out_and_zero_when_asked_for():
    columns = {"gc": np.full(3, np.nan), "share": np.array([0.0, 0.5, 1.0]), "width": np.full(3, 2.0)}
    assert attribute_table(columns, None, 3, "peak_attributes", standardise=True)[0] == ["share"]
    assert not attribute_table(columns, ["gc"], 3, "peak_attributes", standardise=True)[1].any()


def test_summaries_agree_with_dense_arithmetic():
    counts = np.random.default_rng(1).poisson(0.8, (30, 7)) + np.eye(30, 7, dtype=int)
    counts[:, 0] += 1
    chosen = np.arange(30) % 3 > 0
    part = summaries(sparse.csr_array(counts.astype(np.float32)), chosen)
    counts = counts[chosen]
    found = summaries(sparse.csr_array(counts.astype(np.float32)), np.ones(20, bool))
    for name in found:
        np.testing.assert_allclose(part[name], found[name])
    logs = np.log1p(counts / counts.sum(1, keepdims=True) * np.median(counts.sum(1)))
    np.testing.assert_allclose(found["mean"], logs.mean(0))
    np.testing.assert_allclose(found["variance"], logs.var(0), atol=1e-12)
    np.testing.assert_allclose(found["share"], (counts > 0).mean(0))


def test_unpaired_cells_and_missing_labels():
    rna, atac, store = toy()
    atac = atac[3:9].copy()
    atac.obs_names = [f"d{i}" for i in range(6)]
    atac.obs["cell_type"] = pd.Categorical(["b", None, "z", "b", "z", "b"])
    graph = bipartite(rna, atac, store).validate()
    assert graph.meta["categories"]["cell_type"] == ["a", "b", "z"]
    assert graph.ndata("atac_cell")["cell_type"].tolist() == [1, -1, 2, 1, 2, 1]
    assert len(PairBatcher(graph).batch([[11, 5]])) == 1


def test_windows_of_a_thousand_pairs_are_those_of_a_few():
    graph = bipartite(*toy())
    pairs = np.stack(np.divmod(np.arange(1_100) % 144, 12), 1)
    batcher = PairBatcher(graph, "window")
    gene, peak = edges_of(batcher.batch(pairs))
    genes = peaks = 0
    expected = []
    for start in range(0, len(pairs), 5):
        part = batcher.batch(pairs[start : start + 5])
        one, other = edges_of(part)
        expected.append(torch.stack([one + genes, other + peaks]))
        genes, peaks = genes + len(part.gene), peaks + len(part.peak)
    torch.testing.assert_close(torch.stack([gene, peak]), torch.cat(expected, 1), check_dtype=False)
    assert len(gene) > len(pairs)


def test_windows_agree_with_all_pairs():
    rng = np.random.default_rng(5)
    gene_chrom, peak_chrom = rng.integers(-1, 3, 30), np.sort(rng.integers(-1, 3, 200))
    tss, midpoint = rng.integers(0, 2_000, 30), rng.integers(0, 2_000, 200)
    midpoint = midpoint[np.lexsort((midpoint, peak_chrom))]
    order = np.lexsort((midpoint, peak_chrom))
    peak_chrom, midpoint = peak_chrom[order], midpoint[order]
    indptr, indices, distance = windows(gene_chrom, tss, peak_chrom, midpoint, 150)
    gap = np.abs(tss[:, None] - midpoint)
    expected = (gap <= 150) & (gene_chrom[:, None] == peak_chrom) & (gene_chrom[:, None] >= 0)
    row = np.repeat(np.arange(30), np.diff(indptr))
    assert set(zip(row.tolist(), indices.tolist(), strict=True)) == set(
        zip(*map(list, np.nonzero(expected)), strict=True)
    )
    np.testing.assert_array_equal(distance, gap[row, indices])


@pytest.mark.parametrize("mask", ["chromosome", "window", "none"])
def test_batches_hold_what_the_dense_mask_says(mask):
    rna, atac, store = toy(seed=3)
    graph = bipartite(rna, atac, store, mask="window", within_bp=600)
    pairs = np.random.default_rng(0).integers(0, 12, (9, 2))
    batch = PairBatcher(graph, mask).batch(pairs)
    counts = dense(graph, EXPRESSES), dense(graph, OPENS)
    place = {side: {k: graph.ndata(side)[k].numpy() for k in ("chrom", "position")} for side in ("gene", "peak")}
    source, target = edges_of(batch)
    found = set()
    for b, (i, j) in enumerate(pairs):
        for side, row, values in (("gene", i, counts[0]), ("peak", j, counts[1])):
            start, stop = getattr(batch, f"{side}_offsets")[b : b + 2]
            ids = getattr(batch, side)[start:stop].numpy()
            np.testing.assert_array_equal(ids, np.flatnonzero(values[row]))
            np.testing.assert_array_equal(getattr(batch, f"{side}_value")[start:stop], values[row][ids])
            np.testing.assert_array_equal(getattr(batch, f"{side}_chrom")[start:stop], place[side]["chrom"][ids])
        allowed = (counts[0][i] > 0)[:, None] & (counts[1][j] > 0)
        if mask != "none":
            chrom = place["gene"]["chrom"][:, None]
            allowed &= (chrom == place["peak"]["chrom"]) & (chrom >= 0)
        if mask == "window":
            allowed &= np.abs(place["gene"]["position"][:, None] - place["peak"]["position"]) <= 600
        found |= {(b, g, p) for g, p in zip(*map(list, np.nonzero(allowed)), strict=True)}
    pair = torch.repeat_interleave(torch.arange(9), batch.gene_offsets.diff())[source]
    edges = list(zip(pair.tolist(), batch.gene[source].tolist(), batch.peak[target].tolist(), strict=True))
    assert len(edges) == len(set(edges))
    assert set(edges) == found


def test_streaming_gives_the_batches_one_by_one():
    graph = bipartite(*toy())
    batcher, pairs = PairBatcher(graph), np.stack([np.arange(12), np.arange(12)[::-1]], 1)
    whole, parts = batcher.batch(pairs), list(batcher.stream(pairs, 5))
    assert [len(part) for part in parts] == [5, 5, 2]
    for name in ("gene", "gene_value", "peak", "peak_value", "peak_chrom"):
        torch.testing.assert_close(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert len(batcher.batch(np.empty((0, 2), int))) == 0


def test_parts_keep_the_order_and_bound_pairs_and_nodes():
    graph = bipartite(*toy())
    batcher, pairs = PairBatcher(graph), np.stack([np.arange(12), np.arange(12)[::-1]], 1)
    nodes = [len(one.gene) + len(one.peak) for one in batcher.stream(pairs, 1)]
    most = 3 * max(nodes)
    for size, bound in ((5, None), (5, most), (12, most), (12, 1)):
        parts = batcher.parts(pairs, size, bound)
        torch.testing.assert_close(torch.cat(parts), torch.from_numpy(pairs))
        first = 0
        for number, part in enumerate(parts):
            held, last = sum(nodes[first : first + len(part)]), number + 1 == len(parts)
            assert len(part) == 1 or (len(part) <= size and (bound is None or held <= bound))
            fits = len(part) < size and (bound is None or held + nodes[min(first + len(part), 11)] <= bound)
            assert last or not fits  # as many as may be
            first += len(part)
    assert batcher.parts(np.empty((0, 2), int), 3, 5) == []


@pytest.mark.parametrize("side", ["gene", "peak"])
@pytest.mark.parametrize("most", [1, 40, 1 << 20])
def test_profiles_are_the_rows_of_the_cells(side, most):
    rna, atac, store = toy()
    graph = bipartite(rna, atac, store)
    batcher, cells = PairBatcher(graph), np.array([3, 0, 7, 3])
    whole = batcher.batch(np.stack([cells, cells], 1))
    parts = list(batcher.profiles(side, cells, most))
    torch.testing.assert_close(torch.cat([feature for feature, _, _ in parts]), getattr(whole, side))
    torch.testing.assert_close(torch.cat([weight for _, weight, _ in parts]), getattr(whole, f"{side}_value"))
    sizes = torch.cat([offsets.diff() for _, _, offsets in parts])
    torch.testing.assert_close(sizes, getattr(whole, f"{side}_offsets").diff())
    assert all(len(feature) <= most or len(offsets) == 2 for feature, _, offsets in parts)


def test_positions_come_on_request_and_with_a_window():
    graph = bipartite(*toy())
    plain = PairBatcher(graph).batch([[2, 7]])
    assert plain.gene_position is None
    asked, window = (PairBatcher(graph, *rest, positions=True).batch([[2, 7]]) for rest in ((), ("window", 600)))
    for batch, within in ((asked, None), (window, 600)):
        assert batch.within_bp == within
        for side in ("gene", "peak"):
            expected = graph.ndata(side)["position"][getattr(batch, side).long()]
            torch.testing.assert_close(getattr(batch, f"{side}_position"), expected)


def test_pair_graph_is_the_batch_as_a_graph():
    graph = bipartite(*toy(), mask="window", within_bp=600)
    batcher = PairBatcher(graph)
    pair = batcher.pair_graph(2, 7).validate()
    batch = batcher.batch([[2, 7]])
    assert pair.num_nodes("gene") == len(batch.gene)
    assert pair.names["peak"].tolist() == graph.names["peak"][batch.peak.numpy()].tolist()
    assert pair.meta["rna_cell"] == "c2"
    assert pair.meta["atac_cell"] == "c7"
    whole = PairBatcher(graph, "chromosome").pair_graph(2, 7)
    etype = ("gene", "may_reach", "peak")
    assert 0 < pair.num_edges(etype) < whole.num_edges(etype)


def test_a_window_graph_survives_the_disk(tmp_path):
    graph = bipartite(*toy(), mask="window", within_bp=600)
    graph.save(tmp_path / "graph")
    again = HeteroGraph.load(tmp_path / "graph").validate()
    assert again.meta == graph.meta
    torch.testing.assert_close(again.edata(REACHES)["distance"], graph.edata(REACHES)["distance"])
    left, right = (PairBatcher(each).batch([[0, 1]]) for each in (graph, again))
    torch.testing.assert_close(left.peak_value, right.peak_value)


def spoiled(change):
    rna, atac, store = toy()
    change(rna, atac, store)
    return rna, atac, store


def negative(rna, atac, store):
    rna.X.data[3] = -1


def empty(rna, atac, store):
    atac.X.data[atac.X.indptr[4] : atac.X.indptr[5]] = 0


def twice(rna, atac, store):
    rna.var_names = ["G0", *rna.var_names[:-1]]


def elsewhere(rna, atac, store):
    atac.var_names = [f"9:{i}-{i + 1}" for i in range(atac.n_vars)]


def without_peaks(rna, atac, store):
    del store.frames["peak"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (negative, NotCounts, "1 negative"),
        (empty, EmptyCells, "atac: 1 of 12 cells"),
        (twice, DuplicateNames, "features of rna: 1 of 13 names are used more than once"),
        (elsewhere, GraphError, "atac: none of 40 features is in the store"),
        (without_peaks, GraphError, "no table peak"),
    ],
)
def test_bad_input(change, error, message):
    rna, atac, store = spoiled(change)
    with pytest.raises(error, match=message):
        bipartite(rna, atac, store)


def test_values_that_are_no_counts_may_not_be_negative():
    rna, atac, store = spoiled(negative)
    with pytest.raises(GraphError, match="rna: 1 of .* values are below zero, expected none"):
        bipartite(rna, atac, store, expect="any")
    rna.X.data[3] = 0.5
    assert ((rna.X.data == 0.5) == (np.arange(rna.X.nnz) == 3)).all()
    assert bipartite(rna, atac, store, expect="any").validate().edata(EXPRESSES)["weight"].min() == 0.5


def test_training_cells_of_any_collection():
    rna, atac, store = toy()
    want = bipartite(rna, atac, store, training_cells=["c1", "c4"]).ndata("gene")["attributes"]
    for given in ({"c1", "c4"}, pd.Index(["c4", "c1"]), pd.Categorical(["c1", "c4"]), ("c1", "c4")):
        assert torch.equal(bipartite(rna, atac, store, training_cells=given).ndata("gene")["attributes"], want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": "gene"}, "mask='gene' and within_bp=150000, expected 'chromosome' or 'window'"),
        ({"gene_attributes": ["varianc"]}, "unknown attribute 'varianc'. Did you mean 'variance'"),
        ({"peak_attributes": ["cpg_oe"]}, "unknown attribute 'cpg_oe'.* built with FASTA"),
        ({"training_cells": ["nobody"]}, "1 of 1 names are a cell of neither modality: nobody. Fix: pass obs_names"),
        ({"training_cells": []}, "none of 0 is a cell of rna"),
        ({"training_cells": np.ones(3, bool)}, "a mask of shape \\(3,\\), but rna has 12 cells"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(GraphError, match=message):
        bipartite(*toy(), **options)


def test_bad_pairs():
    graph = bipartite(*toy())
    batcher = PairBatcher(graph)
    with pytest.raises(GraphError, match="1 of 2 rows of atac_cell lie outside 0 to 11, first 12"):
        batcher.batch([[0, 0], [1, 12]])
    with pytest.raises(GraphError, match=r"found shape \(3,\)"):
        batcher.batch([1, 2, 3])
    with pytest.raises(GraphError, match="mask: found 'gene'"):
        PairBatcher(graph, "gene")
    other = HeteroGraph.from_edges({("a", "to", "b"): ([0], [0])}, names={"a": ["x"], "b": ["y"]})
    with pytest.raises(GraphError, match="kind 'custom', expected 'bipartite'"):
        PairBatcher(other)


def test_batches_are_kept_for_pairs_within_them():
    rna, atac, store = toy()
    rna.obs["donor"] = atac.obs["donor"] = ["d2", "d1", None] * 4
    graph = bipartite(rna, atac, store, batch="donor").validate()
    assert graph.meta["categories"] == {"cell_type": ["a", "b"], "batch": ["d1", "d2"]}
    for side in ("rna_cell", "atac_cell"):
        assert graph.ndata(side)["batch"].tolist() == [1, 0, -1] * 4
    assert "batch" not in bipartite(rna, atac, store).ndata("rna_cell")
    known = graph.ndata("rna_cell")["batch"].numpy() >= 0
    rows = np.flatnonzero(known)
    donor = graph.ndata("rna_cell")["batch"].numpy()[known]
    pairs, _ = make_pairs(rows, np.zeros(rows.size), mode="random", within=donor, ratio=20, seed=0)
    assert (np.diff(graph.ndata("rna_cell")["batch"].numpy()[pairs], axis=1) == 0).all()
    assert len(PairBatcher(graph).batch(pairs)) == len(pairs)


def test_attributes_have_mean_0_and_know_training_cells_alone():
    rna, atac, store = toy()
    training = rna.obs_names[:7]
    graph = bipartite(rna, atac, store, training_cells=training)
    for side in ("gene", "peak"):
        table = graph.ndata(side)["attributes"]
        torch.testing.assert_close(table.mean(0), torch.zeros(table.shape[1]), atol=1e-5, rtol=0)
    changed = [data.copy() for data in (rna, atac)]
    for data in changed:
        data.X[8] = data.X[8] * 9  # a test cell
    other = bipartite(*changed, store, training_cells=training)
    for side in ("gene", "peak"):
        assert torch.equal(graph.ndata(side)["attributes"], other.ndata(side)["attributes"])


def test_a_window_is_of_both_masks():
    rna, atac, store = toy()
    graph = bipartite(rna, atac, store, mask="window", within_bp=700)
    pairs = [[3, 3], [0, 5]]
    both, chromosome = (PairBatcher(graph, mask).batch(pairs) for mask in ("window", "chromosome"))
    near = {
        (a, b)
        for a, b in zip(*(part.tolist() for part in edges_of(chromosome)), strict=True)
        if abs(int(both.gene_position[a]) - int(both.peak_position[b])) <= 700
    }
    assert set(zip(*(part.tolist() for part in edges_of(both)), strict=True)) == near
    assert 0 < len(near) < len(edges_of(chromosome)[0])
