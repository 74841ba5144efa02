"""Parts of genes: dialects worked by hand, then against sets of bases."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics.priors.gene_models import Kind, Parts
from heteromics.priors.gene_parts import PART_NAMES, gene_part_table, merged_parts


def parts_of(rows):
    """Rows are (kind, gene, transcript, start, end)."""
    kind, *others = zip(*rows, strict=True) if rows else [[]] * 5
    return Parts(np.array(kind, dtype=np.int8), *(np.array(column, dtype=np.int64) for column in others))


def merged(rows, reverse=(False,), n_transcripts=1):
    found = merged_parts(parts_of(rows), np.array(reverse), n_transcripts)
    return [
        (gene, PART_NAMES[part], start, end)
        for gene, part, start, end in zip(*(column.tolist() for column in found), strict=True)
    ]


EXONS = [(Kind.EXON, 0, 0, 100, 200), (Kind.EXON, 0, 0, 300, 400), (Kind.EXON, 0, 0, 500, 600)]
EXPECTED = [
    (0, "exon", 100, 200),
    (0, "exon", 300, 400),
    (0, "exon", 500, 600),
    (0, "coding", 150, 200),
    (0, "coding", 300, 400),
    (0, "coding", 500, 533),
    (0, "five_prime_utr", 100, 150),
    (0, "three_prime_utr", 533, 600),
]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([(Kind.CODING, 0, 0, 500, 533)], id="GFF3 and refGene: the CDS holds the stop codon"),
        pytest.param([(Kind.CODING, 0, 0, 500, 530), (Kind.STOP, 0, 0, 530, 533)], id="GTF without UTR"),
        pytest.param(
            [
                (Kind.CODING, 0, 0, 500, 530),
                (Kind.STOP, 0, 0, 530, 533),
                (Kind.FIVE_PRIME, 0, 0, 100, 150),
                (Kind.THREE_PRIME, 0, 0, 533, 600),
            ],
            id="Ensembl: UTR with side, stop codon outside",
        ),
        pytest.param(
            [
                (Kind.CODING, 0, 0, 500, 530),
                (Kind.STOP, 0, 0, 530, 533),
                (Kind.UTR, 0, 0, 100, 150),
                (Kind.UTR, 0, 0, 530, 600),
            ],
            id="GENCODE: UTR without side, stop codon inside",
        ),
    ],
)
def test_dialects_mean_the_same(rows):
    coding = [(Kind.CODING, 0, 0, 150, 200), (Kind.CODING, 0, 0, 300, 400)]
    assert merged([*EXONS, *coding, *rows]) == EXPECTED
    other = {Kind.FIVE_PRIME: Kind.THREE_PRIME, Kind.THREE_PRIME: Kind.FIVE_PRIME}
    turned = [(other.get(kind, kind), *row) for kind, *row in rows]
    assert merged([*EXONS, *coding, *turned], reverse=(True,)) == [
        *EXPECTED[:6],
        (0, "five_prime_utr", 533, 600),
        (0, "three_prime_utr", 100, 150),
    ]


def test_lines_for_untranslated_parts_win_over_what_exons_would_say():
    rows = [*EXONS, (Kind.CODING, 0, 0, 300, 400), (Kind.UTR, 0, 0, 150, 200)]
    assert merged(rows)[3:] == [(0, "coding", 300, 400), (0, "five_prime_utr", 150, 200)]


def test_a_transcript_without_coding_part_has_no_untranslated_ends():
    assert merged(EXONS) == EXPECTED[:3]
    assert merged([*EXONS, (Kind.UTR, 0, 0, 100, 150)]) == EXPECTED[:3]


def test_parts_are_merged_over_transcripts_and_touching_ones_become_one():
    rows = [
        (Kind.EXON, 1, 0, 10, 20),
        (Kind.EXON, 1, 1, 20, 30),
        (Kind.EXON, 1, 1, 25, 28),
        (Kind.EXON, 1, 2, 40, 50),
        (Kind.CODING, 1, 1, 22, 25),
        (Kind.EXON, 0, -1, 0, 5),
        (Kind.CODING, 0, -1, 2, 5),
    ]
    assert merged(rows, reverse=(True, False), n_transcripts=3) == [
        (0, "exon", 0, 5),
        (0, "coding", 2, 5),
        (0, "three_prime_utr", 0, 2),
        (1, "exon", 10, 30),
        (1, "exon", 40, 50),
        (1, "coding", 22, 25),
        (1, "five_prime_utr", 20, 22),
        (1, "three_prime_utr", 25, 30),
    ]


def test_nothing_gives_nothing():
    assert merged([]) == []
    table = gene_part_table(merged_parts(parts_of([]), np.array([False]), 0), pa.array(["G"]))
    assert table.num_rows == 0
    assert table.column_names == ["gene_id", "part", "chrom_start", "chrom_end"]


def bases(intervals):
    return {base for start, end in intervals for base in range(start, end)}


def brute_force(rows, gene_of, reverse):
    """Bases of each (gene, part), by sets."""
    found = {}
    for transcript, gene in enumerate(gene_of):
        mine = {
            kind: bases((row[3], row[4]) for row in rows if row[2] == transcript and row[0] == kind) for kind in Kind
        }
        coding = mine[Kind.CODING] | mine[Kind.STOP]
        given_sides = mine[Kind.UTR] | mine[Kind.FIVE_PRIME] | mine[Kind.THREE_PRIME]
        rest = (mine[Kind.UTR] if given_sides else mine[Kind.EXON]) - coding
        left = {base for base in rest if coding and base < min(coding)}
        right = {base for base in rest if coding and base > max(coding)}
        five, three = (right, left) if reverse[gene] else (left, right)
        for part, here in zip(
            PART_NAMES,
            (
                mine[Kind.EXON],
                coding,
                five | (mine[Kind.FIVE_PRIME] - coding),
                three | (mine[Kind.THREE_PRIME] - coding),
            ),
            strict=True,
        ):
            found.setdefault((gene, part), set()).update(here)
    return {key: places for key, places in found.items() if places}


KINDS = st.sampled_from([Kind.EXON, Kind.EXON, Kind.CODING, Kind.STOP, Kind.UTR, Kind.FIVE_PRIME, Kind.THREE_PRIME])
GENE_OF = [0, 0, 1, 2]


@settings(deadline=None)
@given(
    st.lists(st.tuples(KINDS, st.integers(0, 3), st.integers(0, 60), st.integers(1, 15)), max_size=25),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_agrees_with_sets_of_bases(drawn, reverse):
    rows = [(kind, GENE_OF[transcript], transcript, start, start + width) for kind, transcript, start, width in drawn]
    found = merged(rows, reverse, n_transcripts=len(GENE_OF))
    assert found == sorted(found, key=lambda row: (row[0], PART_NAMES.index(row[1]), row[2]))
    by_part = {}
    for gene, part, start, end in found:
        by_part.setdefault((gene, part), []).append((start, end))
    for intervals in by_part.values():  # apart from each other
        assert all(before[1] < after[0] for before, after in pairwise(intervals))
    assert {key: bases(intervals) for key, intervals in by_part.items()} == brute_force(rows, GENE_OF, reverse)


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_lines_does_not_matter(shuffler):
    rows = [*EXONS, (Kind.CODING, 0, 0, 150, 200), (Kind.CODING, 0, 0, 300, 400), (Kind.CODING, 0, 0, 500, 533)]
    shuffler.shuffle(rows)
    assert merged(rows) == EXPECTED
