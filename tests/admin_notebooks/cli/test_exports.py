"""`jumbe export`: what leaves comes back unchanged, runs nowhere, and is one moment."""

import csv
import io
import json
import shutil
import sqlite3
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from sqlalchemy import event, insert, text

from admin_notebooks.cli import exports as export_command
from admin_notebooks.sheets import cells, reader
from storage.audit import Actor
from storage.broadcasts import broadcasts, expansion, previews
from storage.contacts import cases, consent, groups, people
from storage.contacts.cases import Wanted
from storage.database import Database
from storage.messages import inbox, outbox
from storage.operations import codes, operations
from storage.rules.hours_and_limits import Rules
from storage.sheets import exports, imports
from tests.world import TEST, World

LIVE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "＝1",
    "＋1",
    "－1",
    "＠1",
    "'=1",
    "''=1",
    "=cmd|' /C calc'!A0",
    "a;=1",
    " =1",
    "\u00a0=1",
    "\u3000+1",
    "\ufeff=1",
    "\u200b@1",
    "\v=1",
    "\f-1",
    "\u2028=1",
    "a\n =1",
    "a\n=1",
    'a\t"=1',
]


def written(db, what, path):
    """Export to a file by the same steps as the command."""
    with db.reading_long() as read:
        table = exports.export(read, what)
        if path.suffix == ".csv":
            export_command._write_csv(path, table, lambda _n: None)
        else:
            with export_command._Kept(path.parent) as kept:
                kept.take(table.rows)
                export_command._write_workbook(path, what, table.columns, kept, lambda _n: None)
    return path


def cells_of(path):
    """Every row of a file as text, blanks as ''."""
    if path.suffix == ".csv":
        return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    rows = load_workbook(path).active.iter_rows(values_only=True)
    return [["" if cell is None else str(cell) for cell in row] for row in rows]


def planned(db, path):
    """What importing a file of cases would do."""
    sheet = reader.read(path, wanted=("external_id", "case_id"))
    with db.reading() as tx:
        return imports.plan_cases(tx, imports.read_cases(sheet.rows, db.rules, columns=sheet.columns))


@pytest.fixture(params=[".csv", ".xlsx"])
def file(request, tmp_path):
    return tmp_path / f"out{request.param}"


@pytest.fixture
def busy(world, db):
    """A programme in which a little of everything happened; its people by name."""
    ama = world.case("007", "233241234567", name="Ama")
    kofi = world.case("k-1", "233209876543", name="=Kofi", time_zone="Africa/Accra", language_code="sw")
    world.case("shut", status="closed", commcare_email_address="a@b.org")
    anc = world.group("anc", ama, kofi, name="Antenatal")
    lead = world.person("Esi Mensah", "233241110001")
    by = Actor("sms", lead.id, "message 1")
    with db.transaction() as tx:
        cases.save(tx, [Wanted(ama, {}, {"district": "Kisumu", "code": "0042"})], by=by)
        groups.remove(tx, anc, [kofi], by=by)
        consent.hear(tx, "233209876543", "stop", words="Stop, please", message_id=None, by=TEST)
        number = previews.draft(tx, {"en": "=Hello"}, group_ids=[anc], words="tell anc =Hello", by=by)
        operations.issue_code(tx, number, lead.id)
        operations.decide(tx, number, "done", by=by)
        broadcasts.launch(tx, number, hold_s=0, by=by)
        expansion.expand_next(tx)
    return db


def test_an_export_of_cases_comes_back_unchanged(busy, file):
    plan = planned(busy, written(busy, "cases", file))
    assert plan.counts == {"unchanged": 3}


def test_an_export_of_cases_has_the_columns_of_a_sheet_and_keeps_every_zero(busy, file):
    header, ama, kofi, shut = cells_of(written(busy, "cases", file))
    assert header == [
        "case_id", "external_id", "name", "status", "contact_phone_number", "contact_phone_number_is_verified",
        "commcare_email_address", "time_zone", "language_code", "contact_backend_id", "code", "district",
    ]  # fmt: skip
    assert ama[1:] == ["007", "Ama", "open", "233241234567", "1", "", "", "", "", "0042", "Kisumu"]
    assert kofi[2] == ("'=Kofi" if file.suffix == ".csv" else "=Kofi")
    assert shut[1:] == ["shut", "Shut", "closed", "", "0", "a@b.org", "", "", "", "", ""]


def test_an_export_into_an_empty_programme_makes_the_same_programme(busy, file, tmp_path, empty_file):
    written(busy, "cases", file)
    shutil.copy(empty_file, tmp_path / "other.db")
    other = Database(f"sqlite:///{tmp_path}/other.db", busy.rules)
    sheet = reader.read(file, wanted=("external_id",))
    with other.transaction() as tx:
        read = imports.read_cases(sheet.rows, other.rules, columns=sheet.columns)
        assert imports.apply_cases(tx, read, by=TEST).counts == {
            "invalid": 3
        }  # a case id of ours names a case that is there
    other.close()


def test_members_are_the_whole_history_with_who_and_through_which_door(busy, file):
    header, ama, kofi = (
        dict(zip(HEADERS["members"], row, strict=True)) for row in cells_of(written(busy, "members", file))
    )
    assert list(header) == list(header.values())
    assert (ama["group"], ama["group_name"], ama["external_id"], ama["removed_at"], ama["removed_by"]) == (
        "anc",
        "Antenatal",
        "007",
        "",
        "",
    )
    assert (kofi["added_by"], kofi["added_door"], kofi["added_source"]) == ("system", "test", "a test")
    assert (kofi["removed_by"], kofi["removed_door"], kofi["removed_source"]) == ("Esi Mensah", "sms", "message 1")
    assert kofi["removed_at"] == busy.clock().isoformat()


HEADERS = {
    "groups": ["short", "name", "members", "created_at"],
    "members": [
        "group", "group_name", "case_id", "external_id", "name", "contact_phone_number", "added_at", "added_by",
        "added_door", "added_source", "removed_at", "removed_by", "removed_door", "removed_source", "group_deleted_at",
    ],
    "messages": [
        "id", "direction", "phone", "body", "state", "gateway", "gateway_id", "broadcast_id", "reason", "created_at",
        "channel", "address", "code", "kind", "handled_as", "reply_to", "language", "segments", "attempts", "due_at", "expires_at",
        "handed_over_at", "settled_at", "case_id", "external_id", "person",
    ],
    "broadcasts": [
        "id", "group", "state", "text", "recipients", "counts", "asked_by", "created_at", "kind", "language",
        "sendable", "send_at", "launched_at", "hold_until", "expires_at", "finished_at",
    ],
    "consent": ["id", "at", "phone", "kind", "words", "message_id", "door", "person", "channel", "address"],
    "audit": [
        "id", "at", "person_id", "door", "source", "verb", "subject", "subject_id", "facts", "changes_digest",
        "person", "previous", "hash",
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_the_columns_of_an_export_stay_as_they_are(busy, file, what):
    rows = cells_of(written(busy, what, file))
    assert rows[0] == HEADERS[what]
    assert len(rows) > 1


def test_a_broadcast_is_exported_with_its_group_and_its_counts(busy, file):
    row = dict(zip(HEADERS["broadcasts"], cells_of(written(busy, "broadcasts", file))[1], strict=True))
    assert (row["group"], row["state"], row["recipients"], row["asked_by"]) == ("anc", "expanding", "2", "Esi Mensah")
    assert json.loads(row["counts"]) == {"queued": 1, "withheld": 1}


def test_an_exported_line_of_the_audit_log_holds_all_that_its_hash_is_made_of(busy, file):
    from datetime import datetime

    from storage.audit import hash_of

    for row in cells_of(written(busy, "audit", file))[1:]:
        line = {k: v or None for k, v in zip(HEADERS["audit"], row, strict=True) if k not in ("id", "person")}
        line |= {"at": datetime.fromisoformat(line["at"]), "facts": json.loads(line["facts"])}
        line |= {k: int(line[k]) if line[k] else None for k in ("person_id", "subject_id")}
        assert hash_of(line) == line["hash"]


# -- nothing runs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(db, world):
    """Every text of every table begins like a formula."""
    with db.transaction() as tx:
        wanted = [
            Wanted(None, {"external_id": f"x{n}", "name": live}, {"note": live, live.strip().lower() or "x": live})
            for n, live in enumerate(LIVE)
        ]
        ids = cases.save(tx, wanted, by=Actor("cli", None, "=source"))
        group = groups.create(tx, "anc", "=Group", by=TEST)
        groups.add(tx, group.id, ids, by=Actor("=door", None, "=source"))
        lead = people.add(tx, "=Lead", "233241110001", "lead", by=TEST)
        for n, live in enumerate(LIVE):
            tx.execute(
                insert(outbox.messages),
                {"direction": "in", "phone": live, "body": live, "kind": "text", "state": "received", "gateway": live, "gateway_id": f"{n}", "due_at": tx.now, "created_at": tx.now},
            )  # fmt: skip
            consent.hear(tx, live, "stop", words=live, message_id=None, by=TEST)
        previews.draft(tx, {"en": "=Hello"}, group_ids=[group.id], words="x", by=Actor("sms", lead.id, "=text"))
    return db


@pytest.mark.parametrize("what", exports.WHAT)
def test_no_cell_of_an_export_is_a_formula(hostile, file, what):
    path = written(hostile, what, file)
    if file.suffix == ".xlsx":
        with zipfile.ZipFile(path) as archive:
            assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")
        found = [cell for row in load_workbook(path).active.iter_rows() for cell in row if cell.value is not None]
        assert {cell.data_type for cell in found} <= {"s", "inlineStr", "n"}
        risky = [c for c in found if c.data_type != "n" and str(c.value)[0] in "=+-@＝＋－＠"]
        assert all(cell.quotePrefix for cell in risky)
        return
    raw = path.read_bytes().decode("utf-8-sig")
    for separator in ",;\t":
        for row in csv.reader(io.StringIO(raw, newline=""), delimiter=separator):
            for cell in row:
                assert cell.lstrip(" \v\f\u00a0\u3000\ufeff\u200b\u2028")[:1] not in tuple("=+-@\t\r＝＋－＠"), (
                    separator,
                    cell,
                )


ANY_TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
        st.sampled_from("=+-@\t\r\n'\";＝_x0 \u00a0\u3000\ufeff\u200b\v\f\u2028"),
    ),
    max_size=20,
)


@given(ANY_TEXT)
@example("\t=1")
@example("''=1")
@example(";'\"=")
@example("\n \n=")
@example("\n \t=")
@example(" '=")
def test_what_guards_a_text_is_taken_away_again_exactly(text):
    guarded = cells.guard(text)
    assert cells.unguard(guarded) == text
    assert guarded.strip(" \u00a0\u3000\ufeff\u200b\v\f\u2028")[:1] not in tuple("=+-@\t\r＝＋－＠")


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=6))
@settings(max_examples=120, deadline=None)
@example([("=1", "'=1"), ("a_x0041_b", "\x07bell\x0b"), ("\ufffe", "_xFFFE_")])
def test_whatever_a_sheet_brought_in_goes_out_and_comes_back_unchanged(empty_file, values):
    with tempfile.TemporaryDirectory() as room:
        shutil.copy(empty_file, Path(room) / "one.db")
        db = Database(f"sqlite:///{room}/one.db", Rules(country="GH"))
        rows = [
            cells.Row(n, {"external_id": cells.Cell(f"id-{n}"), "name": cells.text_cell(name), "note": cells.text_cell(note)})
            for n, (name, note) in enumerate(values, start=2)
        ]  # fmt: skip
        try:
            with db.transaction() as tx:
                made = imports.apply_cases(tx, rows, by=TEST).counts.get("create", 0)
            for ending in ("csv", "xlsx"):
                plan = planned(db, written(db, "cases", Path(room) / f"out.{ending}"))
                assert plan.counts.get("unchanged", 0) == made, [
                    (v.verdict, v.changes, v.reason) for v in plan.verdicts
                ]
        finally:
            db.close()


# -- codes -------------------------------------------------------------------------------------------------------------


def test_no_code_is_in_any_export_neither_as_sent_nor_as_typed(busy, file, tmp_path):
    with busy.reading() as tx:
        code = tx.execute(text("SELECT nonce, length FROM codes")).one()
        digits = codes.digits(codes.secret_of(tx), code.nonce, code.length)
    with busy.transaction() as tx:
        for n, body in enumerate(
            [
                f"ok {digits}",
                f"OK {digits[:3]} {digits[3:]}",
                f"confirm-{digits}!",
                digits,
                f"please take {digits} as my code",
            ]
        ):
            row = inbox.record_inbound(tx, gateway="simulator", gateway_id=f"i{n}", sender="233241110001", text=body)
            inbox.handled(tx, row.id, "command", case_id=None, person_id=1)
    rows = cells_of(written(busy, "messages", file))
    said = [row[3] for row in rows if row[1] == "in"]
    assert said == ["ok ******", "OK *** ***", "confirm-******!", "******", "please take ****** as my code"]
    for what in exports.WHAT:
        assert digits not in str(cells_of(written(busy, what, tmp_path / f"all{file.suffix}")))


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("please ok 3 {0} now", "please ok 3 ****** now"), ("{1}/{2}", "***/***"), ("ok {1}. {2}", "ok ***. ***"),
        ("i typed 9{0}9 was it right", "i typed 9******9 was it right"), ("x {1}\n{2}", "x ***\n***"),
        ("ok 12 {1} {2} 7", "ok 12 *** *** 7"), ("{0} {0}", "****** ******"), ("code:{0}", "code:******"),
    ],
)  # fmt: skip
def test_a_code_that_is_still_good_is_hidden_amid_whatever_digits_it_is_typed(busy, typed, shown):
    with busy.reading() as tx:
        code = tx.execute(text("SELECT nonce, length FROM codes")).one()
        digits = codes.digits(codes.secret_of(tx), code.nonce, code.length)
        hidden = exports.hide_codes(tx)(typed.format(digits, digits[:3], digits[3:]))
    assert (hidden, digits in hidden) == (shown, False)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("ok 999999", "ok ******"), ("OK:9999999999", "OK:**********"), ("999 999", "*** ***"), ("٩٩٩٩٩٩", "******"),
        ("please ok 3 999999 now", "please ok 3 ****** now"), ("confirmar 999999", "confirmar ******"),
        ("ok 9999999", "ok 9999999"), ("find 233241234567", "find 233241234567"), ("tell tb call 0244123456", "tell tb call 0244123456"),
        ("tokyo 999999", "tokyo 999999"), ("undo 58", "undo 58"), ("", ""), ("🙏 ok", "🙏 ok"),
    ],
)  # fmt: skip
def test_a_code_that_was_made_anew_is_hidden_where_it_confirms_and_a_number_stays_readable(busy, typed, shown):
    with busy.reading() as tx:
        assert exports.hide_codes(tx)(typed) == shown


def test_the_number_that_a_case_writes_and_that_we_write_stay_readable(busy, file):
    with busy.transaction() as tx:
        row = inbox.record_inbound(tx, gateway="s", gateway_id="i", sender="233241234567", text="ok call 0244123456")
        inbox.handled(tx, row.id, "inbox", case_id=1, person_id=None)
        outbox.queue(tx, "233241234567", "Call 0244123456 or 244123", "notice")
    said = [row[3] for row in cells_of(written(busy, "messages", file))]
    assert {"ok call 0244123456", "Call 0244123456 or 244123"} <= set(said)


def test_a_text_that_could_not_be_handled_shows_no_code_either(busy, file):
    with busy.transaction() as tx:
        inbox.record_inbound(tx, gateway="s", gateway_id="i", sender="233241110001", text="ok 999999")
    assert "ok ******" in [row[3] for row in cells_of(written(busy, "messages", file))]


def test_six_digits_of_a_case_are_no_code(busy, file):
    with busy.transaction() as tx:
        row = inbox.record_inbound(tx, gateway="simulator", gateway_id="i", sender="233241234567", text="123456")
        inbox.handled(tx, row.id, "inbox", case_id=1, person_id=None)
    assert [row[3] for row in cells_of(written(busy, "messages", file)) if row[1] == "in"] == ["123456"]


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_csv_is_utf_8_with_its_mark_and_rows_end_as_the_standard_says(busy, tmp_path):
    raw = written(busy, "groups", tmp_path / "out.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfshort,name,members,created_at\r\n")


def test_characters_that_no_workbook_can_hold_are_written_as_excel_writes_them(world, db, tmp_path):
    world.case("a", name="bell\x07 _x0041_ \ufffe")
    path = written(db, "cases", tmp_path / "out.xlsx")
    assert reader.read(path).rows[0].cells["name"].text == "bell\x07 _x0041_ \ufffe"


def test_a_text_that_no_cell_of_a_workbook_can_hold_is_said_and_nothing_is_written(jumbe, tmp_path):
    (tmp_path / "people.csv").write_text(f"external_id,note\na,{'x' * 40_000}\n", encoding="utf-8")
    jumbe("cases", "import", "people.csv")
    status, _, err = jumbe("export", "cases", "--to", "out.xlsx")
    assert status == 2
    assert "export to a .csv file instead" in err
    assert not list(tmp_path.glob("*out.xlsx*"))
    assert jumbe("export", "cases", "--to", "out.csv")[0] == 0


def test_an_export_says_which_file_and_how_many_rows(jumbe, tmp_path):
    (tmp_path / "people.csv").write_text("external_id\na\nb\n", encoding="utf-8")
    jumbe("cases", "import", "people.csv")
    assert jumbe("export", "cases", "--to", "out.csv") == (0, "wrote out.csv: 2 rows\n", "")
    status, out, _ = jumbe("export", "cases", "--to", "out.xlsx", "--json")
    assert (status, json.loads(out)) == (0, {"file": "out.xlsx", "rows": 2})
    assert jumbe("cases", "import", "out.xlsx")[1].splitlines()[-1] == "done: 2 unchanged"


def test_whoever_else_is_on_this_machine_cannot_read_an_export(jumbe, tmp_path):
    """Names and numbers lay open to every account of the machine."""
    for name in ("new.csv", "old.xlsx"):
        if name.startswith("old"):
            (tmp_path / name).write_text("old")
            (tmp_path / name).chmod(0o644)
        assert jumbe("export", "cases", "--to", name)[0] == 0
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_the_result_of_an_import_is_for_its_owner_alone(jumbe, tmp_path):
    (tmp_path / "people.csv").write_text("external_id\na\n", encoding="utf-8")
    jumbe("cases", "import", "people.csv", "--result", "out.xlsx")
    assert (tmp_path / "out.xlsx").stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link_and_what_it_leads_to_is_replaced(jumbe, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("folder/real.csv")
    assert jumbe("export", "groups", "--to", "link.csv")[0] == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "folder" / "real.csv").read_text(encoding="utf-8-sig") == "short,name,members,created_at\n"


def test_a_table_that_cannot_be_exported_is_named_by_what_can_be(jumbe):
    status, _, err = jumbe("export", "people", "--to", "out.csv")
    assert (status, err.count("\n")) == (2, 1)
    assert "{" not in err
    assert "'cases', 'groups'" in err


def test_one_row_is_one_row(jumbe, tmp_path):
    jumbe("groups", "create", "anc")
    assert jumbe("export", "groups", "--to", "out.csv")[1] == "wrote out.csv: 1 row\n"


def test_an_export_of_the_audit_log_says_its_head(jumbe):
    jumbe("groups", "create", "anc")
    told = json.loads(jumbe("export", "audit", "--to", "log.csv", "--json")[1])
    assert told["rows"] == 1
    assert jumbe("audit", "verify", "--head", told["head"])[0] == 0


def test_a_file_that_is_there_is_replaced_as_a_whole(jumbe, tmp_path):
    (tmp_path / "out.csv").write_text("old")
    assert jumbe("export", "groups", "--to", "out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_text(encoding="utf-8-sig") == "short,name,members,created_at\n"


@pytest.mark.parametrize(
    ("to", "says"),
    [("out.ods", "ends in .csv or .xlsx"), ("out", "ends in .csv or .xlsx"), ("nowhere/out.csv", "could not write out.csv"), ("folder.csv", "could not write folder.csv")],
)  # fmt: skip
def test_a_file_that_cannot_be_written_is_one_sentence(jumbe, tmp_path, to, says):
    (tmp_path / "folder.csv").mkdir()
    status, out, err = jumbe("export", "cases", "--to", to)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_an_export_is_one_moment_and_lets_others_write_meanwhile(busy, tmp_path):
    other = Database(f"sqlite:///{busy.file}", busy.rules)
    with busy.reading_long() as read:
        table = exports.export(read, "cases")
        first = next(table.rows)
        World(other).case("later")
        assert len([first, *table.rows]) == 3
    other.close()


def test_an_empty_table_is_a_header(db, file):
    assert cells_of(written(db, "cases", file)) == [list(exports._OF_A_CASE)]


def test_rows_are_fetched_in_pieces_however_many_there_are(db, statements_of):
    with db.transaction() as tx:
        cases.save(tx, [Wanted(None, {"external_id": f"e{n}"}) for n in range(exports.AT_ONCE + 5)], by=TEST)
    with statements_of(db) as ran, db.reading_long() as read:
        assert sum(1 for _ in exports.export(read, "cases").rows) == exports.AT_ONCE + 5
    assert sum("LIMIT" in statement for statement in ran) == 4  # twice for the names of the columns, twice for the rows


@pytest.fixture
def without_wal(busy):
    """The same programme where the SQLite library cannot be trusted with WAL."""
    busy.close()
    event.listen(busy.engine, "connect", lambda connection, _: connection.execute("PRAGMA journal_mode = DELETE"))
    return busy


@pytest.mark.parametrize("what", exports.WHAT)
def test_an_export_keeps_nobody_from_writing_where_there_is_no_wal(without_wal, monkeypatch, what):
    """300,000 messages took 15 seconds, and whoever wrote meanwhile gave up after five."""
    monkeypatch.setattr(exports, "AT_ONCE", 1)
    other = sqlite3.connect(without_wal.file, timeout=0)
    with without_wal.reading_long() as read:
        table = exports.export(read, what)
        for _ in table.rows:
            other.execute("UPDATE gateways SET tokens = 1")
            other.commit()
    other.close()


def test_an_export_without_wal_holds_what_was_there_when_it_began_and_no_more(without_wal, monkeypatch):
    monkeypatch.setattr(exports, "AT_ONCE", 1)
    with without_wal.reading_long() as read:
        table = exports.export(read, "cases")
        first = next(table.rows)
        World(without_wal).case("later")
        assert len([first, *table.rows]) == 3
