"""Reads untrusted YAML: plain values of bounded size and depth."""

from __future__ import annotations

from typing import Any

import yaml

from ebmtrain.errors import UnsafeError

MAX_BYTES = 1_000_000  # bytes; a configuration has about 3,000
_MAX_DEPTH = 40  # nesting of mappings and lists; a configuration has 5


def read(data: bytes) -> Any:
    """The content as plain Python values.

    The parser's events are checked first: the tree that they describe may be exponentially larger
    (aliases of aliases) or too deep for the stack.

    Raises:
        UnsafeError: too large, too deep, or with tags or aliases.
        yaml.YAMLError, UnicodeDecodeError: no YAML.
    """
    if len(data) > MAX_BYTES:
        raise UnsafeError(f"it has {len(data):,} bytes, and at most {MAX_BYTES:,} are read")
    text, depth = data.decode(), 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise UnsafeError("it has an alias: write the value itself there")
        if getattr(event, "tag", None):
            raise UnsafeError(f"it has the tag {event.tag}: remove it")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise UnsafeError(f"it is nested more than {_MAX_DEPTH} deep")
    return yaml.safe_load(text)
