"""Whom a broadcast was frozen for: the memberships that stood at its preview, and its single cases.

A later member is never in; one who was taken out since stays in the count and is never texted.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CTE, ColumnElement, case, exists, func, literal, or_, select

from storage.schema import broadcast_audience, memberships


def of(number: int, *, after: int | None = None, upto: int | None = None) -> CTE:
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


def is_in(case_id: ColumnElement[Any], number: ColumnElement[Any] | int) -> ColumnElement[bool]:
    """Whether one case is in the audience, asked by index: joining the whole audience again would be quadratic."""
    whom = broadcast_audience.alias("whom")
    member = exists().where(
        memberships.c.case_id == case_id,
        memberships.c.removed_at.is_(None),
        whom.c.broadcast_id == number,
        whom.c.group_id == memberships.c.group_id,
        memberships.c.id <= whom.c.frozen_through,
    )
    single = exists().where(whom.c.broadcast_id == number, whom.c.case_id == case_id)
    return or_(member, single)
