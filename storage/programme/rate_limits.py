"""How fast texts leave: the rate of each gateway and of each of our numbers there, what slows one and what pauses it.

A token is a text handed over.  Each gateway has a bucket of them, and each number where a gateway has several; they are rows,
so the rate holds over all workers.  A text that finds no token stays in the queue, in its place.  What a gateway says about
our account, our number or our speed acts here (`hold_up`); what it says about one text does not.

A gateway that was left alone is tried with one message, by one of all workers, before the others go.  `gateways.paused_until`
says it all: none means that it works, a moment to come that nobody sends, and one that is over that it waits to be tried.
Who tries it moves that moment on, as a lease: if the worker dies, another tries.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from hashlib import blake2b
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Row, Table, and_, bindparam, case, literal, or_, select, update

from storage import audit
from storage.audit import Actor
from storage.bulk import insert_new
from storage.database import Transaction
from storage.rules import quiet_hours
from storage.rules.hours_and_limits import Senders
from storage.schema import gateways, senders

Hold = Literal["slow", "while", "day", "person"]
"""What a word of a gateway does to all that is still to leave: it goes more slowly, or not for a minute, or not before the next
day, or not until a person has mended something."""

UNTIL_RESUMED = datetime(9999, 12, 31, tzinfo=UTC)
"""What is paused until then or for longer waits for a person."""

UNTIL_MENDED = UNTIL_RESUMED + timedelta(hours=1)
"""So does this, and nothing tries it before: a receipt said so, so what the gateway takes meanwhile is lost."""

SOON_S: Final = 0.1
"""When to look again where it is not known when the next token comes."""

BY_ANYBODY = datetime(1970, 1, 1, tzinfo=UTC)
"""A gateway that was paused until then may be tried by any worker, not first by the one that paused it."""

A_WHILE: Final = timedelta(minutes=1)
SLOWEST: Final = 1 / 64
SLOWED_ONCE_IN: Final = timedelta(seconds=5)
"""What was under way together says one thing, and not twenty."""

SET_BACK: Final = timedelta(minutes=1)
"""So far ahead no worker's clock is: the clock was set back since."""

TRIED_ONCE_IN: Final = timedelta(minutes=15)
"""However often workers start, a gateway that waits for a person costs no more than a message in that time."""

FASTER_AFTER: Final = timedelta(minutes=1)
NO_SENDERS: Final = Senders(())


@dataclass(frozen=True, slots=True)
class Wish:
    """A text that may leave now; `own_number` is ours that it should leave by, if the gateway has it and it is not paused."""

    id: int
    phone: str
    own_number: str | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """How many texts the tokens of a gateway let leave now, and where it is none in how many seconds the next may be there."""

    many: int
    next_s: float


def tokens(tx: Transaction, gateway: str, rate_per_s: float) -> Tokens:
    """What `grant` could give to texts of every number; none while the gateway, or each of its numbers, is paused.

    The gateway's row, and those of its numbers, are held to the end of the transaction.
    """
    several = tx.rules.senders.get(gateway, NO_SENDERS)
    whole, of_number = _all_opened(tx, gateway, several, rate_per_s)
    if whole is None or (several.numbers and not of_number):
        return Tokens(0, SOON_S)
    many = int(whole.tokens)
    next_s = whole.next_s
    if several.numbers:
        many = min(many, sum(int(bucket.tokens) for bucket in of_number.values()))
        next_s = max(next_s, min(bucket.next_s for bucket in of_number.values()))
    if many == 0:
        for bucket in (whole, *of_number.values()):
            bucket.close(tx)  # else a clock that was set back would never fill it again
    return Tokens(many, next_s)


def grant(
    tx: Transaction, gateway: str, wishes: Sequence[Wish], rate_per_s: float, *, at_most: int | None = None
) -> dict[int, str | None]:
    """Take tokens for texts in their order, `at_most` so many; returns those that got one, each with our number by which it leaves.

    The number is None where the gateway has but one or chooses itself.  A text that waits for its own number's token lets
    those of other numbers pass; each is to another phone.  What is paused grants none, also for what was claimed before.
    """
    several = tx.rules.senders.get(gateway, NO_SENDERS)
    whole, of_number = _all_opened(tx, gateway, several, rate_per_s)
    if whole is None:
        return {}
    granted: dict[int, str | None] = {}
    for wish in wishes:
        if whole.tokens < 1 or len(granted) == at_most:
            break
        number: str | None = None
        if several.numbers:
            number = _number_for(wish, of_number)
            if number is None or of_number[number].tokens < 1:
                continue
            of_number[number].tokens -= 1
        whole.tokens -= 1
        granted[wish.id] = number
    for bucket in (whole, *of_number.values()):
        bucket.close(tx, gives=bool(granted))
    return granted


def hold_up(
    tx: Transaction,
    gateway: str,
    own_number: str | None,
    hold: Hold,
    because: str,
    *,
    wait_s: float | None = None,
    left_at: datetime | None = None,
) -> datetime | None:
    """Slow or pause what still is to leave; returns until when it is paused, None where it is not.

    Of `own_number` alone where the gateway has several and it is one of them, else of the whole gateway.  `wait_s` is how
    long the gateway itself asks to be left alone.  `left_at` is when the text left about which this is said: what left
    before somebody let the gateway go on pauses it no more.  A pause is never made shorter.
    """
    if own_number not in tx.rules.senders.get(gateway, NO_SENDERS).numbers:
        own_number = None
    ensure_gateway(tx, gateway)
    tx.execute(select(gateways.c.name).where(gateways.c.name == gateway).with_for_update())  # first, as in `grant`
    _ensure(tx, gateway, own_number)
    table, one = _row_of(gateway, own_number)
    row = tx.execute(select(table).where(one).with_for_update()).one()
    if left_at is not None and row.resumed_at is not None and left_at < row.resumed_at:
        return None
    if hold == "slow" and not wait_s:
        if row.slowed_at is None or tx.now >= row.slowed_at + SLOWED_ONCE_IN:
            slowed = max(SLOWEST, _part(row, tx.now) / 2)
            tx.execute(update(table).where(one).values(slowed=slowed, slowed_at=tx.now))
        return None
    until = _until(tx, hold, wait_s)
    if until == UNTIL_RESUMED and left_at is not None:
        until = UNTIL_MENDED
    if row.paused_until is not None and row.paused_until >= until:
        return None
    tx.execute(update(table).where(one).values(paused_until=until, paused_because=because))
    if own_number is not None and (first := _first_free(tx, gateway)) > tx.now:
        # Nothing can leave by it: it is paused as a whole, so that its messages wait in the queue or go another way.
        pause(tx, gateway, until=first, because=f"all our numbers there are paused, the last one: {because}")
    return until


def pause(tx: Transaction, gateway: str, *, until: datetime, because: str) -> bool:
    """Hold everything of a gateway until then; False where it is paused for longer already."""
    ensure_gateway(tx, gateway)
    shorter = or_(gateways.c.paused_until.is_(None), gateways.c.paused_until < until)
    longer = update(gateways).where(gateways.c.name == gateway, shorter)
    return tx.execute(longer.values(paused_until=until, paused_because=because)).rowcount > 0


_TRIED = gateways.c.resumed_at


def try_again(tx: Transaction) -> list[str]:
    """Have one message try each gateway that waits for a person, at most once in a quarter of an hour; returns which.

    What the start of a worker means: perhaps somebody has mended a token, but a platform starts dead workers too, again and
    again, and nobody has mended anything then.  What ends by itself is left to, and so is what a receipt paused (`UNTIL_MENDED`),
    a gateway or a number of ours: what leaves by one that is not registered is not refused but lost.
    """
    tried = []
    waiting = (gateways.c.paused_until == UNTIL_RESUMED, or_(_TRIED.is_(None), tx.now - TRIED_ONCE_IN >= _TRIED))
    for row in tx.execute(select(gateways.c.name).where(*waiting).order_by(gateways.c.name).with_for_update()):
        if not tx.rules.senders.get(row.name, NO_SENDERS).numbers or _first_free(tx, row.name) <= tx.now:
            one = gateways.c.name == row.name
            tx.execute(update(gateways).where(one).values(paused_until=BY_ANYBODY, resumed_at=tx.now))
            tried.append(str(row.name))
    return tried


_PAUSED_UNTIL = select(gateways.c.paused_until).where(gateways.c.name == bindparam("gateway"))


def paused_until(tx: Transaction, gateway: str) -> datetime | None:
    """Until when nobody sends by a gateway; a moment that is over where it waits to be tried, None where it works."""
    until: datetime | None = tx.scalar(_PAUSED_UNTIL, {"gateway": gateway})
    return until


def may_begin_trial(tx: Transaction, gateway: str) -> bool:
    """Whether a gateway still waits to be tried; if so no other worker can try it before the end of this transaction."""
    waits = (gateways.c.name == gateway, gateways.c.paused_until <= tx.now)
    return tx.execute(select(gateways.c.name).where(*waits).with_for_update()).first() is not None


def begin_trial(tx: Transaction, gateway: str, until: datetime) -> None:
    """One message is on its way: nobody else sends until it is answered, or until then."""
    tx.execute(update(gateways).where(gateways.c.name == gateway).values(paused_until=until))


def end_trial(tx: Transaction, gateway: str, until: datetime) -> None:
    """It is over: everybody goes on, unless the gateway was paused for another reason meanwhile, or is by what came of it."""
    same = (gateways.c.name == gateway, gateways.c.paused_until == until)
    tx.execute(update(gateways).where(*same).values(paused_until=None, paused_because=None))


def resume(tx: Transaction, gateway: str | None = None, *, by: Actor | None = None) -> None:
    """Let a paused gateway and its numbers be tried again at once, or every one, at full speed; `by` is who did so by hand."""
    free = {"paused_because": None, "slowed": None, "slowed_at": None, "resumed_at": tx.now}
    again = case((gateways.c.paused_until.is_not(None), literal(BY_ANYBODY)), else_=None)
    for table, name, until in ((gateways, gateways.c.name, again), (senders, senders.c.gateway, None)):
        let_go = update(table).values(paused_until=until, **free)
        tx.execute(let_go if gateway is None else let_go.where(name == gateway))
    if by is not None:
        audit.record(tx, "gateways.resume", "gateway", None, facts={"name": gateway}, by=by)


def end_pause(tx: Transaction, because: str) -> None:
    """Let the gateways that are paused for this reason be tried again, and nothing else; also where its time is over."""
    ended = update(gateways).where(gateways.c.paused_because == because)
    tx.execute(ended.values(paused_until=BY_ANYBODY, paused_because=None))


def ensure_gateway(tx: Transaction, gateway: str, tokens: float = 0.0) -> None:
    """See that a gateway has its row."""
    tx.execute(insert_new(tx, gateways).values(name=gateway, tokens=tokens, refilled_at=tx.now))


# -- to look at --------------------------------------------------------------------------------------------------------


def list_gateways(tx: Transaction) -> list[Row[Any]]:
    """Every gateway that ever took part: `name`, `paused_until`, `paused_because`, `slowed`, `slowed_at`, `swept_until`."""
    return list(tx.execute(select(gateways).order_by(gateways.c.name)))


def list_senders(tx: Transaction) -> list[Row[Any]]:
    """Our numbers at gateways that have several, as far as one ever took part."""
    return list(tx.execute(select(senders).order_by(senders.c.gateway, senders.c.number)))


def paused(tx: Transaction) -> list[Row[Any]]:
    """The gateways that are paused now: `name`, `paused_until`, `paused_because`."""
    return list(tx.execute(select(gateways).where(gateways.c.paused_until > tx.now).order_by(gateways.c.name)))


def paused_senders(tx: Transaction) -> list[Row[Any]]:
    """The numbers that are paused now: `gateway`, `number`, `paused_until`, `paused_because`."""
    return [row for row in list_senders(tx) if row.paused_until is not None and row.paused_until > tx.now]


def speed(row: Row[Any], now: datetime) -> float:
    """The part of its rate at which a gateway or a number goes now: 1 is full speed."""
    return _part(row, now)


# -- inside ------------------------------------------------------------------------------------------------------------


_OF_GATEWAY = (gateways, gateways.c.name == bindparam("of"))
_OF_NUMBER = (senders, and_(senders.c.gateway == bindparam("of"), senders.c.number == bindparam("ours")))
# These are asked for each batch that leaves, so they are built once; the second of each is of one number of a gateway.
_OPEN = [select(table).where(one).with_for_update() for table, one in (_OF_GATEWAY, _OF_NUMBER)]
_CLOSE = [
    update(table).where(one).values(tokens=bindparam("left"), refilled_at=bindparam("filled"))
    for table, one in (_OF_GATEWAY, _OF_NUMBER)
]
_GIVE = _CLOSE[0].values(handed_over_at=bindparam("now"))


@dataclass
class _Bucket:
    """The tokens of a gateway, or of one number, as they are now; `close` writes down what is left."""

    gateway: str
    number: str | None
    tokens: float
    filled: datetime
    rate: float

    @property
    def next_s(self) -> float:
        """Seconds until a text may leave."""
        return max(0.0, 1.0 - self.tokens) / self.rate

    def close(self, tx: Transaction, *, gives: bool = False) -> None:
        """Write it down; with `gives` also that the gateway is handed something now."""
        left = {"of": self.gateway, "left": self.tokens, "filled": self.filled}
        if self.number is not None:
            tx.execute(_CLOSE[1], {**left, "ours": self.number})
        elif gives:
            tx.execute(_GIVE, {**left, "now": tx.now})
        else:
            tx.execute(_CLOSE[0], left)


def _all_opened(
    tx: Transaction, gateway: str, several: Senders, rate_per_s: float
) -> tuple[_Bucket | None, dict[str, _Bucket]]:
    """The bucket of a gateway and those of its numbers, without what is paused."""
    whole = _opened(tx, gateway, None, rate_per_s)
    of_number: dict[str, _Bucket] = {}
    if whole is not None:
        for each in sorted(several.numbers):  # in one order, after the gateway's: two workers must not wait crosswise
            bucket = _opened(tx, gateway, each, several.rate_per_s)
            if bucket is not None:
                of_number[each] = bucket
    return whole, of_number


def _opened(tx: Transaction, gateway: str, number: str | None, rate_per_s: float) -> _Bucket | None:
    """A bucket, filled up to now and held to the end of the transaction; None while it is paused.

    It holds one second's worth, and at least one token.
    """
    one = {"of": gateway, "ours": number} if number is not None else {"of": gateway}
    row = tx.execute(_OPEN[number is not None], one).first()
    if row is None:
        _ensure(tx, gateway, number, max(1.0, rate_per_s))
        row = tx.execute(_OPEN[number is not None], one).one()
    if row.paused_until is not None and row.paused_until > tx.now:
        return None
    rate = rate_per_s * _part(row, tx.now)
    # Of two workers the one that began first may come second: its earlier time must not fill the bucket twice.
    since = min(row.refilled_at, tx.now)
    filled = max(row.refilled_at, tx.now)
    if filled - tx.now > SET_BACK:
        filled = tx.now  # else nothing would leave until the clock is again where it was
    passed = (tx.now - since).total_seconds()
    return _Bucket(gateway, number, min(max(1.0, rate), row.tokens + passed * rate), filled, rate)


def _first_free(tx: Transaction, gateway: str) -> datetime:
    """When the first of our numbers at a gateway may send again; a moment that is over where one may now."""
    paused = {row.number: row.paused_until for row in list_senders(tx) if row.gateway == gateway}
    return min(paused.get(number) or BY_ANYBODY for number in tx.rules.senders[gateway].numbers)


def _ensure(tx: Transaction, gateway: str, number: str | None, tokens: float = 0.0) -> None:
    if number is None:
        ensure_gateway(tx, gateway, tokens)
    else:
        row = {"gateway": gateway, "number": number, "tokens": tokens, "refilled_at": tx.now}
        tx.execute(insert_new(tx, senders).values(row))


def _row_of(gateway: str, number: str | None) -> tuple[Table, ColumnElement[bool]]:
    if number is None:
        return gateways, gateways.c.name == gateway
    return senders, and_(senders.c.gateway == gateway, senders.c.number == number)


def _number_for(wish: Wish, free: Mapping[str, object]) -> str | None:
    """Our number for a phone: the one it is to leave by, else always the same one, as long as that is not paused.

    Each number is weighed with the phone, so that all get their share, and a pause of one moves nobody else's.
    """
    if wish.own_number in free:
        return wish.own_number
    return max(free, key=lambda number: blake2b(f"{number} {wish.phone}".encode()).digest(), default=None)


def _part(row: Row[Any], now: datetime) -> float:
    if row.slowed is None or row.slowed_at is None:
        return 1.0
    doubled: float = max(0.0, (now - row.slowed_at) / FASTER_AFTER)
    faster: float = 2.0 ** min(doubled, 10.0)
    return min(1.0, float(row.slowed) * faster)


def _until(tx: Transaction, hold: Hold, wait_s: float | None) -> datetime:
    if hold == "person":
        return UNTIL_RESUMED
    if hold == "day":
        zone = tx.rules.time_zone
        tomorrow = tx.now.astimezone(ZoneInfo(zone)).date() + timedelta(days=1)
        return quiet_hours.instant(datetime.combine(tomorrow, time(0)), zone)
    longest = wait_s if wait_s is not None else A_WHILE.total_seconds()
    return tx.now + timedelta(seconds=longest * random.uniform(1.0, 1.2))  # noqa: S311
