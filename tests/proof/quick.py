"""Runs the statements of the code under proof without what SQLAlchemy does anew for each of them.

Much of what a day costs is not SQLite's work but the way there.  A statement that the code builds once is made ready once,
by SQLAlchemy itself: the same words, and values and rows converted by its types.  What is built for the occasion goes the
usual way, and so does one that fails.  A seed gives the same history by either way, and a test keeps it so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from sqlalchemy.engine import CursorResult, Dialect, IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql.dml import Delete, Update
from sqlalchemy.sql.selectable import Select

from storage.database import Transaction

Values = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


class Found(IteratorResult[Any]):
    """The rows that a statement gave, and how many it changed."""

    rowcount: int


class Ready:
    """A statement as the driver takes it, for values of these names; `is_fit` is false where its words depend on them."""

    def __init__(self, statement: Any, told: Mapping[str, Any], dialect: Dialect) -> None:
        made = statement.compile(dialect=dialect, column_keys=list(told) or None)
        lists = made.post_compile_params | made.literal_execute_params
        self.is_fit = not made.update_prefetch and not any(bind.key in told for bind in lists)
        if not self.is_fit:
            return
        values, converts = made.construct_params(told), dict(made._bind_processors)
        self.words, names = made.string, made.positiontup
        if lists:
            spread = made._process_parameters_for_postcompile(values)
            self.words, names = spread.statement, spread.positiontup
            values |= spread.additional_parameters
            converts |= spread.processors
        # Of each place: the name of the value that is told, how it is converted, and the statement's own value.
        self.places = [
            (name, converts.get(name), None) if name in told else (None, None, _as(values[name], converts.get(name)))
            for name in names
        ]
        self.names = SimpleResultMetaData([column.keyname for column in made._result_columns])
        self.reads = [column.type._cached_result_processor(dialect, None) for column in made._result_columns]

    def run(self, driver: Any, told: Mapping[str, Any]) -> Found:
        """Runs it with these values, and fetches all."""
        cursor = driver.execute(
            self.words, [own if name is None else _as(told[name], convert) for name, convert, own in self.places]
        )
        rows = cursor.fetchall()
        if rows and any(self.reads):
            rows = [tuple(map(_as, row, self.reads)) for row in rows]
        found = Found(self.names, iter(rows))
        found.rowcount = cursor.rowcount
        return found


def _as(value: Any, convert: Callable[[Any], Any] | None) -> Any:
    return value if convert is None else convert(value)


def _ready(tx: Transaction, statement: Any, values: Values) -> Ready | None:
    """The statement as it was made ready; None for what is seen for the first time, and mostly never again."""
    if not isinstance(statement, Select | Update | Delete) or isinstance(values, Sequence):
        return None
    known = statement.__dict__.get("_ready")
    if known is None:
        statement.__dict__["_ready"] = {}
        return None
    told = values or {}
    ready: Ready | None = known.get(tuple(told))
    if ready is None:
        ready = known[tuple(told)] = Ready(statement, told, tx.connection.dialect)
    return ready if ready.is_fit else None


@contextlib.contextmanager
def quickly(before: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile every transaction runs what comes again so, and tells `before` the words of each such statement."""

    def execute(tx: Transaction, statement: Any, values: Values = None) -> CursorResult[Any] | Found:
        ready = _ready(tx, statement, values)
        if ready is not None:
            before(ready.words)
            driver: Any = tx.connection.connection.dbapi_connection
            with contextlib.suppress(driver.Error):
                return ready.run(driver, values or {})  # type: ignore[arg-type]
        return tx.connection.execute(statement, values)

    def scalar(tx: Transaction, statement: Any, values: Mapping[str, Any] | None = None) -> Any:
        return execute(tx, statement, values).scalar()

    with mock.patch.object(Transaction, "execute", execute), mock.patch.object(Transaction, "scalar", scalar):
        yield
