import shutil

import duckdb
import pandas as pd
import pytest

from heteromics.errors import StoreError
from heteromics.priors import PriorStore
from heteromics.priors.schemas import SCHEMAS
from tests.priors.toy_stores import random_tables, write_store


def compared(tmp_path, here, there):
    with (
        PriorStore.open(write_store(tmp_path / "here.duckdb", here)) as a,
        PriorStore.open(write_store(tmp_path / "there.duckdb", there)) as b,
    ):
        return a.diff(b)


def by_table(found):
    return {table.table: table for table in found.tables}


def test_a_store_equals_itself_and_its_copy(store, tmp_path):
    shutil.copyfile(store.path, tmp_path / "copy.duckdb")
    for other in (store, store.path, tmp_path / "copy.duckdb"):
        found = store.diff(other)
        assert found.equal
        assert [table.rows_a for table in found.tables] == [table.rows_b for table in found.tables]
        assert found.as_dict()["equal"] is True
        assert found.as_dict()["sources"] == ()


@pytest.mark.parametrize("seed", range(3))
def test_rows_gained_lost_and_changed_agree_with_pandas(tmp_path, seed):
    here, there = random_tables(seed), random_tables(seed + 100)
    for row in there["gene_gene"][::2]:
        row["weight"] = 0.35
    there["gene_gene"] += here["gene_gene"][:5]
    there["gene_gene"] = list({(r["gene_a"], r["gene_b"], r["source"]): r for r in there["gene_gene"]}.values())
    found = by_table(compared(tmp_path, here, there))
    for name in ("gene_gene", "gene_peak", "tf_gene", "gene_pathway"):
        key = list(SCHEMAS[name].key)
        joined = pd.DataFrame(here[name]).merge(pd.DataFrame(there[name]), on=key, how="outer", indicator=True)
        both = joined[joined["_merge"] == "both"]
        changed = (both["weight_x"] != both["weight_y"]).sum() if "weight_x" in both else 0
        table = found[name]
        assert (table.rows_a, table.rows_b) == (len(here[name]), len(there[name]))
        assert (table.gained, table.lost) == tuple(
            (joined["_merge"] == side).sum() for side in ("right_only", "left_only")
        )
        assert table.changed == changed
        assert table.changed_in == ({"weight": changed} if changed else {})
        lost = joined.loc[joined["_merge"] == "left_only", key].sort_values(key).head(5)
        assert table.examples.get("lost", []) == [" ".join(row) for row in lost.to_numpy()]
        assert table.equal == (not (table.gained or table.lost or table.changed))


def test_each_changed_column_is_counted_null_and_nan_included(tmp_path):
    def attributes(**last):
        return {"peak_attribute": [{"peak_id": "p1", "gc": float("nan")}, {"peak_id": "p2", **last}]}

    found = by_table(compared(tmp_path, attributes(gc=None, width=7), attributes(gc=0.5, width=8)))["peak_attribute"]
    assert (found.gained, found.lost, found.changed) == (0, 0, 1)
    assert found.changed_in == {"width": 1, "gc": 1}
    assert found.examples == {"changed": ["p2"]}


def test_arrays_of_other_lengths_differ_in_every_row(tmp_path):
    def kmers(length):
        return {"peak_kmer": [{"peak_id": peak, "frequency": [0.5] * length} for peak in ("p1", "p2")]}

    assert by_table(compared(tmp_path, kmers(3), kmers(4)))["peak_kmer"].changed_in == {"frequency": 2}
    (tmp_path / "again").mkdir()
    assert by_table(compared(tmp_path / "again", kmers(3), kmers(3)))["peak_kmer"].equal


def test_books_are_compared_by_whole_rows(tmp_path):
    def reported(*details):
        return {"match_report": [{"table_name": "gene", "name": "X", "outcome": "alias", "detail": d} for d in details]}

    found = by_table(compared(tmp_path, reported("one", "two", "two"), reported("two", "three")))["match_report"]
    assert (found.rows_a, found.rows_b, found.gained, found.lost, found.changed) == (3, 2, 1, 1, 0)


def test_tables_of_one_store_alone_are_named(tmp_path):
    gene = {"gene": [{"gene_id": "A"}, {"gene_id": "B"}]}
    pathway = {"pathway": [{"pathway_id": "S"}]}
    found = compared(tmp_path, gene, pathway)
    assert (found.only_a, found.only_b, found.equal) == ({"gene": 2}, {"pathway": 1}, False)
    assert found.rows()[:2] == [
        {"table": "gene", "rows_a": 2, "rows_b": None, "gained": 0, "lost": 2, "changed": 0},
        {"table": "pathway", "rows_a": None, "rows_b": 1, "gained": 1, "lost": 0, "changed": 0},
    ]


def test_another_recipe_and_another_source_are_told(store, recipe):
    recipe.with_name("sets.gmt").write_text("SET_ONE\thttp://one\tALPHA\tBETA\n")
    with PriorStore.build(
        recipe, recipe.with_name("other.duckdb"), sets=["edges.gene_peak.within_bp=200"], progress=False
    ) as other:
        found = store.diff(other)
        back = other.diff(store)
    assert {row["key"]: (row["a"], row["b"]) for row in found.recipe} == {"edges.gene_peak.within_bp": (500, 200)}
    gmt = [change for change in found.sources if change["table"] == "pathway"]
    assert [(change["source"], change["change"]) for change in gmt] == [("sets.gmt", "changed")]
    assert gmt[0]["was"].startswith("sha256:")
    assert gmt[0]["was"] != gmt[0]["now"]
    tables, mirrored = by_table(found), by_table(back)
    assert (tables["pathway"].lost, tables["pathway"].examples) == (1, {"lost": ["SET_TWO"]})
    assert tables["gene"].equal
    assert all(table.gained == mirrored[name].lost for name, table in tables.items())
    assert not found.equal


def test_what_is_no_store_cannot_be_compared(store, tmp_path):
    with pytest.raises(StoreError, match="no such store"):
        store.diff(tmp_path / "none.duckdb")
    assert store.tables()


def test_stores_stay_usable_and_nothing_is_left_beside_them(store, tmp_path):
    shutil.copyfile(store.path, tmp_path / "copy.duckdb")
    before = sorted(tmp_path.iterdir())
    store.diff(tmp_path / "copy.duckdb")
    assert sorted(tmp_path.iterdir()) == before
    attached = store.connection.execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal").fetchall()
    assert sorted(name for (name,) in attached) == ["memory", "store"]
    with duckdb.connect(str(tmp_path / "copy.duckdb")) as writer:
        writer.execute("DELETE FROM gene")
    assert by_table(store.diff(tmp_path / "copy.duckdb"))["gene"].lost == 4


def test_the_day_an_answer_is_from_is_no_difference(tmp_path):
    def answers(symbol, day):
        return {"mygene_answer": [{"name": "X", "taxon": 9606, "gene_id": None, "symbol": symbol, "asked_on": day}]}

    found = compared(tmp_path, answers("X1", "2024-01-01"), answers("X1", "2024-01-02"))
    assert found.equal
    (tmp_path / "other").mkdir()
    found = compared(tmp_path / "other", answers("X1", "2024-01-01"), answers("X2", "2024-01-01"))
    table = by_table(found)["mygene_answer"]
    assert (table.gained, table.lost, table.changed) == (1, 1, 0)


def test_files_of_one_name_are_all_compared(tmp_path):
    def books(*sums):
        return {"provenance": [{"table_name": "region", "source": "peaks.bed", "sha256": one} for one in sums]}

    (change,) = compared(tmp_path, books("1", "9"), books("2", "9")).sources
    assert (change["change"], change["was"], change["now"]) == ("changed", "sha256:1, sha256:9", "sha256:2, sha256:9")
