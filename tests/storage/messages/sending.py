"""A text on its way through the outbox, one step at a time, and how far along each state of it is."""

from graphlib import TopologicalSorter

from sqlalchemy import update

from storage.bulk import insert_new
from storage.messages import gate, lookups, outbox, receipts
from storage.messages.outbox import Settled
from storage.messages.states import MOVES
from storage.schema import gateways
from storage.schema import messages as table

A, B, C = "233241234567", "233209876543", "233205550000"
GATEWAY = "simulator"


def queue(db, phone=A, body="hello", kind="notice", **more):
    with db.transaction() as tx:
        return outbox.queue(tx, phone, body, kind, **more)


def claim(db, at_most=100, gateway=GATEWAY, owner="me"):
    with db.transaction() as tx:
        return outbox.claim(tx, gateway, owner, at_most)


def hand_over(db, ids, owner="me", rate=None):
    """Through the gate; without a rate the gateway's bucket is full."""
    with db.transaction() as tx:
        if rate is None:
            full = {"name": GATEWAY, "tokens": 1000.0, "refilled_at": tx.now}
            tx.execute(insert_new(tx, gateways).values(full))
            tx.execute(update(gateways).values(full))
        return gate.hand_over(tx, ids, owner, rate_per_s=rate or 1000)


def send(db, number):
    """Claim and hand over one message; returns its attempt id."""
    assert claim(db) == [number]
    (going,), _ = hand_over(db, [number])
    return going.attempt_id


def settle(db, number, attempt, state, **more):
    with db.transaction() as tx:
        return outbox.settle(tx, [Settled(number, attempt, state, **more)])


def receipt(db, number, state, gateway_id="SM1", word=None, code=None):
    with db.transaction() as tx:
        return receipts.receive_receipt(
            tx, gateway=GATEWAY, message_id=number, gateway_id=gateway_id, state=state, word=word or state, code=code
        )


def look(db, number):
    with db.reading() as tx:
        return lookups.message(tx, number)


def state(db, number):
    return look(db, number).state


def force(db, number, **columns):
    """Put a message into a state without the road that leads there."""
    with db.transaction() as tx:
        tx.execute(update(table).where(table.c.id == number).values(**columns))


BACK = {("claimed", "queued"), ("sending", "queued"), ("unknown", "queued")}
"""The only moves backwards: it was certainly not sent."""


def _ranks():
    """How far each state is: the longest way to it, the moves back left out; a circle has no ranks and raises."""
    sources = {to: {s for s in MOVES if to in MOVES[s] and (s, to) not in BACK} for to in MOVES}
    ranks = {}
    for each in TopologicalSorter(sources).static_order():
        ranks[each] = 1 + max((ranks[s] for s in sources[each]), default=-1)
    return ranks


RANK = _ranks()
