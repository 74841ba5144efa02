"""Text as SQL, for the few statements that take no parameters."""

from __future__ import annotations


def quoted(text: str) -> str:
    """Return a text as an SQL literal, for the statements that take no parameters: COMMENT ON and ATTACH.

    Examples
    --------
    >>> quoted("the gene's name")
    "'the gene''s name'"
    """
    return "'" + text.replace("'", "''") + "'"
