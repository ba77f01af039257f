"""Case groups: their names, their members, and who was in when.

A group has a short name for texts (2 to 12 letters or digits, never a word that means something else in a text) and a
long one.  A membership is never deleted: taking a case out dates its end, so that "as of" any moment can be asked.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Row,
    Table,
    and_,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from storage import audit
from storage.audit import Actor, Change
from storage.bulk import insert_lines
from storage.database import Transaction
from storage.errors import Problem
from storage.rules.identifiers import near
from storage.rules.normalize import fold, key
from storage.rules.optout import GATEWAY_WORDS
from storage.schema import cases, groups, memberships, person_groups

VERBS = frozenset(
    [
        # English
        "menu", "groups", "who", "list", "find", "new", "name", "add", "drop", "remove", "delete", "tell", "msg",
        "ask", "at", "also", "ok", "confirm", "no", "halt", "pause", "resume", "fix", "check", "status", "undo", "re", "move", "invite",
        # Spanish
        "grupos", "quien", "quienes", "lista", "busca", "buscar", "nuevo", "nueva", "nombra", "nombre", "agrega",
        "agregar", "saca", "sacar", "borra", "borrar", "envia", "enviar", "pregunta", "hora", "tambien", "confirma",
        "confirmar", "frena", "frenar", "espera", "sigue", "seguir", "corrige", "corregir", "revisa", "revisar", "estado", "deshaz", "deshacer",
        "responde", "responder", "cambia", "cambiar", "invita", "invitar",
    ]
)  # fmt: skip
"""The verbs of a text in every language, and the words understood for them: no group may be called so.  A test holds this
to what the bot declares."""

_SHORT = re.compile(r"[a-z0-9]{2,12}")

_picked = Table(
    "picked_cases",
    MetaData(),
    Column("n", Integer, primary_key=True),
    Column("id", Integer, nullable=False),
    prefixes=["TEMPORARY"],
)


def group(tx: Transaction, short: str) -> Row[Any]:
    """The live group with this short name; raises Problem `group-unknown` with the names that are near."""
    found = find(tx, short)
    if found is None:
        raise Problem("group-unknown", group=short, near=", ".join(close(short, [g.short for g in list_live(tx)])))
    return found


def find(tx: Transaction, short: str) -> Row[Any] | None:
    """The live group with this short name, or None."""
    return tx.execute(select(groups).where(groups.c.short == key(short), groups.c.deleted_at.is_(None))).first()


def short_of(tx: Transaction, group_id: int) -> str:
    """The short name of a group, also of one that was deleted since."""
    return str(tx.scalar(select(groups.c.short).where(groups.c.id == group_id)))


def list_live(tx: Transaction, *, only: Collection[int] | None = None) -> list[Row[Any]]:
    """Every live group, or only these, by short name; nobody in them is counted."""
    query = select(groups).where(groups.c.deleted_at.is_(None)).order_by(groups.c.short)
    return list(tx.execute(query if only is None else query.where(groups.c.id.in_(only))))


def list_all(tx: Transaction, *, only: Collection[int] | None = None) -> list[Row[Any]]:
    """Every live group, or only these, with its number of `members`, by short name."""
    # Counted group by group through an index: a person's few groups must not cost a count of everybody's.
    counted = (
        select(func.count())
        .where(memberships.c.group_id == groups.c.id, memberships.c.removed_at.is_(None))
        .scalar_subquery()
    )
    query = select(groups, counted.label("members")).where(groups.c.deleted_at.is_(None)).order_by(groups.c.short)
    return list(tx.execute(query if only is None else query.where(groups.c.id.in_(only))))


def nearest(word: str, shorts: Iterable[str], *, at_most: int = 2) -> list[str]:
    """The short names nearest to a word: those one edit away first, then those that begin alike."""
    word = key(word)
    close = near(word)
    ranked = sorted(shorts, key=lambda s: (s not in close, s[:2] != word[:2], abs(len(s) - len(word)), s))
    return ranked[:at_most]


def close(word: str, shorts: Iterable[str]) -> list[str]:
    """At most two short names that somebody may have meant by a word: one slip away, or alike; none where none is."""
    word, shorts = key(word), list(shorts)
    slips, alike = near(word), difflib.get_close_matches(word, shorts, n=2, cutoff=0.6)
    return nearest(word, [short for short in shorts if short in slips or short in alike])


def count_members(tx: Transaction, group_id: int) -> int:
    """How many cases are in a group now."""
    live = and_(memberships.c.group_id == group_id, memberships.c.removed_at.is_(None))
    return int(tx.scalar(select(func.count()).select_from(memberships).where(live)))


def count_cases(tx: Transaction, group_ids: Iterable[int]) -> int:
    """How many cases are in any of these groups now; who is in two counts once."""
    live = and_(memberships.c.group_id.in_(list(group_ids)), memberships.c.removed_at.is_(None))
    return int(tx.scalar(select(func.count(memberships.c.case_id.distinct())).where(live)))


def members(
    tx: Transaction, group_id: int, *, as_of: datetime | None = None, at_most: int | None = None
) -> list[Row[Any]]:
    """The cases of a group, now or as of a moment, in the order in which they came in; with `added_at`."""
    there: ColumnElement[bool] = memberships.c.removed_at.is_(None)
    if as_of is not None:
        there = and_(
            memberships.c.added_at <= as_of, or_(memberships.c.removed_at.is_(None), memberships.c.removed_at > as_of)
        )
    return list(
        tx.execute(
            select(cases, memberships.c.added_at)
            .join(memberships, memberships.c.case_id == cases.c.id)
            .where(memberships.c.group_id == group_id, there)
            .order_by(memberships.c.id)
            .limit(at_most)
        )
    )


def members_among(tx: Transaction, group_id: int, case_ids: Iterable[int]) -> set[int]:
    """Which of these cases are in the group now."""
    _pick(tx, case_ids)
    return set(
        tx.execute(
            select(memberships.c.case_id)
            .join(_picked, _picked.c.id == memberships.c.case_id)
            .where(memberships.c.group_id == group_id, memberships.c.removed_at.is_(None))
        ).scalars()
    )


def members_of_any(tx: Transaction, group_ids: Collection[int], case_ids: Iterable[int]) -> set[int]:
    """Which of these cases are in at least one of these groups now."""
    _pick(tx, case_ids)
    return set(tx.execute(select(_picked.c.id).where(has_member(group_ids, _picked.c.id))).scalars())


def has_member(group_ids: Collection[int], case: ColumnElement[Any]) -> ColumnElement[bool]:
    """An SQL condition: the case in this column is in at least one of these groups now."""
    live = and_(memberships.c.case_id == case, memberships.c.removed_at.is_(None))
    return exists().where(live, memberships.c.group_id.in_(sorted(group_ids)))


def create(
    tx: Transaction, short: str, name: str | None = None, *, for_person: int | None = None, by: Actor
) -> Row[Any]:
    """Make a group.

    Raises Problem `group-short-shape`, `group-short-word`, `group-short-near`, `group-exists` or `group-name-taken`.
    `for_person` is the supervisor whose own it becomes.
    """
    short = key(short)
    name = fold(name or "") or short
    _check_short(tx, short)
    _check_name(tx, name)
    group_id = tx.execute(
        insert(groups).returning(groups.c.id), {"short": short, "name": name, "created_at": tx.now}
    ).scalar_one()
    if for_person is not None:
        tx.execute(insert(person_groups), {"person_id": for_person, "group_id": group_id})
    change = Change("group", group_id, {}, {"short": short, "name": name})
    audit.record(tx, "groups.create", "group", group_id, facts={"short": short}, changes=[change], by=by)
    return group(tx, short)


def rename(tx: Transaction, group_id: int, name: str, *, by: Actor) -> str:
    """Give a group another long name; returns the one it had.  Raises Problem `group-name-taken` or `group-name-blank`."""
    name = fold(name)
    if not name:
        raise Problem("group-name-blank")
    old = str(tx.scalar(select(groups.c.name).where(groups.c.id == group_id)))
    if name != old:
        _check_name(tx, name)
        tx.execute(update(groups).where(groups.c.id == group_id).values(name=name))
        change = Change("group", group_id, {"name": old}, {"name": name})
        audit.record(tx, "groups.rename", "group", group_id, changes=[change], by=by)
    return old


def restore(tx: Transaction, group_id: int, *, by: Actor) -> Row[Any]:
    """Bring a deleted group back with the members it had.  Raises Problem `group-exists` or `group-name-taken`."""
    row = tx.execute(select(groups).where(groups.c.id == group_id)).one()
    _check_short(tx, row.short)
    _check_name(tx, row.name)
    tx.execute(update(groups).where(groups.c.id == group_id).values(deleted_at=None))
    audit.record(tx, "groups.restore", "group", group_id, by=by)
    return group(tx, row.short)


def delete(tx: Transaction, group_id: int, *, by: Actor) -> None:
    """Take a group away; its members and their history stay for `as of`.

    What was previewed or running for it is for broadcasts.py to halt first.
    """
    tx.execute(update(groups).where(groups.c.id == group_id).values(deleted_at=tx.now))
    facts = {"members": count_members(tx, group_id)}
    audit.record(tx, "groups.delete", "group", group_id, facts=facts, by=by)


def add(tx: Transaction, group_id: int, case_ids: Sequence[int], *, by: Actor) -> list[int]:
    """Add cases to a group, skipping those in it.  Returns the newly added, in the order given."""
    _pick(tx, case_ids)
    is_new = ~has_member([group_id], _picked.c.id)
    fresh = list(tx.execute(select(_picked.c.id).where(is_new).order_by(_picked.c.n)).scalars())
    if fresh:
        entry = audit.record(tx, "groups.add", "group", group_id, facts={"added": len(fresh)}, by=by)
        joined = select(
            literal(group_id), _picked.c.id, literal(tx.now, memberships.c.added_at.type), literal(entry)
        ).where(is_new)
        columns = ["group_id", "case_id", "added_at", "added_entry"]
        tx.execute(insert(memberships).from_select(columns, joined.order_by(_picked.c.n)))
    return fresh


def remove(tx: Transaction, group_id: int, case_ids: Sequence[int], *, by: Actor) -> list[int]:
    """Take cases out of a group, skipping those not in it.  Returns those taken out, in the order given."""
    inside = members_among(tx, group_id, case_ids)
    leaving = [c for c in dict.fromkeys(case_ids) if c in inside]
    if leaving:
        entry = audit.record(tx, "groups.remove", "group", group_id, facts={"removed": len(leaving)}, by=by)
        _pick(tx, leaving)
        tx.execute(
            update(memberships)
            .where(
                memberships.c.group_id == group_id,
                memberships.c.removed_at.is_(None),
                memberships.c.case_id.in_(select(_picked.c.id)),
            )
            .values(removed_at=tx.now, removed_entry=entry)
        )
    return leaving


def _check_short(tx: Transaction, short: str) -> None:
    if not _SHORT.fullmatch(short) or short.isdigit():
        raise Problem("group-short-shape", group=short)
    if short in VERBS or short in GATEWAY_WORDS:
        raise Problem("group-short-word", group=short)
    shorts = set(tx.execute(select(groups.c.short).where(groups.c.deleted_at.is_(None))).scalars())
    if short in shorts:
        raise Problem("group-exists", group=short)
    if close := sorted(other for other in shorts & near(short) if not _differ_by_a_digit(short, other)):
        raise Problem("group-short-near", group=short, other=close[0])


def _differ_by_a_digit(one: str, other: str) -> bool:
    """`ward1` and `ward2` are meant to be alike; a guess between them is never made."""
    digits = "".join(c for c in one if c.isdigit()) != "".join(c for c in other if c.isdigit())
    return digits and re.sub(r"\d", "", one) == re.sub(r"\d", "", other)


def _check_name(tx: Transaction, name: str) -> None:
    if tx.scalar(select(groups.c.id).where(groups.c.name == name, groups.c.deleted_at.is_(None))) is not None:
        raise Problem("group-name-taken", name=name)


def _pick(tx: Transaction, case_ids: Iterable[int]) -> None:
    tx.temporary(_picked)
    insert_lines(tx, _picked, ("n", "id"), enumerate(dict.fromkeys(case_ids)))
