"""`jumbe web`, `worker`, `run` and `demo`: the processes that serve."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from bot.gateways.base import Gateway
from storage import private_files
from storage.console import named_database
from storage.database import Database
from storage.errors import Misconfigured
from storage.programme import settings as settings_module
from storage.programme.settings import Settings


def _ready_to_serve() -> tuple[Settings, Database, dict[str, Gateway]]:
    """Settings, database and gateways, every fault of them at once."""
    from bot.app import meets_its_stamp

    settings, faults = settings_module.look()
    gateways: dict[str, Gateway] = {}
    if not any(name in fault for fault in faults for name in _OF_GATEWAYS):
        gateways = _gateways(settings, faults)
    if faults and settings.config and "DATABASE_URL" not in os.environ:
        # The file that cannot be read may be the one that names the database.
        raise Misconfigured(faults)
    try:
        db = named_database(settings)
        db.check()
        faults += meets_its_stamp(db, gateways) if gateways else []
    except Misconfigured as fault:
        faults += fault.faults
    if faults:
        raise Misconfigured(faults)
    db.close()
    return settings, db, gateways


_OF_GATEWAYS = ("TWILIO_", "JUMBE_SIMULATOR", "JUMBE_CONFIG")
"""Settings with whose faults nobody can say which gateways there would be."""


def _gateways(settings: Settings, faults: list[str]) -> dict[str, Gateway]:
    from bot.gateways import configured

    try:
        return configured(settings)
    except Misconfigured as fault:
        faults += fault.faults
    except ValueError as fault:
        faults.append(f"the gateway's settings do not fit: {fault}")
    return {}


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)


PORT = click.IntRange(1, 65535)
PORT_FREE_S = 2.0
"""How long a web process that is being replaced may still hold the port."""


def spare_the_collector() -> None:
    """Let Python look for garbage only among what is made from now on, and less often.

    Looking again and again through all that was loaded took a worker a fourth of its time, and let a webhook wait a tenth of a
    second now and then.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@click.command()
@click.option("--port", type=PORT, help="Instead of PORT.")
def web(port: int | None) -> None:
    """Serve the webhooks, the health pages and, in a rehearsal, the virtual phones."""
    from gunicorn.app.base import BaseApplication

    from bot.app import create_app

    settings, db, gateways = _ready_to_serve()
    # The virtual phones show every text to whoever asks, so a rehearsal serves this machine whatever else is set.
    here = settings.is_loopback or settings.simulator
    host = "127.0.0.1" if here else "0.0.0.0"  # noqa: S104  behind the platform's own front door
    _claim_port(host, port or settings.port)
    _log()

    class Web(BaseApplication):  # type: ignore[misc]
        """gunicorn with one process of eight threads: SQLite has one writer, so a second process gains nothing."""

        def load_config(self) -> None:
            """What gunicorn is told."""
            self.cfg.set("bind", f"{host}:{port or settings.port}")
            self.cfg.set("worker_class", "gthread")
            self.cfg.set("threads", 8)
            self.cfg.set("workers", 1)
            self.cfg.set("timeout", 60)
            self.cfg.set("graceful_timeout", 20)
            self.cfg.set("loglevel", "warning")
            self.cfg.set("control_socket_disable", True) if "control_socket_disable" in self.cfg.settings else None

        def load(self) -> object:
            """The application, made after the fork so that the database is opened by the process that uses it."""
            app = create_app(db, gateways, settings.own_url, spool=settings.spool)
            spare_the_collector()
            return app

    Web().run()


@click.command()
def worker() -> None:
    """Send what is due; on SQLite there is exactly one."""
    from bot.worker.worker import Worker, only_one

    settings, db, gateways = _ready_to_serve()
    _log()

    async def work() -> None:
        spare_the_collector()
        stop = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, stop.set)
        await Worker(db, gateways, settings.own_url, spool=settings.spool, watches=True).run(stop)

    with only_one(db.file):
        asyncio.run(work())


@click.command()
def run() -> None:
    """Serve for real: web and worker together, each ended if the other ends."""
    from bot.worker.worker import only_one

    settings, db, _ = _ready_to_serve()
    with only_one(db.file):  # said now, rather than by a worker that ends a moment after its start
        _claim_port("127.0.0.1", settings.port)
    click.echo(f"serving {settings.own_url}; stop with Ctrl-C")
    raise SystemExit(_together(os.environ))


@click.command()
@click.option("--database", default="jumbe-demo.db", show_default=True, help="The rehearsal file.")
@click.option("--port", type=PORT, help="Instead of PORT or 8000; another is taken if it is in use.")
def demo(database: str, port: int | None) -> None:
    """Rehearse: a small programme on virtual phones in the browser, with no account and no cost."""
    from bot.demo import make
    from bot.worker.worker import only_one

    file = Path(os.path.realpath(database))
    if file.exists() and not file.is_file():
        raise Misconfigured([f"{file} is no file: name one for the rehearsal"])
    env = {name: value for name, value in os.environ.items() if not name.startswith("TWILIO_")}
    env |= {"DATABASE_URL": f"sqlite:///{file}", "PUBLIC_URL": "http://127.0.0.1", "JUMBE_SIMULATOR": "1"}
    if port is not None:
        env["PORT"] = str(port)
    for name, value in (("JUMBE_NAME", "Demo clinic"), ("JUMBE_HOLD_S", "10"), ("JUMBE_QUIET_HOURS", "off")):
        env.setdefault(name, value)
    env.setdefault("JUMBE_TIME_ZONE", "Africa/Accra")
    settings = settings_module.read(env)
    chosen = _free_port(settings.port)
    env |= {"PORT": str(chosen), "PUBLIC_URL": f"http://127.0.0.1:{chosen}"}
    try:
        private_files.folder(file.parent)
    except OSError as fault:
        raise Misconfigured([f"the folder {file.parent} cannot be made: {fault.strerror}"]) from None
    db = named_database(settings)
    with only_one(db.file):  # said now, rather than by a worker that ends a moment after its start
        made = make(db)
    db.close()
    click.echo(f"{'made' if made else 'found'} the rehearsal database {database}")
    click.echo("starting web and worker ...")
    raise SystemExit(_together(env, ready=f"the phones are at  http://127.0.0.1:{chosen}/phones  (stop with Ctrl-C)"))


def _together(env: Mapping[str, str], ready: str | None = None) -> int:
    """Start web and worker, pass signals on, and end both when one ends; returns the exit status."""
    children = {
        name: subprocess.Popen([sys.executable, "-m", "bot", name], env=dict(env), start_new_session=True)  # noqa: S603
        for name in ("web", "worker")
    }

    def stop(_sign: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        if ready and _becomes_ready(env["PORT"], children):
            click.echo(ready)
        while all(child.poll() is None for child in children.values()):
            time.sleep(0.2)
        ended = next(name for name, child in children.items() if child.poll() is not None)
        again = "demo" if ready else "run"
        click.echo(
            f"jumbe: {ended} ended, so the other is stopped too. Start again by the same command"
            f" ('make {again}' or 'jumbe {again}'): it goes on where it was",
            err=True,
        )
        return 1
    except KeyboardInterrupt:
        click.echo("stopping ...")
        return 0
    finally:
        for child in children.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        for child in children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(30)


def _becomes_ready(port: str, children: Mapping[str, subprocess.Popen[bytes]]) -> bool:
    from urllib.error import URLError
    from urllib.request import urlopen

    until = time.monotonic() + 30
    while time.monotonic() < until and all(child.poll() is None for child in children.values()):
        with contextlib.suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
            return True
        time.sleep(0.2)
    return False


def _claim_port(host: str, port: int) -> None:
    """Raise Misconfigured if this port cannot be served; one that was served a moment ago may need that moment."""
    until = time.monotonic() + PORT_FREE_S
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return
            except OSError as fault:
                if fault.errno != errno.EADDRINUSE:
                    raise Misconfigured([f"port {port} cannot be served: {fault.strerror}"]) from None
        if time.monotonic() > until:
            raise Misconfigured([f"port {port} is in use: stop what listens there, or choose another by PORT"])
        time.sleep(0.1)


def _free_port(wanted: int) -> int:
    """This port if nobody listens on it, else any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
