"""Outcomes a name can have when it is to join a table."""

from __future__ import annotations

OUTCOMES = {
    "matched": "joined under the name given",
    "version_stripped": "joined once the version suffix was left out",
    "alias": "joined through a symbol or an alias table",
    "case_folded": "joined once upper and lower case were taken as one",
    "same_place": "joined with the interval of the same bounds, named otherwise",
    "symbol_missing": "the source gives no symbol; the id stands in for it",
    "aggregated": "no line of its own; put together from its transcripts and exons",
    "duplicated": "listed more than once; the first stands",
    "overlapping": "joined; shares bases with another of its kind",
    "two_loci": "one id at several places; the first stands",
    "ambiguous": "several targets fit; none was chosen",
    "absent": "no target has this name",
    "wrong_assembly": "on a chromosome, or beyond the end of one, of this assembly",
    "unparsable": "the name does not follow the expected form",
    "filtered": "left out by a threshold or filter of the recipe",
    "out_of_reach": "nothing lies within the window",
    "empty": "a set that lists no member",
    "self_loop": "both ends are one and the same",
    "conflicting": "listed again with another score; the higher stands",
    "opposite_signs": "listed as activating and as repressing; the sign is left open",
    "control": "an isotype control: it binds no protein of the cell",
    "withdrawn": "the identifier is no longer in use",
    "clipped": "has too few members for what was asked; gets as much as there is",
    "mygene": "joined through MyGene.info",
}
"""Outcomes a name can have in ``match_report`` and ``match_summary``, with their meaning."""
