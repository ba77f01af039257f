"""A notebook is kept without what it showed: its outputs hold names and phone numbers, and so does the state of its widgets.

`pre_save` is what Jupyter calls before it writes a notebook, so the tables stay on the screen and never reach the file.
`python -m admin_notebooks.saving FILE ...` cleans notebooks that were saved without it, and says which had to be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEPT_OF_A_CELL = ("tags", "jupyter")
KEPT_OF_A_NOTEBOOK = ("kernelspec", "language_info")


def cleaned(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook without outputs, counts, attachments and widget state; of what it says of itself only what is needed."""
    about = {name: notebook["metadata"][name] for name in KEPT_OF_A_NOTEBOOK if name in notebook.get("metadata", {})}
    if "language_info" in about:
        about["language_info"] = {"name": about["language_info"].get("name", "python")}
    return {**notebook, "metadata": about, "cells": [_cell(cell) for cell in notebook.get("cells", [])]}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in cell.items() if name != "attachments"}
    kept["metadata"] = {name: cell["metadata"][name] for name in KEPT_OF_A_CELL if name in cell.get("metadata", {})}
    if cell.get("cell_type") == "code":
        kept |= {"execution_count": None, "outputs": []}
    return kept


def pre_save(model: dict[str, Any], **_told: Any) -> None:
    """Jupyter's hook: clean what is about to be written."""
    if model.get("type") == "notebook" and isinstance(model.get("content"), dict):
        model["content"].update(cleaned(model["content"]))


def main(names: Sequence[str]) -> int:
    """Clean these files; 1 if one of them had to be, so that a commit hook stops and shows it."""
    dirty = 0
    for name in names:
        path = Path(name)
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if (clean := cleaned(notebook)) != notebook:
            path.write_text(json.dumps(clean, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            sys.stderr.write(f"{path.name}: outputs taken out\n")
            dirty = 1
    return dirty


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
