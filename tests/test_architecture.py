"""The house: who may know whom, and where a commit may stand."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_layers_hold():
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_only_the_database_module_commits():
    for path in [*ROOT.glob("storage/*.py"), *ROOT.glob("bot/**/*.py"), *ROOT.glob("admin_notebooks/*.py")]:
        if path.name in ("database.py", "simulator.py"):
            continue  # the simulator has a book of its own, outside the shared database
        assert ".commit(" not in path.read_text(encoding="utf-8"), path


def test_a_verb_takes_the_transaction_first_and_who_acts_last():
    """Whoever changes the programme's data is named; looking needs no name."""
    looks = re.compile(r"(find|list|count|preview|is|may|by|of|last)_?")
    for name in ("contacts", "groups", "people", "consent"):
        source = (ROOT / "storage" / f"{name}.py").read_text(encoding="utf-8")
        for verb, parameters, body in re.findall(r"^def ([a-z]\w*)\(([^)]*)\)(.*?)(?=^def |\Z)", source, re.S | re.M):
            if re.search(r"\b(insert|update|delete)\(", body) and "temporary(" not in body and not looks.match(verb):
                assert parameters.strip().startswith("tx: Transaction"), f"{name}.{verb}"
                assert re.search(r"by: Actor,?\s*$", parameters) or verb == "settle_ownership", f"{name}.{verb}"


def test_no_page_or_file_names_a_machine_or_a_registry():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".png", ".xlsx") or not path.exists():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert str(ROOT.parent) + "/" not in text, name
