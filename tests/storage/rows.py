"""The rows of a sheet as the store sees them: no workbook, only cells."""

from dataclasses import dataclass

from sqlalchemy import text


@dataclass(frozen=True)
class Cell:
    text: str
    fault: str | None = None


@dataclass(frozen=True)
class Row:
    number: int
    cells: dict[str, Cell]


def break_inserts(tx, table, says, when="true"):
    """Let the database refuse rows of a table from now on, as a fault in the middle of a verb does."""
    if tx.is_sqlite:
        tx.execute(text(f"CREATE TRIGGER fault BEFORE INSERT ON {table} WHEN {when} BEGIN SELECT raise(ABORT, '{says}'); END"))  # fmt: skip
        return
    refuse = f"RAISE EXCEPTION '{says}' USING ERRCODE = 'integrity_constraint_violation'"
    tx.execute(text(f"CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {when} THEN {refuse}; END IF; RETURN new; END $$"))  # fmt: skip
    tx.execute(text(f"CREATE TRIGGER fault BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fault()"))


def sheet(*rows):
    """The rows of a sheet, from row 2 on; a string is a `case_identifier`, a cell may be given as it is."""
    told = [row if isinstance(row, dict) else {"case_identifier": row} for row in rows]
    return [
        Row(n, {name: cell if isinstance(cell, Cell) else Cell(cell) for name, cell in row.items()})
        for n, row in enumerate(told, start=2)
    ]
