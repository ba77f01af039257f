"""A sheet of identifiers: reading it, reading the numbers in it, and its whole way into a group and back as a result.

CPU time counts, of this process and of the child that reads.  The floor of reading is calamine alone, the peer openpyxl.
The peer of reading numbers is the library that knows the numbering plans; both must come to one verdict, also over the
examples of every region and over digits that were changed.  The whole way is held against its parts, each done alone by
the shortest means, and against the way a first version would go: row by row, with an ORM.
"""

from __future__ import annotations

import gc
import io
import random
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import phonenumbers
import python_calamine
from openpyxl import Workbook, load_workbook
from phonenumbers import PhoneNumberFormat, PhoneNumberType
from sqlalchemy import or_, select
from sqlalchemy.orm import Session, registry

from admin_notebooks import deeds
from admin_notebooks.sheets import cells, reader, writer, xlsx_writer
from storage.contacts import groups
from storage.database import Database
from storage.rules import identifiers, numbers, phone_keys
from storage.schema import cases, memberships
from storage.sheets import members, plans
from tests.benchmarks.bulk import resolved_by_hand
from tests.benchmarks.ground import BY, RULES, Programme, phone_of
from tests.benchmarks.measuring import Comparison, Rounds, in_turn, spending

COLUMN: Final = plans.IDENTIFIER


class Case: ...


class Member: ...


_orm = registry()
_orm.map_imperatively(Case, cases)
_orm.map_imperatively(Member, memberships)


def compare(folder: Path, dice: random.Random, *, rounds: int, many: int, naive: int) -> list[Comparison]:
    """The rows of reading, of numbers and of the whole way, for so many identifiers; `naive` of them row by row."""
    typed = [dice.choice((phone_of(n), f"p-{n}", f"j-{n}")) if n % 100 else f"nobody-{n}" for n in range(many)]
    dice.shuffle(typed)
    return [
        *_reading(_workbook(typed), dice, rounds, many),
        *_numbers(dice, rounds, many),
        *_uploading(Programme(folder, many, dice), typed, dice, rounds, naive),
    ]


def _workbook(typed: list[str]) -> bytes:
    file = io.BytesIO()
    rows = enumerate(([one] for one in typed), start=2)
    xlsx_writer.write(file, [xlsx_writer.Table("members", [COLUMN], rows)])
    return file.getvalue()


def _by_calamine(data: bytes) -> list[str]:
    sheet = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data)).get_sheet_by_index(0)
    return [row[0] for row in sheet.iter_rows()][1:]


def _by_openpyxl(data: bytes) -> list[str]:
    sheet = load_workbook(io.BytesIO(data), read_only=True, data_only=True).worksheets[0]
    return [row[0] for row in sheet.iter_rows(min_row=2, values_only=True)]


def _by_us(data: bytes) -> list[str]:
    rows = reader.read_bytes("members.xlsx", data, wanted=(COLUMN,)).rows
    assert isinstance(rows, cells.Rows)
    return [text for _, text, _ in rows.column(COLUMN)]


def _reading(data: bytes, dice: random.Random, rounds: int, many: int) -> list[Comparison]:
    ways = {"ours": _by_us, "floor": _by_calamine, "peer": _by_openpyxl}
    told = _by_calamine(data)

    def work(name: str, seen: Rounds) -> None:
        with spending(children=True) as spent:
            texts = ways[name](data)
        assert texts == told
        seen.note(name, many / spent.cpu_s)

    found = in_turn(rounds, dice, {name: lambda seen, name=name: work(name, seen) for name in ways}, warm=False)
    what, unit = f"reading a sheet of {many:,} identifiers", "rows per s of CPU"
    return [
        Comparison(what, unit, found["ours"], "calamine alone", found["floor"], at_least=0.7),
        Comparison(what, unit, found["ours"], "openpyxl", found["peer"], at_least=8),
    ]


def _asked(digits: str) -> bool:
    """Whether the library says that these are the digits of a number that takes texts."""
    try:
        number = phonenumbers.parse(f"+{digits}", None)
    except phonenumbers.NumberParseException:
        return False
    textable = phonenumbers.number_type(number) in (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
    same = phonenumbers.format_number(number, PhoneNumberFormat.E164) == f"+{digits}"
    # A former spelling the library knows nothing of, or takes for a number of today (`rules/phone_keys.py`).
    return phonenumbers.is_valid_number(number) and textable and same and not phone_keys.written_today(digits)


def _told(digits: str) -> bool:
    return numbers.find(digits) == numbers.Number(digits, ())


def _of_every_region(dice: random.Random) -> list[str]:
    """The examples of every region and kind, and each with some digits changed."""
    found = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in PhoneNumberType.values():
            if (example := phonenumbers.example_number_for_type(region, kind)) is None:
                continue
            digits = phonenumbers.format_number(example, PhoneNumberFormat.E164)[1:]
            found.append(digits)
            for _ in range(3):
                at = dice.randrange(1, len(digits))
                found.append(digits[:at] + dice.choice("0123456789") + digits[at + 1 :])
    return found


def _numbers(dice: random.Random, rounds: int, many: int) -> list[Comparison]:
    numbers = [phone_of(n) for n in dice.sample(range(50_000_000), many)]
    strange = _of_every_region(dice)
    differing = sum(_told(digits) != _asked(digits) for digits in (*strange, *numbers[: len(strange)]))

    def work(name: str, judge: Any, seen: Rounds) -> None:
        with spending() as spent:
            said = [judge(digits) for digits in numbers]
        assert len(said) == many
        seen.note(name, many / spent.cpu_s)

    works = {"ours": lambda seen: work("ours", _told, seen), "peer": lambda seen: work("peer", _asked, seen)}
    found = in_turn(rounds, dice, works, warm=False)
    what = f"reading {many:,} phone numbers"
    return [
        Comparison(what, "numbers per s of CPU", found["ours"], "phonenumbers", found["peer"], at_least=8),
        Comparison(f"{what}: other verdicts over every region", "numbers", differing, at_most=0),
    ]


def _uploading(
    programme: Programme, typed: list[str], dice: random.Random, rounds: int, naive: int
) -> list[Comparison]:
    many, country = len(typed), "KE"
    with closing(Database(f"sqlite:///{programme.file}", RULES)) as db, db.transaction() as tx:
        group = int(groups.create(tx, "fresh", None, by=BY).id)
    data, few = _workbook(typed), _workbook(typed[:naive])
    result = programme.folder / "result.xlsx"
    there = sum(not one.startswith("nobody") for one in typed)

    def whole(seen: Rounds) -> None:
        with closing(programme.copy("whole")) as db, spending(children=True) as spent:
            sheet = reader.read_bytes("members.xlsx", data, wanted=(COLUMN,))
            read = members.read_members(sheet.rows, db.rules)
            with db.reading() as tx:
                plan = members.plan_members(tx, group, read)
            with db.transaction() as tx:
                members.apply_members(tx, group, read, planned=plan, by=BY)
            writer.write_result(result, sheet, deeds.told_of(plan))
        assert plan.counts == {"add": there, "not_found": many - there}
        seen.note("whole", spent.cpu_s / many * 1e6)

    def parts(seen: Rounds) -> None:
        with closing(programme.copy("parts")) as db, spending() as spent:
            texts = _by_calamine(data)
            asked = [identifiers.read(one, country=country) for one in texts]
            with db.reading() as tx:
                ids = [row[1] for row in resolved_by_hand(tx, asked, "cases.id")]
            with db.transaction() as tx:
                line = int(groups.create(tx, "line", None, by=BY).id)
                driver: Any = tx.connection.connection.dbapi_connection
                driver.executemany(
                    "INSERT INTO memberships (group_id, case_id, added_at, added_entry) VALUES (?, ?, ?, 1)",
                    [(line, case, "2026-01-05 00:00:00.000000") for case in ids],
                )
            lines = enumerate(([one, "add", None, None] for one in texts), start=2)
            with result.open("wb") as file:
                columns = [COLUMN, *writer.RESULT_COLUMNS]
                xlsx_writer.write(file, [xlsx_writer.Table("result", columns, lines, marked=1)])
        assert len(ids) == there
        seen.note("parts", spent.cpu_s / many * 1e6)

    def row_by_row(seen: Rounds) -> None:
        with closing(programme.copy("naive")) as db, spending() as spent, Session(db.engine) as session:
            out = Workbook()
            for text in _by_openpyxl(few):
                digits = text if text.isdigit() and _asked(text) else None
                fits = or_(
                    cases.c.contact_phone_number == digits,
                    cases.c.external_id_key == text,
                    cases.c.case_id_key == text,
                )
                case = session.scalars(select(Case).where(fits)).first()
                if case is not None:
                    there = (memberships.c.group_id == group, memberships.c.case_id == case.id)  # type: ignore[attr-defined]
                    if session.scalars(select(Member).where(*there)).first() is None:
                        _join(session, group, case)
                out.active.append([text, "add" if case is not None else "not_found"])
            out.save(result)
            session.commit()
        seen.note("naive", spent.cpu_s / naive * 1e6)

    gc.disable()  # as the command line does
    try:
        found = in_turn(rounds, dice, {"whole": whole, "parts": parts, "naive": row_by_row}, warm=False)
    finally:
        gc.enable()
    what, unit = f"uploading {many:,} identifiers, from the sheet to its result", "us of CPU a row"
    return [
        Comparison(what, unit, found["whole"], "its parts alone", found["parts"], at_most=1.5),
        Comparison(
            what, unit, found["whole"], f"row by row with an ORM ({naive:,} rows)", found["naive"], at_most=1 / 15
        ),
    ]


def _join(session: Session, group: int, case: Any) -> None:
    member: Any = Member()
    member.group_id, member.case_id, member.added_entry, member.added_at = group, case.id, 1, case.created_at
    session.add(member)
