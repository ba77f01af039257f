"""Whatever a page sends is a stranger's: every verb of every panel, with hostile values, as everybody who can sign in.

The panels and their verbs are found by looking, so that a new one is tried too; a panel that does not say what its verbs
take cannot even be imported.
"""

import importlib
import json
import logging
import pkgutil
import re
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import select

from storage import schema
from storage.broadcasts import approvals
from storage.errors import Problem
from tests.parts import library
from tests.world import TEST

library("anywidget")
library("pandas")
import admin_notebooks
from admin_notebooks import panels as panels_folder
from admin_notebooks.desk import Desk
from admin_notebooks.panels import verbs
from admin_notebooks.panels.audit import Audit
from admin_notebooks.panels.panel import Panel
from admin_notebooks.panels.verbs import Line, Number, verb
from admin_notebooks.sheets import writer

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")

PACKAGE = Path(admin_notebooks.__file__).parent
ROLES = ("lead", "supervisor", "helper", "viewer")
RUNS = "X {{ 7*7 }}"
"""A name of a group that a template would run."""


def panels():
    """Every panel that there is."""
    for module in pkgutil.iter_modules(panels_folder.__path__):
        importlib.import_module(f"admin_notebooks.panels.{module.name}")
    found, unseen = [], [Panel]
    while unseen:
        found.append(unseen.pop())
        unseen += [one for one in found[-1].__subclasses__() if one.__module__.startswith("admin_notebooks.")]
    return sorted(found, key=lambda panel: panel.__name__)


PANELS = panels()
LEAVES = [panel for panel in PANELS if not any(other.__base__ is panel for other in PANELS)]
"""Those that pages show; the verbs of the others are theirs too."""

# -- what a stranger sends ---------------------------------------------------------------------------------------------

PATHS = [
    "../../..", "audit/../../..", "/../../../pages/templates/sign_in.html", "/etc/passwd", "..\\..\\x", "x/../../x.xlsx",
    "file:///etc/passwd", ".html/../../../x", ".xlsx\0.html", "~/x", "%2e%2e%2f", "$(id)", "`id`", "|id", "-rf",
]  # fmt: skip
TEMPLATES = [
    "{{ 7*7 }}", "{% include '/etc/passwd' %}", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "${7*7}", "%(x)s",
    "{0.__class__}", "{name.__class__}", "{x", "<img src=x onerror=alert(1)>", "$\\frac{", "=cmd|' /C calc'!A0", RUNS,
]  # fmt: skip
SQL = ["' OR 1=1 --", "x'; DROP TABLE cases; --", '") OR ("1"="1', "%", "_", "\\", "1 UNION SELECT 1", "name; --"]
NAMES = ["__class__", "_hear", "__init__", "desk", "desk.db", "do_who", "verbs", "send", "close", "answer", "self"]
TEXTS = [
    "",
    " ",
    "\n",
    "\0",
    "\ud800",
    "a\0b",
    "\u202e",
    "\x1b[2J",
    "١٢٣",
    "9" * 5_000,
    "x" * 200,
    "😀" * 400,
    "\r\n" * 50,
]
TIMES = ["0001-01-01", "9999-12-31", "1970-01-01", "2199-12-31T23:59:59", "2026-11-03T10:00+14:00", "2026-W45-2", "now"]
OTHERS = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, 1.0, 1e308, float("nan"), float("inf"), [], {}, [[]],
    [None], ["x"] * 20_000, [{"a": 1}], {"a": {"b": {}}}, {"a": 1}, {"": ""}, {"x" * 500: "x"}, {"__class__": "x"},
    {str(n): "x" for n in range(2_000)}, "x" * 3_000_000, b"bytes", object(), {1: 2}, {"../../x": "../../x"},
]  # fmt: skip
HOSTILE = [*PATHS, *TEMPLATES, *SQL, *NAMES, *TEXTS, *TIMES, *OTHERS]

TRUE = {
    "short": "anc", "group": "anc", "case_id": "p-1", "case_ids": ["p-1"], "phone": "233244123451", "texts": "menu",
    "number": 1, "data": b"case_identifier,external_id\np-1,p-1\n",
}  # fmt: skip
"""What an argument of this name may be in earnest."""

EXAMPLES = [
    "",
    "anc",
    1,
    1.5,
    True,
    [],
    {},
    ["p-1"],
    {"en": "Come on Tuesday."},
    "add",
    ".html",
    "over_time",
    "name",
    b"x",
]
"""What an argument of any other name may be; a new shape that fits none of them needs one more."""


def in_earnest(found):
    """Arguments that a verb takes, and its file."""
    values = {}
    for name, shape in found.shapes.items():
        offered = [TRUE[name], *EXAMPLES] if name in TRUE else EXAMPLES
        fitting = [one for one in offered if (type(one) is bytes) == (shape.of is bytes) and shape.fits(one)]
        assert fitting, f"{found.name} takes {name}, {shape.wanted}: add an example of it to EXAMPLES"
        values[name] = fitting[0]
    return {name: value for name, value in values.items() if name != found.file}, [
        values[name] for name in (found.file,) if name
    ]


def questions(found):
    """What is sent to one verb: as it is meant, then with each argument in turn as it is not."""
    args, files = in_earnest(found)
    yield {"verb": found.name, "args": args}, files
    for name in args:
        for value in HOSTILE:
            yield {"verb": found.name, "args": {**args, name: value}}, files
        yield {"verb": found.name, "args": {key: value for key, value in args.items() if key != name}}, files
    for name in [*NAMES, "data", "ending", "path", "", "x" * 100_000]:
        if name not in args:
            yield {"verb": found.name, "args": {**args, name: "../../.."}}, files
    wrong = (
        [b"x" * (8 * 2**20 + 1)],
        [b"x", b"y"],
        ["text"],
        [None],
        "text",
        [b""],
        {"a": b"x"},
        [b"PK\3\4" + b"\0" * 99],
    )
    for files_ in wrong:
        yield {"verb": found.name, "args": args}, files_
    for args_ in (None, [], "x", 1, True, [["short", "anc"]], {1: 2}):
        yield {"verb": found.name, "args": args_}, files


NO_QUESTIONS = [
    None, 1, True, "", "who", [], ["who"], {}, {"verb": None}, {"verb": ["who"]}, {"verb": {"who": 1}}, {"verb": 1},
    {"verb": float("nan")}, {"verb": b"who"}, {"verb": ""}, {"verb": "x" * 10_000_000}, {"args": {}}, object(),
    *({"verb": name} for name in [*PATHS, *TEMPLATES, *SQL, *NAMES, *TEXTS]),
]  # fmt: skip


# -- where it is sent --------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc):
    """As everybody on SQLite, and as a lead, before whom no door is shut, on PostgreSQL: it chokes on other values."""
    if "kind" in metafunc.fixturenames:
        tries = [("sqlite", role) for role in ROLES] + [("postgresql", "lead")]
        metafunc.parametrize(("engine", "role"), tries)
        metafunc.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)


@pytest.fixture
def programme(world, db):
    """A programme in which every name is hostile, with a broadcast that runs and one that waits; people of each role."""
    ids = [world.case(f"p-{n}", f"23324412345{n}", name=name) for n, name in enumerate((RUNS, "$x^", "'; --", "{0}"))]
    anc = world.group("anc", *ids, name=RUNS)
    world.group("tb", ids[0], name="<img src=x onerror=alert(1)>")
    world.change(ids[1], language_code="sw", properties={"{{ 7*7 }}": "../../.."})
    with db.transaction() as tx:
        tx.alone("tell")
        number = approvals.ask(tx, {"en": "Come on Tuesday."}, group_ids=[anc], by=TEST)
        approvals.confirm(tx, number, count=4, by=TEST)
        approvals.ask(tx, {"en": "And on Friday."}, group_ids=[anc], by=TEST)
    assert number == TRUE["number"]
    return {role: world.person(role.title(), f"23324111000{n}", role, "anc") for n, role in enumerate(ROLES)}


@pytest.fixture
def ground(tmp_path, monkeypatch):
    """A folder to work in, and one for what is written for a moment; returns what lies there and in the package."""
    for name in ("here", "for_a_moment"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "for_a_moment"))

    def lies():
        found = {}
        for folder in (tmp_path, PACKAGE):
            for path in folder.rglob("*"):
                if "__pycache__" not in path.parts and not path.name.startswith("test.db"):
                    about = path.lstat()
                    found[path] = None if path.is_dir() else (about.st_size, about.st_mtime_ns, about.st_ino)
        return found

    return lies


def rows(db):
    """Every row of every table."""
    with db.reading() as tx:
        return {
            table.name: {repr(tuple(row)) for row in tx.execute(select(table))}
            for table in schema.metadata.sorted_tables
        }


def changed(before, after):
    """The tables that are not as they were; of the audit log, the verbs of its new lines."""
    return {name for name in before if before[name] != after[name]}


def deeds(db, since):
    with db.reading() as tx:
        return set(tx.execute(select(schema.audit.c.verb).where(schema.audit.c.id > since)).scalars())


def last_line(db):
    with db.reading() as tx:
        return max(tx.execute(select(schema.audit.c.id)).scalars())


MAY_CHANGE = {
    "viewer": set(),
    "helper": {"memberships", "operations", "audit_changes"},
}
"""The tables in which a role can change anything, besides the audit log; of the others any."""


def test_no_verb_of_a_panel_does_more_with_a_strangers_values_than_answer(kind, role, programme, db, ground, caplog):
    panel = kind(Desk(db, programme[role].id, "a page"))
    lies, before, line = ground(), rows(db), last_line(db)
    marks = []

    def ask(asked, files=()):
        answer, data = panel.answer(asked, files)

        def about():  # only where it failed: some questions are megabytes
            return f"{role} asked {str(asked)[:300]} with {str(files)[:60]}: {str(answer)[:300]}"

        assert list(answer) in (["problem"], ["result"]), about()
        assert len(data) <= ("result" in answer), about()
        if "problem" in answer:
            sentence = answer["problem"]
            assert type(sentence) is str and len(sentence.split()) > 2, about()
            assert "our side" not in sentence and "Traceback" not in sentence, about()
        else:
            json.dumps(answer, allow_nan=False)
            if isinstance(answer["result"], dict) and "mark" in answer["result"]:
                marks.append(answer["result"])
        return answer

    with caplog.at_level(logging.ERROR):
        for found in kind.verbs.values():
            for asked, files in questions(found):
                ask(asked, files)
        for asked in NO_QUESTIONS:
            assert "problem" in ask(asked)
        for proposal in marks[-60:]:
            ask({"verb": "confirm", "args": {"mark": proposal["mark"], "typed": proposal["must_type"] or ""}})
    assert [record.getMessage() for record in caplog.records] == []
    assert ground() == lies
    if role in MAY_CHANGE:
        assert changed(before, rows(db)) <= {*MAY_CHANGE[role], "audit"}
        assert deeds(db, line) <= (
            {"desk.download"} if role == "viewer" else {"groups.add", "groups.remove", "groups.undo"}
        )


def test_a_refused_question_says_what_is_right(db, world, programme):
    panel = Audit(Desk(db, programme["lead"].id))

    def ask(asked, files=()):
        return panel.answer(asked, files)[0]["problem"]

    def with_(name, value):
        return ask({"verb": "picture", "args": {"name": "over_time", "width": 300, name: value}})

    assert ask({"verb": "__class__"}).startswith("This page has no such button, so nothing was done.")
    assert with_("name", "../x").startswith(
        "Name has to be one of over_time, overlaps, language_code, time_zone, gateway,"
    )
    assert with_("width", True).startswith("Width has to be a number from 0 to 100,000,")
    assert with_("since", "1st of May").startswith("Since has to be a day such as 2026-11-03,")
    assert with_("group", "x" * 101).startswith("Group has to be a text of at most 100 characters,")
    assert with_("ending", ".html").startswith("The page sent a value that this button does not take,")
    assert ask({"verb": "picture", "args": {"name": "overlaps"}}).startswith("Width is missing,")
    assert ask({"verb": "groups"}, [b"x"]).startswith("This button takes no file,")
    assert ask({"verb": "report", "args": {"ending": "/../../.."}}).startswith("Ending has to be one of .html, .xlsx,")


def test_what_a_page_sends_to_the_widget_itself_changes_nothing_and_never_raises(db, programme, monkeypatch):
    panel = Audit(Desk(db, programme["lead"].id))
    sent = []
    monkeypatch.setattr(panel, "send", lambda content, buffers=None: sent.append(content))
    script, group = panel._esm, panel.group
    panel._handle_msg(
        {"content": {"data": {"method": "update", "state": {"_esm": "alert(1)", "group": "tb"}}}, "buffers": []}
    )
    assert (panel._esm, panel.group) == (script, group)
    for data in (
        *HOSTILE,
        {"method": ["update"]},
        {"method": "custom"},
        {"method": "update"},
        {"method": "update", "state": 1},
    ):
        panel._handle_msg({"content": {"data": data}, "buffers": []})
    for content in [*NO_QUESTIONS, *({"id": value, "verb": "ping"} for value in HOSTILE)]:
        panel._handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
    assert all(answer["id"] is None or type(answer["id"]) is int for answer in sent)
    json.dumps(sent, allow_nan=False)


# -- declared ----------------------------------------------------------------------------------------------------------


def test_a_verb_that_nobody_declared_or_that_takes_anything_cannot_be_imported():
    undeclared = {
        "do_x is not declared by @verb": lambda self: None,
        "takes \\*\\*more, which nobody declared": verb("see")(lambda self, **more: None),
        "takes \\*more, which nobody declared": verb("see")(lambda self, *more: None),
    }

    def plain(self, short: str) -> None: ...
    def nested(self, values: dict) -> None: ...
    def wide(self, value: Line | Number) -> None: ...
    def unsaid(self, value): ...

    for method in (plain, nested, wide, unsaid):
        undeclared[f"do_x\\({method.__code__.co_varnames[1]}\\) has no bounded type"] = verb("see")(method)
    assert len(undeclared) == 6
    for why, method in undeclared.items():
        with pytest.raises(TypeError, match=why):
            type("Made", (Panel,), {"do_x": method})
    with pytest.raises(TypeError, match="is a right of no role"):
        verb("everything")
    assert verbs.declared(Panel) == Panel.verbs


def test_every_question_in_the_scripts_is_one_that_its_panel_takes():
    """So that a button of ours is never refused: its verb is declared, and so is each argument that it sends."""
    every = {name: found for kind in PANELS for name, found in kind.verbs.items()}
    asked = set()
    for script in sorted(PACKAGE.glob("panels/*.js")):
        for name, args in re.findall(r'ask_\("(\w+)"(?:, \{([^{}]*)\})?', script.read_text(encoding="utf-8")):
            takes = {argument for kind in PANELS if name in kind.verbs for argument in kind.verbs[name].shapes}
            given = {
                re.split(r"[:\s]", piece.strip())[0]
                for piece in args.split(",")
                if piece.strip() not in ("", "...state", "...more")
            }
            assert name in every and given - takes <= {"[", "0"}, (script.name, name, given - takes)
            asked.add(name)
    # Those that a script names by a variable: `ask_(verb, ...)`.
    assert set(every) - asked == {"template", "everybody", "pause", "resume", "halt"} - asked


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_written_only_where_every_folder_of_its_path_is_there(tmp_path):
    """`audit/../../..` was worked out without a folder `audit`, and led to a place that nobody meant."""
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (inside / "fifo").with_name("folder").mkdir()
    (inside / "loop").symlink_to("loop")
    (inside / "nowhere").symlink_to("missing/../../out.xlsx")
    (inside / "somewhere").symlink_to("../linked.xlsx")
    for name in (
        "audit/../../..",
        "audit/../../../out.xlsx",
        "missing/out.xlsx",
        "..",
        "folder",
        "folder/..",
        "loop",
        "nowhere",
        "x\0.xlsx",
    ):
        for write in (writer.write_template, writer.check_writable):
            with pytest.raises(Problem) as refused:
                write(f"{inside}/{name}")
            assert refused.value.key == "sheet-cannot-write", name
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "folder", "loop", "nowhere", "somewhere"]
    writer.write_template(inside / "somewhere")
    assert (inside / "somewhere").is_symlink() and (tmp_path / "a" / "linked.xlsx").is_file()


# -- as it was done ----------------------------------------------------------------------------------------------------


def test_a_viewers_report_overwrites_no_template_and_a_groups_name_is_only_a_name(db, world, programme, ground):
    """A page's `ending` was a piece of a path, so that a report took the place of the sign-in page and the server ran it."""
    lies = ground()
    for role in ROLES:
        panel = Audit(Desk(db, programme[role].id))
        for up in range(9):
            for to in ("", "/x.html", f"/{PACKAGE.parent}/admin_notebooks/pages/templates/sign_in.html"):
                answer, data = panel.answer({"verb": "report", "args": {"group": "anc", "ending": "/.." * up + to}}, [])
                assert "Ending has to be one of" in answer["problem"] and data == []
    assert ground() == lies
    answer, (page,) = Audit(Desk(db, programme["supervisor"].id)).answer({"verb": "report", "args": {"group": "anc"}})
    assert f"<h1>Membership audit: {RUNS}</h1>" in page.decode()
    assert ground() == lies
