"""What an antibody's name means: cleaned of vendors, clones and lot marks, then looked up in a curated table of rules.

The table (``antibodies.csv``) names for each CD antigen and other common target the approved symbols of its genes,
several where an antibody binds a complex or cannot tell relatives apart (CD3, HLA-DR, CD16). It follows the CD
nomenclature of Human Cell Differentiation Molecules (HCDM) and the symbols of the HUGO Gene Nomenclature Committee
(HGNC). For carbohydrate antigens (CD15, CD57) the gene is that of the enzyme that makes them, as in HGNC. Symbols are
human; those of another species join where they differ by case alone.

Greek letters may be written, spelled or, as in ``integrin_7`` and ``TCR_V_24-J_18``, lost where only one reading exists
among antibodies in use.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "ζ": "zeta",
    "κ": "kappa",
    "λ": "lambda",
}

_SEPARATORS = re.compile(r"[^0-9a-zA-Z]+")
_CLONE = re.compile(r"\([^)]*\)")
_VENDOR = re.compile(
    r"[\W_]*total[\W_]?seq[\W_]?[a-d]?\d*$|[\W_]+[a-d]\d{4}([\W_].*)?$|[\W_]+(adt|prot|protein|antibody)$",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"^(adt|prot|protein|antibody)[\W_]+|^anti[\W_]+((human|mouse|rat)[\W_]+)*|^anti((human|mouse|rat)[\W_]+)+|^(human|humsrt|hums|hu|mouse|ms)[\W_]+",
    re.IGNORECASE,
)
_CONTROL = re.compile(
    r"isotype.*|.*-isotype(-.*)?|(mouse|rat|rabbit|goat|((armenian|syrian)-)?hamster)-ig[gmaed]\d?[a-c]?(-.*)?"
    r"|ig[gmaed]\d?[a-c]?(-.*)?-(control|ctrl|ctl)|igg2[abc]"
)
_COUNTED = re.compile(r"[\W_]+(\d|recombinant)$", re.IGNORECASE)
"""What several antibodies of one target are told apart by: ``TIGIT-2``, ``TIGIT.1``."""
_EITHER = re.compile(r"igg[1-4]?")
_CD = re.compile(r"cdw?((\d+)[a-z0-9]*)")
_CHAIN = re.compile(r"[a-z]\d?")


class Antibody(NamedTuple):
    """What an antibody's name says.

    ``kind`` is ``antibody``, ``control`` (an isotype control) or ``either`` (``IgG1`` may be a control or bind the
    immunoglobulin). ``symbols`` are those of its genes by a rule; without a rule, the cleaned name and, where that ends
    in a number that counts antibodies, the name without it, to be tried in this order. ``rule`` names the rule, or
    several joined by ``+`` for an antibody against a complex; it is empty without one.
    """

    kind: Literal["antibody", "control", "either"]
    symbols: tuple[str, ...]
    rule: str


def read_name(name: str) -> Antibody:
    """Say what an antibody's name means.

    Parameters
    ----------
    name
        As a panel or a file writes it.

    Examples
    --------
    >>> read_name("CD3_TotalSeqB")
    Antibody(kind='antibody', symbols=('CD3D', 'CD3E', 'CD3G'), rule='cd3')
    >>> read_name("CD11a/CD18").symbols, read_name("anti-human CD56 (NCAM)").symbols, read_name("TCR α/β").symbols
    (('ITGAL', 'ITGB2'), ('NCAM1',), ('TRAC', 'TRBC1', 'TRBC2'))
    >>> read_name("Mouse-IgG1").kind, read_name("IgG1").kind, read_name("KLRG1")
    ('control', 'either', Antibody(kind='antibody', symbols=('KLRG1',), rule=''))
    """
    written = _latin(name)
    if _CONTROL.fullmatch(_hyphened(_VENDOR.sub("", written))):
        return Antibody("control", (), "")
    cleaned = _cleaned(written)
    if _CONTROL.fullmatch(_hyphened(cleaned)):
        return Antibody("control", (), "")
    if _EITHER.fullmatch(_hyphened(cleaned)):
        return Antibody("either", (), "")
    hyphened = _hyphened(cleaned)
    rule = _cd_rule(hyphened) if _CD.match(hyphened) else _plain_rule(hyphened)
    if rule:
        symbols = dict.fromkeys(symbol for one in rule.split("+") for symbol in rules()[one])
        return Antibody("antibody", tuple(symbols), rule)
    return Antibody("antibody", tuple(dict.fromkeys((cleaned, _COUNTED.sub("", cleaned)))), "")


@cache
def rules() -> dict[str, tuple[str, ...]]:
    """Return the curated table: symbols by name in lower case, without separators, Greek letters as their first."""
    text = files("heteromics.priors").joinpath("antibodies.csv").read_text(encoding="utf-8")
    return {row["antibody"]: tuple(row["symbols"].split()) for row in csv.DictReader(text.splitlines())}


def _latin(name: str) -> str:
    """Spell Greek letters and bring typographic variants of letters and hyphens to plain ones."""
    spelled = "".join(GREEK.get(letter, letter) for letter in name.strip())
    return unicodedata.normalize("NFKC", spelled)


def _cleaned(written: str) -> str:
    """Leave out clones in parentheses, vendors' marks, and the species an antibody is directed against."""
    shorter = _VENDOR.sub("", _CLONE.sub(" ", written)).strip(" _-.")
    bare = _PREFIX.sub("", shorter).strip(" _-.")
    return bare or shorter or written


def _hyphened(name: str) -> str:
    return _SEPARATORS.sub("-", name.lower()).strip("-")


def _cd_rule(hyphened: str) -> str:
    """Find the rule of a CD antigen: the whole name, or its parts that are CD antigens; what follows is a clone.

    Parts stay apart, so that CD3-1, the first of two CD3 antibodies, is not CD31; a chain alone (CD172a/b) is one of
    the antigen before it.
    """
    if hyphened in rules():
        return hyphened
    parts = hyphened.split("-")
    if len(parts) > 1 and (chain := _initials(parts[1])).isalpha() and len(chain) == 1 and parts[0] + chain in rules():
        return parts[0] + chain
    found, number = [], ""
    for part in map(_initials, parts):
        if cd := _CD.fullmatch(part):
            number = "cd" + cd[2]
            found.append("cd" + cd[1])
        elif _CHAIN.fullmatch(part):
            found.append(number + part)
    return "+".join(dict.fromkeys(one for one in found if one in rules()))


def _plain_rule(hyphened: str) -> str:
    """Find the rule of another name, without separators."""
    tried = (_initials(form.replace("-", "")) for form in (hyphened, _COUNTED.sub("", hyphened)))
    return next((key for key in tried if key in rules()), "")


def _initials(name: str) -> str:
    """Shorten spelled Greek letters to their first letters: tcralphabeta is tcrab."""
    return re.sub("|".join(GREEK.values()), lambda found: "e" if found[0] == "epsilon" else found[0][0], name)
