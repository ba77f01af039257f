"""The peers that are programs of their own: Celery with Redis, and RapidSMS, in an environment that the bench makes for them.

It lies in the user's cache folder and is made once.  What cannot be had (no network, no redis-server) is left out, and said.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.processes import free_port, until

HERE: Final = Path(__file__).parent / "peer"
WANTED: Final = ("celery>=5.5,<6", "redis>=5", "requests>=2.32", "RapidSMS>=2.2,<3", "gunicorn>=23", "packaging")


class Missing(Exception):
    """A peer that cannot be measured here, and why."""


def cache() -> Path:
    """Where their environment lies."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jumbe-bench"


def environment() -> Path:
    """The Python of the peers; made at the first call.  Raises Missing."""
    python, done = cache() / "bin" / "python", cache() / "installed"
    if done.exists() and done.read_text() == "\n".join(WANTED):
        return python
    print(f"Peers: installing {', '.join(WANTED)} into {cache()}", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", cache()], check=True, capture_output=True, timeout=120)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *WANTED]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as fault:
        raise Missing(f"the peers could not be installed ({type(fault).__name__})") from None
    done.write_text("\n".join(WANTED))
    return python


def versions() -> str:
    """What is installed there."""
    asked = "from importlib.metadata import version as v; print(*(f'{n} {v(n)}' for n in ('celery','redis','RapidSMS','Django')), sep=', ')"
    return subprocess.run(
        [environment(), "-c", asked], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@contextlib.contextmanager
def _process(command: list[str | Path], folder: Path, log: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / log).open("ab") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(HERE)} | env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Celery:
    """A worker of Celery with as many processes as this machine has cores, and its Redis."""

    def __init__(self, python: Path, folder: Path, env: dict[str, str]) -> None:
        self.python, self.folder, self.env = python, folder, env

    def send(self, url: str, many: int) -> float:
        """Have so many texts sent, one task each; the seconds from the first that is taken until all are written down."""
        done = subprocess.run(
            [self.python, HERE / "celery_peer.py", url, str(many)], cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(HERE)} | self.env, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Missing(f"Celery failed: {done.stderr.strip().splitlines()[-1:]}")
        return float(json.loads(done.stdout)["seconds"])


@contextlib.contextmanager
def celery(folder: Path) -> Iterator[Celery]:
    """Redis (append-only file, synced each second) and a worker that is ready.  Raises Missing."""
    redis = shutil.which("redis-server")
    if redis is None:
        raise Missing("there is no redis-server")
    python, port = environment(), free_port()
    env = {"BENCH_REDIS": f"redis://127.0.0.1:{port}/0", "BENCH_JOURNAL": str(folder / "celery.db")}
    serve: list[str | Path] = [
        redis,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        folder,
        "--appendonly",
        "yes",
        "--save",
        "",
    ]
    work: list[str | Path] = [
        python, "-m", "celery", "-A", "celery_peer", "worker", "--pool", "prefork", "--concurrency", str(os.cpu_count() or 2),
        "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip
    with _process(serve, folder, "redis.log"):
        until(lambda: _listens(port), "redis listens")
        with _process(work, folder, "celery.log", **env):
            yield Celery(python, folder, env)


@contextlib.contextmanager
def rapidsms(folder: Path, people: int, first: int, supervisor: str) -> Iterator[int]:
    """RapidSMS behind gunicorn with as many threads as ours, SQLite in WAL with full durability; yields its port."""
    python, port = environment(), free_port()
    env = {"DJANGO_SETTINGS_MODULE": "rapidsms_peer", "BENCH_DATABASE": str(folder / "rapidsms.db")}
    (folder / "rapidsms.db").unlink(missing_ok=True)
    made = subprocess.run(
        [python, HERE / "rapidsms_peer.py", str(people), str(first), supervisor], cwd=folder,
        env=os.environ | {"PYTHONPATH": str(HERE)} | env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if made.returncode:
        raise Missing(f"RapidSMS cannot be set up: {made.stderr.strip().splitlines()[-1:]}")
    serve: list[str | Path] = [
        python, "-m", "gunicorn", "rapidsms_site:application", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread",
        "--threads", "8", "--workers", "1", "--log-level", "warning",
    ]  # fmt: skip
    with _process(serve, folder, "rapidsms.log", **env) as process:
        try:
            until(lambda: process.poll() is None and _listens(port), "RapidSMS listens")
            time.sleep(1)
        except AssertionError:
            raise Missing(f"RapidSMS did not start: {(folder / 'rapidsms.log').read_text()[-300:]}") from None
        yield port
