"""Optional parts: a test without its part says so and is skipped; where CI=true a missing part is a failure."""

import importlib
import importlib.util
import os
from typing import Any

import pytest


def has(module: str) -> bool:
    """Whether a library is here; where CI=true it must be."""
    return importlib.util.find_spec(module) is not None or os.environ.get("CI") == "true"


def library(module: str, install: str = "pip install 'jumbe[desk]'") -> Any:
    """A library; skips the whole module of tests that asks for it where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError:
        sentence = f"{module} is not here: {install}"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence, allow_module_level=True)
