from itertools import product

import numpy as np
import pytest
from Bio.Seq import reverse_complement
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics.priors.motif_scan import (
    ScoreMatrix,
    best_hits,
    best_p_value,
    find_hits,
    log_odds,
    score_matrix,
    stripe,
    tail_probabilities,
)
from heteromics.priors.motifs import probabilities

EVEN = np.full(4, 0.25)
RICH = np.array([0.2, 0.3, 0.3, 0.2])
SEQUENCE = st.text("ACGTacgtN", max_size=70)


def motif(seed, length, sites=30):
    """Random counts of some sites around a random consensus."""
    rng = np.random.default_rng(seed)
    likely = np.full((length, 4), 0.08)
    likely[np.arange(length), rng.integers(0, 4, length)] = 0.76
    return probabilities(np.array([rng.multinomial(sites, row) for row in likely], float), 0.1)


def joined(texts):
    return np.frombuffer("".join(texts).encode(), np.uint8), np.cumsum([0, *map(len, texts)])


def every_place(matrix, texts):
    """All hits by trying every place of both strands with letters alone."""
    hits = []
    length = len(matrix.weights)
    for sequence, text in enumerate(texts):
        for start in range(len(text) - length + 1):
            word = text[start : start + length].upper()
            for forward, read in ((True, word), (False, reverse_complement(word))):
                if "N" in word:
                    continue
                score = sum(int(matrix.weights[place]["ACGT".index(base)]) for place, base in enumerate(read))
                if matrix.p_values.size and score >= matrix.least:
                    hits.append((sequence, start, forward, score))
    return hits


def found_hits(matrix, texts):
    return list(zip(*(field.tolist() for field in find_hits(matrix, stripe(*joined(texts), 40))), strict=True))


@pytest.mark.parametrize("background", [EVEN, RICH], ids=["even", "rich"])
@pytest.mark.parametrize("length", [1, 2, 5, 6])
def test_p_values_agree_with_all_words(length, background):
    weights = log_odds(motif(length, length), background)
    lowest, tail = tail_probabilities(weights, background)
    words = list(product(range(4), repeat=length))
    scores = np.array([sum(int(weights[place][base]) for place, base in enumerate(word)) for word in words])
    chances = np.array([np.prod(background[list(word)]) for word in words])
    assert (scores.min(), scores.max()) == (lowest, lowest + tail.size - 1)
    for score in np.unique(scores):
        assert tail[score - lowest] == pytest.approx(chances[scores >= score].sum(), rel=1e-9)
    assert best_p_value(motif(length, length), background) == pytest.approx(chances[scores == scores.max()].sum())


@pytest.mark.parametrize("p_value", [1e-1, 1e-2, 1e-3, 1e-7])
def test_the_threshold_is_the_smallest_sum_below_the_p_value(p_value):
    p = motif(3, 7)
    lowest, tail = tail_probabilities(log_odds(p, RICH), RICH)
    matrix = score_matrix(p, RICH, p_value)
    assert (matrix.p_values < p_value).all()
    assert tail[matrix.least - 1 - lowest] >= p_value
    assert matrix.p_values.tolist() == tail[matrix.least - lowest :].tolist()
    if p_value == 1e-7:  # 4 ** -7 is larger
        assert matrix.p_values.size == 0
        assert found_hits(matrix, ["ACGT" * 50]) == []


def test_a_p_value_just_reached_is_not_below():
    p = probabilities(np.array([[1.0, 0, 0, 0], [1, 0, 0, 0]]), 0.1)
    assert score_matrix(p, EVEN, 1 / 16).p_values.size == 0
    assert set(score_matrix(p, EVEN, 1 / 16 + 1e-9).p_values.tolist()) == {1 / 16}


@settings(deadline=None)
@given(st.lists(SEQUENCE, max_size=5), st.integers(0, 50), st.integers(1, 12), st.sampled_from([0.1, 0.02, 1e-3]))
def test_hits_agree_with_every_place_tried_on_both_strands(texts, seed, length, p_value):
    matrix = score_matrix(motif(seed, length), RICH, p_value)
    assert found_hits(matrix, texts) == every_place(matrix, texts)


@pytest.mark.parametrize("length", [4, 11, 23, 35])
@pytest.mark.parametrize("p_value", [1e-2, 1e-4])
def test_hits_agree_with_every_place_in_long_sequences(length, p_value):
    rng = np.random.default_rng(length)
    texts = ["".join(rng.choice(list("ACGTN"), size, p=[0.25, 0.25, 0.25, 0.2, 0.05])) for size in (4_000, 1, 900)]
    matrix = score_matrix(motif(length, length), EVEN, p_value)
    expected = every_place(matrix, texts)
    assert found_hits(matrix, texts) == expected
    assert p_value < 1e-2 or expected


@pytest.mark.parametrize(("forward", "word"), [(True, "GGGACTTTCC"), (False, reverse_complement("GGGACTTTCC"))])
def test_planted_motifs_are_found_at_their_place_and_strand(forward, word):
    likely = np.full((10, 4), 0.02)
    likely[np.arange(10), ["ACGT".index(base) for base in "GGGACTTTCC"]] = 0.94
    rng = np.random.default_rng(4)
    text = "".join(rng.choice(list("ACGT"), 500))
    planted = f"{text[:211]}{word}{text[221:]}"
    matrix = score_matrix(likely, EVEN, 1e-4)
    found = best_hits([matrix], *joined([text, planted]))
    row = found.sequence.tolist().index(1)
    assert (found.start[row], bool(found.forward[row])) == (211, forward)
    assert found.score[row] == matrix.weights.max(axis=1).sum()
    assert matrix.p_values[found.score[row] - matrix.least] == pytest.approx(0.25**10)


@settings(deadline=None)
@given(st.lists(st.text("ACGTN", min_size=1, max_size=70), min_size=1, max_size=4), st.integers(0, 50))
def test_the_other_strand_has_the_same_hits(texts, seed):
    matrix = score_matrix(motif(seed, 6), RICH, 0.02)
    mirrored = [
        (sequence, len(texts[sequence]) - start - 6, not forward, score)
        for sequence, start, forward, score in found_hits(matrix, [reverse_complement(text) for text in texts])
    ]
    assert sorted(mirrored) == sorted(found_hits(matrix, texts))


@settings(deadline=None)
@given(st.lists(SEQUENCE, max_size=6), st.integers(0, 6))
def test_sequences_together_have_the_hits_they_have_apart(texts, cut):
    matrices = [score_matrix(motif(seed, 3 + seed), RICH, 0.05) for seed in range(4)]
    together = best_hits(matrices, *joined(texts))
    first, second = best_hits(matrices, *joined(texts[:cut])), best_hits(matrices, *joined(texts[cut:]))
    second = second._replace(sequence=second.sequence + len(texts[:cut]))
    for whole, one, other in zip(together, first, second, strict=True):
        assert whole.tolist() == [*one.tolist(), *other.tolist()]


@settings(deadline=None)
@given(st.lists(SEQUENCE, max_size=4), st.integers(0, 20))
def test_the_best_hit_is_the_highest_then_the_first(texts, seed):
    matrices = [score_matrix(motif(seed + row, 4), RICH, 0.1) for row in range(3)]
    expected = []
    for sequence in range(len(texts)):
        for row, matrix in enumerate(matrices):
            hits = [hit for hit in every_place(matrix, texts) if hit[0] == sequence]
            if hits:
                _, start, forward, score = min(hits, key=lambda hit: (-hit[3], hit[1], not hit[2]))
                expected.append((row, sequence, len(hits), start, forward, score))
    found = best_hits(matrices, *joined(texts))
    assert list(zip(*(field.tolist() for field in found), strict=True)) == expected


def test_no_motif_and_no_sequence_have_no_hit():
    matrix = score_matrix(motif(0, 5), EVEN, 0.1)
    assert best_hits([], *joined(["ACGT"])).motif.size == 0
    assert best_hits([matrix], *joined([])).motif.size == 0
    assert best_hits([matrix], *joined(["", "ACG", "NNNNNNNN"])).motif.size == 0


def test_random_places_are_hit_as_often_as_the_p_value_says():
    rng = np.random.default_rng(8)
    bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), 1_000_000, p=RICH)
    matrix = score_matrix(motif(6, 10), RICH, 1e-3)
    hits = find_hits(matrix, stripe(bases, np.array([0, bases.size]), 10))
    expected = 2 * bases.size * matrix.p_values[0]
    assert hits.start.size == pytest.approx(expected, rel=0.1)
    assert hits.forward.mean() == pytest.approx(0.5, abs=0.05)


MEMELITE = """
from memelite import fimo
motifs = {name: given[name].T for name in given.files if name != "one_hot"}
frames = fimo(motifs, given["one_hot"], eps=0.0, threshold=1e-4)
found = {f"{name} {part}": frame[part].to_numpy(dtype=None if part != "strand" else "U1")
         for name, frame in zip(motifs, frames)
         for part in ("sequence_name", "start", "strand", "score", "p-value")}
"""


def test_memelite_agrees_where_its_rounding_does_not_matter(uncompiled):
    """Its scores are ours up to rounding, and its strong hits are hits here, at the same places and strands."""
    pytest.importorskip("memelite")
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 4, (12, 60))
    likely = {f"m{length}": motif(length, length) for length in (8, 10, 15, 22)}
    for number, p in enumerate(likely.values()):  # in three sequences each: the best word, its other strand, another
        best = p.argmax(1)
        other = np.where(np.arange(len(p)) == len(p) // 2, p.argsort(1)[:, -2], best)
        for row, word in enumerate((best, 3 - best[::-1], other)):
            codes[3 * number + row, 20 : 20 + len(p)] = word
    one_hot = (codes[:, None, :] == np.arange(4)[None, :, None]).astype(np.int8)
    bases = np.frombuffer(b"ACGT", np.uint8)[codes].ravel()
    theirs = uncompiled(MEMELITE, one_hot=one_hot, **likely)
    for name, p in likely.items():
        hits = find_hits(score_matrix(p, EVEN, 1e-4), stripe(bases, np.arange(13) * 60, 30))
        ours = {
            (sequence, start, "+" if forward else "-"): score / 100
            for sequence, start, forward, score in zip(*(field.tolist() for field in hits), strict=True)
        }
        parts = (theirs[f"{name} {part}"].tolist() for part in ("sequence_name", "start", "strand", "score", "p-value"))
        found = list(zip(*parts, strict=True))
        strong = [place for *place, p_value in found if p_value < 3e-5]
        assert len(strong) > 0
        for *place, score in strong:
            assert ours[tuple(place)] == pytest.approx(score, abs=0.005 * len(p))
        assert len(found) == pytest.approx(len(ours), rel=0.5)


def test_score_matrices_say_which_sums_pass():
    matrix = score_matrix(np.array([[0.7, 0.1, 0.1, 0.1]] * 2), EVEN, 0.1)
    assert isinstance(matrix, ScoreMatrix)
    assert matrix.weights.tolist() == [[149, -132, -132, -132]] * 2
    assert matrix.least == 298 - 281 + 1
    assert matrix.p_values[[0, -1]].tolist() == [1 / 16, 1 / 16]
