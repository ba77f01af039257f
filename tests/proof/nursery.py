"""Processes of the product that are there at once: a nursery has imported everything, and each is forked from it.

A process that is killed every few moments would spend its life on imports.  What is forked has run nothing of the product
yet, opens its own database and is a process like any other: it is killed by the kernel, with its whole group.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.patience import until
from tests.processes import ROOT
from tests.proof import crash

_NURSERY: Final = multiprocessing.get_context("forkserver")
_NURSERY.set_forkserver_preload(
    ["tests.proof.crash", "bot.cli.processes", "bot.worker.worker", "bot.app", "bot.gateways.twilio", "bot.worker.wakeups",
     "storage.programme.procrastinate_schema", "storage.sheets.imports", "admin_notebooks.cli.sheets", "gunicorn.app.base", "gunicorn.workers.gthread",
     "procrastinate", "psycopg", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql"]
)  # fmt: skip


class Child:
    """One of them, with what the callers of `subprocess.Popen` ask: its id, its end, its exit status."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Start `jumbe` with these arguments behind the hook, in a process group of its own."""
        self._process = _NURSERY.Process(target=crash.grow_up, args=(list(arguments), dict(env), str(ROOT), str(log)))
        self._process.start()
        self.pid = self._process.pid or 0
        until(lambda: not self._leads_no_group(), "it leads a group of its own", every_s=0.001)

    def _leads_no_group(self) -> bool:
        try:
            return os.getpgid(self.pid) != self.pid
        except ProcessLookupError:
            return False

    @property
    def returncode(self) -> int | None:
        """None while it lives; what it ended with, or the signal that ended it below 0."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended; raises TimeoutExpired as `subprocess` does."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode

    def send_signal(self, sign: int) -> None:
        """To the process itself."""
        os.kill(self.pid, sign)
