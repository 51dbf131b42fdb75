"""Drawing that may fail: a picture is never the end of a run. Imports matplotlib on use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from ebmtrain.errors import EbmtrainError, reason


@contextmanager
def attempt(file: str, on_failure: Callable[[str, str], None]) -> Iterator[None]:
    """Within this context a picture is drawn and written under the project's own settings; an error
    ends the context and not the run.

    Args:
        file: name of the picture.
        on_failure: is called with `file` and the reason.

    Raises:
        EbmtrainError: the data cannot be read, or the file cannot be written.
    """
    try:
        with _own_settings():
            yield
    except EbmtrainError:
        raise
    except Exception as error:
        on_failure(file, reason(error))


def _own_settings() -> AbstractContextManager[None]:
    try:
        from ebmtrain.plots.style import own_settings
    except Exception:  # matplotlib cannot be imported: the drawing imports it too, and reports it
        return nullcontext()
    return own_settings()
