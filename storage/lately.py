"""Where the rows of the last minutes or days begin in a table of years.

Rows get their ids in the order in which they are written, so the first row of a moment is found by halving: some twenty
looks by primary key, and no index on the moment, which would cost every row its bytes and every write its time.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, ColumnElement, func, select

from storage.database import Transaction


def first_since(tx: Transaction, at: Column[datetime], since: datetime) -> int:
    """The id from which on the rows of the table of `at` are of `since` or later; beyond the last where none is.

    Two writers of PostgreSQL may commit a moment out of order, so ask for a little more than is wanted and compare `at`.
    """
    key = at.table.c.id
    low, high = 1, int(tx.scalar(select(func.max(key))) or 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = tx.execute(select(key.label("id"), at.label("at")).where(key >= middle).order_by(key).limit(1)).one()
        if row.at < since:
            low = row.id + 1
        else:
            high = middle
    return low


def is_since(tx: Transaction, at: Column[datetime], since: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """The two conditions by which only the rows since a moment are read."""
    return at.table.c.id >= first_since(tx, at, since), at >= since
