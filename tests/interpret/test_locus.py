"""The tables of a locus against the data and the store they come from."""

import numpy as np
import pandas as pd
import pytest

from heteromics import plot
from heteromics.errors import DataError, GraphError
from heteromics.graphs import bipartite
from heteromics.interpret import candidate_links, locus_tables
from heteromics.priors import PriorStore
from tests.workflows.small import make_files


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made, _, db = make_files(tmp_path_factory.mktemp("locus"))
    with PriorStore.open(db) as store:
        graph = bipartite(made.mdata["rna"], made.mdata["atac"], store)
        links = candidate_links(graph, store).assign(score=lambda table: table["weight"])
        yield made, graph, store, links


def named(made, row=3):
    return made.genes.iloc[row]


def test_tables_are_those_of_the_gene_and_draw(made):
    made, graph, store, links = made
    wanted = named(made)
    tables = locus_tables(links, wanted["gene_id"], graph, store, reach_bp=None)
    own = links[links["gene"] == wanted["gene"]]
    assert list(tables["links"]["peak"]) == list(own["peak"])
    peaks = made.peaks.set_index("peak").loc[own["peak"]]
    for column in ("chrom_start", "chrom_end"):
        assert (tables["links"][column].to_numpy() == peaks[column].to_numpy()).all()
    assert tables["gene"]["symbol"] == wanted["gene"]
    assert set(tables["genes"]["chrom"]) == {wanted["chrom"]}
    assert set(tables["parts"]["gene_id"]) <= set(tables["genes"]["gene_id"])
    assert tables["motifs"] is None
    (axes,) = plot.locus(**tables, most=len(own)).axes
    assert sum(len(line.get_xdata()) == 60 for line in axes.lines) == len(own)


def test_openness_is_the_share_of_cells_of_each_type(made):
    made, graph, store, links = made
    tables = locus_tables(links, named(made)["gene"], graph, store)
    atac = made.mdata["atac"]
    is_open = pd.DataFrame((atac.X > 0).toarray(), columns=atac.var_names)[tables["links"]["peak"]]  # 80 x a few
    types = atac.obs["cell_type"].to_numpy()
    np.testing.assert_allclose(tables["links"]["openness"], is_open.mean())
    for kind, track in tables["tracks"].groupby("group"):
        np.testing.assert_allclose(track["openness"], is_open[types == kind].mean())
    grouped = links.assign(group="type_2")
    of_type = locus_tables(grouped, named(made)["gene"], graph, store, group="type_2")["links"]
    np.testing.assert_allclose(of_type["openness"], is_open[types == "type_2"].mean())


def test_far_links_are_left_out_and_counted(made):
    made, graph, store, links = made
    wanted = named(made)
    own = links[links["gene"] == wanted["gene"]].reset_index(drop=True)
    peaks = made.peaks.set_index("peak").loc[own["peak"]]
    middle = ((peaks["chrom_start"] + peaks["chrom_end"]) / 2).to_numpy()
    away = np.abs(middle - wanted["tss"])
    reach = int(np.median(away))
    near = locus_tables(links, wanted["gene"], graph, store, reach_bp=reach)["links"]
    assert list(near["peak"]) == list(own["peak"][away <= reach])
    assert near.attrs["beyond_reach"] == int((away > reach).sum()) > 0
    with pytest.raises(
        DataError, match=rf"none of its {int((away > reach).sum())} links is within 0 bp of its transcription start"
    ):
        locus_tables(own[away > reach], wanted["gene"], graph, store, reach_bp=0)


def test_a_peak_without_a_place_is_named_and_drawn_nowhere(made):
    made, _, store, links = made
    wanted = named(made)["gene"]
    lost = links[links["gene"] == wanted]["peak"].iloc[0]
    atac = made.mdata["atac"].copy()
    atac.var_names = ["chrUn:5-9" if name == lost else name for name in atac.var_names]
    other = bipartite(made.mdata["rna"], atac, store)
    links = links.assign(peak=links["peak"].replace(lost, "chrUn:5-9"))
    drawn = locus_tables(links, wanted, other, store, reach_bp=None)["links"]
    assert drawn.attrs["unplaced"] == ["chrUn:5-9"]
    assert "chrUn:5-9" not in set(drawn["peak"])
    assert len(drawn) == (links["gene"] == wanted).sum() - 1 > 0


def test_motif_hits_of_a_factor_by_gene_and_by_motif(made):
    made, graph, store, links = made
    hits = store.frame("motif_peak")
    found = links.merge(hits, left_on="peak", right_on="peak_id").iloc[0]
    motif = store.frame("motif").set_index("motif_id").loc[found["motif_id"], "name"]
    tables = locus_tables(links, found["gene"], graph, store, factor=motif, reach_bp=None)
    peaks = set(tables["links"]["peak"])
    wanted = hits[hits["peak_id"].isin(peaks) & (hits["motif_id"] == found["motif_id"])]
    assert sorted(tables["motifs"]["position"]) == sorted(wanted["hit_start"])
    assert len(wanted) > 0
    gene_id = store.frame("motif_tf").set_index("motif_id").loc[found["motif_id"], "gene_id"]
    again = locus_tables(links, found["gene"], graph, store, factor=gene_id, reach_bp=None)["motifs"]
    assert list(again["position"]) == list(tables["motifs"]["position"])


def test_what_is_not_there_offers_the_nearest(made, tmp_path):
    made, graph, store, links = made
    wanted = named(made)["gene"]
    with pytest.raises(DataError, match=rf"gene '{wanted.lower()}x' is not in the graph\. Nearest: .*{wanted}"):
        locus_tables(links, f"{wanted.lower()}x", graph, store)
    with pytest.raises(DataError, match=r"factor 'SYNTF00' has no motif in the store\. Nearest: SYNTF00"):
        locus_tables(links, wanted, graph, store, factor="SYNTF00")
    both = pd.concat([links.assign(group="type_1"), links.assign(group="type_2")])
    with pytest.raises(DataError, match=r"are of 2 groups: type_1, type_2\. Fix: give one as group"):
        locus_tables(both, wanted, graph, store)
    with pytest.raises(DataError, match=r"is of group 'type_3'\. Nearest: type_"):
        locus_tables(both, wanted, graph, store, group="type_3")
    db = tmp_path / "other.duckdb"
    recipe = {"sets": [f"source.folder={made.write(tmp_path / 'files')}", "edges.gene_peak.within_bp=1000"]}
    with (
        PriorStore.build("demo", db, progress=False, **recipe) as other,
        pytest.raises(GraphError, match="open the store the graph was built from"),
    ):
        locus_tables(links, wanted, graph, other)
