"""How a test waits: for an event, never for a time.  Everything that sleeps or gives up in a test does it here.

A machine with other work is slower than any figure that one would write into a test.  So a wait has one limit, which
nothing but a hang reaches, and a test that waits for what comes about says what that is.  That something did *not* happen
is seen by what came after it: a later text that is answered, a second look of the same worker, a thread that waits for a
lock.  How the rule is held, and what is excepted, stands in `test_patience.py`.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

HANG_S: Final = 180.0
"""Nothing that works takes so long, on whatever machine: who waited so long sees a hang."""

HANG_MS: Final = 1000 * HANG_S
"""The same, as browsers count."""

LOOK_S: Final = 0.02
"""Between two looks at what is waited for."""

T = TypeVar("T")


class Ends(Protocol):
    """A process that was started, as `subprocess.Popen` has it."""

    def wait(self, timeout: float | None = None) -> int: ...


def until(
    what: Callable[[], T], name: str | Callable[[], str], *, within_s: float = HANG_S, every_s: float = LOOK_S
) -> T:
    """Look until it is so, but not for ever; returns what was found."""
    end = time.monotonic() + within_s
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s:.0f} s: {name() if callable(name) else name}")
        time.sleep(every_s)


async def soon(what: Callable[[], T], name: str = "it comes about", *, every_s: float = LOOK_S) -> T:
    """As `until`, while the loop goes on."""
    end = time.monotonic() + HANG_S
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"not within {HANG_S:.0f} s: {name}"
        await asyncio.sleep(every_s)


async def joined_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Wait for tasks; the first that failed raises here."""
    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*tasks)


async def pace_of(seconds: float) -> None:
    """As `work`, while the loop goes on."""
    await asyncio.sleep(seconds)


def ended(process: Ends) -> int:
    """The status of a process, once it has ended."""
    return process.wait(HANG_S)


def output(process: subprocess.Popen[Any]) -> Any:
    """All that a process writes until it ends."""
    return process.communicate(timeout=HANG_S)[0]


def happened(event: threading.Event | threading.Barrier) -> None:
    """Wait for an event of another thread."""
    assert event.wait(HANG_S) is not False, "nothing came from the other thread"


def joined(*threads: threading.Thread) -> None:
    """Wait for threads; one that goes on for ever is an error."""
    for thread in threads:
        thread.join(HANG_S)
    assert not [thread.name for thread in threads if thread.is_alive()], "a thread did not end"


def cpu_used_s() -> float:
    """Seconds of a processor that this process has used, and its children that ended: what load does not lengthen."""
    return sum(os.times()[:4])


def by_chance(dice: random.Random, most_s: float) -> None:
    """Let a moment of any length go by, before a death that may come at any time: nothing rests on how long it was."""
    time.sleep(dice.random() * most_s)


def work(seconds: float) -> None:
    """Take time, as what a stand-in stands for does: nothing rests on how long it was."""
    time.sleep(seconds)


def for_a_while(what: Callable[[], object], most_s: float) -> None:
    """Until it is so, or the time is over, before a death that may come at any time: nothing rests on which it was."""
    end = time.monotonic() + most_s
    while not what() and time.monotonic() < end:
        time.sleep(0.01)


# -- a clock that goes forward -----------------------------------------------------------------------------------------


class Forward(asyncio.SelectorEventLoop):
    """A loop whose clock a test puts forward: who waits for a time limit waits no longer, and nobody else is hurried."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def forward(seconds: float) -> None:
    """Put the clock of the loop that runs forward."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Forward)
    loop.ahead_s += seconds


def on_forward(main: Coroutine[Any, Any, T]) -> T:
    """Run this on such a loop."""
    with asyncio.Runner(loop_factory=Forward) as runner:
        return runner.run(main)
