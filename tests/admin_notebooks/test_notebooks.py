"""The notebooks: nothing that they showed is kept, and each runs from top to bottom on a programme that lived."""

import ast
import json
import os
import subprocess
import sys

import pytest

from admin_notebooks import saving
from storage import audit
from storage.database import Database
from storage.upkeep import migrate
from tests.pages import ROOT
from tests.parts import library
from tests.patience import HANG_S
from tests.world import World

FOLDER = ROOT / "admin_notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def sources(path, kind):
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request):
    return request.param


# ------------------------------------------------------------------------------------------ what is kept


def test_no_notebook_in_git_holds_what_it_showed():
    tracked = subprocess.run(
        ["git", "ls-files", "*.ipynb"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in tracked.split():
        assert read(ROOT / name) == saving.cleaned(read(ROOT / name)), (
            f"{name}: python -m admin_notebooks.saving {name}"
        )


def test_whatever_a_notebook_showed_is_taken_out_before_it_is_saved():
    shown = {
        "cells": [
            {"cell_type": "code", "execution_count": 7, "metadata": {"tags": ["x"], "execution": {"iopub": "now"}},
             "outputs": [{"data": {"text/plain": "233241234567"}}], "source": "1"},
            {"cell_type": "markdown", "metadata": {"collapsed": True}, "attachments": {"a.png": {}}, "source": "words"},
        ],
        "metadata": {"kernelspec": {"name": "python3"}, "widgets": {"state": "233241234567"}, "papermill": {},
                     "language_info": {"name": "python", "version": "3.11.7"}},
        "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    model = {"type": "notebook", "content": shown}
    saving.pre_save(model, path="x.ipynb", contents_manager=None)
    left = json.dumps(model["content"])
    assert "233241234567" not in left
    assert "attachments" not in left
    assert model["content"]["cells"][0]["metadata"] == {"tags": ["x"]}
    assert model["content"]["cells"][0]["source"] == "1"
    other = {"type": "file", "content": "text"}
    saving.pre_save(other)
    assert other == {"type": "file", "content": "text"}


def test_a_notebook_that_was_saved_without_the_hook_is_cleaned_and_named(tmp_path, capsys):
    path = tmp_path / "dirty.ipynb"
    dirty = read(NOTEBOOKS[0])
    dirty["cells"][1]["outputs"] = [{"text": "Ama"}]
    path.write_text(json.dumps(dirty), encoding="utf-8")
    assert saving.main([str(path)]) == 1
    assert "dirty.ipynb" in capsys.readouterr().err
    assert read(path) == read(NOTEBOOKS[0])
    assert saving.main([str(path)]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "people.xlsx",
        "export.csv",
        "audit.html",
        "notebooks/01.ipynb",
        "reports/x",
        "jumbe.db",
        "a/.ipynb_checkpoints/x",
    ],
)
def test_what_may_hold_names_is_never_offered_to_git(name):
    done = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False)
    assert done.returncode == 0


# ------------------------------------------------------------------------------------------ how it reads


def test_a_notebook_begins_with_its_title_and_a_few_sentences_and_folds_its_set_up(notebook):
    cells = read(notebook)["cells"]
    title, *lines = "".join(cells[0]["source"]).split("\n")
    assert title.startswith("# ")
    assert 1 <= len([line for line in lines if line]) <= 3
    (set_up,) = [cell for cell in cells if cell["metadata"].get("jupyter", {}).get("source_hidden")]
    assert f'open_desk("{notebook.stem}")' in "".join(set_up["source"])


def test_no_logic_lives_in_a_cell(notebook):
    for source in sources(notebook, "code"):
        if source.startswith("%%"):
            continue  # texts, and no code
        plain = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
        for node in ast.walk(ast.parse(plain)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.For | ast.While | ast.Try | ast.With), (
                source
            )


def test_an_audit_takes_its_parameters_from_outside():
    (cell,) = [
        c for c in read(FOLDER / "05_membership_audit.ipynb")["cells"] if "parameters" in c["metadata"].get("tags", [])
    ]
    named = [node.targets[0].id for node in ast.parse("".join(cell["source"])).body]
    assert named == ["group", "since"]


def test_the_cookbook_has_ten_questions():
    assert sum("frames.query(" in source for source in sources(FOLDER / "07_sql_cookbook.ipynb", "code")) == 10


# ------------------------------------------------------------------------------------------ that it runs


@pytest.fixture(scope="module")
def programme(tmp_path_factory):
    """The demo's programme, and its log's last line before anybody looked."""
    from bot.demo import make

    library("papermill")
    library("pandas")
    path = tmp_path_factory.mktemp("programme") / "demo.db"
    db = Database(f"sqlite:///{path}")
    make(db)
    with db.reading() as tx:
        head = audit.head(tx)
    db.close()
    return path, head


def run(path, out, address, *parameters):
    env = {**os.environ, "DATABASE_URL": address, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", str(out.parent), path, out, *parameters],
        capture_output=True, text=True, env=env, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [output for cell in read(out)["cells"] for output in cell.get("outputs", [])]
    return [{kind: "".join(data) for kind, data in o["data"].items()} for o in outputs if "data" in o]


@pytest.mark.processes
def test_the_audit_runs_from_top_to_bottom_and_changes_nothing(programme, tmp_path):
    path, head = programme
    shown = run(FOLDER / "05_membership_audit.ipynb", tmp_path / "out.ipynb", f"sqlite:///{path}", "-p", "group", "anc")
    pictures = [data["image/svg+xml"] for data in shown if "image/svg+xml" in data]
    tables = [data["text/html"] for data in shown if "text/html" in data]
    assert len(pictures) == 6
    assert len(tables) >= 4
    assert any("share a phone number with another open case" in table for table in tables)
    db = Database(f"sqlite:///{path}")
    with db.reading() as tx:
        assert audit.head(tx) == head
    db.close()


@pytest.mark.processes
def test_the_cookbook_runs_from_top_to_bottom(programme, tmp_path):
    shown = run(FOLDER / "07_sql_cookbook.ipynb", tmp_path / "out.ipynb", f"sqlite:///{programme[0]}")
    assert len([data for data in shown if "text/html" in data]) == 10
    assert "233244120101" in shown[4]["text/html"]  # the shared phone


@pytest.mark.processes
@pytest.mark.parametrize(
    ("name", "tables", "pictures"),
    [
        ("00_start_here", 0, 0),
        ("01_case_groups", 3, 1),
        ("02_cases", 2, 1),
        ("03_broadcasts", 2, 1),
        ("04_delivery", 3, 1),
    ],
)
def test_a_page_with_a_panel_runs_from_top_to_bottom_and_changes_nothing(programme, tmp_path, name, tables, pictures):
    path, head = programme
    shown = run(FOLDER / f"{name}.ipynb", tmp_path / "out.ipynb", f"sqlite:///{path}")
    kinds = [kind for data in shown for kind in data if kind != "text/plain"]
    assert kinds.count("application/vnd.jupyter.widget-view+json") == 1
    assert (kinds.count("text/html"), kinds.count("image/svg+xml")) == (tables, pictures)
    assert len(kinds) == 1 + tables + pictures
    db = Database(f"sqlite:///{path}")
    with db.reading() as tx:
        assert audit.head(tx) == head
    db.close()


@pytest.mark.processes
def test_the_lab_of_texts_runs_from_top_to_bottom_and_changes_nothing(programme, tmp_path):
    path, head = programme
    run(FOLDER / "06_sms_lab.ipynb", tmp_path / "out.ipynb", f"sqlite:///{path}")
    said = "".join(
        "".join(output["text"]) for cell in read(tmp_path / "out.ipynb")["cells"] for output in cell.get("outputs", [])
    )
    assert said.count("a rehearsal: nothing left, nothing was kept") == 3 and "Hello from the lab." in said
    db = Database(f"sqlite:///{path}")
    with db.reading() as tx:
        assert audit.head(tx) == head
    db.close()


def analysts_cells(path):
    return [
        "".join(c["source"])
        for c in read(path)["cells"]
        if c["cell_type"] == "code" and "analyst" in c["metadata"].get("tags", [])
    ]


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS if path.name < "06"][1:])
def test_an_analysts_cell_shows_a_table_or_a_picture_where_there_is_nothing_yet_too(db, world, name):
    library("pandas")
    library("matplotlib")
    from admin_notebooks.desk import Desk

    known = {"desk": Desk(db, world.person("Esi", "233241110001").id), "group": "", "since": ""}
    shown = 0
    for source in analysts_cells(FOLDER / f"{name}.ipynb"):
        *before, last = ast.parse(source).body
        exec(compile(ast.Module(before, []), name, "exec"), known)
        if isinstance(last, ast.Expr):
            told = eval(compile(ast.Expression(last.value), name, "eval"), known)
            assert hasattr(told, "_repr_html_") or (hasattr(told, "_repr_svg_") and told._repr_svg_()), source
            shown += 1
        else:
            exec(compile(ast.Module([last], []), name, "exec"), known)
    assert shown >= 3


def test_every_question_of_the_cookbook_runs_on_postgresql_too(postgres):
    library("pandas")
    from admin_notebooks import frames
    from admin_notebooks.desk import Desk

    with postgres.database() as address:
        db = Database(address)
        world = World(db)
        world.group("anc", world.case("p-1", "233241234567"))
        known = {"frames": frames, "desk": Desk(db)}
        answers = [
            eval(source, known)
            for source in sources(FOLDER / "07_sql_cookbook.ipynb", "code")
            if source.startswith("frames.query(")
        ]
        db.close()
    assert len(answers) == 10
    assert answers[0]["may_reply"].tolist() == [1]
    assert answers[2]["external_id"].tolist() == ["p-1"]


def test_a_notebook_opens_the_file_with_the_one_safe_library(tmp_path):
    """pandas, the kernel's history and whoever else imports sqlite3 get the library that the store chose."""
    library("pandas")
    address = f"sqlite:///{tmp_path}/one.db"
    db = Database(address)
    migrate.upgrade(db)
    db.close()
    code = (
        "import sqlite3, sys; first = sqlite3.__name__\n"  # as a kernel does for its history
        "from admin_notebooks import frames\n"
        "from admin_notebooks.desk import open_desk\n"
        "desk = open_desk(); frames.groups(desk)\n"
        "print(desk.db.engine.dialect.dbapi.__name__, sys.modules['sqlite3'].__name__)"
    )
    env = {**os.environ, "DATABASE_URL": address, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split() == ["pysqlite3.dbapi2", "pysqlite3"]
