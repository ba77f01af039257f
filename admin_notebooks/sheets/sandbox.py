"""Work on a stranger's file in a child process that may take so much memory and time, and no more.

What a parser does with a file that was built to exhaust it is then the end of that child, and of nobody else.  The child
knows nothing of us: no settings, no secret, no database; it gets the bytes and gives back what it yields, piece by piece.

    run   what a function of ours yields, from a child
    Died  the child took too much memory or time, or crashed
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import marshal
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from storage.errors import Problem

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from admin_notebooks.sheets import sandbox; sandbox.main()"
_NEEDED = ("LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "LANG")
"""Of the environment only what a Python needs to start."""


class Died(Exception):
    """The child ended without an answer: `because` is `time`, `memory` or `crash`."""

    def __init__(self, because: str) -> None:
        super().__init__(because)
        self.because = because


def run(
    function: Callable[..., Iterator[Any]], data: bytes, options: dict[str, Any], *, memory: int, seconds: float
) -> Iterator[Any]:
    """What `function(data, **options)` yields, one after another, from a child with at most `memory` bytes and `seconds`.

    The function is one of a module of ours; what it takes and yields is made of text, numbers, lists, tuples and
    dictionaries.  A Problem that it raises is raised here.  Raises Died.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    path = [str(Path(__file__).resolve().parents[2]), *sys.path]
    command = [
        sys.executable,
        "-S",
        "-c",
        _BOOT,
        json.dumps(path),
        name,
        json.dumps(options),
        str(memory),
        str(int(seconds)),
    ]
    env = {key: os.environ[key] for key in _NEEDED if key in os.environ}
    # By a file without a name, and not by a pipe: a child that ends early leaves nobody writing into nothing.
    with tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        child = subprocess.Popen(  # noqa: S603 (our own interpreter and our own module)
            command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )
    assert child.stdout is not None
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield from _answers(child.stdout, memory)
    except EOFError:
        raise Died("time" if late.is_set() else _ENDS.get(child.wait(), "crash")) from None
    finally:
        timer.cancel()
        child.kill()
        child.stdout.close()
        child.wait()


_ENDS = {-signal.SIGXCPU: "time", -signal.SIGABRT: "memory", -signal.SIGKILL: "memory", 3: "memory"}


def _answers(stream: IO[bytes], memory: int) -> Iterator[Any]:
    """What comes from the child up to its end; raises EOFError where it ends without saying so."""
    while True:
        kind, *answer = _received(stream, memory)
        if kind == "end":
            return
        if kind == "problem":
            key, values = answer
            raise Problem(key, **values)
        if kind == "fault":
            raise RuntimeError(answer[0])
        yield answer[0]


_HEAD = 8
"""Bytes that say how long what follows is: read at once it comes in a fifth of the time that bit by bit takes."""


def _received(stream: IO[bytes], memory: int) -> Any:
    length = int.from_bytes(stream.read(_HEAD), "little")
    answer = stream.read(length) if 0 < length <= memory else b""
    try:
        return marshal.loads(answer)  # noqa: S302 (what our own child writes)
    except (ValueError, TypeError) as error:  # cut off in the middle
        raise EOFError from error


def _send(out: IO[bytes], *answer: Any) -> None:
    told = marshal.dumps(answer)
    out.write(len(told).to_bytes(_HEAD, "little") + told)


def main() -> None:
    """The child: take limits, read the bytes, write down what comes."""
    _path, name, options, memory, seconds = sys.argv[1:]
    _limit(int(memory), int(seconds))
    gc.set_threshold(100_000, 20, 20)  # rows are made by the million here, and hold nothing that must be looked for
    module, _, function = name.partition(":")
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # whatever a library prints is no answer
        try:
            data = sys.stdin.buffer.read()
            for piece in getattr(importlib.import_module(module), function)(data, **json.loads(options)):
                _send(out, "piece", piece)
            _send(out, "end")
        except Problem as problem:
            _send(out, "problem", problem.key, dict(problem.values))
        except MemoryError:
            os._exit(3)
        except Exception:  # noqa: BLE001 (the outer edge: the parent raises it)
            told = traceback.format_exc()
            try:
                bytearray(16 * 2**20)
            except MemoryError:  # with no room left, things fail under other names as well
                os._exit(3)
            _send(out, "fault", told)


def _limit(memory: int, seconds: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has them; the clock is held anyhow
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
