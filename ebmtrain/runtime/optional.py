"""Optional packages, imported only where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from ebmtrain.errors import ConfigError


def import_sklearn(module: str, wanted_by: str) -> ModuleType:
    """The module `sklearn.<module>`.

    Args:
        wanted_by: the option that needs it, for the message.

    Raises:
        ConfigError: scikit-learn cannot be imported.
    """
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ConfigError(
            f"{wanted_by} needs scikit-learn, which cannot be imported ({error}): "
            "pip install 'ebmtrain[data]'"
        ) from error
