"""Whom a broadcast was frozen for: the memberships that stood at its preview, and its single cases.

A later member is never in; one who was taken out since stays in the count and is never texted.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CTE, ColumnElement, Integer, Select, bindparam, case, exists, func, literal, or_, select

from storage.database import Transaction
from storage.schema import Number, broadcast_audience, memberships

Bound = ColumnElement[int] | int | None
"""Where a range of row ids begins or ends: a number, or a parameter."""


def of(number: ColumnElement[int] | int, *, after: Bound = None, upto: Bound = None) -> CTE:
    """The cases a broadcast was frozen for, in a range of row ids: `case_id`, and `stays` 0 for one taken out since.

    The range is asked of each membership by index, so that a range costs what it holds and not what the group holds.
    """
    whom = broadcast_audience
    of_groups = (
        select(
            memberships.c.case_id,
            func.max(case((memberships.c.removed_at.is_(None), 1), else_=0)).label("stays"),
        )
        .join(whom, whom.c.group_id == memberships.c.group_id)
        .where(
            whom.c.broadcast_id == number,
            memberships.c.id <= whom.c.frozen_through,
            or_(memberships.c.removed_at.is_(None), memberships.c.removed_at >= whom.c.frozen_at),
        )
        .group_by(memberships.c.case_id)
    )
    singles = select(whom.c.case_id, literal(1)).where(whom.c.broadcast_id == number, whom.c.case_id.is_not(None))
    if after is not None:
        of_groups = of_groups.where(memberships.c.case_id > after)
        singles = singles.where(whom.c.case_id > after)
    if upto is not None:
        of_groups = of_groups.where(memberships.c.case_id <= upto)
        singles = singles.where(whom.c.case_id <= upto)
    each = of_groups.union_all(singles).subquery()
    return select(each.c.case_id, func.max(each.c.stays).label("stays")).group_by(each.c.case_id).cte("audience")


def next_range(tx: Transaction, number: int, *, after: int, many: int) -> int | None:
    """The case up to which a range goes that begins after another and holds at most `many` of each group; None at the end.

    Asked of each group by index, so that it costs as little in a group of a million.
    """
    found: int | None = tx.scalar(_NEXT_RANGE, {"number": number, "after": after, "before_last": many - 1})
    return found


def _next_range() -> Select[tuple[int]]:
    number, after = bindparam("number", type_=Number), bindparam("after", type_=Integer)
    single = broadcast_audience.alias("single")
    of_a_group = select(memberships.c.case_id).where(
        memberships.c.group_id == broadcast_audience.c.group_id, memberships.c.case_id > after
    )
    singles = select(single.c.case_id).where(single.c.broadcast_id == number, single.c.case_id > after)
    ends = []
    for rest in (of_a_group.correlate(broadcast_audience), singles):
        case_id = rest.selected_columns.case_id
        full = rest.order_by(case_id).limit(1).offset(bindparam("before_last", type_=Integer)).scalar_subquery()
        ends.append((full.label("full"), rest.with_only_columns(func.max(case_id)).scalar_subquery().label("last")))
    groups = select(*ends[0]).where(
        broadcast_audience.c.broadcast_id == number, broadcast_audience.c.group_id.is_not(None)
    )
    each = groups.union_all(select(*ends[1])).subquery()
    return select(func.coalesce(func.min(each.c.full), func.max(each.c.last)))


_NEXT_RANGE = _next_range()
_whom = broadcast_audience.alias("whom")


def is_in(case_id: ColumnElement[Any], number: ColumnElement[Any] | int) -> ColumnElement[bool]:
    """Whether one case is in the audience, asked by index: joining the whole audience again would be quadratic."""
    member = exists().where(
        memberships.c.case_id == case_id,
        memberships.c.removed_at.is_(None),
        _whom.c.broadcast_id == number,
        _whom.c.group_id == memberships.c.group_id,
        memberships.c.id <= _whom.c.frozen_through,
    )
    single = exists().where(_whom.c.broadcast_id == number, _whom.c.case_id == case_id)
    return or_(member, single)
