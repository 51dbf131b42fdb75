"""What a dataset says when it cannot be used."""

from __future__ import annotations


class DataError(ValueError):
    """One line: what was found, why it cannot be used, what to do."""
