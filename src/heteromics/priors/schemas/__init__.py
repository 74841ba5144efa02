"""All tables a prior store can hold, as data: names, columns with comments, keys, and what each edge connects."""

from __future__ import annotations

from heteromics.priors.schemas import _attributes, _books, _edges, _nodes
from heteromics.priors.schemas._edges import CHANNELS
from heteromics.priors.schemas._table import Column, TableSchema

__all__ = ["CHANNELS", "SCHEMAS", "Column", "TableSchema"]

SCHEMAS: dict[str, TableSchema] = {
    table.name: table for module in (_nodes, _edges, _attributes, _books) for table in module.TABLES
}
"""All tables a store can hold, by name, in the order they are shown."""
