"""Whether another copy of this programme answers at our address: a restored clone, or a copy of a whole machine.

Two copies with one account would each send what is queued in it, and each answer what comes in.  Every worker writes its name,
fresh at each start, and a sign of life into its own database; so it asks the web process at PUBLIC_URL whether it reads both.  A web
process on the same database knows it, however many there are; one on another database does not, and then this is the copy
that the gateways do not call: it sends nothing until it is known there.  A copy that was given another PUBLIC_URL is not
noticed so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Final

import aiohttp

from storage.database import Database
from storage.programme import rate_limits, workers

log = logging.getLogger(__name__)

BECAUSE: Final = "another copy of this programme, on another database, answers at PUBLIC_URL: stop one of the two"
LOOK_S: Final = 60.0
AGAIN_S: Final = 2.0
ANSWER_S: Final = 5.0
HELD_S: Final = 180.0
"""Longer than two looks, each of which makes it longer while we are not known."""

LARGEST: Final = 1024


class Watch:
    """The look of one worker, which is called `owner`; `in_thread` runs database work in the worker's own thread."""

    def __init__(
        self,
        db: Database,
        gateways: Iterable[str],
        public_url: str,
        owner: str,
        in_thread: Callable[..., Awaitable[Any]],
    ) -> None:
        self.db = db
        self.gateways = tuple(gateways)
        self.owner = owner
        self.url = f"{public_url}/knows/{owner}"
        self._in_thread = in_thread

    async def run(self, stop: asyncio.Event) -> None:
        """Look once a minute until told to stop."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
            if not stop.is_set():
                await self.look()

    async def look(self) -> bool | None:
        """Ask once, and once more where we are not known; hold everything back if we are not.

        None: nobody can tell.  Then whoever was held back stays so: the other copy may only be restarting.
        """
        try:
            known = await self._is_known()
            if known is False:
                await asyncio.sleep(AGAIN_S)
                known = await self._is_known()
            if known is False:
                log.error("nothing is sent: %s", BECAUSE)
                await self._in_thread(self._hold)
            elif known:
                await self._in_thread(self._let_go)
            else:
                await self._in_thread(self._keep_held)
        except Exception as fault:  # noqa: BLE001  the next look is in a minute
            log.error("the look for another copy came to nothing: %s", type(fault).__name__)
            return None
        return known

    async def _is_known(self) -> bool | None:
        """What the web process at our address says; None for anything but its clear answer.

        A sign of life is written first, and must be there: an old copy of our database knows our name, and not that.
        """
        written_at = int((await self._in_thread(self._beat)).timestamp())
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.get(f"{self.url}/{written_at}", allow_redirects=False) as response,
            ):
                said = json.loads(await response.content.read(LARGEST)) if response.status == 200 else None
        except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
            return None
        known = said.get("knows") if isinstance(said, dict) else None
        return known if isinstance(known, bool) else None

    def _beat(self) -> datetime:
        with self.db.transaction() as tx:
            workers.beat(tx, self.owner)
            return tx.now

    def _hold(self) -> None:
        with self.db.transaction() as tx:
            for name in self.gateways:
                rate_limits.hold_up(tx, name, None, "while", BECAUSE, wait_s=HELD_S)

    def _held(self) -> list[str]:
        """The gateways that we hold back, also where the time of that is over and nobody has sent since."""
        with self.db.reading() as tx:
            return [row.name for row in rate_limits.list_gateways(tx) if row.paused_because == BECAUSE]

    def _keep_held(self) -> None:
        if held := self._held():
            with self.db.transaction() as tx:
                for name in held:
                    rate_limits.hold_up(tx, name, None, "while", BECAUSE, wait_s=HELD_S)

    def _let_go(self) -> None:
        if self._held():
            with self.db.transaction() as tx:
                rate_limits.end_pause(tx, BECAUSE)
