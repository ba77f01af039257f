"""A program of ours that is told to end ends what it started: the signal becomes an exception, so that every `with` does its part."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final

SIGNS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def unwind_when_told() -> None:
    """From now on raise SystemExit at the first of these signals, with the status that a shell gives it, and heed no second."""
    for sign in SIGNS:
        signal.signal(sign, _unwind)


def _unwind(sign: int, _frame: FrameType | None) -> None:
    for each in SIGNS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + sign)
