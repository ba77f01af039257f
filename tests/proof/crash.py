"""A process of the product that dies at a named step: `PROOF_DIE=call:after:3 python -m tests.proof.crash worker`.

The product knows nothing of this: its functions are wrapped before it starts.  Death is SIGKILL of the whole process
group, so that nothing is flushed, closed or given back.  `PROOF_PACE=1` shortens the waits of minutes and hours to seconds,
in the same order.  `PROOF_WRONG=resend` breaks the first promise on purpose: a proof that cannot fail proves nothing.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

POINTS: Final = {
    "expand:before": ("storage.broadcasts.expansion", "expand_next", "before"),
    "expand:written": ("storage.broadcasts.expansion", "expand_next", "after"),
    "expand:committed": ("bot.worker.worker", "Worker._expand", "after"),
    "claim:before": ("storage.messages.outbox", "claim", "before"),
    "claim:written": ("storage.messages.outbox", "claim", "after"),
    "gate:before": ("storage.messages.gate", "hand_over", "before"),
    "handover:written": ("storage.messages.gate", "hand_over", "after"),
    "handover:committed": ("bot.worker.dispatcher", "Dispatcher._take", "after"),
    "call:before": ("bot.gateways.twilio", "Twilio.send", "before"),
    "call:after": ("bot.gateways.twilio", "Twilio.send", "after"),
    "settle:before": ("storage.messages.outbox", "settle", "before"),
    "settle:written": ("storage.messages.outbox", "settle", "after"),
    "settle:committed": ("bot.worker.dispatcher", "Dispatcher._trade", "after"),
    "leases:written": ("storage.messages.leases", "end_leases", "after"),
    "leases:committed": ("bot.worker.worker", "Worker.start", "after"),
    "reconcile:asked": ("bot.gateways.twilio", "Twilio.find", "after"),
    "reconcile:before": ("bot.worker.reconciler", "Reconciler._record", "before"),
    "reconcile:written": ("bot.worker.reconciler", "_settle", "after"),
    "reconcile:committed": ("bot.worker.reconciler", "Reconciler._record", "after"),
    "inbound:recorded": ("storage.messages.inbox", "record_inbound", "after"),
    "inbound:written": ("storage.messages.inbox", "handled", "after"),
    "inbound:committed": ("bot.inbound.listeners", "take", "after"),
    "receipt:written": ("storage.messages.receipts", "receive_receipt", "after"),
    "receipt:committed": ("bot.inbound.intake", "_keep", "after"),
    "spool:before": ("bot.inbound.spool", "Spool.keep", "before"),
    "spool:kept": ("bot.inbound.spool", "Spool.keep", "after"),
    "spool:played": ("bot.inbound.spool", "Spool._play_one", "after"),
    "import:before": ("storage.sheets.imports", "apply_cases", "before"),
    "import:written": ("storage.sheets.imports", "apply_cases", "after"),
    "copy:verified": ("storage.upkeep.backups", "_verify", "after"),
    "copy:read back": ("storage.upkeep.backups", "_read_back", "after"),
    "copy:fenced": ("storage.upkeep.restore", "put_up", "after"),
    "copy:set aside": ("storage.upkeep.backups", "_set_aside", "after"),
    "copy:put:before": ("storage.upkeep.backups", "_put", "before"),
    "copy:put:after": ("storage.upkeep.backups", "_put", "after"),
}
"""Where a process can die: the function, and whether before it runs or after it did something.

`written` is in the transaction and before its commit; `committed` is after the commit and before anything else.
"""


def main() -> int:
    """Wrap what the environment names, and run the command as `jumbe` would."""
    if os.environ.get("PROOF_PACE"):
        _hurry()
    if os.environ.get("PROOF_WRONG") == "resend":
        _resend_what_is_unknown()
    if told := os.environ.get("PROOF_DIE"):
        label, _, nth = told.rpartition(":")
        _die_at(*POINTS[label], int(nth))
    if after_s := os.environ.get("PROOF_ALARM"):
        _die_amid_an_upload(float(after_s))
    from bot.cli import main as jumbe

    return int(jumbe(sys.argv[1:]) or 0)


def grow_up(arguments: list[str], env: dict[str, str], folder: str, log: str) -> None:
    """What a forked process becomes: the command alone, in a group, an environment and a folder of its own."""
    os.setsid()
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.close(said)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["jumbe", *arguments]
    sys.exit(main())


def _die_at(module: str, name: str, when: str, nth: int) -> None:
    owner: Any = importlib.import_module(module)
    *within, last = name.split(".")
    for part in within:
        owner = getattr(owner, part)
    setattr(owner, last, _dying(getattr(owner, last), when, nth))


def _dying(function: Callable[..., Any], when: str, nth: int) -> Callable[..., Any]:
    passings = itertools.count(1)

    def passes(result: object = True) -> None:
        if _did_something(result) and next(passings) == nth:
            os.killpg(os.getpgrp(), signal.SIGKILL)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def dying_later(*args: Any, **named: Any) -> Any:
            if when == "before":
                passes()
            result = await function(*args, **named)
            if when == "after":
                passes(result)
            return result

        return dying_later

    @functools.wraps(function)
    def dying(*args: Any, **named: Any) -> Any:
        if when == "before":
            passes()
        result = function(*args, **named)
        if when == "after":
            passes(result)
        return result

    return dying


def _did_something(result: object) -> bool:
    """An empty claim, or an expansion of nothing, is no step at which anything can be lost."""
    return result is None or (any(result) if isinstance(result, tuple) else bool(result))


def _die_amid_an_upload(after_s: float) -> None:
    """The kernel ends the process so long after an upload began to write, at whatever instruction it is."""
    from storage.sheets import imports

    for name in ("apply_cases", "apply_members"):
        if (apply := getattr(imports, name, None)) is not None:
            setattr(imports, name, _alarmed(apply, after_s))


def _alarmed(function: Callable[..., Any], after_s: float) -> Callable[..., Any]:
    @functools.wraps(function)
    def alarmed(*args: Any, **named: Any) -> Any:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        return function(*args, **named)

    return alarmed


def _hurry() -> None:
    """Seconds for minutes; a call stays shorter than its lease, and a gateway's lateness shorter than the first question."""
    from bot.worker import dispatcher, reconciler, wakeups
    from storage.messages import leases, reconciliation

    wakeups.HEARTBEAT_S, wakeups.STALLED_S = 1.0, 3.0
    wakeups.EVERY = {**wakeups.EVERY, "tidy": "* * * * * *", "reconcile": "* * * * * *", "rescue": "* * * * * */2"}
    dispatcher.CALL_S = 2.0
    leases.LEASE = timedelta(seconds=5)
    reconciliation.GRACE = timedelta(seconds=3)
    reconciliation.AGAIN = (timedelta(seconds=2),) * 4
    reconciliation.APART = timedelta(seconds=1)
    reconciler.LOOK = timedelta(seconds=0.2)


def _resend_what_is_unknown() -> None:
    """What an ordinary queue does: what a dead worker was sending is sent again."""
    from sqlalchemy import update

    from storage.messages import leases
    from storage.schema import messages as table

    ends = leases.end_leases

    def wrong(tx: Any, **named: Any) -> tuple[int, int]:
        ended = ends(tx, **named)
        tx.execute(update(table).where(table.c.state == "unknown").values(state="queued"))
        return ended

    leases.end_leases = wrong


if __name__ == "__main__":
    sys.exit(main())
