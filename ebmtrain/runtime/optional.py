"""Optional packages, imported only where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from ebmtrain.errors import ConfigError


def import_sklearn(module: str, wanted_by: str) -> ModuleType:
    """The module `sklearn.<module>`, see `import_optional`."""
    return import_optional(f"sklearn.{module}", wanted_by, "data")


def import_optional(module: str, wanted_by: str, extra: str) -> ModuleType:
    """A module of an optional package.

    Args:
        wanted_by: the option or file that needs it, for the message.
        extra: the extra of ebmtrain that installs it.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = _PACKAGES.get(module.split(".")[0], module.split(".")[0])
        raise ConfigError(
            f"{wanted_by} needs {package}, which cannot be imported ({error}): "
            f"pip install 'ebmtrain[{extra}]'"
        ) from error


_PACKAGES = {"sklearn": "scikit-learn"}
