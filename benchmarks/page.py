"""Writes the generated sections of docs/performance.md, each between two comments with its name."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "performance.md"


def put(name: str, text: str, page: Path = PAGE) -> None:
    """Replaces the text between the line `<!-- name: ...` and `<!-- end of name -->`.

    Raises:
        ValueError: the page has no such section, or several.
    """
    before, rest = page.read_text(encoding="utf-8").split(f"<!-- {name}: ")
    title, rest = rest.split("\n", 1)
    after = rest.split(f"<!-- end of {name} -->", 1)[1]
    begin, end = f"<!-- {name}: {title}\n", f"<!-- end of {name} -->"
    page.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")
