"""Workbooks made, taken apart and written as another program might have written them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from admin_notebooks.sheets.reader import read
from storage.errors import Problem

WANTED = ("case_identifier",)


def workbook_of(path: Path, *worksheets: Sequence[Sequence[object]]) -> Path:
    book = Workbook()
    book.remove(book.active)
    for rows in worksheets or ((),):
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def column(path: Path, *values: object) -> Path:
    return workbook_of(path, [["case_identifier"], *([value] for value in values)])


def raw(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def repacked(path: Path, change: Callable[[str, bytes], bytes], extra: Iterable[tuple[str, bytes]] = ()) -> Path:
    """The same workbook with its parts changed, as another program might have written them."""
    with zipfile.ZipFile(path) as archive:
        parts = [(name, change(name, archive.read(name))) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*parts, *extra]:
            archive.writestr(name, data)
    return path


def with_sheet_xml(path: Path, old: bytes, new: bytes) -> Path:
    def change(name: str, data: bytes) -> bytes:
        if name != "xl/worksheets/sheet1.xml":
            return data
        assert old in data
        return data.replace(old, new)

    return repacked(path, change)


def sheet_data(path: Path, xml: str) -> Path:
    """A workbook whose first worksheet holds exactly these rows of XML."""
    column(path)
    head = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    data = f"{head}{xml}</sheetData></worksheet>".encode()
    return repacked(path, lambda name, old: data if name == "xl/worksheets/sheet1.xml" else old)


def inline(reference: str, text: str) -> str:
    return f'<c r="{reference}" t="inlineStr"><is><t>{text}</t></is></c>'


HEADER_XML = f'<row r="1">{inline("A1", "case_identifier")}</row>'


def problem(path: Path | str, **options: Any) -> tuple[str, dict[str, object]]:
    with pytest.raises(Problem) as caught:
        read(path, **options)
    return caught.value.key, caught.value.values
