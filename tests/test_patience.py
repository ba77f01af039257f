"""The rule of `patience.py`, held: no test sleeps, and none gives up sooner than a hang would make it.

A test that waits for a time holds on a quiet machine and not beside other work, or the other way about.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.patience import HANG_S

HERE: Final = Path(__file__).parent
SHORTEST_S: Final = 60

SLEEPS: Final = {
    "tests/patience.py": "here all others sleep",
    "tests/ending.py": "runs without our modules, beside a run that is killed",
    "tests/screenshots.py": "pictures are taken when what moves has come to rest",
    "tests/proof/days.py": "in the virtual days a sleep takes no time",
    "tests/proof/virtual.py": "in the virtual days a sleep takes no time",
    "tests/benchmarks/idle.py": "measures what a worker takes while time goes by",
    "tests/benchmarks/peers.py": "a peer that cannot say when it is ready; not part of `make test`",
    "tests/benchmarks/peer/celery_peer.py": "measures a peer, with nothing of ours; not part of `make test`",
}
"""Files that may sleep, and why."""

SHORT: Final = {
    ("tests/admin_notebooks/cli/test_exports.py", "timeout=0"): "a lock that is there is to be seen at once",
    ("tests/benchmarks/peer/celery_peer.py", "timeout=30"): "of a peer; not part of `make test`",
    ("tests/benchmarks/peer/celery_peer.py", "timeout=15"): "of a peer; not part of `make test`",
    ("tests/benchmarks/peer/celery_peer.py", "timeout=1"): "of a peer; not part of `make test`",
    ("tests/benchmarks/peers.py", "process.wait(10)"): "of a peer, which is killed then; not part of `make test`",
    ("tests/benchmarks/peers.py", "probe.settimeout(1)"): "of a peer; not part of `make test`",
    ("tests/proof/scenes.py", "over.wait(0.1)"): "how often a text comes in",
}
"""Short times in tests, and why none is a limit to what the product may take."""

_NAMED: Final = frozenset({"timeout", "timeout_s", "within_s"})
_WAITS: Final = frozenset({"wait", "join", "communicate", "result", "wait_for", "settimeout", "timeout"})
_IN_MS: Final = frozenset({"set_default_timeout", "set_options", "wait_for_selector", "wait_for_function"})
_CLOCKS: Final = frozenset({"monotonic", "perf_counter", "time"})


def parsed() -> Iterator[tuple[str, ast.Module]]:
    """Every file of the tests."""
    for path in sorted(HERE.rglob("*.py")):
        yield str(path.relative_to(HERE.parent)), ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call, and the last part of the name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            yield called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""), node


def seconds_of(node: ast.expr) -> float | None:
    """A number that is written out."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type]
    return None


def sleeps(tree: ast.Module) -> Iterator[str]:
    """What sleeps; a sleep of 0 lets the loop go on and waits for nothing."""
    for name, call in calls(tree):
        if name == "wait_for_timeout" or (name == "sleep" and [seconds_of(each) for each in call.args] != [0.0]):
            yield ast.unparse(call)


def short(tree: ast.Module) -> Iterator[str]:
    """What gives up sooner than a hang would make it."""
    for name, call in calls(tree):
        unit = 1000 if name in _IN_MS else 1
        for word in call.keywords:
            seconds = seconds_of(word.value)
            if word.arg in _NAMED and seconds is not None and seconds < SHORTEST_S * unit:
                yield f"{word.arg}={ast.unparse(word.value)}"
        if name in _WAITS | _IN_MS:
            given = [seconds_of(each) for each in call.args]
            if any(seconds is not None and seconds < SHORTEST_S * unit for seconds in given):
                yield ast.unparse(call)


def stopwatches(tree: ast.Module) -> Iterator[str]:
    """An assertion about how long something took by the clock on the wall; `cpu_used_s` is what other work does not lengthen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                is_span = isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub)
                if is_span and any(name in _CLOCKS and node_ is part.left for name, node_ in calls(part)):  # type: ignore[union-attr]
                    yield ast.unparse(node)


def test_no_test_sleeps() -> None:
    found = {file: [*sleeps(tree)] for file, tree in parsed()}
    assert {file: said for file, said in found.items() if said and file not in SLEEPS} == {}
    assert [file for file in SLEEPS if not found.get(file)] == [], "no exception is left that nothing needs"


def test_no_test_gives_up_sooner_than_a_hang_would_make_it() -> None:
    found = {(file, said) for file, tree in parsed() for said in short(tree)}
    assert found - SHORT.keys() == set()
    assert SHORT.keys() - found == set(), "no exception is left that nothing needs"
    assert HANG_S > 2 * SHORTEST_S


def test_no_test_holds_a_stopwatch() -> None:
    assert {file: said for file, tree in parsed() if (said := [*stopwatches(tree)])} == {}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (sleeps, "time.sleep(0.5)"), (sleeps, "await asyncio.sleep(wait_s)"), (sleeps, "page.wait_for_timeout(400)"),
        (short, "thread.join(5)"), (short, "process.wait(10)"), (short, "run(command, timeout=20)"),
        (short, "adapter(url, timeout_s=0.4)"), (short, "page.set_default_timeout(15_000)"),
        (short, "jumbe.until(it, 'it comes', within_s=8)"), (short, "await asyncio.wait_for(task, 3)"),
        (stopwatches, "assert time.monotonic() - began < 1.5"), (stopwatches, "assert 0.1 < perf_counter() - began < 2"),
    ],
)  # fmt: skip
def test_the_rule_sees_what_it_forbids(what: Callable[[ast.Module], Iterator[str]], words: str) -> None:
    body = words if "await" not in words else f"async def test():\n    {words}"
    assert len([*what(ast.parse(body))]) == 1


@pytest.mark.parametrize(
    "words", ["asyncio.sleep(0)", "', '.join(words)", "thread.join(HANG_S)", "clock.advance(seconds=3)", "gate.wait()"]
)
def test_the_rule_lets_pass_what_waits_for_an_event(words: str) -> None:
    tree = ast.parse(words)
    assert [*sleeps(tree), *short(tree), *stopwatches(tree)] == []
