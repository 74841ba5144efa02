"""What a reproduction runs: models by name, protocols by name, and whether the data allow what is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heteromics.errors import DataError, did_you_mean
from heteromics.tasks.matching_models import CONTROLS, MODELS, Contender
from heteromics.tasks.matching_studies import Protocol, type_groups

if TYPE_CHECKING:
    from pandas import DataFrame

STUDIES = ("protocols", "few_shot", "across_types", "ablations")
MATCHING, PUBLISHED, SPARSE = ", for matching", ", as published", ", sparse IDs"
ENDINGS: dict[str, Callable[[Any], Any]] = {  # of a model's name, in this order: what they make of its configuration
    MATCHING: lambda config: type(config).for_matching(),
    PUBLISHED: lambda config: type(config).as_published(),
    SPARSE: lambda config: replace(config, sparse_ids=True),
}
CONTENDERS = ("Bi2Former", f"Bi2Former{MATCHING}", f"Bi2Former{PUBLISHED}", *MODELS[1:], *CONTROLS)
PROTOCOLS = {
    "pairs, easy": Protocol("pairs", "easy"),
    "cells, easy": Protocol("cell", "easy", redraw=False),  # as many negatives as by pair
    "cells, random": Protocol("cell", "random"),
    "cells, hard": Protocol("cell", "hard"),
    "cells, random, within batches": Protocol("cell", "random", within="batch"),
    "batches, random, within batches": Protocol("batch", "random", within="batch"),
}
FEWEST_BATCHES = {"cell": 2, "batch": 3}


def contender(name: str) -> Contender:
    """Return the contender of a name, with the configuration that its endings ask for.

    Raises
    ------
    DataError
        For an unknown name, or an ending that sets what the model does not have.

    Examples
    --------
    >>> contender("Bi2Former, as published, sparse IDs").config.batch_size
    1
    """
    model, *endings = re.split(f"(?={'|'.join(ENDINGS)})", name)
    if name not in CONTROLS and (model not in MODELS or endings != [each for each in ENDINGS if each in endings]):
        known = (*CONTENDERS, *(f"MODEL{each}" for each in ENDINGS))
        raise DataError(f"no model called '{name}'. {did_you_mean(name, known)}Known: {'; '.join(known)}.")
    found = Contender(name, model)
    if not endings:
        return found
    config = found.pair_model().config_type()
    try:
        for each in endings:
            config = ENDINGS[each](config)
    except (AttributeError, TypeError) as error:
        raise DataError(f"no model called '{name}': {model} has no such setting ({error}).") from error
    return replace(found, config=config)


def possible(asked: Sequence[str] | None, cells: DataFrame) -> dict[str, Protocol]:
    """Return the protocols asked for, or all that the data allow.

    Parameters
    ----------
    asked
        Names; None for all.
    cells
        Its column ``batch``, if there is one.

    Raises
    ------
    DataError
        For a protocol of batches where there are too few.
    """
    batches = int(cells["batch"].nunique()) if "batch" in cells else 0
    fewest = {name: FEWEST_BATCHES[each.split] for name, each in PROTOCOLS.items() if each.within == "batch"}
    if asked is None:
        return {name: each for name, each in PROTOCOLS.items() if batches >= fewest.get(name, 0)}
    for name in asked:
        if batches < fewest.get(name, 0):
            raise DataError(
                f"protocol '{name}': found {batches} batches, expected {fewest[name]} or more in the column batch."
            )
    return {name: PROTOCOLS[name] for name in asked}


def check_data(studies: Sequence[str], models: Iterable[Contender], cells: DataFrame) -> None:
    """Refuse, before anything is trained, studies that the models or the data do not allow.

    Raises
    ------
    DataError
        For ablations without Bi2Former, or too few cell types to hold out groups of them.
    """
    if "ablations" in studies and not any(each.model == "Bi2Former" for each in models):
        raise DataError("ablations are of Bi2Former, which is not among the models. Fix: add it.")
    if "across_types" in studies and "cell_type" in cells:
        type_groups(cells["cell_type"].dropna().astype(str))


def check_known(what: str, asked: Iterable[str], known: Iterable[str] | Mapping[str, Any]) -> None:
    """Refuse names that are not known.

    Raises
    ------
    DataError
        Naming the first, the nearest known one, and all known ones.
    """
    known = list(known)
    for name in asked:
        if name not in known:
            raise DataError(f"no {what} called '{name}'. {did_you_mean(name, known)}Known: {'; '.join(known)}.")
