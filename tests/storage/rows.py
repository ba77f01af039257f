"""The rows of a sheet as the store sees them: no workbook, only cells."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    text: str
    fault: str | None = None


@dataclass(frozen=True)
class Row:
    number: int
    cells: dict[str, Cell]


def sheet(*rows):
    """The rows of a sheet, from row 2 on; a string is a `case_identifier`, a cell may be given as it is."""
    told = [row if isinstance(row, dict) else {"case_identifier": row} for row in rows]
    return [
        Row(n, {name: cell if isinstance(cell, Cell) else Cell(cell) for name, cell in row.items()})
        for n, row in enumerate(told, start=2)
    ]
