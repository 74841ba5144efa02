"""Best motif hits and 4-mer frequencies of peaks, against one peak and one motif at a time with Biopython."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from Bio.motifs.matrix import PositionSpecificScoringMatrix
from Bio.Seq import reverse_complement

from heteromics.priors.kmers import canonical_kmers, kmer_frequencies
from heteromics.priors.motif_scan import BestHits, ScoreMatrix, best_hits, score_matrix
from heteromics.priors.motifs import probabilities
from tests.benchmarks.harness import Answer, Benchmark, Side

K = 4
EVEN = np.full(4, 0.25)


@dataclass(frozen=True)
class Inputs:
    matrices: list[ScoreMatrix]
    bases: np.ndarray
    offsets: np.ndarray


def random_peaks(peaks: int, motifs: int, seed: int = 0) -> Inputs:
    """Peaks of 200 to 800 random bases, and motifs of 6 to 20 positions with a clear consensus."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(200, 800, peaks))])
    bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), offsets[-1])
    matrices = []
    for length in rng.integers(6, 21, motifs):
        likely = np.full((length, 4), 0.07)
        likely[np.arange(length), rng.integers(0, 4, length)] = 0.79
        counts = np.array([rng.multinomial(100, row) for row in likely], float)
        matrices.append(score_matrix(probabilities(counts, 0.1), EVEN, 1e-4))
    return Inputs(matrices, bases, offsets)


def ours(inputs: Inputs) -> tuple[BestHits, np.ndarray]:
    best = best_hits(inputs.matrices, inputs.bases, inputs.offsets)
    return best, kmer_frequencies(inputs.bases, inputs.offsets, K)


def our_answer(outcome: tuple[BestHits, np.ndarray]) -> Answer:
    best, frequencies = outcome
    return {**best._asdict(), "frequencies": frequencies}


def biopython_form(inputs: Inputs) -> tuple[list[str], list[tuple[PositionSpecificScoringMatrix, ...]], list[int]]:
    """Sequences as text, and Biopython's matrices of both strands with our whole numbers, so that sums are equal."""
    text = inputs.bases.tobytes().decode()
    places = zip(inputs.offsets[:-1].tolist(), inputs.offsets[1:].tolist(), strict=True)
    pssms = []
    for matrix in inputs.matrices:
        columns = dict(zip("ACGT", matrix.weights.T.astype(float).tolist(), strict=True))
        forward = PositionSpecificScoringMatrix("ACGT", columns)
        pssms.append((forward, forward.reverse_complement()))
    least = [matrix.least if matrix.p_values.size else np.inf for matrix in inputs.matrices]
    return [text[begin:end] for begin, end in places], pssms, least


def biopython(inputs: tuple) -> tuple[list[tuple[int, ...]], list[list[float]]]:
    texts, matrices, least = inputs
    hits, frequencies, words = [], [], canonical_kmers(K)
    for sequence, text in enumerate(texts):
        for motif, strands in enumerate(matrices):
            scores = np.array([strand.calculate(text) for strand in strands])  # (2, places)
            passing = scores >= least[motif]
            if passing.any():
                start, strand = divmod(int(scores.T.argmax()), 2)
                hits.append((motif, sequence, int(passing.sum()), start, strand == 0, int(scores[strand, start])))
        counted: Counter[str] = Counter()
        for place in range(len(text) - K + 1):
            word = text[place : place + K]
            counted[min(word, reverse_complement(word))] += 1
        total = counted.total()
        frequencies.append([counted[word] / total for word in words])
    return hits, frequencies


def biopython_answer(outcome: tuple[list[tuple[int, ...]], list[list[float]]]) -> Answer:
    hits, frequencies = outcome
    columns = [np.array(column) for column in zip(*hits, strict=True)]
    return {**BestHits(*columns)._asdict(), "frequencies": np.array(frequencies, np.float32)}


BENCHMARK = Benchmark(
    name="motifs",
    module=__name__,
    what="best hits of 100 motifs on both strands and 4-mer frequencies, 500 peaks of 500 bp",
    sizes={"full": {"peaks": 500, "motifs": 100}, "short": {"peaks": 30, "motifs": 8}},
    prepare=random_peaks,
    ours=Side("heteromics", run=ours, answer=our_answer),
    peer=Side("Biopython, peak by peak", run=biopython, answer=biopython_answer, own=biopython_form),
    bar=50,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
