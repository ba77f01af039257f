"""Outgoing: the worker with Twilio's adapter against a gateway that answers at once, every state committed.

The floor is the same requests by aiohttp alone, with as many under way.  The peer is Celery with Redis, one task a message:
it posts the same form and writes down what came of it, in SQLite; handing the tasks to Redis is not counted.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import aiohttp
from sqlalchemy import func, select

from bot.cli.processes import spare_the_collector
from bot.gateways.twilio import Twilio
from bot.worker.worker import Worker
from storage.database import Database
from storage.schema import messages
from tests.benchmarks.ground import TEXTS, Programme, phone_of
from tests.benchmarks.measuring import Comparison, Rounds, in_turn, spending
from tests.benchmarks.peers import Celery
from tests.benchmarks.stub import Stub

ACCOUNT: Final = "AC" + "0123456789abcdef" * 2
TOKEN: Final = "t0ken"
AT_ONCE: Final = 100
PUBLIC: Final = "https://jumbe.example.org"


class Wide(Twilio):
    """Twilio's adapter with as many calls under way as the floor, and no limit of an account."""

    capabilities = replace(Twilio.capabilities, concurrency=AT_ONCE, lists_inbound=False)


def gateway(url: str) -> Twilio:
    """The gateway that the worker sends by."""
    return Wide(
        name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, sender="15005550006", messaging_service_sid=None,
        api_url=url, rate_per_s=1e6,
    )  # fmt: skip


def work(db: Database, stub: Stub) -> None:
    """Let a worker send all there is."""

    async def drain() -> None:
        spare_the_collector()  # as `jumbe worker` does
        worker = Worker(db, {"twilio": gateway(stub.url)}, PUBLIC)
        await worker._in_thread(worker.start)
        await worker.drain()
        await worker.finish()

    asyncio.run(drain())


def settled(db: Database) -> Counter[str]:
    """How many messages are in which state."""
    with db.reading() as tx:
        counted = select(messages.c.state, func.count()).group_by(messages.c.state)
        return Counter({row[0]: row[1] for row in tx.execute(counted)})


async def alone(url: str, many: int) -> None:
    """So many of the same requests, and nothing else."""
    address = f"{url}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    numbers = iter(range(many))
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic QUM6dG9rZW4=",
        "Accept": "application/json", "Accept-Encoding": "identity",
    }  # fmt: skip
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, headers=headers) as session:

        async def one_by_one() -> None:
            for n in numbers:
                form = {
                    "To": f"+{phone_of(n)}", "From": "+15005550006", "Body": TEXTS["en"],
                    "StatusCallback": f"{PUBLIC}/status/twilio/{n}", "ValidityPeriod": "36000",
                }  # fmt: skip
                async with session.post(address, data=urlencode(form).encode("ascii")) as response:
                    assert response.status == 201
                    await response.json()

        await asyncio.gather(*(one_by_one() for _ in range(AT_ONCE)))


def compare(
    folder: Path, dice: random.Random, stub: Stub, celery: Celery | None, *, rounds: int, many: int, tasks: int
) -> list[Comparison]:
    """The rows of outgoing: per second of CPU beside aiohttp, per second of the clock beside both."""
    programme = Programme(folder, many, dice)
    programme.launched(expanded=True)

    def ours(seen: Rounds) -> None:
        with closing(programme.copy("outgoing")) as db:
            before, open_ = stub.taken(), settled(db)["queued"]
            with spending() as spent:
                work(db, stub)
            assert stub.taken() - before == open_ == settled(db)["accepted"], settled(db)
        seen.note("cpu", open_ / spent.cpu_s)
        seen.note("clock", open_ / spent.clock_s)

    def floor(seen: Rounds) -> None:
        with spending() as spent:
            asyncio.run(alone(stub.url, many))
        seen.note("floor cpu", many / spent.cpu_s)
        seen.note("floor clock", many / spent.clock_s)

    works = {"ours": ours, "floor": floor}
    if celery is not None:
        works["celery"] = lambda seen: seen.note("celery", tasks / celery.send(stub.url, tasks))
    found = in_turn(rounds, dice, works)
    what = "outgoing, states committed"
    rows = [
        Comparison(what, "texts per s of CPU", found["cpu"], "aiohttp alone", found["floor cpu"], at_least=0.6),
        Comparison(what, "texts per s", found["clock"], "aiohttp alone", found["floor clock"]),
    ]
    if celery is not None:
        rows.append(Comparison(what, "texts per s", found["clock"], "Celery and Redis", found["celery"], at_least=10))
    return rows
