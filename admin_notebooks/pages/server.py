"""The desk's server: the notebooks as pages for people who sign in, and the lab, where leads open them as notebooks.

Voila shows a notebook as a page and lets a page talk to its widgets only: nothing typed there is run.  As it comes it is
open to everybody, so it is started from here alone, with doors of our own:
who signs in is a person with a password (`jumbe desk password PHONE`), their row id is what the notebook acts as, and
what they may do is decided by the desk's verbs at every act.
Templates are read once, when the server starts, and rendered in a sandbox: a file that somebody puts in the place of one
later is never run.
Every page is shown by a kernel of its own, which ends half an hour after the page was left.
"""

from __future__ import annotations

import json
import os
import posixpath
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

import nbformat
from jinja2 import DictLoader, FileSystemLoader, meta
from jinja2.sandbox import SandboxedEnvironment
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.auth.login import LoginFormHandler
from jupyter_server.base.call_context import CallContext
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyter_server.utils import url_path_join
from nbconvert.exporters.templateexporter import JINJA_EXTENSIONS
from sqlalchemy import Row
from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError, OutputTransform, RequestHandler, authenticated
from traitlets.config import Config
from voila import notebook_renderer
from voila.app import Voila
from voila.exporter import VoilaExporter
from voila.paths import collect_template_paths
from voila.static_file_handler import TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler

from admin_notebooks.desk import PERSON
from admin_notebooks.pages import passwords
from admin_notebooks.saving import pre_save
from storage import private_files
from storage.console import sentence
from storage.contacts import passwords as store
from storage.contacts import people
from storage.database import Database
from storage.errors import Misconfigured, Problem

HOME: Final = "00_start_here"
PAGES: Final = "0[0-5]_*.ipynb"
"""The notebooks that are pages; the others are for whoever reads code."""

ANALYST: Final = "analyst"
"""The tag of a cell that is for whoever reads code: a page neither runs nor shows it."""

LOOPBACK: Final = "127.0.0.1"
SIGNED_IN_DAYS: Final = 0.5
LEFT_S: Final = 1800
"""Seconds after which the kernel of a page that was left ends."""

LAB_LEFT_S: Final = 12 * 3600
"""The same for a notebook in the lab, whose kernel holds what an analyst worked out: as long as a session."""

LOOK_S: Final = 60
"""Seconds between two looks for such kernels."""
LARGEST: Final = 16 * 2**20
"""Bytes of what a page sends at once: a sheet of 8 MiB as text, and more."""
TEMPLATE: Final = "lab"
"""Which of Voila's templates ours builds on."""


class Person(User):
    """Somebody who signed in."""


class Doorkeeper(IdentityProvider):
    """Knows a person by name and password, and by the cookie that they got for it."""

    db: ClassVar[Database]
    tries: ClassVar[passwords.Tries]
    leads_only: ClassVar[bool] = False
    """Whether only a lead comes in: in the lab everything can be read and done."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**{**told, "login_handler_class": SignIn, "token": ""})
        self.cookie_options = {"expires_days": SIGNED_IN_DAYS, "samesite": "Lax"}
        self.get_secure_cookie_kwargs = {"max_age_days": SIGNED_IN_DAYS}

    @property
    def auth_enabled(self) -> bool:
        """Always."""
        return True

    @property
    def login_available(self) -> bool:
        """Always."""
        return True

    def is_token_authenticated(self, handler: RequestHandler) -> bool:
        """Never: nobody comes in by an address."""
        return False

    async def get_user(self, handler: RequestHandler) -> User | None:
        """Who it is, as Jupyter asks."""
        return self.who(handler)

    def who(self, handler: RequestHandler) -> User | None:
        """Who the cookie of a request is of, if they still may come in."""
        told = handler.get_secure_cookie(self.get_cookie_name(handler), **self.get_secure_cookie_kwargs)
        person_id, _, stamp = (told or b"").decode().partition(":")
        if not person_id.isdigit():
            return None
        with self.db.reading() as tx:
            person, kept = people.by_id(tx, int(person_id)), store.hash_of(tx, int(person_id))
        if person is None or kept is None or not secrets.compare_digest(passwords.stamp(kept), stamp):
            return None
        return _user(person) if self._admits(person) else None

    def user_to_cookie(self, user: User) -> str:
        """Which person, bound to the password they have now."""
        with self.db.reading() as tx:
            kept = store.hash_of(tx, int(user.username))
        return f"{user.username}:{passwords.stamp(kept or '')}"

    def process_login_form(self, handler: RequestHandler) -> User:
        """The person of a filled-in form; raises Problem."""
        name, password = handler.get_body_argument("name", ""), handler.get_body_argument("password", "", strip=False)
        person = passwords.sign_in(self.db, self.tries, name, password, handler.request.remote_ip or "")
        if not self._admits(person):
            raise Problem("sign-in-leads-only")
        return _user(person)

    def _admits(self, person: Row[Any]) -> bool:
        return people.may(person, "lead") or not self.leads_only


def _user(person: Row[Any]) -> User:
    return Person(username=str(person.id), name=person.name, display_name=person.name)


class SignIn(LoginFormHandler):
    """The form at the door."""

    def _render(self, message: dict[str, str] | None = None) -> None:
        self.set_header("Cache-Control", "no-store")
        self.write(
            _SIGN_IN.render(
                programme=self.identity_provider.db.rules.name, fault=(message or {}).get("error"),
                xsrf=self.xsrf_form_html(), next=self.get_argument("next", default=self.base_url),
            )
        )  # fmt: skip

    @allow_unauthenticated
    def post(self) -> None:
        """Let somebody in, or say why not."""
        try:
            user = self.identity_provider.process_login_form(self)
        except Problem as fault:
            self.set_status(429 if fault.key == "sign-in-wait" else 401)
            zone = ZoneInfo(self.identity_provider.db.rules.time_zone)
            values = {**fault.values}
            if isinstance(until := values.get("until"), datetime):
                values["until"] = until.astimezone(zone).strftime("%H:%M")
            self._render({"error": sentence(Problem(fault.key, **values))})
            return
        self.current_user = user
        self.log.info("person %s signed in", user.username)
        self.identity_provider.set_login_cookie(self, user)
        self._redirect_safe(self.get_argument("next", default=self.base_url))


class SignOut(JupyterHandler):
    """Sign out; only a form asks for it, so that no picture on a page can."""

    @authenticated
    def post(self) -> None:
        """Forget who it was."""
        self.identity_provider.clear_login_cookie(self)
        self.redirect(self.settings["login_url"])


class First(JupyterHandler):
    """The address without a page leads to the first one."""

    @authenticated
    def get(self) -> None:
        """Go there."""
        self.redirect(url_path_join(self.base_url, "voila/render", f"{HOME}.ipynb"))


class Page(TornadoVoilaHandler):
    """A notebook as a page; what is none of ours is not found."""

    @authenticated
    async def get(self, path: str | None = None) -> None:
        """Show it."""
        if path not in self.settings["pages"]:
            raise HTTPError(404)
        await super().get(path)


class Assets(TemplateStaticFileHandler):
    """What a template of ours needs beside it, such as a font; any other address is not found."""

    def parse_url_path(self, path: str) -> str:
        """The file that an address names."""
        if not posixpath.normpath(path).startswith(f"{TEMPLATE}/static/"):
            raise HTTPError(404)
        return str(super().parse_url_path(path))


class Exporter(VoilaExporter):
    """Voila's, with the templates that `read_templates` read, in a sandbox."""

    templates: ClassVar[Mapping[str, str]] = {}

    def _create_environment(self) -> SandboxedEnvironment:
        plain = super()._create_environment()
        safe = SandboxedEnvironment(
            loader=DictLoader(self.templates), extensions=JINJA_EXTENSIONS, enable_async=self.enable_async
        )
        safe.globals.update(plain.globals)
        safe.filters.update(plain.filters)
        return safe


class Headers(OutputTransform):
    """The headers of every answer, whoever gives it: also a file, a fault, and what is not found."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Put in those that are not there."""
        for name, value in _HEADERS.items():
            if name not in headers:
                headers[name] = value
        return status_code, headers, chunk


class Line(ZMQChannelsWebsocketConnection):
    """The line between an open page and its kernel: it ends with the session, also while the page stays open."""

    def handle_incoming_message(self, incoming_msg: str) -> None:
        """Pass it on, if whoever opened the page may still come in."""
        page = self.websocket_handler
        if page.identity_provider.who(page) is None:
            page.close(1008, "signed out")
        else:
            super().handle_incoming_message(incoming_msg)


class Nowhere(JupyterHandler):
    """Any other address: our own page says that it is not there, with the same headers."""

    @authenticated
    def get(self) -> None:
        """Say so."""
        raise HTTPError(404)


class Desk(Voila):
    """Voila with our doors: sign-in, our pages, and nothing else that it would serve."""

    def setup_template_dirs(self) -> None:
        """Our page stands before Voila's own, and builds on it."""
        super().setup_template_dirs()
        self.template_paths = [
            str(_HERE / "templates" / "jumbe"),
            *collect_template_paths(["voila", "nbconvert"], TEMPLATE),
        ]
        Exporter.templates = read_templates(self.template_paths, ("index.html.j2", "404.html", "error.html"))
        notebook_renderer.VoilaExporter = Exporter  # it has no other way to be given one

    def init_settings(self) -> dict[str, Any]:
        """Voila's, with our pages."""
        pages = sorted(Path(self.root_dir).glob(PAGES))
        faults = SandboxedEnvironment(loader=DictLoader(Exporter.templates), autoescape=True)
        ours = {"pages": {page.name for page in pages}, "jinja2_env": faults, "voila_jinja2_env": faults}
        return {**super().init_settings(), **ours}

    def init_handlers(self) -> list[Any]:
        """Voila's without the tree, the files and the contents of a folder, which are nobody's business.

        And without its `/logout`, by which a picture on another page could sign somebody out: ours is `/sign-out`.
        """
        closed = ("/voila/tree", "/voila/files", "/voila/api/contents", "/voila/render", "/voila/templates", "/logout")
        kept = [
            one for one in super().init_handlers()
            if one[0] != self.server_url and not any(word in one[0] for word in closed)
        ]  # fmt: skip
        told = {
            "template_paths": self.template_paths,
            "config": self.config,
            "voila_configuration": self.voila_configuration,
        }
        return [
            (r".*%00.*", Nowhere),  # no file has such a name, and to ask for one is a fault
            (self.server_url, First),
            (url_path_join(self.server_url, "/sign-out"), SignOut),
            (url_path_join(self.server_url, r"/voila/render/([^/]+)"), Page, told),
            (url_path_join(self.server_url, r"/voila/templates/(.*)"), Assets),
            *kept,
            (r".*", Nowhere),
        ]

    def listen(self) -> None:
        """Listen, and believe the proxy in front which address a request came from."""
        self.app.add_transform(Headers)
        plain = self.app.listen
        self.app.listen = lambda port, address: plain(port, address, xheaders=True)
        super().listen()


class Kernels(AsyncMappingKernelManager):
    """The lab's kernels: each acts as who had it started."""

    async def start_kernel(self, **told: Any) -> str:
        """Start one; its id."""
        user = CallContext.get(CallContext.JUPYTER_HANDLER).current_user
        told["env"] = {**os.environ, **(told.get("env") or {}), PERSON: user.username}
        return str(await super().start_kernel(**told))


def _announce(handler: JupyterHandler, notebook: nbformat.NotebookNode, cwd: str) -> nbformat.NotebookNode:
    """Tell a notebook, before it runs, as whom it acts, and its page who that is and where else there is to go."""
    user = handler.current_user
    notebook.cells = [cell for cell in notebook.cells if ANALYST not in cell.metadata.get("tags", ())]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"import os; os.environ['{PERSON}'] = '{int(user.username)}'"))
    notebook.metadata["jumbe"] = {
        "person": user.name,
        "programme": handler.identity_provider.db.rules.name,
        "here": handler.request.path.rsplit("/", 1)[-1],
        "xsrf": handler.xsrf_token.decode(),
        "pages": [{"file": name, "title": _title(name)} for name in sorted(handler.settings["pages"])],
    }
    return notebook


def read_templates(paths: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """These templates, and each one that they build on, by its name, from the first of the folders that has it."""
    reader = SandboxedEnvironment(loader=FileSystemLoader(paths), extensions=[*JINJA_EXTENSIONS, "jinja2.ext.do"])
    found: dict[str, str] = {}
    unread = list(names)
    while unread:
        if (name := unread.pop()) not in found:
            found[name], _, _ = reader.loader.get_source(reader, name)
            unread += filter(None, meta.find_referenced_templates(reader.parse(found[name])))
    return found


def _title(name: str) -> str:
    """`01_case_groups.ipynb` is "Case groups"."""
    return name.removesuffix(".ipynb").partition("_")[2].replace("_", " ").capitalize()


def serve(db: Database, port: int) -> None:
    """Serve the desk on loopback until it is told to stop."""
    with _own_folder(db) as folder:
        pages = folder / "pages"
        private_files.folder(pages)
        for page in sorted(_NOTEBOOKS.glob(PAGES)):
            private_files.copy(page, pages / page.name)
        config = Config({
            "Voila": {
                "ip": LOOPBACK, "port": port, "port_retries": 0, "open_browser": False, "root_dir": str(pages),
                "identity_provider_class": Doorkeeper, "kernel_websocket_connection_class": Line, "connection_dir_root": str(folder), "config_file_paths": [],
                "tornado_settings": {"headers": _HEADERS, "websocket_max_message_size": LARGEST}, "log_level": "WARN",
            },
            "VoilaConfiguration": {
                "prelaunch_hook": _announce, "strip_sources": True, "show_tracebacks": False, "template": TEMPLATE,
                "theme": "light", "allow_template_override": "NO", "allow_theme_override": "NO",
            },
            # One that was started again would know nothing of its page, and clear it away without a word.
            "KernelManager": {"transport": "ipc", "autorestart": False},
            "MappingKernelManager": {"cull_interval": LOOK_S, "cull_idle_timeout": LEFT_S, "cull_connected": False},
        })  # fmt: skip
        Desk.launch_instance(argv=[], config=config)


def serve_lab(db: Database, port: int) -> None:
    """Serve the notebooks as notebooks to leads, on loopback."""
    from jupyter_server.serverapp import ServerApp
    from jupyterlab.handlers.announcements import NeverCheckForUpdate

    class Lab(ServerApp):
        """Jupyter's server, with our headers on every answer."""

        name = ServerApp.name

        def init_webapp(self) -> None:
            super().init_webapp()
            self.web_app.add_transform(Headers)

    with _own_folder(db) as folder:
        quiet = folder / "jupyter_config_dir" / "labconfig"
        private_files.folder(quiet)
        with private_files.create(quiet / "page_config.json") as file:
            file.write(json.dumps({"disabledExtensions": {_NEWS: True}}).encode())
        config = Config({
            "ServerApp": {
                "ip": LOOPBACK, "port": port, "port_retries": 0, "open_browser": False, "root_dir": str(_copies()),
                "identity_provider_class": Doorkeeper, "kernel_websocket_connection_class": Line, "terminals_enabled": False, "allow_root": True,
                "tornado_settings": {"headers": _HEADERS}, "trust_xheaders": True, "log_level": "WARN",
                "default_url": "/lab", "kernel_manager_class": Kernels,
                "jpserver_extensions": {"jupyterlab": True, "voila.server_extension": False, "notebook": False},
            },
            "KernelManager": {"transport": "ipc"},
            "MappingKernelManager": {"cull_interval": LOOK_S, "cull_idle_timeout": LAB_LEFT_S, "cull_connected": False},
            "LabApp": {
                "news_url": None, "check_for_updates_class": NeverCheckForUpdate, "extension_manager": "readonly",
            },
            "FileContentsManager": {"pre_save_hook": pre_save},
            "FileCheckpoints": {"checkpoint_dir": str(folder / "checkpoints")},
        })  # fmt: skip
        Lab.launch_instance(argv=[], config=config)


def _copies() -> Path:
    """The folder `notebooks` here with a copy of each notebook that is not there yet: what an analyst writes stays."""
    folder = Path("notebooks").resolve()
    private_files.folder(folder)
    private_files.tighten(folder.glob("*.ipynb"))
    for notebook in sorted(_NOTEBOOKS.glob("*.ipynb")):
        if not (folder / notebook.name).exists():
            private_files.copy(notebook, folder / notebook.name)
    return folder


def someone_signs_in(db: Database, *, leads_only: bool) -> None:
    """Keep the door shut while nobody has a key to it: raises Misconfigured.  Ask this first."""
    with db.reading() as tx:
        known = store.list_all(tx)
    if not any(people.may(person, "lead") or not leads_only for person in known):
        who = "no lead" if leads_only else "nobody"
        raise Misconfigured(
            [f"{who} can sign in at the desk yet: give somebody a password by 'jumbe desk password PHONE'"]
        )
    Doorkeeper.db, Doorkeeper.leads_only = db, leads_only
    Doorkeeper.tries = passwords.Tries(lambda: datetime.now(UTC))


@contextmanager
def _own_folder(db: Database) -> Iterator[Path]:
    """A folder of our own for everything that Jupyter would look for, or leave, in somebody's home.

    The kernels get the address of the database as it is from anywhere.  What Jupyter and the kernels write, here and
    elsewhere, is its owner's alone: a notebook that is saved, what an analyst's cell writes.
    """
    with private_files.for_libraries(), tempfile.TemporaryDirectory(prefix="jumbe-desk-") as name:
        folder = Path(name)
        for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            private_files.folder(folder / variable.lower())
            os.environ[variable] = str(folder / variable.lower())
        os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
        os.environ[PERSON] = ""  # a kernel that was told of nobody opens nothing
        if db.file is not None:
            os.environ["DATABASE_URL"] = f"sqlite:///{Path(db.file).resolve()}"
        if config := os.environ.get("JUMBE_CONFIG"):
            os.environ["JUMBE_CONFIG"] = str(Path(config).resolve())
        yield folder


_NEWS: Final = "@jupyterlab/apputils-extension:announcements"


_HERE: Final = Path(__file__).parent


_NOTEBOOKS: Final = _HERE.parent


_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' ws: wss: data: blob:; worker-src 'self' blob:; form-action 'self'; "
    "base-uri 'self'; frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


_SIGN_IN: Final = SandboxedEnvironment(autoescape=True).from_string(
    (_HERE / "templates" / "sign_in.html").read_text(encoding="utf-8")
)
