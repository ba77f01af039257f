"""Phone keys made again where the rules of a calling code changed, and what follows where two turn out to be one phone.

Part of each `jumbe db upgrade`, in its transaction.  Cases: who claimed the phone first owns it, the others stand in line.
Staff: the older account stays, with the groups of both, and becomes a lead where the last one would go.  What has left or is
over keeps the key that it had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Row, Table, bindparam, delete, exists, func, insert, or_, select, update

from storage import audit
from storage.audit import Actor, Change
from storage.contacts import cases, people
from storage.database import Transaction
from storage.messages.states import NOT_OVER
from storage.rules import phone_keys
from storage.schema import cases as cases_table
from storage.schema import (
    consent_events,
    conversations,
    messages,
    person_groups,
    phone_plans,
)
from storage.schema import people as people_table

ONE_PHONE_CASE, ONE_PHONE_PERSON = "cases.one-phone", "people.one-phone"
"""The lines of the audit log that say who turned out to be one phone."""


def renew(tx: Transaction) -> None:
    """Make the keys of those calling codes again whose rules are of another version than the database's."""
    made_by = {row.code: row.version for row in tx.execute(select(phone_plans))}
    wanted = {code: plan.version for code, plan in phone_keys.plans().items()}
    changed = sorted(code for code, version in wanted.items() if made_by.get(code) != version)
    if not changed:
        return
    by = Actor("cli", None, "db upgrade")
    _set(tx, consent_events, _new_keys(tx, changed, consent_events.c.phone_key))
    joined = _renew_people(tx, changed, by=by)
    waiting = _renew_cases(tx, changed, by=by)
    _renew_conversations(tx, changed)
    _renew_messages(tx, changed)
    tx.execute(delete(phone_plans).where(phone_plans.c.code.in_(changed)))
    made = [
        {"code": code, "version": wanted[code], "made_at": tx.now, "cases": waiting[code], "people": joined[code]}
        for code in changed
    ]
    tx.execute(insert(phone_plans), made)


_FOUND = select(
    func.coalesce(func.sum(phone_plans.c.cases), 0).label("cases"),
    func.coalesce(func.sum(phone_plans.c.people), 0).label("people"),
)


def found(tx: Transaction) -> Row[Any]:
    """How many `cases` stand in line, and how many accounts of `people` were joined, since upgrades found them to be one phone."""
    return tx.execute(_FOUND).one()


def tell(tx: Transaction) -> Row[Any] | None:
    """The same of those of which the leads were not told yet, and note that they are; None if there are none."""
    untold = (phone_plans.c.told_at.is_(None), or_(phone_plans.c.cases > 0, phone_plans.c.people > 0))
    counted = tx.execute(_FOUND.where(*untold)).one()
    if not counted.cases and not counted.people:
        return None
    return counted if tx.execute(update(phone_plans).where(*untold).values(told_at=tx.now)).rowcount else None


def _new_keys(tx: Transaction, codes: Sequence[str], column: Column[Any], *which: Any) -> dict[str, str]:
    """Of the keys of these calling codes in a column those that are others now, each with the new one."""
    query = select(column).distinct().where(or_(*(column.like(f"{code}%") for code in codes)), *which)
    return {old: new for old in tx.execute(query).scalars() if (new := phone_keys.key(old)) != old}


def _set(tx: Transaction, table: Table, new: Mapping[str, str], *which: Any) -> None:
    if new:
        renewed = update(table).where(table.c.phone_key == bindparam("old"), *which).values(phone_key=bindparam("new"))
        tx.execute(renewed, [{"old": old, "new": key} for old, key in new.items()])


def _renew_conversations(tx: Transaction, codes: Sequence[str]) -> None:
    """Of two that are open on one phone the newer goes on first, as when it interrupts the other."""
    is_open = conversations.c.state == "open"
    new = _new_keys(tx, codes, conversations.c.phone_key)
    for asked in _same(tx, conversations, new, is_open, first=(conversations.c.id,)):
        older = [one.id for one in asked[:-1]]
        tx.execute(update(conversations).where(conversations.c.id.in_(older), is_open).values(state="suspended"))
    _set(tx, conversations, new)


def _renew_messages(tx: Transaction, codes: Sequence[str]) -> None:
    """What is not over gets the new key; of one broadcast nobody is texted by both spellings."""
    open_ = messages.c.state.in_(NOT_OVER)
    other = messages.alias("other")
    for old, new in _new_keys(tx, codes, messages.c.phone_key, open_).items():
        texted = exists().where(
            other.c.broadcast_id == messages.c.broadcast_id,
            other.c.channel == messages.c.channel,
            other.c.phone_key == new,
            other.c.state != "withheld",
        )
        theirs = (messages.c.phone_key == old, open_)
        twice = {"state": "withheld", "reason": "same-phone", "settled_at": tx.now}
        tx.execute(update(messages).where(*theirs, messages.c.state == "queued", texted).values(**twice))
        tx.execute(update(messages).where(*theirs, ~texted).values(phone_key=new))


def _renew_cases(tx: Transaction, codes: Sequence[str], *, by: Actor) -> Counter[str]:
    """The first in the line of a phone owns it, whoever owned it by one of its spellings; how many wait, by calling code."""
    new = _new_keys(tx, codes, cases_table.c.phone_key)
    waiting: Counter[str] = Counter()
    changes = []
    for owners in _same(
        tx, cases_table, new, cases_table.c.two_way, first=(cases_table.c.claimed_at, cases_table.c.id)
    ):
        for other in owners[1:]:
            tx.execute(update(cases_table).where(cases_table.c.id == other.id).values(two_way=False))
            changes.append(Change("case", other.id, {"two_way": True}, {"two_way": False}))
            waiting[_code_of(other)] += 1
    _set(tx, cases_table, new)
    cases.settle_ownership(tx, new.values())
    if changes:
        facts = {"cases": len(changes)}
        audit.record(tx, ONE_PHONE_CASE, "case", facts=facts, changes=changes, by=by)
    return waiting


def _renew_people(tx: Transaction, codes: Sequence[str], *, by: Actor) -> Counter[str]:
    """The older account of a phone stays; how many were joined with one, by calling code."""
    joined: Counter[str] = Counter()
    new = _new_keys(tx, codes, people_table.c.phone_key)
    for accounts in _same(
        tx, people_table, new, people_table.c.active, first=(people_table.c.created_at, people_table.c.id)
    ):
        _join(tx, accounts[0], accounts[1:], by=by)
        joined[_code_of(accounts[0])] += len(accounts) - 1
    _set(tx, people_table, new)
    return joined


def _code_of(row: Row[Any]) -> str:
    plan = phone_keys.plan_of(row.phone_key)
    assert plan is not None
    return plan.code


def _join(tx: Transaction, stays: Row[Any], others: Sequence[Row[Any]], *, by: Actor) -> None:
    """One account for one phone: the groups of all, and the role of the first, unless no lead would be left."""
    ids = [other.id for other in others]
    tx.execute(update(people_table).where(people_table.c.id.in_(ids)).values(active=False))
    theirs = select(person_groups.c.group_id).where(person_groups.c.person_id.in_(ids))
    mine = select(person_groups.c.group_id).where(person_groups.c.person_id == stays.id)
    further = sorted(set(tx.execute(theirs).scalars()) - set(tx.execute(mine).scalars()))
    if further:
        tx.execute(insert(person_groups), [{"person_id": stays.id, "group_id": group} for group in further])
    changes = [Change("person", other, {"active": True}, {"active": False}) for other in ids]
    if not people.leads(tx) and any(other.role == "lead" for other in others):
        tx.execute(update(people_table).where(people_table.c.id == stays.id).values(role="lead"))
        changes.append(Change("person", stays.id, {"role": stays.role}, {"role": "lead"}))
    facts = {"accounts": len(ids), "groups": len(further)}
    audit.record(tx, ONE_PHONE_PERSON, "person", stays.id, facts=facts, changes=changes, by=by)


def _same(
    tx: Transaction, table: Table, new: Mapping[str, str], which: Any, *, first: Sequence[Column[Any]]
) -> Iterator[list[Row[Any]]]:
    """The rows of each phone that has more than one by its new key, in order."""
    if not new:
        return
    keys = sorted({*new, *new.values()})
    found: dict[str, list[Row[Any]]] = {}
    for part in range(0, len(keys), 500):
        query = select(table).where(which, table.c.phone_key.in_(keys[part : part + 500]))
        for row in tx.execute(query):
            found.setdefault(new.get(row.phone_key, row.phone_key), []).append(row)
    for rows in found.values():
        if len(rows) > 1:
            yield sorted(rows, key=lambda row: tuple(row._mapping[column.name] for column in first))
