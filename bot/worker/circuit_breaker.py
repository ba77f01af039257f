"""When a gateway is left alone for a while: most of its last calls came to nothing.

Each call without an answer leaves a message in doubt, so going on costs more than waiting.  After a pause one message tries
it: if that is answered all go on, if not the next pause is twice as long.  It resumes by itself; a refusal that only a
person can mend (a wrong token) is not its business.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Final

from bot.gateways.base import NotSent, SendResult, Unknown

LAST: Final = 20
MOST_FAILED: Final = LAST // 2
WITHIN: Final = timedelta(minutes=5)
FIRST_PAUSE: Final = timedelta(minutes=1)
LONGEST_PAUSE: Final = timedelta(minutes=15)


class Breaker:
    """What one worker has seen of one gateway; `pause_for` is set when it is to be left alone, and for how long."""

    def __init__(self) -> None:
        self.pause_for: timedelta | None = None
        self.is_trying = False
        self._seen: deque[tuple[datetime, bool]] = deque(maxlen=LAST)
        self._next = FIRST_PAUSE

    def note(self, now: datetime, result: SendResult, *, on_trial: bool, of_a_number: bool = False) -> None:
        """Count what a call came to; `on_trial` says that it was the one that tried a gateway that was left alone.

        `of_a_number` says that it left by one number of several: a refusal of that one is an answer of the gateway.
        """
        if isinstance(result, NotSent) and (
            result.scope == "gateway" or (result.scope == "sender" and not of_a_number)
        ):
            self.is_trying = True  # paused for that by itself; then one message tries it, and not the whole queue
            return
        failed = isinstance(result, Unknown) or (isinstance(result, NotSent) and result.scope == "unreachable")
        if self.is_trying:
            # What was under way when the pause began says nothing new.
            if on_trial:
                self._tried(failed=failed)
            return
        self._seen.append((now, failed))
        recent = [failed for at, failed in self._seen if at > now - WITHIN]
        if len(recent) == LAST and sum(recent) >= MOST_FAILED:
            self._trip()

    def _tried(self, *, failed: bool) -> None:
        if failed:
            self._trip()
        else:
            self.is_trying = False
            self._next = FIRST_PAUSE

    def _trip(self) -> None:
        self.pause_for, self.is_trying = self._next, True
        self._next = min(LONGEST_PAUSE, 2 * self._next)
        self._seen.clear()
