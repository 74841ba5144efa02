"""Chromosome sizes, the two name styles, and the guard that all sources are of one assembly.

Styles are those of the UCSC genome browser (``chr1``, ``chrM``, ``chrUn_KI270742v1``) and of Ensembl (``1``, ``MT``,
``KI270742.1``). Names are never converted silently: a recipe asks for it per source with ``chrom_style``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from heteromics.errors import BeyondChromosome, ChromNamesDisagree, UnreadableFile, some
from heteromics.priors._files import text_lines
from heteromics.priors.tables import Built, Count, Source

Style = Literal["ucsc", "ensembl"]
STYLES: tuple[Style, ...] = ("ucsc", "ensembl")

_MITOCHONDRION = {"M", "MT", "Mito", "mitochondrion_genome"}
_PLAIN = re.compile(r"\d{1,3}[A-Za-z]{0,2}|[IVX]{1,6}|[WXYZ]")
_UCSC_SCAFFOLD = re.compile(r"chr[^_]+_([A-Z]+\d+)(?:v(\d+))?(?:_(?:random|alt|fix))?")


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


def to_style(names: Iterable[str], style: Style, known: Collection[str] = ()) -> list[str]:
    """Convert chromosome names to one style; names that are already in it, or that no rule fits, stay as they are.

    Parameters
    ----------
    names
        Chromosome names in any mixture of styles.
    style
        ``ucsc`` or ``ensembl``.
    known
        Names of the assembly in UCSC style. They are needed to give unplaced scaffolds their UCSC name, which
        cannot be derived from the accession alone (``KI270706.1`` is ``chr1_KI270706v1_random``).

    Returns
    -------
    list of str
        As many as given. Converting again changes nothing.

    Notes
    -----
    UCSC scaffold names are ``chr<place>_<accession>v<version>[_random|_alt|_fix]`` (UCSC, "Genome sequence naming").

    Examples
    --------
    >>> to_style(["1", "chrX", "MT", "KI270706.1"], "ucsc", known=["chr1_KI270706v1_random"])
    ['chr1', 'chrX', 'chrM', 'chr1_KI270706v1_random']
    >>> to_style(["chr1", "X", "chrM", "chr1_KI270706v1_random"], "ensembl")
    ['1', 'X', 'MT', 'KI270706.1']
    """
    if style == "ensembl":
        return [_to_ensembl(name) for name in names]
    scaffolds = {_to_ensembl(name): name for name in known if name.startswith("chr")}
    return [_to_ucsc(name, scaffolds) for name in names]


def _to_ensembl(name: str) -> str:
    if not name.startswith("chr"):
        return "MT" if name in _MITOCHONDRION else name
    if name[3:] in _MITOCHONDRION:
        return "MT"
    scaffold = _UCSC_SCAFFOLD.fullmatch(name)
    if scaffold:
        return f"{scaffold[1]}.{scaffold[2] or 1}"
    return name[3:] if "_" not in name and len(name) > 3 else name


def _to_ucsc(name: str, scaffolds: Mapping[str, str]) -> str:
    if name in _MITOCHONDRION or name in {"chrMT", "chrMito"}:
        return "chrM"
    if name in scaffolds and not name.startswith("chr"):
        return scaffolds[name]
    return f"chr{name}" if _PLAIN.fullmatch(name) else name


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
    """
    left, right = set(left), set(right)
    shared = left & right
    if not left or not right:
        return
    gains = {style: _matches(left, right, style) - len(shared) for style in STYLES}
    style = max(gains, key=lambda name: gains[name])
    if shared and gains[style] <= 0:
        return
    head = f"{left_name} and {right_name} have no chromosome name in common."
    if shared:
        head = f"{left_name} mixes chromosome name styles: {gains[style]} of {len(left)} names match only if converted."
    lines = [head, _listed(left_name, left), _listed(right_name, right)]
    if gains[style] > 0:
        prefix = "With a 'chr' prefix" if style == "ucsc" else "Without the 'chr' prefix"
        lines.append(f"  {prefix}, {gains[style] + len(shared)} of {len(left)} names would match.")
        where = f"`{key}: {style}`" if key else f"`chrom_style: {style}`"
        lines.append(f"  Fix: set {where} in the recipe, which converts the names of {left_name}.")
    else:
        lines.append("  Neither the UCSC nor the Ensembl style makes them match: is this the same organism?")
    raise ChromNamesDisagree("\n".join(lines))


def _matches(left: set[str], right: set[str], style: Style) -> int:
    return len(set(to_style(left, style, known=right)) & right)


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
