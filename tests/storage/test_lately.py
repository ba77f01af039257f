"""Where the last minutes begin in a table of years: found by its key, whatever is missing between."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, insert

from storage.lately import first_since
from storage.messages import receipts
from storage.schema import receipts as receipts_table


@pytest.fixture
def came(db, clock):
    """A receipt each minute for an hour, of which every third row is gone, as after transactions that were taken back."""
    with db.transaction() as tx:
        rows = [
            {"gateway": "g", "message_id": n, "gateway_id": "s", "state": "sent" if n % 2 else "delivered", "word": "w",
             "code": "", "moved": True, "at": clock() + timedelta(minutes=n)}
            for n in range(60)
        ]  # fmt: skip
        tx.execute(insert(receipts_table), rows)
        tx.execute(delete(receipts_table).where(receipts_table.c.message_id % 3 == 1))
    return [n for n in range(60) if n % 3 != 1]


@pytest.mark.parametrize("minute", [-5, 0, 1, 2, 30, 31, 58, 59, 60, 90])
def test_from_the_first_row_of_a_moment_on_is_what_came_since(db, clock, came, minute):
    since = clock() + timedelta(minutes=minute)
    with db.reading() as tx:
        first = first_since(tx, receipts_table.c.at, since)
        later = tx.execute(receipts_table.select().where(receipts_table.c.id >= first)).all()
        assert [row.message_id for row in later] == [n for n in came if n >= minute]
        assert sum(receipts.count_receipts(tx, since).values()) == len(later)


def test_of_a_table_without_rows_nothing_came(db, clock):
    with db.reading() as tx:
        assert first_since(tx, receipts_table.c.at, clock()) == 1
        assert receipts.count_receipts(tx, clock()) == {}
