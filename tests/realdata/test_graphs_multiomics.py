"""Cells, genes and proteins of real bone marrow with STRING, iRefIndex and DoRothEA: what joins, and why.

The mirror has STRING's links among the panel by position of the protein, and transcription starts of all chromosomes as
a table of its own; both are written here in the forms that a recipe reads.
"""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from heteromics.data import read
from heteromics.graphs import graph_hash, multiomics, training_messages
from heteromics.graphs.multiomics import ENCODES, EXPRESSES, GENE_GENE, PROTEIN_PROTEIN, REGULATES
from heteromics.priors import PriorStore
from heteromics.priors.antibodies import read_antibodies

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

RECIPE = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {folder}/genes.refFlat.txt
  string_links: {folder}/links.txt
  string_info: {folder}/info.txt
  pairs_irefindex: {mirror}/prior_ppi_irefindex_symbols/ppi_symbols.csv.gz
  regulons_dorothea: {mirror}/prior_tf_target_dorothea/dorothea_human_ABC.csv.gz
nodes: {{gene: {{chrom_style: ucsc}}}}
edges: {{interactions: {{min_score: 0, gene_gene: false}}, pairs: {{}}, regulons: {{}}}}
"""


def write_genes(mirror, path):
    """Write the table of transcription starts as refFlat, a gene for each place of a symbol."""
    starts = pd.read_csv(mirror / "prior_tss_gene_tables" / "hg38_tss_info.bed.gz", sep="\t", header=None)
    starts = starts[starts[1] < starts[2]]
    rows = [
        (name, name, chrom, strand, start, end, start, end, 1, f"{start},", f"{end},")
        for chrom, start, end, name, _, strand in starts.itertuples(index=False)
    ]
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


def published_links(mirror):
    """The links of scMoFormer's own file as (protein, protein, score), and the symbol it has for each protein."""
    folder = mirror / "prior_string_v11.5_adt_proteins"
    with np.load(folder / "string_human_ppi_v11.5_target_gex2adt.npz") as file:
        head, tail, score = (file[name] for name in ("head", "tail", "weight"))
    names = np.array(read_antibodies(mirror / "cite_bmmc_neurips2021" / "common.output_mod2.h5ad"))
    symbols = pd.read_csv(folder / "symbol_mapping.csv").drop_duplicates("protein").set_index("protein")["symbol"]
    links = pd.DataFrame({"a": names[head], "b": names[tail], "score": np.rint(score * 1000).astype(int)})
    return links, {name: symbols[name.upper()] for name in names[np.unique(head)]}


@pytest.fixture(scope="module")
def links(mirror):
    return published_links(mirror)


@pytest.fixture(scope="module")
def store(mirror, links, tmp_path_factory):
    folder = tmp_path_factory.mktemp("marrow")
    write_genes(mirror, folder / "genes.refFlat.txt")
    table, symbols = links
    ident = {name: f"9606.{name}" for name in symbols}
    lines = [f"{ident[a]} {ident[b]} {score}" for a, b, score in table.itertuples(index=False)]
    (folder / "links.txt").write_text("\n".join(["protein1 protein2 combined_score", *lines]) + "\n")
    told = [f"{ident[name]}\t{symbol}\t1\tnot said" for name, symbol in symbols.items()]
    (folder / "info.txt").write_text("\n".join(["#string_protein_id\tpreferred_name\tprotein_size\tannotation", *told]))
    (folder / "recipe.yaml").write_text(RECIPE.format(mirror=mirror, folder=folder))
    with PriorStore.build(folder / "recipe.yaml", folder / "priors.duckdb", progress=False) as store:
        yield store


@pytest.fixture(scope="module")
def marrow(mirror):
    """RNA and protein of 311 cells of one donor and 289 of another, which are the published test cells."""
    folder = mirror / "cite_bmmc_neurips2021" / "predict_modality"
    part = {
        (split, modality): read(folder / f"{split}_{file}.h5ad", modality=modality, layer="X", expect="normalised")
        for split in ("train", "test")
        for modality, file in (("rna", "mod1"), ("protein", "mod2"))
    }
    data = {name: anndata.concat([part["train", name], part["test", name]]) for name in ("rna", "protein")}
    return data, np.arange(600) < part["train", "rna"].n_obs


@pytest.fixture(scope="module")
def graph(marrow, store):
    data, training = marrow
    return multiomics(data, store, training_cells=training).validate()


def named(graph, etype, column):
    indptr, indices, eids = graph.adjacency(etype)
    src = np.repeat(graph.names[etype[0]], np.diff(indptr.numpy()))
    values = graph.edata(etype)[column][eids.long()].double().numpy().round(6)
    return {
        (a, b): value for a, b, value in zip(src, graph.names[etype[2]][indices.numpy()], values.tolist(), strict=True)
    }


def test_the_published_protein_graph_counts_parallel_links(links):
    """11,644 entries on 120 proteins: 82 % of all ordered pairs, but 78 % without repeats and loops."""
    table, symbols = links
    assert (len(table), len(symbols)) == (11_644, 120)
    apart = table[table["a"] != table["b"]].drop_duplicates(["a", "b"])
    assert len(apart) == 11_134
    assert (round(len(table) / (120 * 119), 2), round(len(apart) / (120 * 119), 2)) == (0.82, 0.78)


def test_proteins_have_the_links_of_the_published_graph(graph, links):
    """Two of its proteins have no gene among these starts; two isoforms of CD45 have the links of CD45 here."""
    table, symbols = links
    lost = {"CD44", "CD158b"}
    assert lost < set(graph.meta["match"]["protein"]["unplaced"])
    stands_for = {name: [name] for name in symbols.keys() - lost}
    stands_for["CD45"] = ["CD45", "CD45RA", "CD45RO"]
    expected = {}
    for a, b, score in table.itertuples(index=False):
        for one in stands_for.get(a, ()):
            for other in stands_for.get(b, ()):
                if one != other and a != b:
                    expected[one, other] = max(expected.get((one, other), 0), score / 1000)
    assert named(graph, PROTEIN_PROTEIN, "weight") == expected
    assert len(expected) == 11_236
    match = graph.meta["match"]["protein_protein"]
    assert (match["rows"], match["outside"], match["proteins_outside"]["number"]) == (11_134 // 2, 181, 2)
    weight = graph.edata(PROTEIN_PROTEIN)["weight"]
    assert (weight.min(), weight.max()) == (pytest.approx(0.15), pytest.approx(0.999))


def test_proteins_without_a_gene_are_of_genes_without_a_start(graph, mirror):
    starts = pd.read_csv(mirror / "prior_tss_gene_tables" / "hg38_tss_info.bed.gz", sep="\t", header=None)
    match = graph.meta["match"]["protein"]
    assert match["unplaced"] == ["CD158b", "CD44", "IgD", "IgM", "TCR", "TCRVa7.2", "TCRVd2"]
    assert {"CD44", "IGHD", "IGHM", "TRAC", "TRBC1", "TRBC2", "TRAV1-2", "TRDV2"}.isdisjoint(starts[3])
    assert set(starts[0][starts[3] == "KIR2DL3"]) <= {name for name in starts[0] if name.endswith("_alt")}
    assert match["absent"] == 7
    assert match["matched"] + match["alias"] == 127


def test_threshold_of_medium_confidence_halves_the_protein_graph(marrow, store):
    data, training = marrow
    graph = multiomics(
        data, store, training_cells=training, edges=["protein_protein"], min_score={"protein_protein": 400}
    )
    kept = graph.num_edges(PROTEIN_PROTEIN)
    assert float(graph.edata(PROTEIN_PROTEIN)["weight"].min()) == pytest.approx(0.4)
    assert 0.5 < kept / 11_236 < 0.55


def test_genes_have_the_links_that_the_raw_tables_have(graph, mirror):
    """943 of 1,000 genes have a start; the rest are clones, mitochondrial genes and symbols that have changed."""
    match = graph.meta["match"]
    lost = match["gene"]["unplaced"]
    assert len(lost) == 57
    assert {"MT-ATP6", "AC002558.3", "LINC01409", "DHX38"} < set(lost)
    genes = set(graph.names["gene"]) - set(lost)
    raw = pd.read_csv(mirror / "prior_ppi_irefindex_symbols" / "ppi_symbols.csv.gz", keep_default_na=False)
    inside = raw[raw["from"].isin(genes) & raw["to"].isin(genes) & (raw["from"] != raw["to"])]
    expected = {}
    for a, b, cost in inside[["from", "to", "cost"]].itertuples(index=False):
        for pair in ((a, b), (b, a)):
            expected[pair] = max(expected.get(pair, 0), round(float(np.float32(1 / (1 + float(cost)))), 6))
    assert named(graph, GENE_GENE, "weight") == expected
    assert len(expected) == 5_938
    regulons = pd.read_csv(mirror / "prior_tf_target_dorothea" / "dorothea_human_ABC.csv.gz")
    inside = regulons[regulons["tf"].isin(genes) & regulons["target"].isin(genes)]
    found = named(graph, REGULATES, "sign")
    assert found == {(row.tf, row.target): row.mor for row in inside.itertuples()}
    assert len(found) == 71
    indptr, protein, _ = graph.adjacency(ENCODES)
    coded = zip(np.repeat(graph.names["gene"], indptr.diff().numpy()), graph.names["protein"][protein], strict=True)
    assert sorted((str(gene), str(one)) for gene, one in coded) == [
        ("CD36", "CD36"), ("CD69", "CD69"), ("HLA-A", "HLA-A-B-C"), ("HLA-DRA", "HLA-DR"), ("HLA-E", "HLA-E"),
        ("ITGA4", "CD49d"), ("ITGAE", "CD103"), ("KLRD1", "CD94"),
    ]  # fmt: skip


def test_features_of_genes_know_nothing_of_the_test_donor(marrow, store, graph):
    data, training = marrow
    rng = np.random.default_rng(0)
    order = np.concatenate([np.flatnonzero(training), rng.permutation(np.flatnonzero(~training))])
    other = dict(data, rna=anndata.AnnData(data["rna"].X[order], data["rna"].obs, data["rna"].var))
    changed = multiomics(other, store, training_cells=training)
    assert torch.equal(graph.ndata("gene")["svd"], changed.ndata("gene")["svd"])
    assert torch.equal(graph.ndata("cell")["svd"][:311], changed.ndata("cell")["svd"][:311])
    assert not torch.equal(graph.ndata("cell")["svd"][311:], changed.ndata("cell")["svd"][311:])
    known = [PROTEIN_PROTEIN, GENE_GENE, REGULATES, ENCODES, EXPRESSES]
    assert graph_hash(training_messages(graph), known) == graph_hash(training_messages(changed), known)
    assert graph_hash(graph, known) != graph_hash(changed, known)
