"""What the tests of the desk share: its libraries, where they are installed."""

import importlib
import os
from typing import Any

import pytest

MISSING = "the desk is not installed here: pip install 'jumbe[desk]'"


def library(name: str) -> Any:
    """A library of the desk; skips the whole module with a sentence where it is absent (fails under CI=true)."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING, pytrace=False)
        pytest.skip(MISSING, allow_module_level=True)
