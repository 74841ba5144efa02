"""Prior networks that know a part of the truth: gene sets of co-regulated genes and a protein network, with noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

from heteromics.data.synthetic.genome import Int
from heteromics.data.synthetic.regulation import Regulation

CHANNELS = ("neighborhood", "fusion", "cooccurence", "coexpression", "experimental", "database", "textmining")
"""Evidence channels in the order and spelling of STRING's ``protein.links.detailed`` files."""

_PRIOR = 0.041
_NEIGHBOURS = 3


def targets(regulation: Regulation, tf: int) -> Int:
    """Rows of the genes that a TF activates through a planted link, rising."""
    return np.unique(regulation.gene[(regulation.tf == tf) & (regulation.sign > 0)])


def gene_sets(regulation: Regulation, tf_names: list[str], n_genes: int, rng: np.random.Generator) -> dict[str, Int]:
    """Return the activated genes of each TF that has two or more, and for each such set a random one of equal size."""
    planted = {f"SYNTHETIC_TARGETS_{name}": targets(regulation, tf) for tf, name in enumerate(tf_names)}
    planted = {name: rows for name, rows in planted.items() if rows.size > 1}
    chance = {
        f"SYNTHETIC_RANDOM_{i:03d}": np.sort(rng.choice(n_genes, rows.size, replace=False))
        for i, rows in enumerate(planted.values(), 1)
    }
    return planted | chance


def regulons(regulation: Regulation, n_tfs: int, n_genes: int, rng: np.random.Generator) -> pd.DataFrame:
    """List targets of TFs as a database would know them: two in three of the true ones, and as many wrong ones.

    Returns
    -------
    DataFrame
        ``tf`` and ``gene`` (numbers), ``confidence`` (``A`` for the true ones, ``D`` for the others, as DoRothEA
        grades), ``sign`` (that of the strongest link of the pair; random where wrong). Each pair once.
    """
    links = pd.DataFrame({"tf": regulation.tf, "gene": regulation.gene, "sign": regulation.sign})
    by_strength = np.argsort(-regulation.strength, kind="stable")
    true = links.iloc[by_strength].drop_duplicates(["tf", "gene"]).sort_values(["tf", "gene"])
    known = true[rng.random(len(true)) < 2 / 3]
    wrong = pd.DataFrame(
        {
            "tf": rng.integers(0, n_tfs, len(known)),
            "gene": rng.integers(0, n_genes, len(known)),
            "sign": rng.choice([-1, 1], len(known)),
        }
    )
    listed = pd.concat([known.assign(confidence="A"), wrong.assign(confidence="D")])
    listed = listed[(listed["confidence"] == "A") | ~listed.set_index(["tf", "gene"]).index.isin(_pairs(true))]
    return listed.drop_duplicates(["tf", "gene"]).sort_values(["tf", "gene"], ignore_index=True)


def _pairs(listed: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(listed[["tf", "gene"]])


def protein_links(regulation: Regulation, n_tfs: int, proteins: Int, rng: np.random.Generator) -> pd.DataFrame:
    """Link proteins in the columns of STRING, scores 0 to 1,000.

    Proteins whose genes one TF activates are linked in a ring, each with its next three, by well supported links; as
    many random pairs are linked weakly.

    Parameters
    ----------
    proteins
        Rows of the genes that make a protein; links are given by these rows.

    Returns
    -------
    DataFrame
        ``protein1, protein2``, the :data:`CHANNELS` and ``combined_score``; each pair both ways, as in STRING.
    """
    rings = [np.intersect1d(targets(regulation, tf), proteins) for tf in range(n_tfs)]
    pairs = [
        np.column_stack([ring, np.roll(ring, -step)])
        for ring in rings
        for step in range(1, min(_NEIGHBOURS, ring.size // 2) + 1)
    ]
    strong = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    weak = rng.choice(proteins, (max(strong.shape[0], proteins.size), 2))
    pair = np.sort(np.concatenate([strong, weak]), axis=1)
    certain = np.arange(pair.shape[0]) < strong.shape[0]
    _, first = np.unique(pair, axis=0, return_index=True)
    first = first[pair[first, 0] != pair[first, 1]]
    pair, certain = pair[first], certain[first]

    scores = pd.DataFrame(0, index=range(pair.shape[0]), columns=list(CHANNELS), dtype=np.int64)
    n = certain.size
    scores["coexpression"] = np.where(certain, rng.integers(400, 900, n), rng.integers(42, 100, n))
    scores["experimental"] = np.where(certain & (rng.random(n) < 0.5), rng.integers(300, 900, n), 0)
    scores["textmining"] = rng.integers(100, 350, n)
    scores["combined_score"] = combined_score(scores[list(CHANNELS)].to_numpy())
    one_way = scores.assign(protein1=pair[:, 0], protein2=pair[:, 1])
    other_way = scores.assign(protein1=pair[:, 1], protein2=pair[:, 0])
    both = pd.concat([one_way, other_way]).sort_values(["protein1", "protein2"], ignore_index=True)
    return both[["protein1", "protein2", *CHANNELS, "combined_score"]]


def combined_score(channels: Int) -> Int:
    """Combine the scores of channels (L, channels), 0 to 1,000, as STRING does; shape (L,).

    The prior of 0.041 is taken out of each score, the chances that each is wrong are multiplied, and the prior is put
    back once (von Mering et al., Nucleic Acids Res 2005; STRING help, "scores").

    Examples
    --------
    >>> combined_score(np.array([[0, 0, 0, 49, 812, 0, 49], [0, 0, 0, 0, 0, 0, 0]]))
    array([815,  41])
    """
    alone = np.clip((channels / 1_000 - _PRIOR) / (1 - _PRIOR), 0, None)
    together = 1 - np.prod(1 - alone, axis=1)
    return np.floor(1_000 * (together * (1 - _PRIOR) + _PRIOR) + 1e-9).astype(np.int64)
