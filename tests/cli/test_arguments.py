"""Messages about errors that are not ebmtrain's own."""

from __future__ import annotations

import pytest

from ebmtrain.cli.arguments import explain_error
from ebmtrain.runs.storage.atomic_io import folder_identity


def test_a_file_that_vanishes_is_named(tmp_path):
    """Between a check and its use another process may rename a run."""
    with pytest.raises(FileNotFoundError) as caught:
        folder_identity(tmp_path / "gone")
    (line,), code = explain_error(caught.value, [])
    assert (code, str(tmp_path / "gone") in line, "unexpected" in line) == (6, True, False)
