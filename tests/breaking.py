"""Let a database refuse rows, as a fault in the middle of a verb or a full disk does: triggers for either engine."""

from __future__ import annotations

from sqlalchemy import text

from storage.database import Database, Transaction


def break_rows(
    tx: Transaction,
    table: str,
    when: str = "true",
    says: str = "a fault",
    *,
    on: str = "INSERT",
    gives_up: bool = False,
) -> None:
    """Refuse the rows of a table for which `when` is true (of `new`); `gives_up`: the whole transaction goes with them."""
    if tx.is_sqlite:
        how = "ROLLBACK" if gives_up else "ABORT"
        tx.execute(text(f"CREATE TRIGGER fault BEFORE {on} ON {table} WHEN {when} BEGIN SELECT raise({how}, '{says}'); END"))  # fmt: skip
        return
    refuse = f"RAISE EXCEPTION '{says}' USING ERRCODE = 'integrity_constraint_violation'"
    act = "PERFORM pg_terminate_backend(pg_backend_pid())" if gives_up else refuse
    tx.execute(text(f"CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {when} THEN {act}; END IF; RETURN new; END $$"))  # fmt: skip
    tx.execute(text(f"CREATE TRIGGER fault BEFORE {on} ON {table} FOR EACH ROW EXECUTE FUNCTION fault()"))


def mend(db: Database, table: str) -> None:
    """Take the rows of a table again."""
    with db.transaction() as tx:
        tx.execute(text("DROP TRIGGER fault" if db.is_sqlite else f"DROP TRIGGER fault ON {table}"))
