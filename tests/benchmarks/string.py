"""Links of STRING's size: read, keep those of high confidence, carry them to genes, against pandas."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from heteromics.priors.interactions import InteractionConfig, build_interactions
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import BuildContext, Built, Source
from tests.benchmarks.harness import Answer, Benchmark, Side

MIN_SCORE = 700


@dataclass(frozen=True)
class Files:
    """protein.links (plain text, each pair in both directions) and protein.aliases with one gene id per protein."""

    links: Path
    aliases: Path
    proteins: int


def string_files(proteins: int, lines: int, seed: int = 0) -> Files:
    """Random pairs; scores fall off from 150 as in STRING, about one in twenty reaches 700."""
    rng = np.random.default_rng(seed)
    pairs = lines // 2
    code = np.unique(rng.integers(0, proteins * (proteins - 1) // 2, int(pairs * 1.05) + 100))  # a < b, row by row
    code = np.sort(rng.permutation(code)[:pairs])
    b = ((1 + np.sqrt(1 + 8 * code)) / 2).astype(np.int64)
    b -= b * (b - 1) // 2 > code
    score = np.minimum(999, 150 + rng.exponential(180, code.size)).astype(np.int64)
    drawn = pa.table({"a": code - b * (b - 1) // 2, "b": b, "score": score})  # noqa: F841  read by SQL
    folder = Path(tempfile.mkdtemp(prefix="bench_string_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files = Files(folder / "9606.protein.links.txt", folder / "9606.protein.aliases.txt", proteins)
    name = "format('9606.ENSP{{:011d}}', {})"
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT {name.format('a')} AS protein1, {name.format('b')} AS protein2, score AS combined_score "
            "FROM (SELECT a, b, score FROM drawn UNION ALL SELECT b, a, score FROM drawn) ORDER BY 1, 2) "
            f"TO '{files.links}' (DELIMITER ' ', HEADER)"
        )
    with files.aliases.open("w") as file:
        file.write("#string_protein_id\talias\tsource\n")
        file.writelines(f"9606.ENSP{row:011d}\tENSG{row // 2:011d}\tEnsembl_gene\n" for row in range(proteins))
    return files


def ours(files: Files) -> Built:
    """The table builder itself: proteins, links with their score, genes of proteins, links between genes."""
    genes = [f"ENSG{row:011d}" for row in range((files.proteins + 1) // 2)]  # two proteins a gene
    sources = {
        name: Source(path, "", "", "", path.name)
        for name, path in (("string_links", files.links), ("string_aliases", files.aliases))
    }
    with duckdb.connect() as connection:
        for name in ("chromosome", "gene"):
            connection.execute(SCHEMAS[name].create_sql())
        connection.execute("INSERT INTO chromosome VALUES ('chr1', 0, 1)")
        listed = pa.table({"id": genes})  # noqa: F841  read by SQL
        connection.execute("INSERT INTO gene SELECT id, id, 'chr1', 0, 1, '+', 0, '' FROM listed")
        context = BuildContext(connection, "toy", "ucsc", {}, sources.__getitem__, frozenset(sources))
        return build_interactions(context, InteractionConfig(min_score=MIN_SCORE))


def our_answer(built: Built) -> Answer:
    """Both tables, the identifiers as their numbers."""
    return _numbers(built.tables["protein_protein"].to_pandas(), "protein", "combined_score") | _numbers(
        built.tables["gene_gene"].to_pandas(), "gene", "weight"
    )


def theirs(files: Files) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read, filter, order the ends, drop repeats, merge with the genes, keep the highest score for each gene pair."""
    links = pd.read_csv(files.links, sep=" ")
    links = links[links["combined_score"] >= MIN_SCORE]
    first = links["protein1"] < links["protein2"]
    low, high = (links[["protein1", "protein2"]].to_numpy()[np.arange(len(links)), at] for at in (1 - first, 0 + first))
    pairs = pd.DataFrame({"protein_a": low, "protein_b": high, "combined_score": links["combined_score"].to_numpy()})
    pairs = pairs.groupby(["protein_a", "protein_b"], as_index=False)["combined_score"].max()
    aliases = pd.read_csv(files.aliases, sep="\t", names=["protein", "gene", "source"], header=0)
    genes = aliases.loc[aliases["source"] == "Ensembl_gene", ["protein", "gene"]]
    joined = pairs.merge(genes, left_on="protein_a", right_on="protein").merge(
        genes, left_on="protein_b", right_on="protein", suffixes=("_1", "_2")
    )
    ends = np.sort(joined[["gene_1", "gene_2"]].to_numpy(str), axis=1)
    linked = pd.DataFrame({"gene_a": ends[:, 0], "gene_b": ends[:, 1], "weight": joined["combined_score"] / 1000})
    linked = linked[linked["gene_a"] != linked["gene_b"]]
    return pairs, linked.groupby(["gene_a", "gene_b"], as_index=False)["weight"].max()


def their_answer(tables: tuple[pd.DataFrame, pd.DataFrame]) -> Answer:
    """As :func:`our_answer`."""
    return _numbers(tables[0], "protein", "combined_score") | _numbers(tables[1], "gene", "weight")


def _numbers(table: pd.DataFrame, kind: str, score: str) -> dict[str, np.ndarray]:
    """Return the numbers of the identifiers, in order, and the score."""
    ends = [f"{kind}_a", f"{kind}_b"]
    table = table.sort_values(ends)
    return {end: table[end].str[-11:].astype(np.int64).to_numpy() for end in ends} | {
        f"{kind}_{score}": table[score].to_numpy()
    }


BENCHMARK = Benchmark(
    name="string",
    module=__name__,
    what="STRING protein.links of 12 M lines, plain text: load, filter at 700, map to genes through the aliases",
    sizes={"full": {"proteins": 19_600, "lines": 12_000_000}, "short": {"proteins": 300, "lines": 20_000}},
    prepare=string_files,
    ours=Side("heteromics", run=ours, answer=our_answer),
    peer=Side("pandas", run=theirs, answer=their_answer),
    bar=2,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
