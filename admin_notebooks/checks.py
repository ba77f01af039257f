"""What an audit of the memberships finds: how many, which, and what mends it.

Every finding is one question that the database answers as a set, so that a million memberships cost a count and not a
load: `count` is counted there, and `which()` fetches at most as many rows as are asked for.  A finding is about the open
members of the live groups that are looked at, or about those groups themselves.  Nothing here changes anything.

    findings   every check with its count, what needs a person first
    over_time  members, joins and leaves by day
    by_whom    who added and removed how many, through which door
    overlaps   how many two groups have in common
    mix        members by language, zone, gateway or any other property
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from sqlalchemy import ColumnElement, FromClause, Select, and_, exists, false, func, literal, select, union_all

from admin_notebooks.desk import Desk
from admin_notebooks.frames import Frame, frame, last_reply, moment
from storage import schema as s
from storage.broadcasts import states
from storage.contacts.cases import PROPERTIES
from storage.contacts.consent import HOLDING, said_last
from storage.database import Transaction
from storage.errors import Problem
from storage.messages.states import ARRIVED
from storage.programme import routing

AT_MOST = 1000
"""Rows of a finding that are fetched unless more are asked for."""

FAILED = ("undelivered", "refused")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its key, what it found in words, how many, and what mends it.

    `which()` says which ones, the first thousand unless told otherwise; `needs` is high, look or note: whether somebody
    may be hurt by it, whether it should be looked at, or whether it is only good to know.
    """

    key: str
    title: str
    count: int
    mends: str
    needs: str
    _which: Callable[[int | None], Frame] = field(repr=False, compare=False)

    def which(self, at_most: int | None = AT_MOST) -> Frame:
        """The cases, numbers or groups that were found; None for all of them."""
        return self._which(at_most)


@dataclass(frozen=True, slots=True)
class Sample:
    """What is looked at: some groups, those that this person may see, and since when; `whole`: every group there is."""

    group_ids: Sequence[int]
    since: datetime | None
    whole: bool

    @property
    def members(self) -> FromClause:
        """Each case that is in at least one of the groups now, once."""
        live = and_(s.memberships.c.group_id.in_(self.group_ids), s.memberships.c.removed_at.is_(None))
        return select(s.memberships.c.case_id).where(live).distinct().subquery("members")


def sample(desk: Desk, tx: Transaction, group: str | None = None, since: datetime | str | None = None) -> Sample:
    """The groups to look at: one, or every live one that this person may see.  Raises Problem `group-unknown`."""
    desk.allow(tx, "read")
    if group:
        ids = [int(desk.group(tx, group).id)]
    else:
        live, scope = s.groups.c.deleted_at.is_(None), desk.scope(tx)
        ids = [
            i
            for i in tx.execute(select(s.groups.c.id).where(live).order_by(s.groups.c.id)).scalars()
            if scope is None or i in scope
        ]
    return Sample(ids, moment(tx, since) if since else None, whole=not group and desk.scope(tx) is None)


def findings(desk: Desk, group: str | None = None, *, since: datetime | str | None = None) -> list[Finding]:
    """Every check over one group, or over all; those that found something first, what may hurt before what is good to know."""
    found = []
    with desk.db.reading() as tx:
        looked_at = sample(desk, tx, group, since)
        for key, check in CHECKS.items():
            query = check.query(tx, looked_at)
            count = int(tx.scalar(select(func.count()).select_from(query.order_by(None).subquery())))
            found.append(Finding(key, check.title, count, check.mends, check.needs, _fetch(desk, key, group, since)))
    return sorted(found, key=lambda f: (f.count == 0, NEEDS.index(f.needs)))


def as_frame(found: Sequence[Finding]) -> Frame:
    """The findings as a table: what, how many, how urgent, and what mends it."""
    return pd.DataFrame(
        {
            "check": [f.key for f in found],
            "found": [f.title for f in found],
            "count": [f.count for f in found],
            "needs": [f.needs for f in found],
            "mend": [f.mends for f in found],
        }
    )


def _fetch(desk: Desk, key: str, group: str | None, since: datetime | str | None) -> Callable[[int | None], Frame]:
    def which(at_most: int | None) -> Frame:
        with desk.db.reading() as tx:
            return frame(tx, CHECKS[key].query(tx, sample(desk, tx, group, since)).limit(at_most))

    return which


# -- the checks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """A question about a sample: in words, what mends it, how urgent, and the query whose rows are the answer."""

    title: str
    mends: str
    needs: str
    query: Callable[[Transaction, Sample], Select[Any]]


NEEDS = ("high", "look", "note")

_open = s.cases.c.status == "open"
_has_number = s.cases.c.contact_phone_number.is_not(None)
_WHO = (s.cases.c.case_id, s.cases.c.external_id, s.cases.c.name, s.cases.c.contact_phone_number)


def _of(looked_at: Sample, *more: ColumnElement[Any]) -> Select[Any]:
    """The members, each with what names a person, and with further columns."""
    inside = looked_at.members
    return select(*_WHO, *more).join(inside, inside.c.case_id == s.cases.c.id).order_by(s.cases.c.id)


def _unverified(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    return _of(looked_at, s.cases.c.modified_at).where(_open, _has_number, ~s.cases.c.contact_phone_number_is_verified)


def _no_number(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    return _of(looked_at).where(_open, ~_has_number)


def _doubtful_number(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    return _of(looked_at, s.cases.c.number_warning).where(_open, s.cases.c.number_warning.is_not(None))


def _stopped(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    said = said_last(s.cases.c.phone_key)
    return _of(looked_at, said.label("consent")).where(_open, _has_number, said.in_(HOLDING))


def _closed(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    return _of(looked_at, s.cases.c.modified_at).where(~_open)


def _shared(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    """Members on a number that another open case has as well, the owner first."""
    other, inside = s.cases.alias("other"), looked_at.members
    same = and_(
        other.c.phone_key == s.cases.c.phone_key,
        other.c.status == "open",
        other.c.id != s.cases.c.id,
    )
    query = select(*_WHO, s.cases.c.two_way, s.cases.c.claimed_at).join(inside, inside.c.case_id == s.cases.c.id)
    query = query.where(_open, _has_number, exists().where(same))
    return query.order_by(
        s.cases.c.phone_key,
        s.cases.c.two_way.desc(),
        s.cases.c.claimed_at.is_(None),
        s.cases.c.claimed_at,
        s.cases.c.id,
    )


def _waiting(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    """Verified members who stand in line for a number that another case owns."""
    owner = s.cases.alias("owner")
    owned = and_(owner.c.phone_key == s.cases.c.phone_key, owner.c.two_way)
    query = _of(looked_at, s.cases.c.claimed_at, owner.c.case_id.label("owner"), owner.c.name.label("owner_name"))
    return query.join(owner, owned).where(s.cases.c.claimed_at.is_not(None), ~s.cases.c.two_way)


def _sent_to(looked_at: Sample) -> ColumnElement[bool]:
    """A condition on messages: one of ours to the case, in the time that is looked at."""
    ours = and_(s.messages.c.case_id == s.cases.c.id, s.messages.c.direction == "out")
    return ours if looked_at.since is None else and_(ours, s.messages.c.created_at >= looked_at.since)


def _newest(looked_at: Sample) -> ColumnElement[Any]:
    """The id of the newest message to a case of which it is known how it ended."""
    over = s.messages.c.state.in_((*ARRIVED, *FAILED))
    return select(func.max(s.messages.c.id)).where(_sent_to(looked_at), over).correlate(s.cases).scalar_subquery()


def _unreachable(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    """Members to whom the last text failed."""
    last = s.messages.alias("last")
    query = _of(looked_at, last.c.state, last.c.reason, last.c.code, last.c.settled_at)
    return query.join(last, last.c.id == _newest(looked_at)).where(_open, last.c.state.in_(FAILED))


def _never_reached(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    """Members whom we texted, and nothing ever arrived as far as the gateway knows."""
    tried = exists().where(_sent_to(looked_at), s.messages.c.handed_over_at.is_not(None)).correlate(s.cases)
    arrived = exists().where(_sent_to(looked_at), s.messages.c.state.in_(ARRIVED)).correlate(s.cases)
    return _of(looked_at, last_reply(s.cases.c.id).label("last_reply_at")).where(_open, tried, ~arrived)


def _never_texted(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    """Members who could be texted and to whom nothing ever left."""
    tried = exists().where(_sent_to(looked_at), s.messages.c.handed_over_at.is_not(None)).correlate(s.cases)
    return _of(looked_at).where(_open, _has_number, ~tried)


def _unknown_gateway(tx: Transaction, looked_at: Sample) -> Select[Any]:
    chosen = routing.by_case(tx.rules, s.cases)
    known = chosen.in_(sorted(tx.rules.gateways)) if tx.rules.gateways else literal(True)
    return _of(looked_at, s.cases.c.contact_backend_id).where(_open, _has_number, ~known)


def _pointed_at(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    """Deleted groups to which something still waits to be confirmed, or runs."""
    whom, goes = s.broadcast_audience, s.broadcasts.c.state.in_(states.OPEN)
    query = select(
        s.groups.c.short,
        s.groups.c.name,
        s.groups.c.deleted_at,
        s.broadcasts.c.id.label("broadcast"),
        s.broadcasts.c.state,
    )
    query = query.join(whom, whom.c.group_id == s.groups.c.id).join(
        s.broadcasts, s.broadcasts.c.id == whom.c.broadcast_id
    )
    query = query if looked_at.whole else query.where(false())  # a deleted group is nobody's but the leads'
    return query.where(s.groups.c.deleted_at.is_not(None), goes).order_by(s.broadcasts.c.id)


def _empty(_tx: Transaction, looked_at: Sample) -> Select[Any]:
    live = exists().where(s.memberships.c.group_id == s.groups.c.id, s.memberships.c.removed_at.is_(None))
    query = select(s.groups.c.short, s.groups.c.name, s.groups.c.created_at)
    return query.where(s.groups.c.id.in_(looked_at.group_ids), ~live).order_by(s.groups.c.short)


CHECKS: dict[str, Check] = {
    "stopped": Check(
        "said STOP, or may have, and are still members",
        "Nobody texts them; nothing to mend unless they asked to come back: then START from that phone.",
        "note", _stopped),
    "deleted_group": Check(
        "broadcasts that still point to a deleted group",
        "Text 'halt NUMBER' or run 'jumbe broadcasts halt NUMBER'.",
        "high", _pointed_at),
    "shared_number": Check(
        "share a phone number with another open case",
        "One of them owns it and may reply. Correct a wrong number on its case; two people on one phone are fine.",
        "look", _shared),
    "waiting_for_number": Check(
        "are verified on a number that another case owns, and stand in line for it",
        "They get texts and cannot reply. If the phone is theirs now, a lead makes them its owner on the page of the case, or text 'move WHO NUMBER'.",
        "look", _waiting),
    "unreachable": Check(
        "did not get the last text that was sent to them",
        "The reason says what happened. Ask for another number: a sheet of cases with contact_phone_number, or 'move WHO NUMBER'.",
        "high", _unreachable),
    "never_reached": Check(
        "were texted and never got anything, as far as the gateway knows",
        "Check the number with them on the next visit; 'jumbe messages explain' says what happened to each text.",
        "high", _never_reached),
    "unknown_gateway": Check(
        "are set to a gateway that this programme does not have, so no text can leave",
        "Clear contact_backend_id in a sheet of cases (--), or set the gateway up.",
        "high", _unknown_gateway),
    "no_number": Check(
        "have no phone number",
        "A sheet of cases with contact_phone_number, or remove them from the group.",
        "look", _no_number),
    "doubtful_number": Check(
        "have a number that is possible and in no known range of mobiles",
        "Ask for the number again; if it works, leave it as it is.",
        "look", _doubtful_number),
    "closed": Check(
        "are closed cases and still members",
        "Nobody texts them. Remove them: a sheet of their case ids with 'remove'.",
        "look", _closed),
    "unverified": Check(
        "have a number that nobody has verified, so they cannot reply",
        "Text 'invite WHO', or a sheet of cases with contact_phone_number_is_verified.",
        "look", _unverified),
    "never_texted": Check(
        "have a number and were never sent anything",
        "Nothing, if they are new; else ask whether they belong in the group.",
        "note", _never_texted),
    "empty_group": Check(
        "groups with nobody in them",
        "Add cases, or delete the group.",
        "note", _empty),
}  # fmt: skip


# -- pictures of the whole ---------------------------------------------------------------------------------------------


def over_time(desk: Desk, group: str | None = None, *, since: datetime | str | None = None) -> Frame:
    """For each day of the programme's clock: `joined`, `left`, and `members` at its end; counted in the database.

    A case in two of the groups counts twice, because it is two memberships.
    """
    with desk.db.reading() as tx:
        looked_at = sample(desk, tx, group, since)
        moves = _moves(tx, looked_at)
        first = moves["day"].min() if not moves.empty else None
        if first is None:
            return pd.DataFrame({"joined": [], "left": [], "members": []}, dtype="int64")
        today = pd.Timestamp(tx.now.astimezone(ZoneInfo(tx.rules.time_zone)).date())
    days = pd.date_range(first, max(today, moves["day"].max()), name="day")
    by_day = moves.groupby("day")[["joined", "left"]].sum().reindex(days, fill_value=0).astype("int64")
    by_day["members"] = (by_day["joined"] - by_day["left"]).cumsum()
    if looked_at.since is not None:
        by_day = by_day[
            by_day.index >= pd.Timestamp(looked_at.since.astimezone(ZoneInfo(desk.db.rules.time_zone)).date())
        ]
    return by_day


def _moves(tx: Transaction, looked_at: Sample) -> Frame:
    """Joins and leaves for each moment at which there were any, dated by the programme's clock.

    People come in by the sheet: a million memberships have some thousand moments, and only these are fetched.
    """
    here = s.memberships.c.group_id.in_(looked_at.group_ids)
    came = select(s.memberships.c.added_at.label("at"), func.count().label("joined"), literal(0).label("left"))
    went = select(s.memberships.c.removed_at.label("at"), literal(0), func.count())
    each = union_all(
        came.where(here).group_by(s.memberships.c.added_at),
        went.where(here, s.memberships.c.removed_at.is_not(None)).group_by(s.memberships.c.removed_at),
    ).subquery()
    moves = frame(tx, select(each))
    moves["day"] = moves["at"].dt.tz_localize(None).dt.normalize()
    return moves


def by_whom(desk: Desk, group: str | None = None, *, since: datetime | str | None = None) -> Frame:
    """Who `added` and `removed` how many, through which door, most first."""
    with desk.db.reading() as tx:
        looked_at = sample(desk, tx, group, since)
        each = union_all(_acts(looked_at, "added"), _acts(looked_at, "removed")).subquery()
        query = (
            select(
                func.coalesce(s.people.c.name, "system").label("person"),
                s.audit.c.door,
                func.sum(each.c.added).label("added"),
                func.sum(each.c.removed).label("removed"),
                func.max(s.audit.c.at).label("last_at"),
            )
            .join_from(each, s.audit, s.audit.c.id == each.c.entry)
            .outerjoin(s.people, s.people.c.id == s.audit.c.person_id)
            .group_by(s.people.c.name, s.audit.c.door)
        )
        found = frame(tx, query)
    found = found.astype({"added": "int64", "removed": "int64"})
    return found.sort_values(["added", "removed", "person"], ascending=[False, False, True], ignore_index=True)


def _acts(looked_at: Sample, what: str) -> Select[Any]:
    """For each line of the audit log how many memberships it began, or ended."""
    entry, at = s.memberships.c[f"{what}_entry"], s.memberships.c[f"{what}_at"]
    count, none = func.count(), literal(0)
    query = select(
        entry.label("entry"),
        (count if what == "added" else none).label("added"),
        (count if what == "removed" else none).label("removed"),
    )
    query = query.where(s.memberships.c.group_id.in_(looked_at.group_ids), entry.is_not(None)).group_by(entry)
    return query if looked_at.since is None else query.where(at >= looked_at.since)


def overlaps(desk: Desk, group: str | None = None) -> Frame:
    """How many members each two groups have in common, as a square; the diagonal is the group itself.

    With `group` only that one and those that share somebody with it.
    """
    with desk.db.reading() as tx:
        ids = sample(desk, tx).group_ids
        if group:
            (own,) = sample(desk, tx, group).group_ids
            ids = sorted(
                {row.first for row in tx.execute(_pairs(ids).where(_second.c.group_id == own))}
                | {row.second for row in tx.execute(_pairs(ids).where(_first.c.group_id == own))}
            )
        each, here, there = _pairs(ids).subquery(), s.groups.alias("here"), s.groups.alias("there")
        query = select(here.c.short.label("first"), there.c.short.label("second"), each.c.n)
        query = query.join_from(each, here, here.c.id == each.c.first).join(there, there.c.id == each.c.second)
        found = frame(tx, query)
    half = found[found["first"] != found["second"]].rename(columns={"first": "second", "second": "first"})
    square = pd.concat([found, half]).pivot(index="first", columns="second", values="n").fillna(0).astype("int64")
    return square.rename_axis(index="group", columns=None)


_first, _second = s.memberships.alias("first"), s.memberships.alias("second")


def _pairs(ids: Sequence[int]) -> Select[Any]:
    """Of each two of these groups, and of each with itself, how many members both have."""
    both = and_(_first.c.case_id == _second.c.case_id, _first.c.group_id <= _second.c.group_id)
    live = (_first.c.removed_at.is_(None), _second.c.removed_at.is_(None))
    query = select(_first.c.group_id.label("first"), _second.c.group_id.label("second"), func.count().label("n"))
    query = query.join_from(_first, _second, both).where(*live, _first.c.group_id.in_(ids), _second.c.group_id.in_(ids))
    return query.group_by(_first.c.group_id, _second.c.group_id)


MIXES = ("language_code", "time_zone", "gateway")


def mix(desk: Desk, by: str, group: str | None = None) -> Frame:
    """How many open members have which language, zone, gateway or other property, most first; blank: not set.

    `gateway` is the one that would carry a text now.
    Raises Problem `mix-unknown` for what is no property of a case.
    """
    if by not in (*MIXES, *PROPERTIES):
        raise Problem("mix-unknown", by=by, known=", ".join(MIXES))
    with desk.db.reading() as tx:
        inside = sample(desk, tx, group).members
        column = routing.by_case(tx.rules, s.cases) if by == "gateway" else s.cases.c[by]
        return frame(tx, _counted(column, inside, by))


def _counted(column: ColumnElement[Any], inside: FromClause, by: str) -> Select[Any]:
    query = select(column.label(by), func.count().label("cases")).join_from(
        s.cases, inside, inside.c.case_id == s.cases.c.id
    )
    return query.where(_open).group_by(column).order_by(func.count().desc(), column)
