import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteromics.priors.alias_table import alias_rows
from heteromics.priors.aliases import Entry, Listed
from heteromics.priors.gene_names import KINDS
from heteromics.priors.tables import Match

IDS = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", "ENSG00000000004"]
SYMBOLS = ["PRKN", "Gapdh", "DUP", "DUP"]

ENTRIES = st.lists(
    st.builds(
        Entry,
        st.lists(st.sampled_from([*IDS, "ENSG00000000009", "ENSG00000000008"]), max_size=2).map(tuple),
        st.sampled_from(["", "PRKN", "DUP", "NEW", "OTHER", "A"]),
        st.lists(st.tuples(st.sampled_from("ABCDE"), st.sampled_from(KINDS)), max_size=3).map(tuple),
    ),
    max_size=6,
)


@given(ENTRIES, ENTRIES, st.randoms(use_true_random=False))
def test_order_of_alias_lines_and_files_changes_nothing(first, second, shuffle):
    whole = alias_rows({"one": Listed(first, {}), "two": Listed(second, {})}, IDS, SYMBOLS)
    shuffle.shuffle(first)
    shuffle.shuffle(second)
    assert alias_rows({"two": Listed(second, {}), "one": Listed(first, {})}, IDS, SYMBOLS) == whole
    assert len(set(whole.rows)) == len(whole.rows)


def rows_of(entries, ids=IDS, symbols=SYMBOLS):
    aliases = alias_rows({"file": Listed(entries, {})}, ids, symbols)
    return {(row.row, row.alias, row.kind) for row in aliases.rows}, aliases


def test_a_gene_of_an_alias_file_is_found_by_id_then_symbol_then_what_others_say():
    rows, _ = rows_of([Entry((IDS[0] + ".4",), "PARKIN", (("PARK2", "previous_symbol"),))])
    assert rows == {(0, "PARKIN", "symbol"), (0, "PARK2", "previous_symbol")}
    rows, aliases = rows_of([Entry(("ENSG00000000099",), "PRKN", (("5071", "entrez"),))])
    assert rows == {(0, "ENSG00000000099", "ensembl"), (0, "5071", "entrez")}
    assert [(match.name, match.outcome) for match in aliases.matches] == [("PRKN", "alias")]
    rows, _ = rows_of([Entry((IDS[0],), "NEW", ()), Entry((), "NEW", (("N2", "alias"),))])
    assert rows == {(0, "NEW", "symbol"), (0, "N2", "alias")}
    rows, _ = rows_of([Entry((), "NEW", (("PRKN", "previous_symbol"), ("N2", "alias")))])
    assert rows == {(0, "NEW", "symbol"), (0, "N2", "alias")}
    twice = [Entry((), "NEW", (("PRKN", "previous_symbol"),)), Entry((), "OTHER", (("PRKN", "previous_symbol"),))]
    assert rows_of(twice)[0] == set()


def test_a_symbol_that_a_file_gives_to_several_ids_joins_none():
    rows, aliases = rows_of([Entry(("ENSG00000000098",), "PRKN", ()), Entry(("ENSG00000000099",), "PRKN", ())])
    assert rows == set()
    assert [match.outcome for match in aliases.matches] == ["absent", "absent"]
    renamed = [Entry((IDS[0],), "NEW", ()), Entry(("ENSG00000000099",), "PRKN", (("P2", "alias"),))]
    rows, aliases = rows_of(renamed)  # the file knows the gene called PRKN here by another symbol
    assert rows == {(0, "NEW", "symbol")}
    rows, aliases = rows_of([Entry((IDS[0], IDS[1]), "NEW", (("N2", "alias"),))])
    assert rows == set()
    assert aliases.matches == [Match("file", "NEW", "ambiguous", f"fits {IDS[0]}, {IDS[1]}")]
    assert rows_of([Entry((IDS[0], IDS[1]), "PRKN", (("N2", "alias"),))])[0] == {
        (0, IDS[1], "ensembl"), (0, "N2", "alias"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("here", "there", "kept"),
    [("alias", "symbol", False), ("alias", "alias", False), ("alias", "previous_symbol", False),
     ("previous_symbol", "alias", True), ("symbol", "alias", True), ("entrez", "entrez", False)],
)  # fmt: skip
def test_a_name_shared_with_a_gene_that_is_not_there_is_kept_only_where_it_is_believed_more(here, there, kept):
    absent = Entry(("ENSG00000000099",), "X" if there == "symbol" else "AWAY", (("X", there),))
    rows, aliases = rows_of([Entry((IDS[0],), "PRKN", (("X", here),)), absent])
    assert ((0, "X", here) in rows) is kept
    if not kept:
        (contested,) = (match for match in aliases.matches if match.outcome == "ambiguous")
        assert contested.detail.startswith(f"{here.replace('_', ' ')} of ENSG00000000001 (PRKN), but also ")
