"""A recipe that asks for all that comes from sequence, from plan to store."""

import numpy as np
import pytest

from heteromics.errors import RecipeError
from heteromics.priors import PriorStore
from heteromics.priors.plan import make_plan
from tests.priors.sequence_files import fasta, genome

KEYS = """\
attributes:
  sequence: {fasta: true, promoters: true}
  kmers: {k: 3, promoters: true}
  bases: {width_bp: 32, form: one_hot, promoters: true}
"""
MOTIFS = ">M1 ALPHA\n" + "0 0 50 0\n" * 4 + "0 50 0 0\n" * 3 + ">M2 NOSUCH::BETA\n" + "9 1 1 9\n" * 9


@pytest.fixture
def recipe(recipe):
    folder = recipe.parent
    (folder / "genome.fa").write_text(fasta({"chr1": genome(1), "chr2": genome(2, 5_000)}))
    (folder / "motifs.pfm").write_text(MOTIFS)
    text = recipe.read_text().replace("gmt: sets.gmt", "gmt: sets.gmt, fasta: genome.fa, motifs: motifs.pfm")
    text = text.replace("  peak: {}\n", "  peak: {}\n  motif: {}\n")
    recipe.write_text(f"{text}  motif_peak: {{p_value: 0.01}}\n{KEYS}")
    return recipe


def test_all_tables_are_built_and_say_what_their_places_mean(recipe):
    with PriorStore.build(recipe, recipe.with_name("a.duckdb"), progress=False) as store:
        types = {
            table: {name: kind for name, kind, *_ in store.connection.execute(f"DESCRIBE {table}").fetchall()}
            for table in ("peak_kmer", "promoter_kmer", "peak_bases", "promoter_bases", "motif")
        }
        assert types["peak_kmer"]["frequency"] == types["promoter_kmer"]["frequency"] == "FLOAT[32]"
        assert types["peak_bases"]["codes"] == types["promoter_bases"]["codes"] == "UTINYINT[128]"
        assert types["motif"]["probabilities"] == "DOUBLE[]"
        labels = store.frame("array_label").query("table_name == 'promoter_bases'").sort_values("position")["label"]
        assert labels.tolist()[:4] == ["-16 A", "-16 C", "-16 G", "-16 T"]
        assert len(store.frame("promoter_kmer")) == len(store.frame("gene")) == 4
        frequency = np.stack(store.frame("peak_kmer")["frequency"])
        np.testing.assert_allclose(frequency.sum(axis=1), 1, rtol=1e-5)
        linked = store.frame("motif_tf").merge(store.frame("gene"), on="gene_id")
        assert sorted(zip(linked["motif_id"], linked["symbol"], strict=True)) == [("M1", "ALPHA"), ("M2", "BETA")]
        assert set(store.frame("tf_peak")["tf_id"]) <= set(linked["gene_id"])
        assert len(store.frame("motif_peak")) > 0
        absent = store.match_report("motif_tf")
        assert absent[["name", "outcome"]].to_numpy().tolist() == [["NOSUCH", "absent"]]


def test_a_plan_tells_how_many_rows_there_will_be(recipe):
    plan = make_plan(recipe)
    rows = {table.table: table.rows for table in plan.tables}
    assert not plan.missing
    assert (rows["motif"], rows["peak_kmer"], rows["peak_bases"], rows["promoter_kmer"]) == (2, 4, 4, rows["gene"])
    assert 0 < rows["motif_peak"] <= 2 * 4
    jaspar = make_plan(recipe, sets=["nodes.motif.jaspar.species=[9606]"])
    assert next(table.rows for table in jaspar.tables if table.table == "motif") == 720


def test_hits_need_motifs_and_motifs_need_their_file(recipe):
    with pytest.raises(RecipeError, match=r"motif_peak needs table motif, which the recipe does not build"):
        make_plan(recipe, sets=["nodes.motif=false"])
    missing = make_plan(recipe, sets=["source.motifs=null"]).missing
    assert [source.name for source in missing] == ["motifs"]
