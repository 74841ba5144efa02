import dataclasses
import hashlib
import os
import signal
import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest

import heteromics
from heteromics.errors import PriorError, RecipeError, StoreError
from heteromics.priors import PriorStore, build_store, load_recipe
from heteromics.priors import build as engine
from heteromics.priors.build import run_build
from heteromics.priors.outcomes import OUTCOMES
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import Built
from heteromics.priors.views import EDGE_VIEW, table_comment


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def beside(db):
    """What lies beside the store and begins with its name."""
    return sorted(path.name for path in db.parent.glob(f"{db.name}*"))


@pytest.fixture
def db(folder):
    return folder / "priors.duckdb"


@pytest.fixture
def built(recipe, db):
    build_store(recipe, db, progress=False)
    return db


def test_a_build_leaves_the_store_and_nothing_else(built):
    assert beside(built) == ["priors.duckdb"]


def test_the_books_say_where_every_table_comes_from(recipe, built):
    with PriorStore.open(built) as store:
        books = store.provenance().set_index("table_name")
        tables = {name for name in store.tables() if SCHEMAS[name].kind != "books"}
        assert set(books.index) == tables | {"assembly_check"}
        assert books.loc["gene", "source"] == "genes.gtf"
        assert books.loc["gene", "sha256"] == digest(recipe.with_name("genes.gtf"))
        assert books.loc["chromosome", "source"] == "chrom.sizes"
        assert books.loc["gene_peak", "source"] == "tables gene, peak"
        assert (books["recipe_hash"] == load_recipe(recipe).hash).all()
        assert books.loc[["chromosome", "gene", "peak", "gene_pathway"], "rows"].tolist() == [2, 4, 4, 3]
        assert (books["seconds"] >= 0).all()
        assert store.info.keys() == {
            "format_version", "heteromics_version", "assembly", "chrom_style", "recipe", "recipe_hash", "content_hash",
            "recipe_yaml", "created",
        }  # fmt: skip
        assert store.info["heteromics_version"] == heteromics.__version__
        assert store.info["recipe_yaml"] == load_recipe(recipe).as_yaml()
        assert store.info["created"].endswith("+00:00")


def test_names_that_did_not_join_are_reported(built):
    with PriorStore.open(built) as store:
        report = store.match_report("gene_pathway")
        assert report[["source", "name", "outcome"]].values.tolist() == [["sets.gmt", "NOGENE", "absent"]]
        assert set(store.match_summary()["outcome"]) <= set(OUTCOMES)


def test_a_user_of_the_duckdb_shell_can_read_what_tables_and_columns_are(built):
    with duckdb.connect(str(built), read_only=True) as connection:
        tables = dict(connection.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall())
        columns = connection.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        ends = connection.execute("SELECT source_type, target_type, count(*) FROM edge GROUP BY ALL").fetchall()
    assert tables == {name: table_comment(SCHEMAS[name]) for name in tables}
    assert set(ends) == {("gene", "peak", 4), ("gene", "pathway", 3), ("gene", "gene", 1)}
    for table, column, comment in columns:
        if table == EDGE_VIEW:
            assert comment
            continue
        assert comment == next(known.comment for known in SCHEMAS[table].columns if known.name == column)


def test_two_builds_hold_the_same_rows_in_the_same_order(recipe, built):
    with (
        PriorStore.build(recipe, built.with_name("again.duckdb"), progress=False) as again,
        PriorStore.open(built) as store,
    ):
        assert again.tables() == store.tables()
        for name in store.tables():
            first, second = store.frame(name), again.frame(name)
            if name == "provenance":
                first, second = first.drop(columns="seconds"), second.drop(columns="seconds")
            if name == "store_info":
                first, second = first.query("key != 'created'"), second.query("key != 'created'")
            assert first.equals(second), name


def test_the_content_hash_knows_sources_and_settings_and_not_the_way_a_store_was_built(recipe, built):
    def content(name, sets=(), **options):
        with PriorStore.build(recipe, built.with_name(name), sets=sets, progress=False, **options) as store:
            return store.info["content_hash"]

    with PriorStore.open(built) as store:
        first = store.info["content_hash"]
    assert content("again.duckdb") == first
    nearer = content("nearer.duckdb", ["edges.gene_peak.within_bp=300"])
    assert nearer != first
    assert content("again.duckdb", ["edges.gene_peak.within_bp=300"], force=True) == nearer  # most steps are kept
    sets = recipe.with_name("sets.gmt")
    sets.write_text(sets.read_text().replace("NOGENE", "ALPHA"))
    other = content("other.duckdb")
    assert other not in (first, nearer)
    assert content(built.name, force=True) == other
    sets.write_text(sets.read_text().replace("SET_ONE", "SET_UNO"))  # as many rows of every table
    assert content("renamed.duckdb") not in (first, nearer, other)


def test_sizes_take_the_style_of_the_store(recipe, db):
    sets = ["assembly.chrom_style=ensembl", "nodes.gene.chrom_style=ensembl", "nodes.peak.chrom_style=ensembl"]
    with PriorStore.build(recipe, db, sets=sets, progress=False) as store:
        assert store.frame("chromosome").values.tolist() == [["1", 0, 10000], ["2", 1, 5000]]
        assert set(store.frame("gene")["chrom"]) == {"1", "2"}
        assert len(store.frame("gene_peak")) > 0


def test_chromosomes_that_become_one_are_an_error(recipe, db):
    recipe.with_name("chrom.sizes").write_text("chr1\t10000\n1\t10000\nchr2\t5000\n")
    with pytest.raises(PriorError, match="several chromosomes become one in style ucsc: chr1"):
        build_store(recipe, db, progress=False)


def test_an_existing_store_is_kept_unless_force_is_given(recipe, built):
    before = digest(built)
    changed = ["edges.gene_peak.within_bp=300"]
    with pytest.raises(StoreError, match="exists already. Fix: --force"):
        build_store(recipe, built, sets=changed, progress=False)
    assert digest(built) == before
    build_store(recipe, built, sets=changed, force=True, progress=False)
    with PriorStore.open(built) as store:
        assert "within_bp: 300" in store.info["recipe_yaml"]


def test_a_missing_folder_and_missing_sources_are_said_before_any_work(recipe, db):
    with pytest.raises(StoreError, match="there is no folder"):
        build_store(recipe, db.parent / "no" / "x.duckdb", progress=False)
    with pytest.raises(RecipeError, match="1 of 4 sources cannot be had"):
        build_store(recipe, db, sets=["source.peaks=/no/peaks.bed"], progress=False)
    assert beside(db) == []


def test_an_error_in_a_source_leaves_the_old_store_and_what_was_finished(recipe, built):
    before = digest(built)
    recipe.with_name("peaks.bed").write_text("chr1\t9000\t10001\n")
    sets = ["nodes.gene.biotypes=[protein_coding]"]
    with pytest.raises(PriorError, match="end beyond their chromosome"):
        build_store(recipe, built, sets=sets, force=True, progress=False)
    assert digest(built) == before
    assert beside(built) == ["priors.duckdb", f"priors.duckdb.building-{os.getpid()}"]
    recipe.with_name("peaks.bed").write_text("chr1\t9000\t9999\n")
    done = run_build(recipe, built, sets=sets, force=True, progress=False)
    assert "nodes.gene" in done.kept
    assert "nodes.peak" in done.made
    assert beside(built) == ["priors.duckdb"]


FULL = """
import resource, sys
from heteromics.errors import StoreError
from heteromics.priors import build_store

limit, recipe, db = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    build_store(recipe, db, sets=["edges.gene_peak.within_bp=300"], force=True, progress=False)
except StoreError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("limit", [0, 4_096, 20_000, 1_000_000])  # the lock, the header, the log, the blocks
def test_a_full_disk_is_a_store_error_and_leaves_the_old_store(recipe, built, limit):
    before = digest(built)
    command = [sys.executable, "-c", FULL, str(limit), str(recipe), str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{built} could not be written; a store that was there is as it was.\n")
    assert "File too large" in done.stderr
    assert f"Fix: make room in {built.parent}, or give another --db." in done.stderr
    assert digest(built) == before
    assert beside(built) == ["priors.duckdb"]
    build_store(recipe, built, sets=["edges.gene_peak.within_bp=300"], force=True, progress=False)
    with PriorStore.open(built) as store:
        assert "within_bp: 300" in store.info["recipe_yaml"]


def test_an_error_of_a_builder_is_not_taken_for_a_full_disk(recipe, built, monkeypatch):
    monkeypatch.setattr(engine.Writer, "close", lambda self: self._connection.execute("SELECT nothing"))
    with pytest.raises(duckdb.BinderException, match="nothing"):
        build_store(recipe, built, force=True, progress=False)
    assert beside(built) == ["priors.duckdb"]


KILLED = """
import os, signal, sys
from heteromics.priors import build as engine

point, recipe, db = sys.argv[1:]

def killing(function, at):
    calls = iter(range(at))
    def run(*args, **kwargs):
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return run

if point == "between tables":
    engine.Writer.add = killing(engine.Writer.add, 2)
elif point == "while inserting":
    engine.Writer._check_key = killing(engine.Writer._check_key, 3)
elif point == "before the rename":
    engine._flush = killing(engine._flush, 0)
elif point == "after the rename":
    engine._flush = killing(engine._flush, 1)
engine.build_store(recipe, db, sets=["edges.gene_peak.within_bp=300"], force=True, fresh=True, progress=False)
"""


@pytest.mark.parametrize("point", ["between tables", "while inserting", "before the rename", "after the rename"])
def test_a_killed_build_leaves_the_old_store_and_the_next_one_finishes(recipe, built, point):
    before = digest(built)
    killed = subprocess.run([sys.executable, "-c", KILLED, point, str(recipe), str(built)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    if point == "after the rename":
        with PriorStore.open(built) as store:
            assert "within_bp: 300" in store.info["recipe_yaml"]
    else:
        assert digest(built) == before
        assert [name for name in beside(built) if ".building-" in name]
    build_store(recipe, built, sets=["edges.gene_peak.within_bp=400"], force=True, progress=False)
    assert beside(built) == ["priors.duckdb"]
    with PriorStore.open(built) as store:
        assert "within_bp: 400" in store.info["recipe_yaml"]


WAITING = """
import sys
from heteromics.priors import build as engine

recipe, db = sys.argv[1:]
close = engine.Writer.close

def waiting(writer):
    print("writing", flush=True)
    sys.stdin.readline()
    close(writer)

engine.Writer.close = waiting
engine.build_store(recipe, db, force=True, progress=False)
"""


def test_a_second_writer_is_told_the_pid_of_the_first_and_readers_go_on(recipe, built):
    command = [sys.executable, "-c", WAITING, str(recipe), str(built)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "writing\n"
        with pytest.raises(StoreError, match=rf"is being written by process {first.pid}\."):
            build_store(recipe, built, force=True, progress=False)
        with PriorStore.open(built) as one, PriorStore.open(built) as other:
            assert one.frame("gene").equals(other.frame("gene"))
        first.communicate("go on\n", timeout=60)
    assert first.returncode == 0
    assert beside(built) == ["priors.duckdb"]


WRITING = """
import sys
import duckdb

with duckdb.connect(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.readline()
"""


def test_a_store_that_another_program_holds_open_for_writing_is_not_read(built):
    command = [sys.executable, "-c", WRITING, str(built)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=rf"lock is held in .*PID {other.pid}(.|\n)*Fix: end what holds it open"):
            PriorStore.open(built)
        other.communicate("go on\n", timeout=60)
    PriorStore.open(built).close()


def test_a_lock_file_that_nobody_holds_is_no_hindrance(recipe, db):
    db.with_name(f"{db.name}.lock").write_text(f"{os.getppid()}\n")  # a living process, but it holds no lock
    db.with_name(f"{db.name}.building-99999").write_text("half")
    db.with_name(f"{db.name}.building-99999.tmp").mkdir()
    build_store(recipe, db, progress=False)
    assert beside(db) == ["priors.duckdb"]


def test_a_lock_file_that_vanishes_while_it_is_taken_is_made_again(recipe, db, monkeypatch):
    taken, flock = [], engine.fcntl.flock

    def vanishing(lock, how):
        flock(lock, how)
        taken.append(lock)
        if len(taken) == 1:
            db.with_name(f"{db.name}.lock").unlink()  # by the writer before, at its end

    monkeypatch.setattr(engine.fcntl, "flock", vanishing)
    build_store(recipe, db, progress=False)
    assert len(taken) == 2
    assert beside(db) == ["priors.duckdb"]


def test_readers_keep_their_store_while_it_is_replaced_and_the_next_see_the_new_one(recipe, built):
    with PriorStore.open(built) as old, PriorStore.open(built) as older:
        near = old.table("gene_peak").filter("distance = 0")
        with PriorStore.build(recipe, built, sets=["edges.gene_peak=false"], force=True, progress=False) as new:
            assert "gene_peak" not in new.tables()
            assert set(new.neighbors("ALPHA", 3)["node_type"]) == {"gene", "pathway"}
        with PriorStore.open(built) as new:
            assert "gene_peak" not in new.tables()
        for store in (old, older):
            assert "gene_peak" in store.tables()
            assert len(store.frame("gene_peak")) == 4
            assert "peak" in set(store.neighbors("ALPHA", 3)["node_type"])
        assert near.fetchall()[0][:2] == ("ENSG00000000001", "chr1:900-1100")
        for window in (300, 400):
            build_store(recipe, built, sets=[f"edges.gene_peak.within_bp={window}"], force=True, progress=False)
        with PriorStore.open(built) as new:
            assert "within_bp: 400" in new.info["recipe_yaml"]
        assert "within_bp: 500" in old.info["recipe_yaml"]
    assert beside(built) == ["priors.duckdb"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"pathway": {"pathway_id": ["a"], "description": [""]}}, "columns size are missing and none are unknown"),
        (
            {"pathway": {"pathway_id": ["a"], "description": [""], "size": [1], "x": [1]}},
            "none are missing and x are unknown",
        ),
        ({"pathway": {"pathway_id": ["a", "a"], "description": ["", ""], "size": [1, 2]}}, "1 rows have the same"),
        (
            {"protein": {"protein_id": ["a"], "symbol": ["b"]}},
            "builder edges.pathways returned protein, expected pathway",
        ),
    ],
)
def test_a_builder_that_breaks_the_contract_is_an_error(recipe, db, monkeypatch, tables, said):
    made = Built({name: pa.table(columns) for name, columns in tables.items()})
    steps = tuple(
        (dataclasses.replace(builder, run=lambda *_: made) if builder.name == "pathways" else builder, config)
        for builder, config in load_recipe(recipe).steps
    )
    checked = dataclasses.replace(load_recipe(recipe), steps=steps)
    monkeypatch.setattr(engine, "load_recipe", lambda *_: checked)
    with pytest.raises(PriorError) as error:
        build_store(recipe, db, progress=False)
    assert said in str(error.value)
    assert not db.exists()


def test_a_link_is_followed_to_the_store_it_names(recipe, built):
    link = built.with_name("link.duckdb")
    link.symlink_to(built)
    build_store(recipe, link, sets=["edges.gene_peak.within_bp=300"], force=True, progress=False)
    assert link.is_symlink()
    with PriorStore.open(built) as store:
        assert "within_bp: 300" in store.info["recipe_yaml"]


def test_a_table_made_from_others_names_all_that_it_used(recipe, db):
    with PriorStore.build(recipe, db, sets=["attributes.annotation={}"], progress=False) as store:
        source = store.provenance().set_index("table_name").loc["peak_annotation", "source"]
    assert source == "tables gene, peak, gene_part"


def test_files_of_one_name_are_told_apart_in_the_books(recipe, db):
    for folder in ("a", "b"):
        recipe.with_name(folder).mkdir()
        (recipe.with_name(folder) / "regions.bed").write_text("chr1\t900\t1000\n")
    sets = [f"source.regions_{name}={recipe.with_name(name) / 'regions.bed'}" for name in ("a", "b")]
    with PriorStore.build(recipe, db, sets=[*sets, "nodes.region={}"], progress=False) as store:
        books = store.provenance().query("table_name == 'region'")
    assert sorted(books["source"]) == ["regions.bed (regions_a)", "regions.bed (regions_b)"]
