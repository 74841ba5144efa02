"""Data: the manifest and its files, readers that take nothing for granted, checks, splits and a simulator.

Names are loaded when they are first used, so that ``heteromics.data.splits`` needs no AnnData. Getting a whole item is
:func:`heteromics.data.fetch.fetch`; its module is called ``fetch`` too and is therefore not shadowed here.

>>> from heteromics import data
>>> data.canonical("Antibody Capture")
'protein'
"""

from __future__ import annotations

from heteromics._lazy import on_first_use

_HOME = {
    "as_csr": "blocks",
    "open_backed": "blocks",
    "row_blocks": "blocks",
    "check_cells": "checks",
    "check_counts": "checks",
    "check_finite": "checks",
    "check_unique_names": "checks",
    "locate": "fetch",
    "whereabouts": "fetch",
    "Lsi": "lsi",
    "File": "manifest",
    "Item": "manifest",
    "Manifest": "manifest",
    "load_manifest": "manifest",
    "canonical": "_modality",
    "modalities": "readers",
    "read": "readers",
    "size_of": "readers",
    "TEST": "splits",
    "TRAIN": "splits",
    "VALIDATION": "splits",
    "check_groups_apart": "splits",
    "few_cells": "splits",
    "hold_out": "splits",
    "split_cells": "splits",
    "transform": "transforms",
    "SyntheticConfig": "synthetic",
    "SyntheticMultiome": "synthetic",
    "simulate": "synthetic",
}

__all__ = list(_HOME)
__getattr__, __dir__ = on_first_use(__name__, _HOME)
