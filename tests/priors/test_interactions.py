import itertools

import pytest

from heteromics import _config
from heteromics.errors import PriorError, RecipeError, UnreadableFile
from heteromics.priors._string_files import GENE_ID_SOURCES, read_aliases, read_info, read_links
from heteromics.priors.identifiers import GenesJoined, match_names
from heteromics.priors.interactions import (
    InteractionConfig,
    build_interactions,
    estimate_interactions,
    genes_of_proteins,
)
from heteromics.priors.planning import PlanContext
from heteromics.priors.sources import AtHand
from tests.priors.prior_files import context_with, fits, tally, written

DETAILED = "protein1 protein2 neighborhood fusion cooccurence coexpression experimental database textmining"
LINKS = (
    f"{DETAILED} combined_score\n"
    "9606.P1 9606.P2 0 0 0 49 812 0 49 815\n"
    "9606.P2 9606.P1 0 0 0 49 812 0 49 815\n"
    "9606.P1 9606.P3 0 0 0 430 0 0 42 430\n"
    "9606.P3 9606.P1 0 0 0 430 0 0 45 440\n"
    "9606.P2 9606.P3 0 0 0 0 0 0 160 160\n"
    "9606.P4 9606.P4 0 0 0 0 0 0 900 900\n"
    "9606.P1 9606.P5 0 0 0 0 700 0 0 700\n"
    "9606.P2 9606.P4 0 0 0 0 300 0 0 500\n"
)
INFO = (
    "#string_protein_id\tpreferred_name\tprotein_size\tannotation\n"
    '9606.P1\tTP53\t393\tActs as a "tumor suppressor"\n'
    "9606.P2\tGAPDH\t335\tGlycolysis\n"
    "9606.P3\tJUN\t331\t\n"
    "9606.P4\tP53B\t12\tannotation not available\n"
    "9606.P6\tY_RNA\t1\tlinked to nothing\n"
)
ALIASES = (
    "#string_protein_id\talias\tsource\n"
    "9606.P1\tENSG01\tEnsembl_gene\n"
    "9606.P1\tENSG01\tEnsembl_HGNC_ensembl_gene_id\n"
    "9606.P1\tP04637\tUniProt_AC\n"
    "9606.P4\tENSG01.2\tEnsembl_gene\n"
    "9606.P3\tENSG03\tEnsembl_gene\n"
    "9606.P3\tENSG99\tEnsembl_gene\n"
)
KINDS = {"ensembl": GENE_ID_SOURCES}


@pytest.fixture
def files(tmp_path):
    return {
        "string_links": written(tmp_path / "links.txt.gz", LINKS),
        "string_info": written(tmp_path / "info.txt.gz", INFO),
        "string_aliases": written(tmp_path / "aliases.txt", ALIASES),
    }


def pairs(links):
    return [(row["protein_a"], row["protein_b"], row["combined_score"]) for row in links.table.to_pylist()]


def test_each_pair_is_stored_once_and_everything_left_out_is_counted(files):
    links = read_links(files["string_links"], min_score=400)
    assert pairs(links) == [
        ("9606.P1", "9606.P2", 815),
        ("9606.P1", "9606.P3", 440),
        ("9606.P1", "9606.P5", 700),
        ("9606.P2", "9606.P4", 500),
    ]
    assert links.table["textmining"].to_pylist() == [49, 45, 0, 0]
    assert (links.rows, links.below, links.self_loops, links.conflicting) == (8, 1, 1, 1)


def test_thresholds_hold_per_channel(files):
    links = read_links(files["string_links"], min_score=400, min_channel={"experimental": 300})
    assert pairs(links) == [("9606.P1", "9606.P2", 815), ("9606.P1", "9606.P5", 700), ("9606.P2", "9606.P4", 500)]
    links = read_links(files["string_links"], min_channel={"experimental": 300, "coexpression": 10})
    assert pairs(links) == [("9606.P1", "9606.P2", 815)]


def test_order_of_lines_changes_nothing(tmp_path):
    header, *lines = LINKS.splitlines()
    expected = read_links(written(tmp_path / "links.txt", LINKS)).table
    for shuffled in itertools.islice(itertools.permutations(lines), 0, 40_000, 4_999):
        text = "\n".join([header, *shuffled]) + "\n"
        assert read_links(written(tmp_path / "shuffled.txt", text)).table.equals(expected)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("protein1 protein2 combined_score", id="links"),
        pytest.param("protein1 protein2 experimental database textmining combined_score", id="physical, detailed"),
        pytest.param("protein1\tprotein2\tcombined_score", id="tabs"),
        pytest.param("protein1 protein2 cooccurrence experiments combined_score", id="other spellings"),
    ],
)
def test_variants_of_the_links_file(tmp_path, header):
    delimiter = "\t" if "\t" in header else " "
    middle = len(header.split(delimiter)) - 3
    line = delimiter.join(["9606.B", "9606.A", *["7"] * middle, "500"])
    table = read_links(written(tmp_path / "links.txt", f"{header}\n{line}\n")).table
    (row,) = table.to_pylist()
    assert (row["protein_a"], row["protein_b"], row["combined_score"]) == ("9606.A", "9606.B", 500)
    assert len(row) == 3 + middle


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("protein1 protein2 combined_score\na b 3\nc d\ne f 5\n", r"line 3: found 'c d', expected 3 columns"),
        ("protein1 protein2 combined_score\na b 3\nc d high\n", r"line 3: found 'c d high', expected 3 columns"),
        ("protein1 protein2 combined_score\na b 3\nc d 1001\nd e -1\n", r"2 of 3 lines have a score outside 0 to 1000"),
        (
            "protein1 protein2 combined_score\na b \nc  900\nc d 900\n",
            r"2 of 3 lines have .* or lack a protein or a score",
        ),
        ("a b 3\n", r"line 1: found columns a, b, 3, expected STRING protein\.links"),
        ("protein1 protein2 homology combined_score\n", r"line 1: found columns protein1, protein2, homology"),
        ("", "is empty"),
    ],
)
def test_broken_links_are_named(tmp_path, text, message):
    with pytest.raises(UnreadableFile, match=message):
        read_links(written(tmp_path / "links.txt", text))


def test_threshold_on_a_channel_the_file_lacks(tmp_path):
    path = written(tmp_path / "links.txt", "protein1 protein2 combined_score\na b 3\n")
    with pytest.raises(UnreadableFile, match=r"threshold is set for fusion(.|\n)*Fix: use protein\.links\.detailed"):
        read_links(path, min_channel={"fusion": 3})


def test_truncated_gzip_is_said_to_be(tmp_path):
    text = LINKS + "".join(f"9606.A{row} 9606.B{row} 0 0 0 0 0 0 0 {row % 999}\n" for row in range(20_000))
    whole = written(tmp_path / "links.txt.gz", text).read_bytes()
    (tmp_path / "cut.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFile, match=r"cut.txt.gz: truncated or damaged gzip"):
        read_links(tmp_path / "cut.txt.gz")


def test_dos_line_ends_change_nothing(tmp_path):
    expected = read_links(written(tmp_path / "unix.txt", LINKS))
    for name in ("dos.txt", "dos.txt.gz"):
        assert read_links(written(tmp_path / name, LINKS.replace("\n", "\r\n"))).table.equals(expected.table)
    aliases = read_aliases(written(tmp_path / "aliases.txt", ALIASES.replace("\n", "\r\n")), KINDS)
    assert aliases == read_aliases(written(tmp_path / "aliases.txt", ALIASES), KINDS)
    info = read_info(written(tmp_path / "info.txt", INFO.replace("\n", "\r\n")))
    assert info == read_info(written(tmp_path / "info.txt", INFO))


def test_lost_tabs_are_named(tmp_path):
    with pytest.raises(UnreadableFile, match="line 1: found columns #string_protein_id preferred_name"):
        read_info(written(tmp_path / "info.txt", INFO.replace("\t", " ")))
    with pytest.raises(UnreadableFile, match="line 1: found 1 columns, expected STRING protein.aliases"):
        read_aliases(written(tmp_path / "aliases.txt", ALIASES.replace("\t", " ")), KINDS)
    with pytest.raises(UnreadableFile, match="line 1: found columns protein1protein2"):
        read_links(written(tmp_path / "links.txt", LINKS.replace(" ", "")))


def test_other_species_join_by_their_own_ids(tmp_path):
    """Accessions of yeast are its gene ids; no alias is needed where the annotation uses them."""
    files = {
        "string_links": written(
            tmp_path / "links.txt", "protein1 protein2 combined_score\n4932.ENSG01 4932.ENSG03 900\n"
        ),
        "string_info": written(tmp_path / "info.txt", INFO),
    }
    built = build_interactions(context_with(files), InteractionConfig())
    genes = {row["protein_id"]: (row["gene_id"], row["evidence"]) for row in built.tables["gene_protein"].to_pylist()}
    assert genes["4932.ENSG01"] == ("ENSG01", "accession of the protein in STRING")
    assert built.tables["gene_gene"].num_rows == 1


def test_estimate_counts_what_reaches_the_thresholds(files):
    plan = PlanContext(None, {name: AtHand(name, "a", "file", path, 1) for name, path in files.items()})
    assert estimate_interactions(plan, InteractionConfig(min_score=400))["protein_protein"] == 4
    strict = InteractionConfig(min_score=400, min_channel={"experimental": 300}, gene_gene=False)
    made = estimate_interactions(plan, strict)
    assert made["protein_protein"] == 2
    assert "gene_gene" not in made
    assert set(estimate_interactions(PlanContext(None, {}), InteractionConfig()).values()) == {None}


def test_info_keeps_quotes_and_empty_annotations(files):
    info = read_info(files["string_info"])
    assert info["9606.P1"] == ("TP53", 'Acts as a "tumor suppressor"')
    assert info["9606.P3"] == ("JUN", "")
    with pytest.raises(UnreadableFile, match=r"line 1: found columns .*expected STRING protein\.info"):
        read_info(files["string_aliases"])


def test_aliases_of_version_11_hold_several_sources_a_line(tmp_path):
    header = "string\tother\ttype\n"
    lines = (
        "9606.P1\tENSG01\tEnsembl_ArrayExpress Ensembl_HGNC_Ensembl_ID(supplied_by_Ensembl) Ensembl_gene\n"
        "9606.P2\tP1234\tEnsembl_UniProt BLAST_UniProt_AC\n"
    )
    for text in (header + lines, lines, "## string_protein_id\talias\tsource\n" + lines):
        path = written(tmp_path / "aliases.txt", text)
        assert read_aliases(path, KINDS) == [("9606.P1", "ENSG01", "ensembl")]
    with pytest.raises(UnreadableFile, match="found 2 columns, expected STRING protein.aliases"):
        read_aliases(written(tmp_path / "aliases.txt", "a\tb\n"), KINDS)
    with pytest.raises(UnreadableFile, match=r"line 3: found '9606.P3', expected 3 columns"):
        read_aliases(written(tmp_path / "aliases.txt", lines + "9606.P3\n"), KINDS)


def test_gene_of_a_protein_by_rule():
    ids, symbols = ["ENSG01", "ENSG02", "ENSG03"], ["TP53", "JUN", "Jun"]
    proteins = {"P1": "TP53", "P2": "TP53", "P3": "tp53", "P4": "MYC", "P5": "JUN", "P6": "MYC", "9606.ENSP7": ""}
    aliases = [("P1", "ENSG01.3"), ("P5", "ENSG02"), ("P5", "ENSG03"), ("P6", "ENSG02"), ("P6", "ENSG03")]
    asked = []

    def join(names):
        asked.append(names)
        rows, outcome = match_names(names, ids, symbols)
        return GenesJoined([ids[row] if row >= 0 else None for row in rows], outcome, ["why"] * len(names))

    found = genes_of_proteins(proteins, aliases, ids, symbols, join)
    assert [(hit.gene_id, hit.outcome) for hit in found] == [
        ("ENSG01", "matched"),
        ("ENSG01", "alias"),
        ("ENSG01", "case_folded"),
        (None, "absent"),
        ("ENSG02", "matched"),
        (None, "ambiguous"),
        (None, "absent"),
    ]
    assert asked == [["TP53", "tp53", "MYC", "ENSP7"]]  # only what the aliases do not answer
    assert found[1].evidence == "symbol TP53 of the protein in STRING"
    assert found[6].detail == "no symbol, accession ENSP7: why"
    assert genes_of_proteins(proteins, aliases[::-1], ids, symbols, join) == found


def test_tables_of_all_three_files(files):
    built = build_interactions(context_with(files), InteractionConfig())
    assert fits(built)
    proteins = {row["protein_id"]: row for row in built.tables["protein"].to_pylist()}
    assert proteins["9606.P1"] == {
        "protein_id": "9606.P1",
        "symbol": "TP53",
        "gene_id": "ENSG01",
        "annotation": 'Acts as a "tumor suppressor"',
    }
    assert (proteins["9606.P5"]["symbol"], proteins["9606.P5"]["gene_id"]) == ("9606.P5", None)
    genes = {row["protein_id"]: (row["gene_id"], row["evidence"]) for row in built.tables["gene_protein"].to_pylist()}
    assert genes == {
        "9606.P1": ("ENSG01", "Ensembl gene id in the STRING aliases"),
        "9606.P2": ("ENSG02", "symbol GAPDH of the protein in STRING"),
        "9606.P3": ("ENSG03", "Ensembl gene id in the STRING aliases"),
        "9606.P4": ("ENSG01", "Ensembl gene id in the STRING aliases"),
    }
    unmatched = {match.name: match.outcome for match in built.matches["gene_protein"]}
    assert unmatched == {"9606.P2": "case_folded", "9606.P5": "absent", "9606.P6": "ambiguous"}
    assert [match.name for match in built.matches["protein"]] == ["9606.P5"]
    assert tally(built, "protein_protein") == {"matched": 4, "filtered": 1, "self_loop": 1, "conflicting": 1}


def test_gene_links_keep_the_highest_score_and_its_proteins(files):
    built = build_interactions(context_with(files), InteractionConfig())
    rows = built.tables["gene_gene"].to_pylist()
    assert [(row["gene_a"], row["gene_b"], row["source"], row["weight"]) for row in rows] == [
        ("ENSG01", "ENSG02", "string", 0.815),  # by P1-P2 (815) and by P2-P4 (500)
        ("ENSG01", "ENSG03", "string", 0.44),
    ]
    assert rows[0]["evidence"] == "9606.P1 9606.P2, combined score 815"
    assert tally(built, "gene_gene") == {"matched": 3, "absent": 1}
    assert "gene_gene" not in build_interactions(context_with(files), InteractionConfig(gene_gene=False)).tables


def test_two_proteins_of_one_gene_make_no_self_loop(files, tmp_path):
    links = "protein1 protein2 combined_score\n9606.P1 9606.P4 900\n9606.P1 9606.P3 600\n"
    built = build_interactions(
        context_with(files | {"string_links": written(tmp_path / "own.txt", links)}), InteractionConfig()
    )
    assert built.tables["gene_gene"].num_rows == 1
    assert tally(built, "gene_gene") == {"matched": 1, "self_loop": 1}
    assert built.tables["protein_protein"]["experimental"].null_count == 2


@pytest.mark.parametrize("given_file", ["string_info", "string_aliases"])
def test_one_of_info_and_aliases_is_enough(files, given_file):
    built = build_interactions(
        context_with({name: files[name] for name in ("string_links", given_file)}), InteractionConfig()
    )
    assert built.tables["gene_protein"].num_rows >= 3
    assert [source.label for source in built.sources["protein"]] == ["links.txt.gz", files[given_file].name]


def test_nothing_left_is_an_error(files, tmp_path):
    with pytest.raises(
        PriorError, match=r"none of its 8 lines reaches combined_score 990, fusion 5 \(of 1000\).\n  Fix: lower"
    ):
        build_interactions(context_with(files), InteractionConfig(min_score=990, min_channel={"fusion": 5}))
    strangers = "protein1 protein2 combined_score\n10090.X 10090.Y 900\n"
    others = {"string_links": written(tmp_path / "own.txt", strangers), "string_aliases": files["string_aliases"]}
    with pytest.raises(PriorError, match=r"none of its 2 proteins is known for any of the 5 genes"):
        build_interactions(context_with(others), InteractionConfig())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"min_score": 0.7}, "found 0.7"),
        ({"min_score": 1001}, r"run from 0 to 1000 \(0.7 is 700\)"),
        ({"min_channel": {"experiment": 300}}, "found channel experiment, expected some of neighborhood"),
    ],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(InteractionConfig, keys, "edges.interactions")


def test_every_line_is_counted_once(tmp_path):
    path = tmp_path / "links.txt"
    path.write_text("protein1 protein2 combined_score\n9606.A 9606.A 100\n9606.A 9606.B 100\n9606.A 9606.B 900\n")
    links = read_links(path, min_score=500)
    assert (links.rows, links.below, links.self_loops, links.table.num_rows) == (3, 1, 1, 1)
