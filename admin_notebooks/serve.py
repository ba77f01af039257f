"""`jumbe desk`: the notebooks as pages, for people who sign in; with `--lab`, JupyterLab for whoever has a shell here.

Voila as it comes is open to everybody, and a settings file that it does not find leaves it so.  So it is started from
here alone, with everything said in this file, and not at all while nobody can sign in.  Who signed in is told to the
notebook by the server, and what they may do is held by the verbs behind it (`desk.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import click

from admin_notebooks.desk import PERSON
from storage import audit, passwords, people
from storage.audit import Actor
from storage.console import CLI, open_database
from storage.database import Database
from storage.errors import Misconfigured, Problem

HERE = Path(__file__).parent
PAGES = ("00_", "01_", "02_", "03_", "04_")
"""How the names of those notebooks begin that are served as pages."""

LEAST = 10
"""Characters of a password."""

TRIES, WITHIN_S = 5, 900
"""Wrong passwords for one name, or four times as many from one address, before the next has to wait."""

IDLE_S = 1800
HOURS = 12
MISSING = "the desk's libraries are not here: pip install 'jumbe[desk]'"
HEADERS = {
    # Widgets are made of scripts that come through the kernel, as blobs; nothing comes from another host.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:;"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss: data:;"
    " frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
T = TypeVar("T")


@click.group(invoke_without_command=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8866, show_default=True)
@click.option("--lab", is_flag=True, help="JupyterLab for analysts, on this machine only.")
@click.option("--as", "phone", help="With --lab: whose changes they are; else the system's own user.")
@click.pass_context
def desk(ctx: click.Context, port: int, phone: str | None, *, lab: bool) -> None:
    """The notebooks as pages for people who sign in; put TLS before it."""
    if ctx.invoked_subcommand is None:
        (_lab if lab else serve)(port, phone)


@desk.command("password")
@click.argument("phone")
@click.option("--forget", is_flag=True, help="Take it away: this person cannot sign in any more.")
def password(phone: str, *, forget: bool) -> None:
    """Give the person with this number a password for the desk; it is asked for, or read from a pipe."""
    db = open_database()
    with db.reading() as tx:
        person = people.person(tx, phone)
    if forget:
        with db.transaction() as tx:
            gone = passwords.forget(tx, person, by=CLI)
        click.echo(f"{person.name} cannot sign in any more" if gone else f"{person.name} had no password")
        return
    told = (
        click.prompt("Password", hide_input=True, confirmation_prompt=True)
        if sys.stdin.isatty()
        else sys.stdin.readline().rstrip("\n")
    )
    if len(told) < LEAST:
        raise Problem("password-short", least=LEAST)
    hashed = _installed(lambda: __import__("argon2")).PasswordHasher().hash(told)
    with db.transaction() as tx:
        passwords.keep(tx, person, hashed, by=CLI)
    click.echo(f"{person.name} signs in at the desk as {person.name}, or by the number {person.phone}")


def _installed(load: Callable[[], T]) -> T:
    try:
        return load()
    except ImportError as error:
        raise Misconfigured([MISSING]) from error


# -- who may come in ---------------------------------------------------------------------------------------------------


class Doorkeeper:
    """Whether a name and a password belong together, asked at most so often."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic, hasher: Any = None) -> None:
        import argon2

        self.db = db
        self._clock = clock
        self._hasher = hasher or argon2.PasswordHasher()
        self._nobody = self._hasher.hash("nobody has this password")
        self._wrong: dict[str, list[float]] = defaultdict(list)

    def has_to_wait(self, name: str, address: str) -> bool:
        """Whether this name, or whoever is at this address, tried too often in vain."""
        return self._count(f"name {name.casefold()}") >= TRIES or self._count(f"address {address}") >= 4 * TRIES

    def let_in(self, name: str, told: str, address: str) -> Any | None:
        """The person, or None.  A name that nobody has takes as long as a wrong password."""
        if self.has_to_wait(name, address):
            return None
        with self.db.reading() as tx:
            found = passwords.list_for(tx, name)
        right = [row for row in found if self._fits(row.hash, told)]
        if not found:
            self._fits(self._nobody, told)
        if len(right) != 1:  # two of one name with one password: neither is proved
            for key in (f"name {name.casefold()}", f"address {address}"):
                self._wrong[key].append(self._clock())
            return None
        with self.db.transaction() as tx:
            audit.record(tx, "people.sign-in", "person", right[0].id, by=Actor("desk", right[0].id, "sign-in"))
        self._wrong.pop(f"name {name.casefold()}", None)
        return right[0]

    def is_known(self, person_id: str) -> bool:
        """Whether this person may still be here."""
        with self.db.reading() as tx:
            return person_id.isdigit() and people.by_id(tx, int(person_id)) is not None

    def _fits(self, hashed: str, told: str) -> bool:
        import argon2

        try:
            return bool(self._hasher.verify(hashed, told))
        except argon2.exceptions.Argon2Error:
            return False

    def _count(self, key: str) -> int:
        recent = [at for at in self._wrong.get(key, ()) if at > self._clock() - WITHIN_S]
        if recent:
            self._wrong[key] = recent
        else:
            self._wrong.pop(key, None)
        return len(recent)


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in</title>
<style>
 body {{ font: 15px/1.5 "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; color: #22282b; margin: 14vh auto; max-width: 20rem; padding: 0 20px }}
 h1 {{ font-size: 22px; font-weight: 600; margin: 0 0 16px }} label {{ display: block; margin: 12px 0; color: #5b666b }}
 input {{ font: inherit; color: #22282b; width: 100%; box-sizing: border-box; padding: 8px 10px; border: 1px solid #c9d8de; border-radius: 6px; margin-top: 2px }}
 button {{ font: inherit; font-weight: 600; width: 100%; padding: 9px; margin-top: 8px; border: 0; border-radius: 6px; background: #1f4e5f; color: #fff; cursor: pointer }}
 :focus-visible {{ outline: 2px solid #1f4e5f; outline-offset: 2px }}
 p {{ background: #fbeae7; color: #8f2f24; border-radius: 6px; padding: 8px 12px }}
</style></head><body>
<h1>{programme}</h1>{told}
<form method="post" action="?next={next}">{proof}<label>Name or phone number<input name="name" autocomplete="username" required autofocus></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required></label><button>Sign in</button></form>
</body></html>"""


def provider(keeper: Doorkeeper) -> type[Any]:
    """The class by which the server knows who is there."""
    from jupyter_server.auth.decorator import allow_unauthenticated
    from jupyter_server.auth.identity import IdentityProvider, User
    from jupyter_server.auth.login import LoginFormHandler
    from jupyter_server.auth.logout import LogoutHandler
    from tornado.escape import url_escape

    class Login(LoginFormHandler):  # type: ignore[misc]
        """The page on which people sign in: ours, without a request to any other host."""

        def _render(self, message: dict[str, str] | None = None) -> None:
            told = f'<p role="alert">{escape(message["error"])}</p>' if message else ""
            where = url_escape(self.get_argument("next", default=self.base_url))
            proof = self.xsrf_form_html()
            self.write(_PAGE.format(programme=escape(keeper.db.rules.name), told=told, next=where, proof=proof))

        @allow_unauthenticated  # type: ignore[untyped-decorator]
        def post(self) -> None:
            """Let in whoever is right; say only that name and password do not fit."""
            name, address = self.get_argument("name", ""), self.request.remote_ip
            if keeper.has_to_wait(name, address):
                self.set_status(429)
                self._render(
                    {"error": "Too many wrong passwords. Wait a quarter of an hour, or ask the operator for a new one."}
                )
                return
            person = keeper.let_in(name, self.get_argument("password", "", strip=False), address)
            if person is None:
                self.set_status(401)
                self._render({"error": "Name and password do not fit."})
                return
            self.identity_provider.set_login_cookie(self, User(username=str(person.id), name=person.name))
            self._redirect_safe(self.get_argument("next", default=self.base_url))

    class Logout(LogoutHandler):  # type: ignore[misc]
        """Whoever leaves comes back to the page on which people sign in."""

        @allow_unauthenticated  # type: ignore[untyped-decorator]
        def get(self) -> None:
            """Forget who is there."""
            self.identity_provider.clear_login_cookie(self)
            self.redirect(self.base_url)

    class People(IdentityProvider):  # type: ignore[misc]
        """The registered people who have a password, and nobody else."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "token": "", "login_handler_class": Login, "logout_handler_class": Logout})
            self.cookie_options = {"expires_days": HOURS / 24, "samesite": "Lax", "httponly": True}
            self.get_secure_cookie_kwargs = {"max_age_days": HOURS / 24}

        @property
        def auth_enabled(self) -> bool:
            """Always."""
            return True

        def get_user_cookie(self, handler: Any) -> Any:
            """Who the cookie says, as long as they are registered."""
            user = super().get_user_cookie(handler)
            return user if user is not None and keeper.is_known(user.username) else None

        def is_token_authenticated(self, _handler: Any) -> bool:
            """There is no token that could open this door."""
            return False

    return People


def introduce(handler: Any, notebook: Any, cwd: str) -> Any:
    """Tell a notebook who is there, before anything of it runs."""
    import nbformat

    del cwd
    person = str(handler.current_user.username)
    if not re.fullmatch(r"\d+", person):
        raise PermissionError("nobody is signed in")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"import os; os.environ[{PERSON!r}] = {person!r}"))
    return notebook


# -- the servers -------------------------------------------------------------------------------------------------------


def serve(port: int, _phone: str | None = None) -> None:
    """Serve the pages until told to stop; refuses while nobody can sign in."""
    db = open_database()
    with db.reading() as tx:
        if not passwords.count(tx):
            raise Misconfigured(
                ["nobody can sign in at the desk: give somebody a password with 'jumbe desk password PHONE'"]
            )
    _settle(db)
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(HERE / "share"), *filter(None, [os.environ.get("JUPYTER_PATH")])])
    # Only what is said here counts: a file of somebody's own could open the door.
    with tempfile.TemporaryDirectory(prefix="jumbe-desk-") as room:
        os.environ["JUPYTER_CONFIG_DIR"] = os.environ["JUPYTER_CONFIG_PATH"] = room
        os.environ["JUPYTER_NO_CONFIG"] = "1"
        os.environ[PERSON] = ""  # a kernel that was told of nobody opens nothing
        pages = Path(room) / "pages"
        pages.mkdir()
        for path in sorted(HERE.glob("*.ipynb")):
            if path.name.startswith(PAGES):
                shutil.copy(path, pages)
        app = _installed(lambda: _voila(db, pages, port))
        click.echo(f"the desk serves http://127.0.0.1:{port}/ (Ctrl-C stops it)")
        app.start()


def _voila(db: Database, pages: Path, port: int) -> Any:
    from jinja2 import Environment, FileSystemLoader
    from traitlets.config import Config
    from voila.app import Voila

    told = Config()
    told.Voila.identity_provider_class = provider(Doorkeeper(db))
    told.Voila.ip = "127.0.0.1"
    told.Voila.port = port
    told.Voila.port_retries = 0
    told.Voila.open_browser = False
    told.Voila.log_level = "WARN"
    told.Voila.tornado_settings = {
        "headers": HEADERS,
        "websocket_max_message_size": 16 * 2**20,
        "jinja2_env": Environment(loader=FileSystemLoader(HERE / "share/voila/templates/jumbe"), autoescape=True),
    }
    told.VoilaConfiguration.template = "jumbe"
    told.VoilaConfiguration.classic_tree = True
    told.VoilaConfiguration.prelaunch_hook = introduce
    told.VoilaConfiguration.file_allowlist = [r"$^"]  # no file at all
    told.VoilaConfiguration.show_tracebacks = False
    told.MappingKernelManager.cull_interval = 60
    told.MappingKernelManager.cull_idle_timeout = IDLE_S
    app = Voila(config=told)
    app.initialize([str(pages)])
    return app


def _lab(port: int, phone: str | None) -> None:
    """JupyterLab on copies of the notebooks, on this machine only; what they show is never saved."""
    db = open_database()
    if phone is not None:
        with db.reading() as tx:
            os.environ[PERSON] = str(people.person(tx, phone).id)
    else:
        os.environ.pop(PERSON, None)
    _settle(db)
    app = _installed(lambda: __import__("jupyterlab.labapp", fromlist=["LabApp"]).LabApp)
    folder = Path("notebooks").resolve()
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in sorted(HERE.glob("*.ipynb")):
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
    db.close()
    # It asks at first sight whether it may fetch news: nobody here needs them.
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(
        [str(HERE / "share"), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    )
    app.launch_instance(argv=lab_arguments(folder, port))


def lab_arguments(folder: Path, port: int) -> list[str]:
    """How JupyterLab is started: on this machine, with its own token, no terminals, no news from other hosts."""
    return [
        f"--ServerApp.root_dir={folder}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.terminals_enabled=False",
        "--ServerApp.open_browser=False",
        "--ContentsManager.pre_save_hook=admin_notebooks.saving.pre_save",
        *(["--ServerApp.allow_root=True"] if os.geteuid() == 0 else []),  # in a container everybody is
        "--LabApp.extension_manager=readonly",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]


def _settle(db: Database) -> None:
    """Make the addresses in the environment whole: a kernel works in another folder."""
    if db.file is not None:
        os.environ["DATABASE_URL"] = f"sqlite:///{db.file.resolve()}"
    if config := os.environ.get("JUMBE_CONFIG"):
        os.environ["JUMBE_CONFIG"] = str(Path(config).resolve())
