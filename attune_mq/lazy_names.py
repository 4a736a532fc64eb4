"""Names that a package exports and imports only when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

_ABSENT = object()


def lazy_names(package: str, modules: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package: what its ``__all__`` lists is taken from the first of its
    ``modules`` (one text, with spaces) that has it, so those that import little come first."""

    def __getattr__(name: str) -> Any:  # noqa: N807
        exports = vars(sys.modules[package])
        if name in exports["__all__"]:
            for module in modules.split():
                value = getattr(importlib.import_module(f"{package}.{module}"), name, _ABSENT)
                if value is not _ABSENT:
                    exports[name] = value
                    return value
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__
