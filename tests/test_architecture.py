"""The house: who may know whom, and where a commit may stand."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

from storage.contacts import cases, consent, groups, people

ROOT = Path(__file__).resolve().parents[1]


def test_the_layers_hold():
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_only_the_database_module_commits():
    for path in [*ROOT.glob("storage/**/*.py"), *ROOT.glob("bot/**/*.py"), *ROOT.glob("admin_notebooks/**/*.py")]:
        if path == ROOT / "storage" / "database.py":
            continue
        assert ".commit(" not in path.read_text(encoding="utf-8"), path


def product_modules():
    """Every module of the product, but the schema's own history."""
    folders = (ROOT / "storage", ROOT / "bot", ROOT / "admin_notebooks")
    return [path for folder in folders for path in folder.rglob("*.py") if path.parent.name != "versions"]


def test_a_file_has_at_most_500_lines_and_its_first_public_verb_stands_within_100():
    """A longer one has a joint at which it can be cut; the schema is one list."""
    for path in product_modules():
        source = path.read_text(encoding="utf-8")
        assert source.count("\n") <= 500 or path == ROOT / "storage" / "schema.py", path
        definitions = [
            n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        public = [n.lineno for n in definitions if not n.name.startswith("_")]
        assert not public or public[0] <= 100, (path, public[0])


def test_a_verb_takes_the_transaction_first_and_who_acts_last():
    """Whoever changes the programme's data is named; what a change brings about by itself needs no name."""
    follows = {"settle_ownership"}
    for module in (cases, groups, people, consent):
        own = [f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
        for verb in own:
            if verb.__name__.startswith("_") or verb.__name__ in follows:
                continue
            parameters = list(inspect.signature(verb).parameters)
            changes = "audit.record(" in inspect.getsource(verb)
            if changes:
                assert parameters[0] == "tx", f"{module.__name__}.{verb.__name__}"
                assert parameters[-1] == "by", f"{module.__name__}.{verb.__name__}"


def test_no_module_of_the_tests_imports_from_a_file_of_tests():
    """What two files of tests need stands in a module of its own, so that each file can be moved, cut or run alone."""
    for path in ROOT.glob("tests/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [f"{node.module or ''}.{alias.name}" for alias in node.names]
            else:
                continue
            for module in modules:
                lent = any(part.startswith("test_") for part in module.split(".")[:-1])
                lent = lent or (
                    module.startswith("tests.")
                    and (ROOT / f"{module.replace('.', '/')}.py").exists()
                    and module.rpartition(".")[2].startswith("test_")
                )
                assert not lent, f"{path.relative_to(ROOT)} imports {module}: put it into a module beside them"


def test_no_page_or_file_names_a_machine_or_a_registry():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".png", ".xlsx") or not path.exists():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert str(ROOT.parent) + "/" not in text, name
