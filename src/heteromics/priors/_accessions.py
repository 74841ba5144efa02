"""RefSeq accessions of human and mouse chromosomes, and the lengths that tell one assembly from another.

The number of an accession says which chromosome it is, its version of which assembly: ``NC_000001.11`` is chromosome 1
of GRCh38, ``NC_000001.10`` that of GRCh37. Facts of the NCBI assembly reports of GRCh37, GRCh38, GRCm38 and GRCm39.
Mitochondria (``NC_012920.1``, ``NC_005089.1``) are the same in both assemblies of a species, so they tell nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

_HUMAN = (*map(str, range(1, 23)), "X", "Y")
_MOUSE = (*map(str, range(1, 20)), "X", "Y")
_MITOCHONDRIA = {"NC_012920.1", "NC_005089.1"}
_VERSIONED = re.compile(r"(N[CTW]_\d{6,9})\.\d+")


class Reference(NamedTuple):
    """One assembly: number of its first accession, chromosomes in that order, accession versions, lengths in bp."""

    first: int
    chromosomes: tuple[str, ...]
    versions: tuple[int, ...]
    lengths: tuple[int, ...]

    def accessions(self) -> dict[str, str]:
        """Return the accession of each chromosome but the mitochondrion."""
        numbered = enumerate(zip(self.chromosomes, self.versions, strict=True), start=self.first)
        return {chromosome: f"NC_{number:06}.{version}" for number, (chromosome, version) in numbered}


# fmt: off
REFERENCES = {
    "GRCh37": Reference(
        1, _HUMAN,
        (10, 11, 11, 11, 9, 11, 13, 10, 11, 10, 9, 11, 10, 8, 9, 9, 10, 9, 9, 10, 8, 10, 10, 9),
        (249_250_621, 243_199_373, 198_022_430, 191_154_276, 180_915_260, 171_115_067, 159_138_663, 146_364_022,
         141_213_431, 135_534_747, 135_006_516, 133_851_895, 115_169_878, 107_349_540, 102_531_392, 90_354_753,
         81_195_210, 78_077_248, 59_128_983, 63_025_520, 48_129_895, 51_304_566, 155_270_560, 59_373_566),
    ),
    "GRCh38": Reference(
        1, _HUMAN,
        (11, 12, 12, 12, 10, 12, 14, 11, 12, 11, 10, 12, 11, 9, 10, 10, 11, 10, 10, 11, 9, 11, 11, 10),
        (248_956_422, 242_193_529, 198_295_559, 190_214_555, 181_538_259, 170_805_979, 159_345_973, 145_138_636,
         138_394_717, 133_797_422, 135_086_622, 133_275_309, 114_364_328, 107_043_718, 101_991_189, 90_338_345,
         83_257_441, 80_373_285, 58_617_616, 64_444_167, 46_709_983, 50_818_468, 156_040_895, 57_227_415),
    ),
    "GRCm38": Reference(
        67, _MOUSE,
        (6, 7, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 7, 7),
        (195_471_971, 182_113_224, 160_039_680, 156_508_116, 151_834_684, 149_736_546, 145_441_459, 129_401_213,
         124_595_110, 130_694_993, 122_082_543, 120_129_022, 120_421_639, 124_902_244, 104_043_685, 98_207_768,
         94_987_271, 90_702_639, 61_431_566, 171_031_299, 91_744_698),
    ),
    "GRCm39": Reference(
        67, _MOUSE,
        (7, 8, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8),
        (195_154_279, 181_755_017, 159_745_316, 156_860_686, 151_758_149, 149_588_044, 144_995_196, 130_127_694,
         124_359_700, 130_530_862, 121_973_369, 120_092_757, 120_883_175, 125_139_656, 104_073_951, 98_008_968,
         95_294_699, 90_720_763, 61_420_004, 169_476_592, 91_455_967),
    ),
}
# fmt: on
"""The assemblies known, by name."""

_UCSC_NAMES = {"hg19": "GRCh37", "hg38": "GRCh38", "mm10": "GRCm38", "mm39": "GRCm39"}
_PLAIN_OF_ROOT = {
    accession.partition(".")[0]: chromosome
    for reference in REFERENCES.values()
    for chromosome, accession in reference.accessions().items()
} | {accession.partition(".")[0]: "MT" for accession in _MITOCHONDRIA}
_ASSEMBLY = {accession: name for name, reference in REFERENCES.items() for accession in reference.accessions().values()}


def is_accession(name: str) -> bool:
    """Tell whether a name is a RefSeq accession with version (``NC_000001.11``, ``NT_187361.1``)."""
    return _VERSIONED.fullmatch(name) is not None


def plain_name(name: str) -> str | None:
    """Return the chromosome of an accession in Ensembl style, None for any other name.

    Examples
    --------
    >>> plain_name("NC_000023.11"), plain_name("NC_005089.1"), plain_name("NT_187361.1")
    ('X', 'MT', None)
    """
    found = _VERSIONED.fullmatch(name)
    return _PLAIN_OF_ROOT.get(found[1]) if found else None


def assembly_of_accessions(names: Collection[str]) -> str | None:
    """Return the assembly that most of the accessions among the names are of, None where none says.

    Examples
    --------
    >>> assembly_of_accessions(["NC_000001.10", "NC_012920.1", "chr2"])
    'GRCh37'
    """
    votes = [_ASSEMBLY[name] for name in names if name in _ASSEMBLY]
    return max(sorted(set(votes)), key=votes.count) if votes else None


def assembly_of_sizes(sizes: Mapping[str, int]) -> str | None:
    """Return the assembly whose chromosomes have these lengths; at least half of the sizes it could have must be its.

    Parameters
    ----------
    sizes
        Length in bp by name, in Ensembl style (``1``, ``X``); names that no assembly has do not count.

    Examples
    --------
    >>> assembly_of_sizes({"1": 195_471_971, "X": 171_031_299, "GL456216.1": 66_673})
    'GRCm38'
    """
    shares = {name: agreeing(sizes, name) for name in REFERENCES}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= 0.5 else None


def agreeing(sizes: Mapping[str, int], assembly: str) -> float:
    """Return the share of an assembly's chromosomes among ``sizes`` whose length is the assembly's; 0 without any."""
    reference = REFERENCES[assembly]
    lengths = dict(zip(reference.chromosomes, reference.lengths, strict=True))
    shared = [name for name in lengths if name in sizes]
    return sum(lengths[name] == sizes[name] for name in shared) / len(shared) if shared else 0.0


def known_assembly(name: str) -> str | None:
    """Return the assembly that a name means, patch releases and UCSC names included, None for any other.

    Examples
    --------
    >>> known_assembly("GRCh38.p14"), known_assembly("mm10"), known_assembly("synthetic")
    ('GRCh38', 'GRCm38', None)
    """
    stem = re.sub(r"\.p\d+$", "", name)
    stem = _UCSC_NAMES.get(stem, stem)
    return stem if stem in REFERENCES else None
