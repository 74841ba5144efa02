"""Interactions, gene sets, regulons and lists of pairs from real files: what joins, and why the rest does not."""

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from heteromics.errors import PriorError
from heteromics.priors import PriorStore
from heteromics.priors.gene_sets import read_gene_sets

pytestmark = pytest.mark.realdata

HUMAN = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz
  gmt: {mirror}/prior_msigdb_hallmark_v7.4/h.all.v7.4.symbols.gmt
  pairs_irefindex: {mirror}/prior_ppi_irefindex_symbols/ppi_symbols.csv.gz
  regulons_dorothea: {mirror}/prior_tf_target_dorothea/dorothea_human_ABC.csv.gz
nodes: {{gene: {{chrom_style: ucsc}}}}
edges: {{pathways: {{}}, pairs: {{}}, regulons: {{}}}}
"""

STRING = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz
  string_links: {mirror}/prior_string_v11_sample/STRING11_9606_links.txt.gz
  string_aliases: {mirror}/prior_string_v11_sample/STRING11_9606_aliases.txt.gz
nodes: {{gene: {{chrom_style: ucsc}}}}
edges: {{interactions: {{min_score: 400}}}}
"""

ENTREZ = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz
  gmt: {mirror}/prior_msigdb_hallmark_v7.4/h.all.v7.4.entrez.gmt
  aliases_hallmark: aliases.tsv
nodes: {{gene: {{chrom_style: ucsc}}}}
edges: {{pathways: {{ids: entrez}}}}
"""

MOUSE = """
recipe: 1
assembly: {{name: GRCm38, sizes: {mirror}/prior_genome_tables/mm10.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz
  gmt: {mirror}/prior_msigdb_hallmark_v7.4/h.all.v7.4.symbols.gmt
  regulons_dorothea: {mirror}/prior_tf_target_dorothea/dorothea_mouse_ABC.csv.gz
  summary_data: {mirror}/multiome_snareseq_mop/rna.h5ad
  summary_cells: cells.txt
nodes: {{gene: {{chrom_style: ucsc}}}}
edges: {{pathways: {{weight: cosine}}, regulons: {{}}}}
attributes: {{summaries: false}}
"""


def build(text, mirror, folder, sets=()):
    (folder / "recipe.yaml").write_text(text.format(mirror=mirror))
    return PriorStore.build(folder / "recipe.yaml", folder / "priors.duckdb", sets=sets, progress=False, force=True)


def outcomes(store, table):
    rows = store.match_summary().query("table_name == @table")
    return {(row.source.split("/")[-1], row.outcome): row.n for row in rows.itertuples()}


def hallmark(mirror, ids):
    return read_gene_sets(mirror / "prior_msigdb_hallmark_v7.4" / f"h.all.v7.4.{ids}.gmt")


@pytest.fixture(scope="module")
def human(mirror, tmp_path_factory):
    with build(HUMAN, mirror, tmp_path_factory.mktemp("human")) as store:
        yield store


@pytest.fixture(scope="module")
def mouse(mirror, tmp_path_factory):
    """Training cells: all batches but the first."""
    folder = tmp_path_factory.mktemp("mouse")
    obs = anndata.read_h5ad(mirror / "multiome_snareseq_mop" / "rna.h5ad", backed="r").obs
    training = obs.index[obs["batch"] != obs["batch"].cat.categories[0]]
    (folder / "cells.txt").write_text("\n".join(training))
    with build(MOUSE, mirror, folder) as store:
        yield store


@pytest.fixture
def entrez_folder(mirror, tmp_path):
    """The two hallmark files list the same genes in the same order, so that they give a table of both names."""
    listed = zip(hallmark(mirror, "symbols"), hallmark(mirror, "entrez"), strict=True)
    both = {pair for one, two in listed for pair in zip(one.members, two.members, strict=True)}
    assert len(both) == 4_383
    lines = "".join(f"{symbol}\t{entrez}\n" for symbol, entrez in sorted(both))
    (tmp_path / "aliases.tsv").write_text("symbol\tentrez\n" + lines)
    return tmp_path


def test_irefindex_keeps_the_pairs_of_chromosome_1(human, mirror):
    raw = pd.read_csv(mirror / "prior_ppi_irefindex_symbols" / "ppi_symbols.csv.gz", keep_default_na=False)
    genes = human.frame("gene")
    symbols = genes.drop_duplicates("symbol", keep=False).set_index("symbol")["gene_id"]
    ends = pd.DataFrame({"a": raw["from"].map(symbols), "b": raw["to"].map(symbols), "cost": raw["cost"].astype(float)})
    ends = ends.dropna().query("a != b")
    expected = {(*sorted((row.a, row.b)), round(1 / (1 + row.cost), 9)) for row in ends.itertuples()}
    pairs = human.frame("gene_gene").query("source == 'irefindex'")
    assert {(row.gene_a, row.gene_b, round(row.weight, 9)) for row in pairs.itertuples()} == expected
    counts = outcomes(human, "gene_gene")
    assert len(raw) == 175_854
    assert counts["ppi_symbols.csv.gz", "matched"] == len(pairs) == 453
    assert counts["ppi_symbols.csv.gz", "self_loop"] == 2  # of 33 in the file
    assert counts["ppi_symbols.csv.gz", "absent"] == 175_399


def test_irefindex_names_that_do_not_join_are_of_other_chromosomes_or_older(human):
    report = human.match_report("gene_gene").query("source.str.endswith('ppi_symbols.csv.gz, names')")
    assert set(report["outcome"]) == {"absent", "ambiguous"}
    assert set(report.query("outcome == 'ambiguous'")["name"]) == {"KCNA3", "TARDBP"}  # two Ensembl ids each
    counts = outcomes(human, "gene_gene")
    assert counts["ppi_symbols.csv.gz, names", "absent"] == 14_616  # of 15,405
    assert counts["ppi_symbols.csv.gz, names", "matched"] == 787
    assert {"RNF14", "SP1"} <= set(report["name"])  # chr5, chr12
    assert {"DKFZp586J0119", "HIN1L"} <= set(report["name"])  # names of clones and of genes that are no longer used


def test_human_regulons_of_chromosome_1(human, mirror):
    raw = pd.read_csv(mirror / "prior_tf_target_dorothea" / "dorothea_human_ABC.csv.gz")
    symbols = human.frame("gene").drop_duplicates("symbol", keep=False).set_index("symbol")["gene_id"]
    ours = human.frame("tf_gene")
    expected = raw.assign(tf_id=raw["tf"].map(symbols), gene_id=raw["target"].map(symbols)).dropna()
    columns = ["tf_id", "gene_id", "sign", "confidence"]
    expected = expected.rename(columns={"mor": "sign"})[columns].sort_values(columns[:2], ignore_index=True)
    pd.testing.assert_frame_equal(ours[columns], expected, check_dtype=False)
    counts = outcomes(human, "tf_gene")
    assert counts["dorothea_human_ABC.csv.gz", "matched"] == 7
    assert counts["dorothea_human_ABC.csv.gz, TFs", "matched"] == 5  # 266 factors are on other chromosomes
    assert counts["dorothea_human_ABC.csv.gz, TFs", "absent"] == 266
    assert set(ours["weight"]) == {1.0}  # mor is 1 or -1: DoRothEA grades by class alone


def test_every_mouse_factor_is_a_gene_and_the_targets_that_are_not_have_two_ids(mouse, mirror):
    counts = outcomes(mouse, "tf_gene")
    assert counts["dorothea_mouse_ABC.csv.gz, TFs", "matched"] == 273
    assert counts["dorothea_mouse_ABC.csv.gz, targets", "matched"] == 5_117
    assert counts["dorothea_mouse_ABC.csv.gz, targets", "ambiguous"] == 13
    assert counts["dorothea_mouse_ABC.csv.gz", "matched"] == 12_861
    assert counts["dorothea_mouse_ABC.csv.gz", "absent"] == 34
    report = mouse.match_report("tf_gene")
    of_symbol = mouse.frame("gene").groupby("symbol")["gene_id"].nunique()
    assert (of_symbol[report["name"]] > 1).all()
    assert {"Ddit3", "Aldoa", "Ccl21a"} <= set(report["name"])
    edges = mouse.frame("tf_gene")
    raw = pd.read_csv(mirror / "prior_tf_target_dorothea" / "dorothea_mouse_ABC.csv.gz")
    joined = raw[~raw["target"].isin(report["name"])]
    assert edges["sign"].value_counts().to_dict() == joined["mor"].value_counts().to_dict() == {1: 11_008, -1: 1_853}
    assert set(edges["confidence"]) == {"A", "B", "C"}


def test_mouse_regulons_without_class_c(mirror, tmp_path):
    text = MOUSE.replace("pathways: {{weight: cosine}}, ", "")
    (tmp_path / "cells.txt").write_text("")
    with build(text, mirror, tmp_path, ["edges.regulons.min_confidence=B"]) as store:
        assert set(store.frame("tf_gene")["confidence"]) == {"A", "B"}
        assert outcomes(store, "tf_gene")["dorothea_mouse_ABC.csv.gz", "filtered"] == 6_576


def test_cosine_of_hallmark_pairs_over_training_cells_agrees_with_scikit_learn(mouse, mirror):
    """Human symbols reach mouse genes by letter case; the data measure 1,677 genes, 21 of them under older names."""
    joined = outcomes(mouse, "gene_pathway")
    assert joined["h.all.v7.4.symbols.gmt", "case_folded"] / 4_383 > 0.85
    rna = anndata.read_h5ad(mirror / "multiome_snareseq_mop" / "rna.h5ad")
    training = rna[rna.obs["batch"] != rna.obs["batch"].cat.categories[0]]
    assert 0 < training.n_obs < rna.n_obs
    symbols = mouse.frame("gene").set_index("gene_id")["symbol"]
    pairs = mouse.frame("gene_gene").query("source == 'pathway'")
    ends = pairs[["gene_a", "gene_b"]].apply(lambda ids: ids.map(symbols))
    used = sorted(set(ends.to_numpy().ravel()))
    cosine = pd.DataFrame(cosine_similarity(training[:, used].X.T), used, used)
    expected = [cosine.loc[row.gene_a, row.gene_b] for row in ends.itertuples()]
    np.testing.assert_allclose(pairs["weight"], expected, atol=1e-5)
    assert pairs["evidence"].str.contains(f"cosine over {training.n_obs:,} cells of ").all()
    lacking = mouse.match_report("gene_gene")
    assert set(lacking["detail"]) <= {"in a gene set, but the data have no column for it"}
    members = mouse.frame("gene_pathway")["gene_id"].nunique()
    assert len(lacking) + outcomes(mouse, "gene_gene")["rna.h5ad", "matched"] == members


def test_hallmark_symbols_and_entrez_ids_say_the_same(human, mirror, entrez_folder):
    """Of 4,383 genes 229 are in the annotation of chromosome 1; two more have two Ensembl ids under one symbol."""
    counts = outcomes(human, "gene_pathway")
    assert counts["h.all.v7.4.symbols.gmt", "matched"] == 229
    assert counts["h.all.v7.4.symbols.gmt", "absent"] == 4_152
    assert counts["h.all.v7.4.symbols.gmt", "ambiguous"] == 2
    unusable = human.match_report("pathway")
    assert len(human.frame("pathway")) + len(unusable) == 50
    assert set(unusable["outcome"]) == {"absent"}
    with build(ENTREZ, mirror, entrez_folder) as store:
        assert outcomes(store, "gene_pathway")["h.all.v7.4.entrez.gmt", "alias"] == 229
        columns = ["gene_id", "pathway_id"]
        both = [each.frame("gene_pathway")[columns].sort_values(columns, ignore_index=True) for each in (human, store)]
        pd.testing.assert_frame_equal(*both)


def test_wikipathways_lists_entrez_ids(mirror, entrez_folder):
    """The table at hand names 3,061 of its 7,846 Entrez ids; 155 of them are genes of chromosome 1."""
    path = mirror / "prior_wikipathways" / "wikipathways-20220610-gmt-Homo_sapiens.gmt"
    members = {member for one in read_gene_sets(path) for member in one.members}
    assert len(members) == 7_846
    assert all(member.isdecimal() for member in members)
    with build(ENTREZ, mirror, entrez_folder, [f"source.gmt={path}"]) as store:
        counts = outcomes(store, "gene_pathway")
        assert counts[path.name, "alias"] == 155
        assert counts[path.name, "absent"] == 7_691
        assert len(store.frame("pathway")) == 402
        assert outcomes(store, "pathway")[path.name, "absent"] == 344
    with pytest.raises(PriorError, match="look like Entrez ids: set `ids: entrez`, and give source string_aliases or"):
        build(HUMAN, mirror, entrez_folder, [f"source.gmt={path}"])


def test_string_links_and_aliases_are_samples_drawn_apart(mirror, tmp_path):
    """So few of the proteins linked are among those with aliases: 34 have a symbol, 4 a gene id, 1 joins by symbol."""
    raw = pd.read_csv(mirror / "prior_string_v11_sample" / "STRING11_9606_links.txt.gz", sep=" ")
    linked = set(raw["protein1"]) | set(raw["protein2"])
    with build(STRING, mirror, tmp_path) as store:
        proteins = outcomes(store, "protein")
        assert proteins["STRING11_9606_links.txt.gz", "matched"] == 34
        assert proteins["STRING11_9606_links.txt.gz", "symbol_missing"] == len(linked) - 34 == 9_431
        genes = outcomes(store, "gene_protein")
        assert genes["STRING11_9606_links.txt.gz", "matched"] == 4
        assert genes["STRING11_9606_links.txt.gz", "alias"] == 1
        evidence = store.frame("gene_protein")["evidence"].value_counts().to_dict()
        assert evidence == {
            "Ensembl gene id in the STRING aliases": 4,
            "symbol TMEM69 of the protein in STRING": 1,
        }
        links = outcomes(store, "protein_protein")
        assert links["STRING11_9606_links.txt.gz", "matched"] == len(store.frame("protein_protein")) == 9_987
        assert outcomes(store, "gene_gene") == {("STRING11_9606_links.txt.gz", "absent"): 9_987}
