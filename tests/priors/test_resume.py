"""What is kept of earlier builds: always what a fresh build would make, whatever ended them."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest

from heteromics.errors import PriorError, StoreError
from heteromics.priors import PriorStore, build_store, load_recipe, make_plan
from heteromics.priors import build as engine
from heteromics.priors._fingerprint import fingerprints
from heteromics.priors.build import run_build
from heteromics.priors.registry import BUILDERS
from heteromics.priors.sources import Sources

RECIPE = """\
recipe: 1
assembly: {name: tiny, sizes: chrom.sizes, chrom_style: ucsc}
sources: {gtf: genes.gtf, peaks: peaks.bed, gmt: sets.gmt, pairs_one: one.tsv}
nodes:
  gene: {strip_version: true}
  peak: {}
edges:
  gene_peak: {within_bp: 500}
  pathways: {ids: symbol}
  pairs: {}
"""


@pytest.fixture
def recipe(folder):
    """Two builders give rows to table gene_gene."""
    (folder / "one.tsv").write_text("ALPHA\tBETA\t0.5\nALPHA\tNOGENE\t0.25\n")
    (folder / "tiny.yaml").write_text(RECIPE)
    return folder / "tiny.yaml"


@pytest.fixture
def db(folder):
    return folder / "priors.duckdb"


@pytest.fixture
def built(recipe, db):
    build_store(recipe, db, progress=False)
    return db


def contents(db):
    """All rows of all tables in their order, but for dates, times and what was kept."""
    leave_out = {"provenance": {"seconds"}, "build_step": {"kept"}}
    with PriorStore.open(db) as store:
        rows = {}
        for name in store.tables():
            frame = store.frame(name).drop(columns=list(leave_out.get(name, ())))
            rows[name] = frame.astype(str).values.tolist()
        rows["store_info"] = [row for row in rows["store_info"] if row[0] != "created"]
    return rows


def fresh(recipe, db, sets=()):
    other = db.with_name("fresh.duckdb")
    build_store(recipe, other, sets=sets, force=True, fresh=True, progress=False)
    return contents(other)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def beside(db):
    return sorted(path.name for path in db.parent.glob(f"{db.name}*"))


def keys(recipe, sets=()):
    return [builder.key for builder, _ in load_recipe(recipe, sets).steps]


def stopping(monkeypatch, after, error=KeyboardInterrupt):
    """Stop the next build after so many steps."""
    add, left = engine.Writer.add, [after]

    def run(*args, **kwargs):
        if not left[0]:
            monkeypatch.setattr(engine.Writer, "add", add)
            raise error
        left[0] -= 1
        return add(*args, **kwargs)

    monkeypatch.setattr(engine.Writer, "add", run)


def test_a_store_in_which_nothing_changed_is_left_as_it_is(recipe, built):
    before = digest(built)
    done = run_build(recipe, built, progress=False)
    assert done.up_to_date
    assert (done.made, list(done.kept)) == ((), keys(recipe))
    assert digest(built) == before
    assert beside(built) == ["priors.duckdb"]


@pytest.mark.parametrize(
    ("change", "sets", "made"),
    [
        (None, [], set()),
        (None, ["edges.gene_peak.within_bp=300"], {"edges.gene_peak"}),
        (None, ["edges.pathways.max_set_size=400"], {"edges.pathways"}),
        (("sets.gmt", "SET_ONE\tna\tALPHA\tBETA\n"), [], {"edges.pathways"}),
        (("one.tsv", "ALPHA\tBETA\t1\n"), [], {"edges.pairs"}),
        (None, ["source.pairs_two=two.tsv"], {"edges.pairs"}),
        (None, ["edges.pathways=false"], set()),
        (None, ["attributes.annotation={}"], {"attributes.annotation"}),
        (
            ("peaks.bed", "chr1\t900\t1100\n"),
            [],
            {"nodes.peak", "nodes.assembly_check", "edges.gene_peak", "attributes.sequence"},
        ),
        (("genes.gtf", None), [], None),
        (("chrom.sizes", "chr1\t20000\nchr2\t5000\n"), [], None),
        (None, ["assembly.name=other"], None),
    ],
)
def test_only_what_changed_is_made_anew_and_the_store_is_that_of_a_fresh_build(
    recipe, built, monkeypatch, change, sets, made
):
    monkeypatch.chdir(recipe.parent)
    recipe.with_name("two.tsv").write_text("BETA\tALPHA\t2\n")
    if change:
        path = recipe.with_name(change[0])
        path.write_text(change[1] or path.read_text().replace("1300", "1250"))
    if made is None:
        made = set(keys(recipe, sets)) - ({"nodes.peak"} if change and change[0] == "genes.gtf" else set())
    if made or "edges.pathways=false" in sets:
        with pytest.raises(StoreError, match=r"exists already. Fix: --force(.|\n)*steps"):
            build_store(recipe, built, sets=sets, progress=False)
    planned = {table.table: table.kept for table in make_plan(recipe, sets=sets, db=built).tables}
    done = run_build(recipe, built, sets=sets, force=True, progress=False)
    assert set(done.made) == made
    assert {*done.made, *done.kept} == set(keys(recipe, sets))
    assert contents(built) == fresh(recipe, built, sets)
    for builder, _ in load_recipe(recipe, sets).steps:
        for table in builder.makes:
            if builder.key in made and table in planned:
                assert not planned[table]
    assert all(planned[table] for table in ("gene", "transcript")) == ("nodes.gene" not in made)
    assert run_build(recipe, built, sets=sets, progress=False).up_to_date


def test_the_books_of_a_kept_step_are_those_of_the_new_recipe(recipe, built):
    sets = ["edges.gene_peak.within_bp=300"]
    build_store(recipe, built, sets=sets, force=True, progress=False)
    with PriorStore.open(built) as store:
        assert set(store.frame("provenance")["recipe_hash"]) == {load_recipe(recipe, sets).hash}
        steps = store.frame("build_step").set_index(["builder", "table_name"])
        pairs = store.frame("gene_gene")
    assert steps.loc[("nodes.gene", "gene"), "kept"]
    assert not steps.loc[("edges.gene_peak", "gene_peak"), "kept"]
    assert not steps.loc[("chromosome", "chromosome"), "kept"]
    first, number = steps.loc[("edges.pairs", "gene_gene"), ["first_row", "rows"]]
    assert set(pairs["source"][first : first + number]) == {"one"}
    assert len(pairs) == first + number


@pytest.mark.parametrize(("after", "error"), [(0, PriorError), (1, KeyboardInterrupt), (6, PriorError)])
def test_a_build_that_was_stopped_goes_on_where_it_was(recipe, db, monkeypatch, after, error):
    stopping(monkeypatch, after, error)
    with pytest.raises(error) as stopped:
        build_store(recipe, db, progress=False)
    assert bool(beside(db)) == (after > 0)
    notes = getattr(stopped.value, "__notes__", [])
    assert notes == [f"What was finished stays in {name}; the next build goes on from there." for name in beside(db)]
    done = run_build(recipe, db, progress=False)
    assert list(done.kept) == keys(recipe)[:after]
    assert contents(db) == fresh(recipe, db)
    assert beside(db) == ["priors.duckdb"]


def test_what_several_stopped_builds_finished_is_put_together(recipe, built, monkeypatch):
    sets = ["edges.gene_peak.within_bp=300", "nodes.gene.strip_version=false"]
    for after in (1, 2, 1):
        stopping(monkeypatch, after)
        with pytest.raises(KeyboardInterrupt):
            build_store(recipe, built, sets=sets, force=True, progress=False)
    assert len(beside(built)) == 2  # the store, and one file that has all that was finished
    done = run_build(recipe, built, sets=sets, force=True, progress=False)
    assert {"nodes.gene", "nodes.peak"} <= set(done.kept)
    assert len(done.made) == len(keys(recipe, sets)) - len(done.kept) >= 1
    assert contents(built) == fresh(recipe, built, sets)


@pytest.mark.parametrize("seed", range(4))
def test_a_torn_leftover_is_not_trusted(recipe, db, monkeypatch, seed):
    stopping(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        build_store(recipe, db, progress=False)
    (leftover,) = db.parent.glob(f"{db.name}.building-*")
    torn, rng = bytearray(leftover.read_bytes()), random.Random(seed)
    if seed == 0:
        torn = torn[: rng.randrange(len(torn))]
    else:
        for place in rng.sample(range(len(torn)), 10**seed):
            torn[place] ^= 0xFF
    leftover.write_bytes(torn)
    build_store(recipe, db, progress=False)
    assert contents(db) == fresh(recipe, db)
    assert beside(db) == ["priors.duckdb"]


def test_a_store_that_cannot_be_read_is_replaced_by_force_alone(recipe, built):
    built.write_bytes(b"nothing that DuckDB knows" * 1000)
    with pytest.raises(StoreError, match="exists already"):
        build_store(recipe, built, progress=False)
    assert not run_build(recipe, built, force=True, progress=False).kept
    assert contents(built) == fresh(recipe, built)


LOGGED = """
import os, sys, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("PRAGMA disable_checkpoint_on_shutdown")
connection.execute("CREATE TABLE mine AS SELECT 1 AS a")
os._exit(0)
"""


def test_the_log_of_the_store_that_is_replaced_does_not_spoil_the_new_one(recipe, built):
    subprocess.run([sys.executable, "-c", LOGGED, str(built)], check=True, timeout=60)
    assert beside(built) == ["priors.duckdb", "priors.duckdb.wal"]
    run_build(recipe, built, sets=["edges.gene_peak.within_bp=300"], force=True, progress=False)
    assert beside(built) == ["priors.duckdb"]
    with PriorStore.open(built) as store:
        assert "within_bp: 300" in store.info["recipe_yaml"]


def test_fresh_makes_everything_and_needs_force(recipe, built):
    with pytest.raises(StoreError, match="exists already. Fix: --force"):
        build_store(recipe, built, fresh=True, progress=False)
    done = run_build(recipe, built, fresh=True, force=True, progress=False)
    assert (list(done.made), done.kept) == (keys(recipe), ())


def test_a_full_disk_leaves_nothing_half_done(recipe, built, monkeypatch):
    stopping(monkeypatch, 1, OSError(28, "No space left on device"))
    with pytest.raises(StoreError, match="could not be written"):
        build_store(recipe, built, sets=["nodes.gene.strip_version=false"], force=True, progress=False)
    assert beside(built) == ["priors.duckdb"]


def test_fingerprints_follow_all_that_a_step_is_made_of(recipe, monkeypatch):
    def prints(*sets):
        checked = load_recipe(recipe, sets)
        return fingerprints(checked, Sources(checked.sources, progress=False))

    before = prints()
    assert len(set(before.values())) == len(before)
    assert prints("edges.gene_peak.within_bp=500") == before  # as the recipe has it
    renamed = recipe.with_name("renamed.gtf")
    shutil.copy(recipe.with_name("genes.gtf"), renamed)
    assert prints(f"source.gtf={renamed}")["nodes.gene"] != before["nodes.gene"]  # provenance would name another file
    monkeypatch.setattr("heteromics.priors._fingerprint.code_hash", lambda: "other code")
    assert not set(prints().values()) & set(before.values())


def test_a_source_not_yet_at_hand_leaves_what_depends_on_it_open(recipe):
    checked = load_recipe(recipe)
    sources = Sources(checked.sources, progress=False)
    prints = fingerprints(checked, lambda name: None if name == "peaks" else sources(name))
    assert {key for key, one in prints.items() if not one} == {
        "nodes.peak", "nodes.assembly_check", "edges.gene_peak", "attributes.sequence",
    }  # fmt: skip
    assert not any(fingerprints(checked, lambda _name: None).values())


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda context: context.query("SELECT * FROM peak"), "edges.pathways reads table peak, which it does not"),
        (
            lambda context: context.query('SELECT * FROM gene g join "peak" p ON true'),
            "edges.pathways reads table peak",
        ),
        (lambda context: context.source("peaks"), "edges.pathways reads source peaks, which it does not declare"),
        (lambda context: context.has_source("fasta"), "edges.pathways reads source fasta"),
        (lambda context: context.family("regions_*"), r"edges.pathways reads source regions_\*"),
    ],
)
def test_a_builder_may_read_only_what_it_declares(recipe, db, monkeypatch, ask, said):
    (pathways,) = (builder for builder in BUILDERS if builder.name == "pathways")
    run = pathways.run
    object.__setattr__(pathways, "run", lambda context, config: (ask(context), run(context, config))[1])
    try:
        with pytest.raises(PriorError, match=said):
            build_store(recipe, db, progress=False)
    finally:
        object.__setattr__(pathways, "run", run)


@pytest.mark.parametrize(("fresh", "force", "rows"), [(False, False, None), (False, True, 4), (True, True, None)])
def test_builders_see_the_store_that_is_replaced_but_not_in_a_fresh_build(recipe, db, fresh, force, rows):
    seen = []
    (pathways,) = (builder for builder in BUILDERS if builder.name == "pathways")
    run = pathways.run
    if force:
        build_store(recipe, db, progress=False)

    def looking(context, config):
        seen.extend([context.former("gene"), context.former("mygene_answer")])
        return run(context, config)

    object.__setattr__(pathways, "run", looking)
    try:
        build_store(recipe, db, sets=["edges.pathways.max_set_size=400"], force=force, fresh=fresh, progress=False)
    finally:
        object.__setattr__(pathways, "run", run)
    assert (seen[0] if rows is None else seen[0].num_rows) == rows
    assert seen[1] is None
    assert not isinstance(seen[0], pa.Table) or "gene_id" in seen[0].column_names


def test_builders_say_what_they_are_at_on_the_bar_of_the_build(recipe, db, monkeypatch):
    said, begun = [], []
    say, begin = engine.Steps.say, engine.Steps.__call__
    monkeypatch.setattr(engine.Steps, "say", lambda steps, text: (said.append(text), say(steps, text))[1])
    monkeypatch.setattr(engine.Steps, "__call__", lambda steps, name: (begun.append(name), begin(steps, name))[1])
    build_store(recipe, db, progress=False)
    assert "pairing genes that share sets" in said
    assert begun == ["sources", *(key.partition(".")[2] for key in keys(recipe)), "checkpoint"]


def test_a_store_of_another_format_gives_no_answers(built):
    with duckdb.connect(str(built)) as connection:
        connection.execute("UPDATE store_info SET value = '1' WHERE key = 'format_version'")
    assert engine.read_table(built, "gene") is None


ZYGOTE = """
import os, random, shutil, signal, sys, time
from heteromics.priors._fingerprint import code_hash
from heteromics.priors.build import build_store

recipe, db, seed, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
code_hash()  # once for all
sets = ["edges.gene_peak.within_bp=300", "nodes.gene.strip_version=false"]

def forked(path, force=True):
    pid = os.fork()
    if not pid:
        build_store(recipe, path, sets=sets, force=force, progress=False)
        os._exit(0)
    return pid

begun = time.perf_counter()
assert os.waitpid(forked(db + ".first"), 0)[1] == 0
whole = time.perf_counter() - begun
for number in range(rounds):
    shutil.copy(db, f"{db}.old")
    pid = forked(db)
    time.sleep(rng.random() * whole)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    shutil.copy(db, f"{db}.after-{number}")
    print(number, status)
    assert os.waitpid(forked(db), 0)[1] == 0
    os.replace(db, f"{db}.next-{number}")
    os.replace(f"{db}.old", db)
"""


def test_ten_kills_at_random_moments_leave_the_old_store_and_the_next_build_is_whole(recipe, built):
    before, rounds = digest(built), 10
    command = [sys.executable, "-c", ZYGOTE, str(recipe), str(built), "7", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    expected = contents(built.with_name(f"{built.name}.first"))
    killed = [int(line.split()[1]) == signal.SIGKILL for line in done.stdout.splitlines()]
    assert len(killed) == rounds
    assert sum(killed) >= rounds // 2
    for number, was in enumerate(killed):
        after, following = (built.with_name(f"{built.name}.{name}-{number}") for name in ("after", "next"))
        assert digest(after) == before or contents(after) == expected, (number, was)
        assert contents(following) == expected
    assert not list(built.parent.glob("*.building-*"))
