"""Many rows at once: the fastest way of each database to insert and to execute for a whole list."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    JSON,
    Table,
    UpdateBase,
    insert,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from storage.database import Transaction


def insert_new(tx: Transaction, table: Table) -> Any:
    """An INSERT that skips a row which a unique key already has: `ON CONFLICT DO NOTHING`."""
    dialect = sqlite_insert if tx.is_sqlite else postgresql_insert
    return dialect(table).on_conflict_do_nothing()


AT_ONCE = 25_000
"""Rows that are prepared and inserted together."""


def insert_many(tx: Transaction, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns: what `tx.execute(insert(table), rows)` does, several times as fast.

    SQLAlchemy prepares every row anew; here the statement and the conversions are worked out once for many of them.
    Rows that come one by one are never all in memory.
    """
    rows = iter(rows)
    while part := list(itertools.islice(rows, AT_ONCE)):
        insert_ready(tx, ready_rows(tx, table, part))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table as the driver takes them: worked out beforehand, so that the writer is held for the insert alone."""

    into: _Inserting
    lines: Sequence[tuple[Any, ...]]


def ready_rows(tx: Transaction, table: Table, rows: Sequence[Mapping[str, Any]]) -> Rows:
    """At least one row, all with the same columns, ready for `insert_ready`."""
    dialect = tx.connection.dialect
    into = _inserting(table, tuple(rows[0]), dialect)
    columns = (_conversion(table.c[name].type, dialect)(map(itemgetter(name), rows)) for name in into.names)
    return Rows(into, list(zip(*columns, strict=True)))


def insert_lines(tx: Transaction, table: Table, names: Sequence[str], lines: Iterable[tuple[Any, ...]]) -> None:
    """Insert lines of text and numbers, which need no conversion, each with the values of these columns in this order."""
    into = _inserting(table, tuple(names), tx.connection.dialect)
    assert list(into.names) == list(names), "the columns in the order of the statement"
    lines = iter(lines)
    while part := list(itertools.islice(lines, AT_ONCE)):
        insert_ready(tx, Rows(into, part))


@dataclass(frozen=True, slots=True)
class _Inserting:
    """An INSERT of some columns as the driver takes it, the columns in its order, and on PostgreSQL the same as a COPY."""

    statement: str
    names: Sequence[str]
    copy: str | None


@lru_cache(maxsize=128)
def _inserting(table: Table, names: tuple[str, ...], dialect: Dialect) -> _Inserting:
    compiled = insert(table).compile(dialect=dialect, column_keys=list(names))
    if compiled.positional:
        return _Inserting(str(compiled), list(compiled.positiontup or names), None)
    named = dialect.identifier_preparer
    columns = ", ".join(named.quote(name) for name in names)
    return _Inserting(str(compiled), names, f"COPY {named.format_table(table)} ({columns}) FROM STDIN")


COPIED = 200
"""Rows from which PostgreSQL takes them faster as a COPY than one by one."""


def insert_ready(tx: Transaction, rows: Rows, **instead: Any) -> None:
    """Insert rows that were made ready; `instead` are values that were not known then, the same for every row."""
    lines: Iterable[Any] = rows.lines
    for name, value in instead.items():
        at = rows.into.names.index(name)
        lines = ((*line[:at], value, *line[at + 1 :]) for line in lines)
    if rows.into.copy is None:
        tx.connection.exec_driver_sql(rows.into.statement, list(lines))
    elif len(rows.lines) < COPIED:
        named = [dict(zip(rows.into.names, line, strict=True)) for line in lines]
        tx.connection.exec_driver_sql(rows.into.statement, named)
    else:
        _copy(tx, rows.into.copy, lines)


def _copy(tx: Transaction, statement: str, lines: Iterable[tuple[Any, ...]]) -> None:
    """A COPY of PostgreSQL, which SQLAlchemy has no word for; it fails as any other statement does."""
    driver: Any = tx.connection.connection.driver_connection
    dialect: Any = tx.connection.dialect
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for line in lines:
                copy.write_row(line)
    except dialect.dbapi.Error as error:
        raise DBAPIError.instance(statement, None, error, dialect.dbapi.Error, dialect=dialect) from error


def execute_many(tx: Transaction, statement: UpdateBase, rows: Sequence[Mapping[str, Any]]) -> int:
    """Run a statement once for each row: what `tx.execute(statement, rows)` does, in a third of the time.

    `statement` is one that is built once, with a `bindparam` for each key of the rows.  Returns how many rows it changed.
    """
    if not rows:
        return 0
    compiled, parameters = _prepared(statement, tx.connection.dialect)
    columns = [
        convert([row[name] for row in rows] if name in rows[0] else [own] * len(rows))
        for name, own, convert in parameters
    ]
    lines: Iterable[Any] = zip(*columns, strict=True)
    if not compiled.positional:
        names = [name for name, _, _ in parameters]
        lines = (dict(zip(names, line, strict=True)) for line in lines)
    return tx.connection.exec_driver_sql(str(compiled), list(lines)).rowcount


Convert = Callable[[Iterable[Any]], Iterable[Any]]


@lru_cache(maxsize=128)
def _prepared(statement: UpdateBase, dialect: Dialect) -> tuple[SQLCompiler, list[tuple[str, Any, Convert]]]:
    """A statement as the driver takes it; of each parameter, in order, its name, its own value, and how values convert."""
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    names = compiled.positiontup or list(compiled.binds)
    binds = [(name, compiled.binds[name]) for name in names]
    return compiled, [(name, bind.value, _conversion(bind.type, dialect)) for name, bind in binds]


def _conversion(kind: TypeEngine[Any], dialect: Dialect) -> Convert:
    """How values of a type become what the driver takes."""
    convert = kind.dialect_impl(dialect).bind_processor(dialect)
    if convert is None:
        return iter
    if isinstance(kind, JSON):
        return lambda values: map(_blank_once(convert), values)
    return lambda values: map(cache(convert), values)  # rows written together share their dates


def _blank_once(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same for JSON, which has no hash to remember it by; but most of it is an empty object."""
    blank = convert({})
    return lambda value: blank if value == {} else convert(value)


def fill(tx: Transaction, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Make a temporary table hold these rows and no others."""
    tx.temporary(table)
    insert_many(tx, table, rows)
