"""Every call in the product that makes a file or a folder, found by reading the code: for the test that allows one way only."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
DOORS: Final = ("storage", "bot", "admin_notebooks")
HELPER: Final = "storage/private_files.py"

_WRITES: Final = re.compile("(?=.*[wax+])[rwaxbtU+]+")
_FLAGS: Final = re.compile(r"\bO_(?:CREAT|WRONLY|RDWR|APPEND|TRUNC|TMPFILE)\b")
_METHODS: Final = frozenset({
    "write_text", "write_bytes", "touch", "mkdir", "makedirs", "mkfifo", "mknod", "symlink_to", "savefig", "to_csv",
    "to_excel", "to_json", "to_pickle", "to_parquet", "to_feather", "to_hdf", "to_stata", "to_xml", "to_markdown",
    "FileHandler", "RotatingFileHandler", "TimedRotatingFileHandler", "WatchedFileHandler", "ExcelWriter", "mktemp",
})  # fmt: skip
_OF_MODULES: Final = {
    "shutil": {"copy", "copy2", "copyfile", "copyfileobj", "copytree", "move", "make_archive", "unpack_archive"},
    "sqlite3": {"connect"},
    "dbapi2": {"connect"},
    "np": {"save", "savez", "savetxt"},
    "numpy": {"save", "savez", "savetxt"},
    "dbm": {"open"},
    "shelve": {"open"},
}
_ARCHIVES: Final = frozenset({"ZipFile", "TarFile", "PyZipFile", "GzipFile", "BZ2File", "LZMAFile"})
_WORKBOOKS: Final = ("openpyxl", "xlsxwriter", "PIL")
_OWN: Final = frozenset(
    {"TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp"}
)
"""What `tempfile` makes for its owner alone, whatever the umask; its other names are found."""

_SQL: Final = re.compile(r"\b(?:VACUUM\s+INTO|ATTACH\s+(?:DATABASE\s+)?['\":?])", re.IGNORECASE)


class Writer(NamedTuple):
    """A call that makes something: in which file and function, and what is called."""

    file: str
    inside: str
    call: str


def in_product() -> set[Writer]:
    """Every such call of the three doors, in modules and in the cells of notebooks, but those of the helper itself."""
    found: set[Writer] = set()
    for door in DOORS:
        for path in sorted((ROOT / door).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if name != HELPER:
                found |= set(in_code(path.read_text(encoding="utf-8"), name))
        for path in sorted((ROOT / door).rglob("*.ipynb")):
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                lines = [line for line in "".join(cell["source"]).splitlines() if not line.startswith("%")]
                if cell["cell_type"] == "code" and not "".join(cell["source"]).startswith("%%"):
                    found |= set(in_code("\n".join(lines), str(path.relative_to(ROOT))))
    return found


def in_code(code: str, file: str) -> Iterator[Writer]:
    """Every such call in some code."""
    tree = ast.parse(code)
    books = any(
        isinstance(node, ast.Import | ast.ImportFrom) and any(book in ast.unparse(node) for book in _WORKBOOKS)
        for node in ast.walk(tree)
    )
    imported = _imported(tree)
    for node, inside in _walk(tree, ()):
        if isinstance(node, ast.Call) and (call := _makes(node, imported, books=books)):
            yield Writer(file, inside, call)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.search(node.value):
            yield Writer(file, inside, "SQL")


def _walk(node: ast.AST, inside: tuple[str, ...]) -> Iterator[tuple[ast.AST, str]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        within = (*inside, child.name) if named else inside
        yield child, ".".join(within)
        yield from _walk(child, within)


def _imported(tree: ast.AST) -> dict[str, tuple[str, str]]:
    """By each name that code imports, what it stands for: the last part of a module, and a name in it or nothing."""
    names: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if isinstance(node, ast.ImportFrom):
                names[alias.asname or alias.name] = ((node.module or "").rpartition(".")[2], alias.name)
            elif alias.asname:
                names[alias.asname] = (alias.name.rpartition(".")[2], "")
    return names


def _makes(call: ast.Call, imported: dict[str, tuple[str, str]], *, books: bool) -> str | None:
    """What is called, where that may make a file."""
    of, name = _named(call.func)
    if not of and name in imported:
        of, name = imported[name]
    elif imported.get(of, ("", "-"))[1] == "":
        of = imported[of][0]
    full = f"{of}.{name}" if of else name
    if name == "open" and of not in ("os", "dbm", "shelve"):
        return full if _may_write(call, at=0 if of and of not in ("io", "codecs", "gzip", "tarfile") else 1) else None
    if full == "os.open":
        return full if _FLAGS.search(ast.unparse(call)) or _is_unknown(call.args[1]) else None
    if name in _ARCHIVES:
        return full if _may_write(call, at=1) else None
    if of == "tempfile":
        return None if name in _OWN else full
    if name == "basicConfig":
        return full if any(word.arg == "filename" for word in call.keywords) else None
    if name == "save" and books and of != "cases":
        return full
    return full if name in _METHODS or name in _OF_MODULES.get(of, ()) else None


def _may_write(call: ast.Call, *, at: int) -> bool:
    """Whether the mode of an `open` lets it write: as one that cannot be read may."""
    modes = [word.value for word in call.keywords if word.arg == "mode"] or call.args[at : at + 2]
    texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
    return any(_WRITES.fullmatch(text) for text in texts) or (at == 1 and bool(modes) and not texts)


def _is_unknown(flags: ast.expr) -> bool:
    return "O_" not in ast.unparse(flags)


def _named(function: ast.expr) -> tuple[str, str]:
    """The name of what is called, and of what it belongs to."""
    if isinstance(function, ast.Name):
        return "", function.id
    if isinstance(function, ast.Attribute):
        owner = function.value
        return (
            owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else "()"
        ), (function.attr)
    return "", ""
