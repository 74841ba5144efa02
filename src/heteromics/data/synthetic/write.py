"""A synthetic multiome as files, in the formats that real data and priors come in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mudata import set_options

from heteromics import __version__
from heteromics._config import as_dict
from heteromics._files import whole_folder
from heteromics.data.synthetic.networks import gene_sets, protein_links, regulons
from heteromics.errors import DataError, some

if TYPE_CHECKING:
    from heteromics.data.synthetic.multiome import SyntheticMultiome

MARKER = "SYNTHETIC.txt"
_LINE = 60
_LABEL = "SYNTHETIC: made by the heteromics simulator, not measured"


def write(made: SyntheticMultiome, folder: Path | str, rng: np.random.Generator) -> Path:
    """Write the folder whole or not at all; an earlier synthetic multiome there is replaced once the new is complete.

    ==========================  =========================================================================
    ``multiome.h5mu``           the MuData
    ``genes.gtf.gz``            gene, transcript and exon lines as in GENCODE (1-based, ids with version)
    ``genome.fa``, ``.fa.fai``  the genome, one chromosome in memory at a time, and its index
    ``chrom.sizes``             name and length
    ``peaks.bed``               peaks, 0-based half-open, with their names
    ``motifs.meme``             matrices of the TFs, named by gene
    ``pathways.gmt``            gene names: the activated genes of each TF, and random sets of equal sizes
    ``regulons.csv``            TF targets in the columns of DoRothEA: most true ones (A), and wrong ones (D)
    ``string.*.txt.gz``         links, info and aliases in the columns of STRING v12, made-up taxon 9999
    ``truth.parquet``           the planted links
    ``distractors.parquet``     the distractors and the peaks they are matched with
    ``SYNTHETIC.txt``           what this is, with seed and config
    ==========================  =========================================================================

    Raises
    ------
    DataError
        When ``folder`` exists, is not empty and holds no ``SYNTHETIC.txt``.
    """
    folder = Path(folder)
    _may_replace(folder)
    with whole_folder(folder) as fresh:
        _write_files(made, fresh, rng)
    return folder


def _may_replace(folder: Path) -> None:
    if not folder.exists():
        return
    held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    if held and MARKER not in held:
        raise DataError(
            f"{folder} exists and is no synthetic multiome: found {some(held)}, expected {MARKER}. "
            "Nothing was written. Fix: choose another folder."
        )


def _write_files(made: SyntheticMultiome, folder: Path, rng: np.random.Generator) -> None:
    with set_options(pull_on_update=False):
        made.mdata.write(folder / "multiome.h5mu", compression="gzip")
    _write_lines(folder / "genes.gtf.gz", _gtf_lines(made))
    _write_fasta(made, folder / "genome.fa")
    sizes = zip(made.genome.chrom, made.genome.size, strict=True)
    _write_lines(folder / "chrom.sizes", (f"{name}\t{size}" for name, size in sizes))
    _write_lines(folder / "peaks.bed", _bed_lines(made))
    _write_lines(folder / "motifs.meme", _meme_lines(made))
    _write_networks(made, folder, rng)
    made.truth.to_parquet(folder / "truth.parquet", index=False)
    made.distractors.to_parquet(folder / "distractors.parquet", index=False)
    roles = made.peaks["role"].value_counts()
    about = (
        f"{_LABEL}.\n\nCells, genome, priors and regulation in this folder are random. They serve to test methods "
        "that recover links\nbetween peaks and genes (truth.parquet) and say nothing about any organism.\n\n"
        f"heteromics {__version__}, seed {made.seed}\n"
        f"{len(made.truth):,} planted links; peaks: "
        + ", ".join(f"{n:,} {role}" for role, n in roles.items())
        + f"\n\nconfig: {json.dumps(as_dict(made.config), indent=1)}\n"
    )
    (folder / MARKER).write_text(about, encoding="utf-8")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text, gzipped without a time stamp when the name ends in ``.gz``."""
    if path.suffix != ".gz":
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        for line in lines:
            packed.write(f"{line}\n".encode())


def _gtf_lines(made: SyntheticMultiome) -> Iterator[str]:
    """Yield lines as GENCODE writes them: 1-based closed coordinates, exons numbered in the order of transcription."""
    yield f"##description: {_LABEL} (seed {made.seed})"
    yield "##provider: heteromics"
    yield "##format: gtf"
    genome = made.genome
    bounds = np.searchsorted(genome.exon_gene, np.arange(genome.tss.size + 1))
    for row, gene in enumerate(made.genes.to_dict("records")):
        digits = gene["gene_id"].removeprefix("ENSG")
        names = f'gene_type "{gene["biotype"]}"; gene_name "{gene["gene"]}";'
        transcript = (
            f'transcript_id "ENST{digits}.1"; {names} transcript_type "{gene["biotype"]}"; '
            f'transcript_name "{gene["gene"]}-201";'
        )
        yield _gtf_line(gene, "gene", gene["chrom_start"], gene["chrom_end"], names)
        yield _gtf_line(gene, "transcript", gene["chrom_start"], gene["chrom_end"], transcript)
        exons = np.arange(bounds[row], bounds[row + 1])[:: 1 if gene["strand"] == "+" else -1]
        for number, exon in enumerate(exons, 1):
            attributes = f'{transcript} exon_number {number}; exon_id "ENSE{digits}{number:02d}.1";'
            yield _gtf_line(gene, "exon", genome.exon_start[exon], genome.exon_end[exon], attributes)


def _gtf_line(gene: Mapping[Hashable, Any], feature: str, start: int, end: int, attributes: str) -> str:
    return (
        f"{gene['chrom']}\tSYNTHETIC\t{feature}\t{start + 1}\t{end}\t.\t{gene['strand']}\t.\t"
        f'gene_id "{gene["gene_id"]}.{gene["version"]}"; {attributes} level 3;'
    )


def _write_fasta(made: SyntheticMultiome, path: Path) -> None:
    """Write FASTA and its faidx index (name, length, offset of the first base, bases and bytes per line)."""
    index = []
    with path.open("wb") as out:
        for chrom, size in zip(made.genome.chrom, made.genome.size, strict=True):
            out.write(f">{chrom} {_LABEL}\n".encode())
            index.append(f"{chrom}\t{size}\t{out.tell()}\t{_LINE}\t{_LINE + 1}")
            letters = np.frombuffer(made.sequence(chrom).encode(), dtype=np.uint8)
            whole = letters.size // _LINE * _LINE
            lines = np.full((whole // _LINE, _LINE + 1), ord("\n"), dtype=np.uint8)
            lines[:, :_LINE] = letters[:whole].reshape(-1, _LINE)
            out.write(lines.tobytes())
            if whole < letters.size:
                out.write(letters[whole:].tobytes() + b"\n")
    _write_lines(path.with_name(f"{path.name}.fai"), index)


def _bed_lines(made: SyntheticMultiome) -> Iterator[str]:
    yield f"# {_LABEL}"
    for peak in made.peaks.itertuples(index=False):
        yield f"{peak.chrom}\t{peak.chrom_start}\t{peak.chrom_end}\t{peak.peak}"


def _meme_lines(made: SyntheticMultiome) -> Iterator[str]:
    yield "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n"
    yield "Background letter frequencies\nA 0.295 C 0.205 G 0.205 T 0.295"
    for name, pwm in made.motifs.items():
        yield f"\nMOTIF {name}\nletter-probability matrix: alength= 4 w= {len(pwm)} nsites= 100 E= 0"
        yield from (" " + " ".join(f"{p:.6f}" for p in row) for row in pwm)


def _write_networks(made: SyntheticMultiome, folder: Path, rng: np.random.Generator) -> None:
    symbol = made.genes["gene"].to_numpy()
    sets = gene_sets(made.regulation, list(made.motifs), symbol.size, rng)
    _write_lines(
        folder / "pathways.gmt",
        ("\t".join([name, f"{_LABEL} (seed {made.seed})", *symbol[rows]]) for name, rows in sets.items()),
    )
    proteins = np.flatnonzero(made.genome.coding)
    links = protein_links(made.regulation, made.config.n_tfs, proteins, rng)
    protein_id = made.genes["protein_id"].to_numpy()
    links["protein1"], links["protein2"] = protein_id[links["protein1"]], protein_id[links["protein2"]]
    _write_lines(
        folder / "string.links.txt.gz",
        (" ".join(map(str, row)) for row in [tuple(links), *links.itertuples(index=False, name=None)]),
    )
    length = rng.integers(80, 2_000, proteins.size)
    made_by = made.genes.iloc[proteins]
    info = zip(made_by["protein_id"], made_by["gene"], length, strict=True)
    described = [f"{protein}\t{name}\t{size}\t{_LABEL}" for protein, name, size in info]
    header = "#string_protein_id\tpreferred_name\tprotein_size\tannotation"
    _write_lines(folder / "string.info.txt.gz", [header, *described])
    aliases = [
        f"{protein}\t{alias}\t{source}"
        for protein, name, gene_id in zip(made_by["protein_id"], made_by["gene"], made_by["gene_id"], strict=True)
        for alias, source in ((gene_id, "Ensembl_gene"), (name, "Ensembl_EntrezGene"), (name, "UniProt_GN_Name"))
    ]
    _write_lines(folder / "string.aliases.txt.gz", ["#string_protein_id\talias\tsource", *aliases])
    _write_lines(folder / "regulons.csv", _regulon_lines(made, rng))


def _regulon_lines(made: SyntheticMultiome, rng: np.random.Generator) -> Iterator[str]:
    symbol, tf_names = made.genes["gene"].tolist(), list(made.motifs)
    listed = regulons(made.regulation, made.config.n_tfs, len(symbol), rng)
    yield "tf,confidence,target,mor"
    for tf, gene, confidence, sign in listed[["tf", "gene", "confidence", "sign"]].to_numpy().tolist():
        yield f"{tf_names[tf]},{confidence},{symbol[gene]},{sign}"
