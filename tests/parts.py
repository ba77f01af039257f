"""Optional parts: a test without its part says so and is skipped; where CI=true a missing part is a failure."""

import importlib.util
import os

import pytest


def has(module: str) -> bool:
    """Whether a library is here; where CI=true it must be."""
    return importlib.util.find_spec(module) is not None or os.environ.get("CI") == "true"


def needs(module: str, install: str) -> None:
    """Skip the module of tests that calls this unless a library is here."""
    if importlib.util.find_spec(module) is not None:
        return
    sentence = f"{module} is not here: {install}"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence, allow_module_level=True)
