"""Chromosome sizes, the three name styles, and the guard that all sources are of one assembly.

Styles are those of the UCSC genome browser (``chr1``, ``chrM``, ``chrUn_KI270742v1``), of Ensembl (``1``, ``MT``,
``KI270742.1``) and of NCBI (``NC_000001.11``). Names are never converted silently: a recipe asks for it per source
with ``chrom_style``. A RefSeq accession says by its version which assembly it is of, and is held to that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import BeyondChromosome, ChromNamesDisagree, PriorError, UnreadableFile, WrongAssembly, some
from heteromics.priors._accessions import (
    REFERENCES,
    assembly_of_accessions,
    assembly_of_sizes,
    is_accession,
    plain_name,
)
from heteromics.priors._files import text_lines
from heteromics.priors.tables import Built, Count, Source

Style = Literal["ucsc", "ensembl", "ncbi"]
STYLES: tuple[Style, ...] = ("ucsc", "ensembl", "ncbi")

_MITOCHONDRION = {"M", "MT", "Mito", "mitochondrion_genome"}
_PLAIN = re.compile(r"\d{1,3}[A-Za-z]{0,2}|[IVX]{1,6}|[WXYZ]")
_UCSC_SCAFFOLD = re.compile(r"chr[^_]+_([A-Z]+\d+|gl\d+)(?:v(\d+))?(?:_(?:random|alt|fix))?")


def read_sizes(path: Path) -> dict[str, int]:
    """Read chromosome sizes in bp, in file order.

    Accepted are two columns (UCSC ``chrom.sizes``), ``.fai`` (the first two columns count) and a table whose header
    begins ``name length`` (bioframe's ``seqinfo.tsv``); gzip or not.

    Raises
    ------
    UnreadableFile
        For a line that is none of these, naming it, for a name given twice, and for a file without a chromosome.
    """
    sizes: dict[str, int] = {}
    for number, line in text_lines(path):
        fields = line.split()
        if not fields or line.startswith("#") or (not sizes and fields[:2] == ["name", "length"]):
            continue
        if len(fields) < 2 or not fields[1].isdecimal() or int(fields[1]) == 0:
            raise UnreadableFile(f"{path}, line {number}: found {line[:80]!r}, expected a name and a length in bp.")
        if fields[0] in sizes:
            raise UnreadableFile(f"{path}, line {number}: chromosome {fields[0]} is given twice.")
        sizes[fields[0]] = int(fields[1])
    if not sizes:
        raise UnreadableFile(f"{path}: no chromosome in it. Expected lines of name and length in bp.")
    return sizes


def style_of(name: str) -> Style | None:
    """Return the style a chromosome name is written in, None for a name that could be of any.

    Examples
    --------
    >>> [style_of(name) for name in ("chr1", "1", "MT", "NC_000001.11", "scaffold_12")]
    ['ucsc', 'ensembl', 'ensembl', 'ncbi', None]
    """
    if is_accession(name):
        return "ncbi"
    if name.startswith("chr") and len(name) > 3:
        return "ucsc"
    return "ensembl" if name in _MITOCHONDRION or _PLAIN.fullmatch(name) else None


def accessions(assembly: str) -> list[str]:
    """Return the RefSeq accessions of an assembly's chromosomes: of GRCh37, GRCh38, GRCm38 or GRCm39.

    Examples
    --------
    >>> accessions("GRCm39")[:2]
    ['NC_000067.7', 'NC_000068.8']
    """
    if assembly not in REFERENCES:
        raise PriorError(f"accessions are known of {', '.join(REFERENCES)}; found {assembly}.")
    return list(REFERENCES[assembly].accessions().values())


def to_style(names: Iterable[str], style: Style, known: Collection[str] = ()) -> list[str]:
    """Convert chromosome names to one style; names that are already in it, or that no rule fits, stay as they are.

    Parameters
    ----------
    names
        Chromosome names in any mixture of styles.
    style
        ``ucsc``, ``ensembl`` or ``ncbi``.
    known
        Names of the assembly, in the style to convert to. They are needed for what a name alone does not tell: the
        UCSC name of unplaced scaffolds (``KI270706.1`` is ``chr1_KI270706v1_random``), and the version of RefSeq
        accessions. Given as a mapping to lengths in bp, accessions of another assembly are an error.

    Returns
    -------
    list of str
        As many as given. Converting again changes nothing.

    Raises
    ------
    ChromNamesDisagree
        When ``ncbi`` is asked for and ``known`` has no accession to tell the version from.
    WrongAssembly
        When accessions among the names are of another assembly than ``known``.

    Notes
    -----
    UCSC scaffold names are ``chr<place>_<accession>v<version>[_random|_alt|_fix]`` (UCSC, "Genome sequence naming");
    those of hg19 are in lower case and without version, which is 1 (``chrUn_gl000211``).
    RefSeq numbers and versions are those of the NCBI assembly reports, for human and mouse.

    Examples
    --------
    >>> to_style(["1", "chrX", "MT", "KI270706.1"], "ucsc", known=["chr1_KI270706v1_random"])
    ['chr1', 'chrX', 'chrM', 'chr1_KI270706v1_random']
    >>> to_style(["chr1", "X", "chrM", "chr1_KI270706v1_random", "NC_000002.12"], "ensembl")
    ['1', 'X', 'MT', 'KI270706.1', '2']
    >>> to_style(["chr1", "X"], "ncbi", known=accessions("GRCh37"))
    ['NC_000001.10', 'NC_000023.10']
    """
    names = list(names)
    check_accessions("these chromosome names", names, "the assembly", known)
    converted = _styled(names, style, known)
    lost = [name for name in converted if style_of(name) in ("ucsc", "ensembl")] if style == "ncbi" else []
    if lost and not any(is_accession(name) for name in known):
        raise ChromNamesDisagree(
            f"chrom_style ncbi: {len(lost)} of {len(names)} names ({some(lost)}) would need an accession, "
            "whose version the assembly's names must tell; they hold none.\n"
            "  Fix: give chromosome sizes under accessions (NC_000001.11 ...), or take chrom_style ucsc or ensembl."
        )
    return converted


def _styled(names: Iterable[str], style: Style, known: Collection[str]) -> list[str]:
    if style == "ensembl":
        return [_to_ensembl(name) for name in names]
    if style == "ncbi":
        accession = {plain: name for name in known if (plain := plain_name(name))}
        return [name if is_accession(name) else accession.get(_to_ensembl(name), name) for name in names]
    scaffolds = {_to_ensembl(name): name for name in known if name.startswith("chr")}
    return [_to_ucsc(name, scaffolds) for name in names]


def _to_ensembl(name: str) -> str:
    if not name.startswith("chr"):
        return "MT" if name in _MITOCHONDRION else plain_name(name) or name
    if name[3:] in _MITOCHONDRION:
        return "MT"
    scaffold = _UCSC_SCAFFOLD.fullmatch(name)
    if scaffold:
        return f"{scaffold[1].upper()}.{scaffold[2] or 1}"
    return name[3:] if "_" not in name and len(name) > 3 and not name.startswith("chrchr") else name


def _to_ucsc(name: str, scaffolds: Mapping[str, str]) -> str:
    name = plain_name(name) or name
    if name in _MITOCHONDRION or name in {"chrMT", "chrMito"}:
        return "chrM"
    scaffold = name.removeprefix("chr")  # some tools set chr before Ensembl names: chrKI270438.1
    if scaffold in scaffolds:
        return scaffolds[scaffold]
    return f"chr{name}" if _PLAIN.fullmatch(name) else name


def check_accessions(what: str, names: Collection[str], assembly: str, known: Collection[str]) -> None:
    """Stop when RefSeq accessions are of another assembly than the one they are to join.

    Parameters
    ----------
    what, assembly
        What the names are of, and the name of the assembly, for the message.
    names
        Chromosome names; those that are no accession say nothing.
    known
        Names of the assembly, best as a mapping to lengths in bp, which tell it apart whatever the names.

    Raises
    ------
    WrongAssembly
        Naming both assemblies.
    """
    ours = recognised(known)
    found = sorted(name for name in set(names) if assembly_of_accessions([name]) not in {None, ours})
    if ours and found:
        theirs = assembly_of_accessions(found)
        raise WrongAssembly(
            f"{what} are of {theirs}: {len(found)} accessions are its, such as {some(found)}.\n"
            f"  Expected {ours}, by the names or lengths of the chromosomes of {assembly}.\n"
            f"  Fix: give the recipe of {theirs}, or a file made for {ours}."
        )


def recognised(known: Collection[str]) -> str | None:
    """Return which assembly chromosome names, or lengths by name, are of; None where they do not tell.

    Examples
    --------
    >>> recognised({"chr1": 248_956_422, "chrX": 156_040_895}), recognised(["NC_000067.7"]), recognised(["chr1"])
    ('GRCh38', 'GRCm39', None)
    """
    by_name = assembly_of_accessions(known)
    if by_name or not isinstance(known, Mapping):
        return by_name
    return assembly_of_sizes({_to_ensembl(name): size for name, size in known.items()})


def check_names(
    left_name: str, left: Collection[str], right_name: str, right: Collection[str], *, key: str | None = None
) -> None:
    """Stop when two sources share no chromosome name, or when some names would match only in the other style.

    Parameters
    ----------
    left_name, right_name
        What the two sources are, for the message; ``left`` is the one that can be converted.
    left, right
        Their chromosome names.
    key
        Recipe key that converts ``left``, such as ``nodes.gene.chrom_style``.

    Raises
    ------
    ChromNamesDisagree
        Saying what each has and how many would match after conversion.
    WrongAssembly
        When accessions on the left are of another assembly than the right.
    """
    check_accessions(left_name, left, right_name, right)
    left, right = set(left), set(right)
    shared = left & right
    if not left or not right:
        return
    gains = {style: sum(name in right for name in _styled(left, style, right)) - len(shared) for style in STYLES}
    style = max(gains, key=lambda name: gains[name])
    if shared and gains[style] <= 0:
        return
    head = f"{left_name} and {right_name} have no chromosome name in common."
    if shared:
        head = f"{left_name} mixes chromosome name styles: {gains[style]} of {len(left)} names match only if converted."
    lines = [head, _listed(left_name, left), _listed(right_name, right)]
    if gains[style] > 0:
        lines.append(f"  {_in_words(left, style)}, {gains[style] + len(shared)} of {len(left)} names would match.")
        where = f"`{key}: {style}`" if key else f"`chrom_style: {style}`"
        lines.append(f"  Fix: set {where} in the recipe, which converts the names of {left_name}.")
    else:
        lines.append("  Neither the UCSC, Ensembl nor NCBI style makes them match: is this the same organism?")
    raise ChromNamesDisagree("\n".join(lines))


def _in_words(names: set[str], style: Style) -> str:
    if style == "ncbi" or any(is_accession(name) for name in names):
        return {"ucsc": "As UCSC names", "ensembl": "As Ensembl names", "ncbi": "As NCBI accessions"}[style]
    return "With a 'chr' prefix" if style == "ucsc" else "Without the 'chr' prefix"


def _listed(name: str, names: set[str]) -> str:
    return f"  {name}: {', '.join(sorted(names)[:3])}{' ...' if len(names) > 3 else ''} ({len(names)} names)"


def check_ends(
    what: str,
    assembly: str,
    names: Sequence[str],
    chrom: Sequence[str],
    end: NDArray[np.int64],
    sizes: Mapping[str, int],
) -> None:
    """Stop when intervals end beyond their chromosome, which says that they are of another assembly.

    Parameters
    ----------
    what, assembly
        What the intervals are (``peaks of atac.h5ad``) and the assembly they should be of, for the message.
    names, chrom
        Name and chromosome of each interval, length n. Chromosomes not in ``sizes`` are not looked at.
    end
        One past the last base, 0-based, shape (n,), int64.
    sizes
        Length in bp by chromosome.

    Raises
    ------
    BeyondChromosome
        With how many do, on how many chromosomes, examples, and the furthest end.
    """
    size = np.array([sizes.get(name, np.iinfo(np.int64).max) for name in chrom], dtype=np.int64)  # (n,)
    excess = end - size
    beyond = np.flatnonzero(excess > 0).tolist()
    if not beyond:
        return
    worst = int(excess.argmax())
    raise BeyondChromosome(
        f"{len(beyond):,} of {len(names):,} {what} end beyond their chromosome in {assembly}, "
        f"on {len({chrom[row] for row in beyond})} chromosomes: {some(names[row] for row in beyond)}.\n"
        f"  Furthest: {names[worst]} ends at {int(end[worst]):,}, "
        f"{chrom[worst]} has {int(size[worst]):,} bp ({int(excess[worst]):,} fewer).\n"
        f"  Likely they are of another assembly. Fix: give the recipe of that assembly, "
        f"or lift the coordinates over to {assembly}."
    )


def chromosome_table(sizes: Mapping[str, int], source: Source) -> Built:
    """Return table ``chromosome``: names in the store's style, codes from 0 in the order given, sizes in bp."""
    table = pa.table(
        {"chrom": list(sizes), "code": np.arange(len(sizes), dtype=np.int32), "size": list(sizes.values())}
    )
    return Built(
        tables={"chromosome": table},
        sources={"chromosome": [source]},
        counts={"chromosome": [Count(source.label, "matched", len(sizes))]},
    )
