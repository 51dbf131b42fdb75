"""What a notebook shows of a run."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

_PICTURE = "plots/landscape_final.png"
_MAX_PICTURE_BYTES = 5_000_000


def run_html(path: Path, lines: Sequence[str]) -> str:
    """The lines as text and the last landscape of the run in `path`, if there is one, in the page
    itself."""
    text = f"<pre>{html.escape(chr(10).join(lines))}</pre>"
    picture = path / _PICTURE
    if not picture.is_file() or picture.stat().st_size > _MAX_PICTURE_BYTES:
        return text
    data = base64.b64encode(picture.read_bytes()).decode()
    return f'{text}<img alt="energy landscape" src="data:image/png;base64,{data}">'
