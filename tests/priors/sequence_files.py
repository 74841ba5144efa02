"""Toy genomes as FASTA, and build contexts with peaks on them."""

import numpy as np

from tests.priors.prior_files import context_with


def genome(seed=0, length=10_000):
    rng = np.random.default_rng(seed)
    return "".join(rng.choice(list("ACGTacgtN"), length, p=[0.15, 0.13, 0.13, 0.15, 0.12, 0.1, 0.1, 0.1, 0.02]))


def fasta(sequences, width=60):
    lines = []
    for name, text in sequences.items():
        lines += [f">{name} test", *(text[place : place + width] for place in range(0, len(text), width))]
    return "\n".join(lines) + "\n"


def with_peaks(files, peaks, **kwargs):
    context = context_with(files, **kwargs)
    for chrom, start, end in peaks:
        context.connection.execute(
            "INSERT INTO peak VALUES (?, ?, ?, ?)", [f"{chrom}:{start}-{end}", chrom, start, end]
        )
    return context
