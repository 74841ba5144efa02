"""An annotation of the size of GENCODE: reading it and making all tables of it, against reading it by pyranges.

The file is made here: genes of several transcripts with exons, CDS, UTR and codons in GENCODE's columns and attributes,
the same gene models over and over with other ids and places. It is gzip, as releases are.
"""

from __future__ import annotations

import atexit
import gzip
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heteromics.priors.genes import GeneConfig, build_genes
from heteromics.priors.tables import BuildContext, Built, Source
from tests.benchmarks.harness import Answer, Benchmark, Side, package

CHROMOSOMES = {f"chr{name}": 400_000_000 for name in (*range(1, 23), "X", "Y")}
MODELS = 200  # distinct gene models
STEP_BP = 150_000  # from gene to gene
LINE = "{chrom}\tHAVANA\t{feature}\t{start}\t{end}\t.\t{strand}\t{frame}\t{attributes}\n"
OF_GENE = 'gene_id "{gene}"; gene_type "protein_coding"; gene_name "{name}"; level 2; hgnc_id "HGNC:{n}"; tag "x";'
OF_TRANSCRIPT = (
    'gene_id "{gene}"; transcript_id "{transcript}"; gene_type "protein_coding"; gene_name "{name}"; '
    'transcript_type "protein_coding"; transcript_name "{name}-{t}"; {exon}level 2; transcript_support_level "1"; '
    'hgnc_id "HGNC:{n}"; tag "basic"; tag "CCDS"; havana_gene "OTTHUMG{n:011d}.2"; '
    'havana_transcript "OTTHUMT{n:011d}.1";'
)
EXON = 'exon_number {e}; exon_id "ENSE{n:05d}{t}{e:05d}.1"; '


def gene_models(seed: int = 0) -> list[list[tuple[str, int, int, int, int]]]:
    """Rows (feature, transcript, exon, start, end) of each model, relative to its gene; about 48 a gene."""
    rng = np.random.default_rng(seed)
    models = []
    for _ in range(MODELS):
        rows: list[tuple[str, int, int, int, int]] = []
        for transcript in range(int(rng.integers(2, 6))):
            exons = int(rng.integers(2, 10))
            bounds = np.sort(rng.choice(100_000, 2 * exons, replace=False)) + 1
            starts, ends = bounds[::2].tolist(), (bounds[1::2]).tolist()
            coding_from, coding_to = starts[0] + (ends[0] - starts[0]) // 2, (starts[-1] + ends[-1]) // 2
            rows.append(("transcript", transcript, 0, starts[0], ends[-1]))
            for exon, (start, end) in enumerate(zip(starts, ends, strict=True), start=1):
                rows.append(("exon", transcript, exon, start, end))
                left, right = max(start, coding_from), min(end, coding_to)
                if left <= right:
                    rows.append(("CDS", transcript, exon, left, right))
            rows.append(("UTR", transcript, 1, starts[0], coding_from - 1))
            rows.append(("UTR", transcript, exons, coding_to + 1, ends[-1]))
        kept = [row for row in rows if row[3] <= row[4]]
        start, end = min(row[3] for row in kept), max(row[4] for row in kept)
        models.append([("gene", -1, 0, start, end), *kept])
    return models


def annotation(lines: int) -> Iterator[str]:
    """GENCODE-like lines, gene by gene along the chromosomes; no fewer than asked for."""
    models, names = gene_models(), list(CHROMOSOMES)
    written, n = 0, 0
    yield "##description: made for a benchmark\n##provider: GENCODE\n##format: gtf\n"
    while written < lines:
        chrom, place = names[n % len(names)], n // len(names) * STEP_BP
        for feature, t, e, start, end in models[n % MODELS]:
            text = {
                "gene": f"ENSG{n:011d}.5",
                "transcript": f"ENST{n:08d}{t:03d}.2",
                "name": f"GENE{n}",
                "n": n,
                "t": t,
            }
            exon = EXON.format(e=e, **text) if e else ""
            form = OF_GENE if feature == "gene" else OF_TRANSCRIPT
            yield LINE.format(
                chrom=chrom,
                feature=feature,
                start=place + start,
                end=place + end,
                strand="+-"[n % 2],
                frame="0" if feature == "CDS" else ".",
                attributes=form.format(exon=exon, **text),
            )
        written += len(models[n % MODELS])
        n += 1


def prepare(lines: int) -> Path:
    """Write the file into a folder that goes with the process."""
    folder = tempfile.mkdtemp(prefix="bench_gtf_")
    atexit.register(shutil.rmtree, folder)
    path = Path(folder) / "annotation.gtf.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.writelines(annotation(lines))
    return path


def ours(path: Path) -> Built:
    source = Source(path, "", "", "", path.name)
    context = BuildContext(None, "GRCh38", "ucsc", CHROMOSOMES, lambda _name: source, frozenset({"gtf"}))
    return build_genes(context, GeneConfig())


def pyranges(path: Path) -> Any:
    import pyranges as pr

    return pr.read_gtf(str(path))


def our_answer(built: Built) -> Answer:
    gene, transcript, part = (built.tables[name].to_pandas() for name in ("gene", "transcript", "gene_part"))
    exons = part[part["part"] == "exon"]
    return _answer(gene, transcript, int((exons["chrom_end"] - exons["chrom_start"]).sum()))


def pyranges_answer(ranges: Any) -> Answer:
    renamed = {"Chromosome": "chrom", "Start": "chrom_start", "End": "chrom_end"}
    gene, transcript, exon = (ranges[ranges.Feature == name] for name in ("gene", "transcript", "exon"))
    merged = exon.merge(by="gene_id", strand=False)
    return _answer(gene.df.rename(columns=renamed), transcript.df.rename(columns=renamed), int(merged.lengths().sum()))


def _answer(gene: pd.DataFrame, transcript: pd.DataFrame, exon_bases: int) -> Answer:
    places = gene.assign(chrom=gene["chrom"].astype(str)).sort_values(["chrom", "chrom_start", "chrom_end"])
    return {
        "genes": places[["chrom_start", "chrom_end"]].to_numpy(np.int64),
        "transcripts": np.array([len(transcript), transcript["chrom_start"].sum(), transcript["chrom_end"].sum()]),
        "exon_bases": np.array([exon_bases]),
    }


BENCHMARK = Benchmark(
    name="gtf",
    module=__name__,
    what="gzip GTF of 3 M lines, tables gene, gene_attribute, transcript and gene_part; the peer reads it alone",
    sizes={"full": {"lines": 3_000_000}, "short": {"lines": 20_000}},
    prepare=prepare,
    ours=Side("heteromics", run=ours, answer=our_answer),
    peer=Side("pyranges.read_gtf", run=pyranges, answer=pyranges_answer, needs=(package("pyranges"),)),
    bar=4,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
