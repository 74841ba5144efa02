import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteromics import _config
from heteromics.errors import RecipeError, UnreadableFile
from heteromics.priors import PriorStore
from heteromics.priors.aliases import Entry, read_names, read_string_names
from heteromics.priors.data_names import DataNamesConfig, build_data_names
from heteromics.priors.gene_alias import IdentifierConfig, build_identifiers
from heteromics.priors.gene_names import KINDS, Answer, GeneNames, OtherNames, is_gene_id
from heteromics.priors.identifiers import join_genes, join_names, join_store_genes, store_names, translate
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import Match
from tests.priors.prior_files import context_with, fits, tally, written

IDS = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", "ENSG00000000004"]
SYMBOLS = ["PRKN", "Gapdh", "DUP", "DUP"]


def find(name, **other):
    joined = GeneNames(IDS, SYMBOLS, OtherNames(**other)).join([name])
    return int(joined.row[0]), joined.outcome[0], joined.detail[0]


ALL_KINDS = [(row, f"{kind} name", kind) for row, kind in enumerate(["symbol", "alias", "entrez", "withdrawn"])]


@pytest.mark.parametrize(
    ("name", "row", "outcome"),
    [
        pytest.param("ENSG00000000001", 0, "matched", id="exact id"),
        pytest.param("ENSG00000000002.7", 1, "version_stripped", id="id with version"),
        pytest.param("PRKN", 0, "matched", id="symbol"),
        pytest.param("DUP", -1, "ambiguous", id="symbol of two"),
        pytest.param("symbol name", 0, "alias", id="current symbol elsewhere"),
        pytest.param("alias name", 1, "alias", id="alias"),
        pytest.param("entrez name", 2, "alias", id="other database"),
        pytest.param("withdrawn name", 3, "alias", id="withdrawn, merged"),
        pytest.param("GAPDH", 1, "case_folded", id="symbol in another case"),
        pytest.param("ALIAS name", 1, "case_folded", id="alias in another case"),
        pytest.param("ENTREZ name", -1, "absent", id="identifiers keep their case"),
        pytest.param("GONE", -1, "withdrawn", id="withdrawn"),
        pytest.param("NOPE", -1, "absent", id="absent"),
    ],
)
def test_each_rule_finds_what_it_should(name, row, outcome):
    assert find(name, aliases=ALL_KINDS, withdrawn={"GONE": "withdrawn"})[:2] == (row, outcome)


@pytest.mark.parametrize(("stronger", "weaker"), list(itertools.pairwise(KINDS[:4])))
def test_kinds_are_believed_in_their_order(stronger, weaker):
    assert find("X", aliases=[(1, "X", weaker), (0, "X", stronger)])[:2] == (0, "alias")
    assert find("x", aliases=[(1, "X", weaker), (0, "X", stronger)])[:2] == (0, "case_folded")


def test_ambiguity_never_guesses_and_names_the_candidates():
    assert find("X", aliases=[(1, "X", "alias"), (0, "X", "alias")]) == (
        -1, "ambiguous", "fits ENSG00000000001, ENSG00000000002, alias",
    )  # fmt: skip
    assert find("X", aliases=[(1, "X", "uniprot"), (0, "X", "entrez")])[1] == "ambiguous"
    assert find("x", aliases=[(1, "X", "alias"), (0, "x", "alias")])[0] == 0  # as written goes before any case
    assert find("DUP", aliases=[(0, "DUP", "alias")])[1] == "ambiguous"  # the first rule that finds genes decides


def test_a_gene_that_the_store_left_out_does_not_lend_its_name_to_others():
    filtered = [Match("gtf", "ENSG00000000009.2", "filtered", "OMEGA: biotype lncRNA")]
    names = ["OMEGA", "ENSG00000000009", "omega"]
    outcomes = join_names(names, IDS, SYMBOLS, filtered)
    assert outcomes.outcome == ["absent"] * 3
    assert set(outcomes.detail) == {"filtered: ENSG00000000009.2, biotype lncRNA"}
    left_out = {"OMEGA": "filtered"}
    assert find("OMEGA", aliases=[(0, "OMEGA", "alias")], left_out=left_out) == (-1, "absent", "filtered")
    assert find("omega", aliases=[(0, "omega", "alias")], left_out=left_out)[:2] == (0, "alias")
    elsewhere = {"TAU": "symbol of ENSG7"}
    assert find("TAU", aliases=[(0, "tau", "alias")], elsewhere=elsewhere) == (-1, "absent", "symbol of ENSG7")
    assert find("Tau", aliases=[(0, "tau", "alias")], elsewhere=elsewhere)[:2] == (0, "case_folded")


NAMES = st.sampled_from(["A", "a", "B", "b", "Aa", "aA", "C", "7", "ENSG00000000001.3", "DUP", "prkn"])
ALIASES = st.lists(st.tuples(st.integers(0, 3), NAMES, st.sampled_from(KINDS)), max_size=12)


@given(ALIASES, st.lists(NAMES, max_size=8), st.randoms(use_true_random=False))
def test_order_of_aliases_and_names_changes_nothing(aliases, names, shuffle):
    joined = GeneNames(IDS, SYMBOLS, OtherNames(aliases=aliases)).join(names)
    said = dict(zip(names, zip(joined.row.tolist(), joined.outcome, joined.detail, strict=True), strict=True))
    shuffle.shuffle(aliases)
    shuffle.shuffle(names)
    again = GeneNames(IDS, SYMBOLS, OtherNames(aliases=aliases)).join(names)
    for name, *found in zip(names, again.row.tolist(), again.outcome, again.detail, strict=True):
        assert said[name] == tuple(found)
        if found[0] >= 0:  # whatever joined, some rule of the table says so
            known = {IDS[found[0]], SYMBOLS[found[0]].casefold()}
            known |= {alias.casefold() for row, alias, _ in aliases if row == found[0]}
            assert name in known or name.casefold() in known or name.partition(".")[0] in known


HGNC = (
    "hgnc_id\tsymbol\tname\tstatus\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\tuniprot_ids\n"
    'HGNC:1\tP53\ttumor protein p53\tApproved\t"LFS1|TRP53"\tOLD53\t7157\tENSG01\tP04637|Q9TTA1\n'
    "HGNC:2\tGone\tnothing\tEntry Withdrawn\t\t\t\t\t\n"
    "HGNC:3\tAP1\tjun\tApproved\tc-Jun\tJUN\t3725\t\tP05412\n"
    "HGNC:4\tAWAY\tother\tApproved\tLFS1\t\t99\tENSG99\t\n"
)
CUSTOM = (
    "HGNC ID\tApproved symbol\tStatus\tPrevious symbols\tAlias symbols\tNCBI Gene ID\tEnsembl gene ID\n"
    "HGNC:1\tP53\tApproved\tOLD53\tLFS1, TRP53\t7157\tENSG01\n"
)
NCBI = (
    "#tax_id\tGeneID\tSymbol\tLocusTag\tSynonyms\tdbXrefs\tchromosome\n"
    "9606\t7157\tP53\t-\tLFS1|TRP53\tMIM:191170|HGNC:HGNC:1|Ensembl:ENSG01|AllianceGenome:HGNC:1\t17\n"
)
MGI = (
    "MGI Accession ID\tChr\tMarker Symbol\tStatus\tMarker Name\tMarker Synonyms (pipe-separated)\t"
    "Current MGI Accession ID (if withdrawn)\tCurrent Marker Symbol (if withdrawn)\r\n"
    "MGI:95640\t6\tGapdh\tO\tname\tGapd|Gapd-1\t\t\r\n"
    "MGI:1\t6\tGapd-rs\tW\twithdrawn\t\tMGI:95640\tGapdh\r\n"
    "MGI:2\t6\tNone1\tW\twithdrawn\t\t\t\r\n"
)
WITHDRAWN = (
    "HGNC_ID\tSTATUS\tWITHDRAWN_SYMBOL\tMERGED_INTO_REPORT(S) (i.e HGNC_ID|SYMBOL|STATUS)\n"
    "HGNC:9\tMerged/Split\tOLDTP\tHGNC:1|TP53|Approved\n"
    "HGNC:10\tEntry Withdrawn\tGONE1\t\n"
    "HGNC:11\tMerged/Split\tSPLIT1\tHGNC:1|TP53|Approved, HGNC:3|JUN|Approved\n"
)


def test_hgnc_ncbi_and_mgi_say_the_same_in_their_own_ways(tmp_path):
    listed = read_names(written(tmp_path / "a.txt.gz", HGNC))
    names = {("LFS1", "alias"), ("TRP53", "alias"), ("OLD53", "previous_symbol"), ("7157", "entrez")}
    first = listed.entries[0]
    assert (first.gene_ids, first.symbol) == (("ENSG01",), "P53")
    assert set(first.names) == names | {("P04637", "uniprot"), ("Q9TTA1", "uniprot"), ("HGNC:1", "hgnc")}
    assert listed.withdrawn == {"Gone": "entry withdrawn"}
    (custom,) = read_names(written(tmp_path / "b.txt", CUSTOM)).entries
    assert (custom.gene_ids, custom.symbol, set(custom.names)) == (("ENSG01",), "P53", names | {("HGNC:1", "hgnc")})
    (ncbi,) = read_names(written(tmp_path / "c.txt", NCBI)).entries
    assert (ncbi.gene_ids, ncbi.symbol) == (("ENSG01",), "P53")
    assert set(ncbi.names) == {("LFS1", "alias"), ("TRP53", "alias"), ("7157", "entrez"), ("HGNC:1", "hgnc")}
    mgi = read_names(written(tmp_path / "d.rpt", MGI))
    assert mgi.entries == [
        Entry((), "Gapdh", (("Gapd", "alias"), ("Gapd-1", "alias"), ("MGI:95640", "mgi"))),
        Entry((), "Gapdh", (("Gapd-rs", "withdrawn"),)),
    ]
    assert mgi.withdrawn == {"None1": "withdrawn, without successor"}
    gone = read_names(written(tmp_path / "e.txt", WITHDRAWN))
    assert gone.entries == [Entry((), "TP53", (("OLDTP", "withdrawn"),))]
    assert gone.withdrawn == {"GONE1": "withdrawn, without successor", "SPLIT1": "split into TP53, JUN"}


@pytest.mark.parametrize(
    ("text", "columns", "entry"),
    [
        pytest.param("ENSG00000000001.2\tPRKN\n", (), Entry(("ENSG00000000001.2",), "PRKN", ()), id="id, symbol"),
        pytest.param("ENSG00000000001,PRKN\n", (), Entry(("ENSG00000000001",), "PRKN", ()), id="commas"),
        pytest.param(
            "PRKN\tPARK2|AR-JP\n", (), Entry((), "PRKN", (("PARK2", "alias"), ("AR-JP", "alias"))), id="alias"
        ),
        pytest.param(
            "x,Gene ID,Old Name\n1,ENSG00000000001,PARK2\n", ("Gene ID", "Old Name", "previous_symbol"),
            Entry(("ENSG00000000001",), "", (("PARK2", "previous_symbol"),)), id="named columns",
        ),
        pytest.param("a\tb\tc\nPRKN\t1\tAR-JP\n", ("a", "c"), Entry((), "PRKN", (("AR-JP", "alias"),)), id="symbols"),
    ],
)  # fmt: skip
def test_other_tables_of_names(tmp_path, text, columns, entry):
    assert read_names(written(tmp_path / "names.txt", text), columns).entries == [entry]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", (), "is empty"),
        (
            "a\tb\tc\n",
            (),
            r"line 1: found columns a, b, c, expected those of HGNC complete set \((.|\n)*Fix: say which",
        ),
        ("a\tb\tc\n", ("a", "d"), r"line 1: found columns a, b, c, expected d, as `nodes\.identifiers\.columns` says"),
        ("a\tb\nc\n", ("a", "b"), r"line 2: found 1 columns, expected 2 or more: c"),
        (NCBI + "10090\t1\tTrp53\t-\t-\t-\t11\n", (), r"genes of 2 taxa \(10090, 9606\), expected one(.|\n)*taxon"),
    ],
)
def test_alias_files_that_cannot_be_read_are_explained(tmp_path, text, columns, message):
    with pytest.raises(UnreadableFile, match=message):
        read_names(written(tmp_path / "names.txt", text), columns)


def test_one_taxon_of_several(tmp_path):
    path = written(tmp_path / "gene_info", NCBI + "10090\t22059\tTrp53\t-\tbbl|p53\tMGI:MGI:98834\t11\n")
    (entry,) = read_names(path, taxon=10090).entries
    assert entry == Entry((), "Trp53", (("bbl", "alias"), ("p53", "alias"), ("22059", "entrez"), ("MGI:98834", "mgi")))
    with pytest.raises(UnreadableFile, match=r"no gene of taxon 7227; found 10090, 9606"):
        read_names(path, taxon=7227)


STRING = (
    "#string_protein_id\talias\tsource\n"
    "9606.ENSP01\tENSG01\tEnsembl_gene\n"
    "9606.ENSP01\tP53\tEnsembl_HGNC_symbol\n"
    "9606.ENSP01\tLFS1\tEnsembl_HGNC_alias_symbol\n"
    "9606.ENSP01\t7157\tEnsembl_HGNC_entrez_id\n"
    "9606.ENSP01\tP04637\tUniProt_AC\n"
    "9606.ENSP01\t1A1U\tUniProt_DR_PDB\n"
)


def test_a_protein_lends_its_names_to_its_gene(tmp_path):
    (entry,) = read_string_names(written(tmp_path / "aliases.txt.gz", STRING)).entries
    assert (entry.gene_ids, entry.symbol) == (("ENSG01",), "P53")
    assert set(entry.names) == {
        ("P53", "symbol"), ("LFS1", "alias"), ("7157", "entrez"), ("P04637", "uniprot"), ("ENSP01", "ensembl_protein"),
    }  # fmt: skip


@pytest.fixture
def files(tmp_path):
    return {
        "aliases_hgnc": written(tmp_path / "hgnc.txt", HGNC),
        "aliases_gone": written(tmp_path / "withdrawn.txt", WITHDRAWN),
        "string_aliases": written(tmp_path / "string.txt", STRING),
        "genes": written(tmp_path / "names.txt", "TP53\nP53\nlfs1\nTRP53\nc-Jun\n7157\nENSP01\nGONE1\nAWAY\nOLDTP\n"),
    }


def test_the_table_its_report_and_how_the_names_of_the_data_join(files):
    built = build_identifiers(context_with(files), IdentifierConfig())
    assert fits(built)
    data = build_data_names(with_aliases(files), DataNamesConfig())
    rows = {
        (row["gene_id"], row["alias"], row["kind"], row["source"]) for row in built.tables["gene_alias"].to_pylist()
    }
    assert {row for row in rows if row[3] == "hgnc.txt"} == {
        ("ENSG01", "P53", "symbol", "hgnc.txt"),
        ("ENSG01", "TRP53", "alias", "hgnc.txt"),
        ("ENSG01", "OLD53", "previous_symbol", "hgnc.txt"),
        ("ENSG01", "7157", "entrez", "hgnc.txt"),
        ("ENSG01", "P04637", "uniprot", "hgnc.txt"),
        ("ENSG01", "Q9TTA1", "uniprot", "hgnc.txt"),
        ("ENSG01", "HGNC:1", "hgnc", "hgnc.txt"),
        ("ENSG03", "AP1", "symbol", "hgnc.txt"),  # found by its previous symbol JUN, which the table has
        ("ENSG03", "c-Jun", "alias", "hgnc.txt"),
        ("ENSG03", "3725", "entrez", "hgnc.txt"),
        ("ENSG03", "P05412", "uniprot", "hgnc.txt"),
        ("ENSG03", "HGNC:3", "hgnc", "hgnc.txt"),
    }
    assert ("ENSG01", "OLDTP", "withdrawn", "withdrawn.txt") in rows
    assert ("ENSG01", "ENSP01", "ensembl_protein", "string.txt") in rows
    joined = {match.name: (match.outcome, match.detail) for match in data.matches["gene"]}
    assert joined == {
        "P53": ("alias", "joined ENSG01 (TP53), symbol"),
        "lfs1": ("absent", "not in the annotation"),  # LFS1 belongs as much to AWAY, which is not in the table
        "TRP53": ("alias", "joined ENSG01 (TP53), alias"),
        "c-Jun": ("alias", "joined ENSG03 (JUN), alias"),
        "7157": ("alias", "joined ENSG01 (TP53), identifier of another database"),
        "ENSP01": ("alias", "joined ENSG01 (TP53), identifier of another database"),
        "GONE1": ("withdrawn", "withdrawn.txt: withdrawn, without successor"),
        "AWAY": ("absent", "hgnc.txt: symbol of ENSG99, which is not in the annotation"),
        "OLDTP": ("alias", "joined ENSG01 (TP53), withdrawn name, merged into it"),
    }
    assert tally(data, "gene") == {"matched": 1, "alias": 6, "absent": 2, "withdrawn": 1}
    assert [(count.source, count.outcome, count.n) for count in built.counts["gene_alias"]] == [
        ("hgnc.txt", "absent", 1),  # AWAY
        ("hgnc.txt", "alias", 1),  # AP1, by its previous symbol JUN
        ("hgnc.txt", "ambiguous", 1),  # LFS1
        ("hgnc.txt", "matched", 1),
        ("hgnc.txt", "withdrawn", 1),
        ("string.txt", "ambiguous", 1),  # LFS1
        ("string.txt", "matched", 1),
        ("withdrawn.txt", "matched", 1),
        ("withdrawn.txt", "withdrawn", 2),
    ]


def with_aliases(files):
    """Return a context in which table gene_alias is there, with what its builder reported."""
    context = context_with(files)
    built = build_identifiers(context, IdentifierConfig())
    context.connection.execute(SCHEMAS["gene_alias"].create_sql())
    context.connection.register("rows", built.tables["gene_alias"])
    context.connection.execute("INSERT INTO gene_alias SELECT * FROM rows")
    return type(context)(
        context.connection, "toy", "ucsc", context.chromosomes, context.resolve, context.given, reported=built.matches
    )


def test_later_builders_join_through_the_table(files):
    joined = join_genes(with_aliases(files), ["OLD53", "LFS1", "SPLIT1", "Ap1", "gapdh", "Y_RNA"])
    assert joined.gene_id == ["ENSG01", None, None, "ENSG03", "ENSG02", None]
    assert joined.outcome == ["alias", "ambiguous", "withdrawn", "case_folded", "case_folded", "ambiguous"]
    assert joined.detail[1] == "string.txt: alias of ENSG01 (TP53), but also alias of AWAY, not in the annotation"


def test_looking_up_only_what_may_fit_changes_nothing():
    rng = random.Random(3)
    forms = ["Abc", "aBC", "ABC", "ENSP01", "ENSP01.2", "ENSG00000000077.4", "ensp01.2", "x.1", "X", "7157", "Tp53"]
    context = context_with({})
    context.connection.execute(SCHEMAS["gene_alias"].create_sql())
    ids = sorted(row[0] for row in context.connection.execute("SELECT gene_id FROM gene").fetchall())
    symbols = dict(context.connection.execute("SELECT gene_id, symbol FROM gene").fetchall())
    for _ in range(30):
        rows = {(rng.randrange(5), rng.choice(forms), rng.choice(KINDS)) for _ in range(6)}
        context.connection.execute("DELETE FROM gene_alias")
        stored = [(ids[row], alias, kind, "s") for row, alias, kind in rows]
        context.connection.executemany("INSERT INTO gene_alias VALUES (?, ?, ?, ?)", stored)
        joined = join_genes(context, forms)
        whole = GeneNames(ids, [symbols[name] for name in ids], OtherNames(aliases=rows)).join(forms)
        assert [ids[row] if row >= 0 else None for row in whole.row.tolist()] == joined.gene_id
        assert (whole.outcome, whole.detail) == (joined.outcome, joined.detail)


def test_without_sources_there_is_no_table_and_nothing_to_report():
    built = build_identifiers(context_with({}), IdentifierConfig())
    assert (built.tables, built.matches, built.counts) == ({}, {}, {})
    assert build_data_names(context_with({}), DataNamesConfig()).matches == {}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": {"x": ["a"]}}, r"columns of x: found 1 entries, expected \[gene, other name, kind\]"),
        ({"columns": {"x": ["a", "b", "nickname"]}}, "found kind 'nickname', expected one of symbol, previous_symbol"),
        ({"colums": {}}, "unknown key 'colums'. Did you mean 'columns'"),
    ],
)
def test_impossible_settings_are_refused(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(IdentifierConfig, keys, "nodes.identifiers")


def test_columns_of_a_source_that_is_not_given(files):
    with pytest.raises(RecipeError, match=r"found old, expected some of the sources aliases_\* .*: gone, hgnc. Fix"):
        build_identifiers(context_with(files), IdentifierConfig(columns={"old": ("a", "b")}))


@pytest.fixture
def renamed(recipe):
    """A store of the tiny genome in which ALPHA was called ALEPH before, and ids of other databases are known."""
    text = HGNC.splitlines()[0] + "\nHGNC:1\tALPHA\tx\tApproved\tAL1\tALEPH\t7157\tENSG00000000001\tP1|P2\n"
    path = written(recipe.with_name("hgnc.txt"), text)
    sets = [f"source.aliases_hgnc={path}", "edges.gene_peak=false", "nodes.peak=false"]
    with PriorStore.build(recipe, recipe.with_name("r.duckdb"), sets=sets, progress=False) as store:
        yield store


def test_a_store_joins_names_as_its_build_did(renamed):
    joined = join_store_genes(renamed, ["ALEPH", "beta", "GAMMA", "7157", "X"])
    assert joined.gene_id == ["ENSG00000000001", "ENSG00000000002", None, "ENSG00000000001", None]
    assert joined.outcome == ["alias", "case_folded", "ambiguous", "alias", "absent"]
    rows = store_names(renamed, ["ALEPH", "beta", "X"]).row.tolist()
    assert [renamed.frame("gene")["symbol"][row] for row in rows[:2]] == ["ALPHA", "BETA"]
    assert rows[2] == -1
    assert renamed.frame("provenance").query("table_name == 'gene_alias'")["source"].tolist() == ["hgnc.txt"]


def test_new_names_join_as_before_when_the_alias_table_is_taken_over(recipe):
    hgnc = written(recipe.with_name("hgnc.txt"), HGNC.replace("ENSG01", "ENSG00000000001"))
    names = written(recipe.with_name("names.txt"), "P53\n")
    sets = [f"source.aliases_hgnc={hgnc}", f"source.genes={names}", "edges.gene_peak=false", "nodes.peak=false"]
    db = recipe.with_name("again.duckdb")
    PriorStore.build(recipe, db, sets=sets, progress=False).close()
    names.write_text("P53\nLFS1\nGone\nAWAY\n")
    with PriorStore.build(recipe, db, sets=sets, force=True, progress=False) as store:
        report = store.match_report("gene").set_index("name")["outcome"].to_dict()
        assert report == {"P53": "alias", "LFS1": "ambiguous", "Gone": "withdrawn", "AWAY": "absent"}
        assert join_store_genes(store, list(report)).outcome == list(report.values())


def test_names_are_translated(renamed):
    names = ["ALEPH", "P1", "BETA", "NOPE"]
    entrez = translate(renamed, names, to="entrez")
    assert entrez.columns.tolist() == ["name", "gene_id", "outcome", "entrez"]
    assert entrez["entrez"].fillna("").tolist() == ["7157", "7157", "", ""]
    assert translate(renamed, names, to="symbol")["symbol"].fillna("").tolist() == ["ALPHA", "ALPHA", "BETA", ""]
    assert translate(renamed, ["ALEPH"], to="uniprot")["uniprot"].tolist() == ["P1", "P2"]
    with pytest.raises(ValueError, match="found 'entres', expected one of gene_id, symbol, "):
        translate(renamed, names, to="entres")


def test_the_symbol_of_a_pseudoautosomal_gene_means_the_one_on_x():
    context = context_with({}, {"chrX": 156_040_895, "chrY": 57_227_415})
    context.connection.execute("DELETE FROM gene")
    places = [
        ("X1", "CD99", "chrX", 2_691_186, 2_741_309),
        ("Y1", "CD99", "chrY", 2_691_186, 2_741_309),
        ("X2", "IL9R", "chrX", 155_997_580, 156_016_830),  # as far from the end as on Y
        ("Y2", "IL9R", "chrY", 57_184_100, 57_203_350),
        ("X3", "U6", "chrX", 100, 200),
        ("Y3", "U6", "chrY", 300, 400),  # two genes of one name
    ]
    context.connection.executemany("INSERT INTO gene VALUES (?, ?, ?, ?, ?, '+', 1, '')", places)
    joined = join_genes(context, ["CD99", "cd99", "IL9R", "Y1", "Y2.1", "U6"])
    assert joined.gene_id == ["X1", "X1", "X2", "Y1", None, None]
    assert joined.outcome == ["matched", "case_folded", "matched", "matched", "absent", "ambiguous"]


def test_forms_of_gene_ids():
    assert [is_gene_id(name) for name in ("ENSG1", "ENSMUSG1.2", "ENST1", "MGP_C57BL6NJ_G1", "TP53", "")] == [
        True, True, False, True, False, False,
    ]  # fmt: skip


def test_answers_of_the_service_follow_the_same_rules():
    genes = GeneNames(IDS, SYMBOLS, OtherNames(answers={
        "one": [Answer(IDS[0], "1", "PARKIN")],
        "elsewhere": [Answer("ENSG00000000099", "9", "AWAY")],
        "bysymbol": [Answer(None, "1", "PRKN")],
        "two": [Answer(IDS[0], "1", "PARKIN"), Answer(IDS[1], "2", "GAPDH2")],
        "BOTH": [Answer(IDS[0], "1", "BOTH"), Answer(IDS[1], "2", "OTHER")],
        "nothing": [],
        "split": [Answer(IDS[0], "1", "P"), Answer(IDS[1], "1", "P")],
    }))  # fmt: skip
    joined = genes.join(["one", "elsewhere", "bysymbol", "two", "BOTH", "nothing", "split"])
    assert joined.row.tolist() == [0, -1, 0, -1, 0, -1, -1]
    assert joined.outcome == ["mygene", "absent", "mygene", "ambiguous", "mygene", "absent", "ambiguous"]
    assert joined.detail[1] == "MyGene.info: AWAY (ENSG00000000099), which is not in the annotation"


def test_answers_of_the_service_find_genes_whose_ids_keep_their_versions():
    genes = GeneNames(["ENSG01234.5"], ["NEW"], OtherNames(answers={"asked": [Answer("ENSG01234", "1", "OTHER")]}))
    assert genes.join(["asked"]).outcome == ["mygene"]


def test_each_of_many_names_joins_the_gene_that_lists_it():
    rng = random.Random(0)
    ids = [f"ENSG{row:011d}" for row in range(6_000)]
    aliases = [(rng.randrange(6_000), f"alias{row}", rng.choice(KINDS)) for row in range(20_000)]
    names = [f"alias{rng.randrange(30_000)}" for _ in range(6_000)]
    listed = {alias: row for row, alias, _ in aliases}
    joined = GeneNames(ids, ids, OtherNames(aliases=aliases)).join(names)
    assert joined.row.tolist() == [listed.get(name, -1) for name in names]
    assert joined.outcome == ["alias" if name in listed else "absent" for name in names]


def test_a_plan_says_how_many_names_to_expect(recipe):
    hgnc = written(recipe.with_name("hgnc.txt"), HGNC)
    rows = {table.table: table.rows for table in PriorStore.plan(recipe, sets=[f"source.aliases_hgnc={hgnc}"]).tables}
    assert rows["gene_alias"] == 4 * 5
    rows = {table.table: table.rows for table in PriorStore.plan(recipe, sets=["nodes.mygene.taxon=9606"]).tables}
    assert rows["mygene_answer"] is None
    assert "gene_alias" not in rows
