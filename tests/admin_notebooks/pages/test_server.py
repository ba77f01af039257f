"""The desk's server from outside: who comes in, what is shut, and that a page runs as whoever signed in."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.parts import library
from tests.patience import HANG_S

library("voila")
import websocket
from jinja2.exceptions import SecurityError

from admin_notebooks.pages import server
from admin_notebooks.pages.passwords import hashed
from bot.demo import make
from storage import audit
from storage.contacts import groups, people
from storage.contacts import passwords as store
from storage.database import Database
from storage.errors import Misconfigured
from storage.upkeep import migrate
from tests import desks
from tests.desks import CLI, PASSWORD, Browser, Panel, desk

LEAD, VIEWER = "233244000001", "233244000002"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A database in which a lead and a viewer have passwords."""
    folder = tmp_path_factory.mktemp("desk")
    db = Database(f"sqlite:///{folder}/jumbe.db")
    migrate.upgrade(db)
    with db.transaction() as tx:
        for name, phone, role in (("Amina Yusuf", LEAD, "lead"), ("Kofi", VIEWER, "viewer")):
            row = people.add(tx, name, phone, role, by=CLI)
            store.keep(tx, row, hashed(PASSWORD, row), by=CLI)
    db.close()
    return folder


@pytest.fixture(scope="module")
def served(place):
    with desk(place) as address:
        yield address


SHUT = ["/", "/voila/render/00_start_here.ipynb"]


@pytest.mark.parametrize("path", SHUT)
def test_whoever_did_not_sign_in_is_asked_to(served, path):
    status, headers, body = Browser(served).get(path)
    assert (status, headers["Location"].partition("?")[0]) == (302, "/login") and "Amina" not in body


NOT_THERE = [
    "/api/contents", "/api/contents/server.py", "/api/kernels", "/api/sessions", "/api/terminals", "/api/status",
    "/voila/tree", "/voila/files/server.py", "/voila/files/00_start_here.ipynb", "/voila/files/../../jumbe.db",
    "/voila/api/contents", "/voila/render/06_sms_lab.ipynb", "/voila/render/../server.py",
    "/voila/render/%2e%2e%2fjumbe.db", "/lab", "/tree", "/nbconvert/html/00_start_here.ipynb", "/jumbe.db",
]  # fmt: skip


def test_what_is_no_page_is_not_there_for_anybody(served):
    inside = Browser(served)
    assert inside.sign_in("Kofi", PASSWORD)[0] == 302
    for browser in (Browser(served), inside):
        found = {path: browser.get(path)[0] for path in NOT_THERE}
        assert set(found.values()) <= {302, 403, 404}, found
    assert {path: inside.get(path)[0] for path in NOT_THERE if inside.get(path)[0] not in (403, 404)} == {}


def test_a_page_that_is_not_there_says_so_and_leads_back(served):
    inside = Browser(served)
    inside.sign_in("Kofi", PASSWORD)
    status, _, page = inside.get("/voila/render/07_sql_cookbook.ipynb")
    assert status == 404 and "There is no such page" in page and 'href="/"' in page
    assert "//cdn" not in page


def test_a_token_in_the_address_or_a_header_opens_nothing(served):
    browser = Browser(served)
    assert browser.get("/voila/render/00_start_here.ipynb?token=")[0] == 302
    assert browser.get("/voila/render/00_start_here.ipynb", Authorization="token x")[0] == 302
    assert browser.get("/voila/render/00_start_here.ipynb", Cookie="username-127-0-0-1=1:0")[0] == 302


def test_a_wrong_password_says_so_and_a_form_from_elsewhere_is_refused(served):
    status, _, body = Browser(served).sign_in("Amina Yusuf", "a guess a guess")
    assert status == 401 and "do not belong together" in body and "a guess" not in body
    assert Browser(served).post("/login", name="Amina Yusuf", password=PASSWORD)[0] == 403, "no token of the form"
    status, _, body = Browser(served).sign_in("<script>alert(1)</script>", "a guess a guess")
    assert status == 401 and "<script>alert" not in body


def test_every_answer_says_what_a_browser_may_do_with_it(served):
    _, headers, _ = Browser(served).get("/login")
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")


def test_a_page_and_the_lab_say_it_too_and_so_does_what_is_not_there(served, place):
    inside = Browser(served)
    inside.sign_in("Kofi")
    told = {
        path: inside.get(path)[1] for path in ("/voila/render/00_start_here.ipynb", "/voila/render/x.ipynb", "/nowhere")
    }
    with desk(place, "--lab") as address:
        lead = Browser(address)
        lead.sign_in("Amina Yusuf")
        told |= {path: lead.get(path)[1] for path in ("/lab", "/api/contents", "/files/00_start_here.ipynb")}
    for path, headers in told.items():
        assert "default-src" in (headers["Content-Security-Policy"] or ""), path
        assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
        assert headers["Referrer-Policy"] == "same-origin"


def test_an_address_that_is_built_wrong_is_not_there_and_every_answer_has_our_headers(served):
    """`/logout` and `/voila/templates/x` were faults of the server, and files and faults came without a word to browsers."""
    inside = Browser(served)
    inside.sign_in("Kofi")
    misshapen = ["/logout", "/logout/", "/voila/templates/", "/voila/templates/x", "/voila/templates/lab/x", "/voila/templates/../static/x",
                 "/voila/templates/lab/static/", "/voila/templates/lab/static/../../../x", "/voila/templates/{{7*7}}/static/x",
                 *(f"{folder}{name}" for folder in ("/voila/static/", "/voila/templates/lab/static/", "/voila/labextensions/", "/voila/api/themes/")
                   for name in ("%00", "..%2f..%2fx", "x" * 300, "%ff"))]  # fmt: skip
    for path in misshapen:
        status, headers, page = inside.get(path)
        assert status in (400, 403, 404) and "Traceback" not in page, (path, status, page[:500])
        assert headers["X-Frame-Options"] == "DENY" and "default-src" in headers["Content-Security-Policy"], path
    assert inside.get("/voila/render/00_start_here.ipynb")[0] == 200, (
        "a picture whose address is /logout signs nobody out"
    )
    there = set(
        re.findall(r'"(/voila/(?:templates|static)/[^"?]+)', inside.get("/voila/render/00_start_here.ipynb")[2])
    )
    assert there
    for path in [*there, "/voila/static/nothing", "/voila/labextensions/nothing", "/voila/api/themes/nothing"]:
        _, headers, _ = inside.get(path)
        assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY"), path


def test_a_template_that_is_overwritten_while_the_desk_runs_is_never_run(place, tmp_path):
    """The sign-in page was read and run from its file at each look at it."""
    ours = Path(server.__file__).parents[2]
    for package in ("admin_notebooks", "bot", "storage"):
        shutil.copytree(ours / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(place / "jumbe.db", here)
    hostile = "{{ 7*7 }}ran"
    is_copy = f"import admin_notebooks; assert admin_notebooks.__file__.startswith({str(tmp_path)!r})"
    with desk(here, code=is_copy, PYTHONPATH=str(tmp_path)) as address:
        inside = Browser(address)
        inside.sign_in("Kofi")
        before = {path: inside.get(path)[::2] for path in ("/login", "/nowhere")}
        for template in (tmp_path / "admin_notebooks" / "pages" / "templates").rglob("*.*"):
            template.write_text(hostile, encoding="utf-8")
        for name in ("index.html.j2", "404.html", "error.html"):
            (here / name).write_text(hostile, encoding="utf-8")
        for path, (status, page) in before.items():
            now = inside.get(path)[::2]
            assert now[0] == status and "49ran" not in now[1] and len(now[1]) == len(page), (path, now)
        status, _, page = inside.get("/voila/render/00_start_here.ipynb")
        assert status == 200 and "Kofi" in page and "Sign out" in page and "49ran" not in page


def test_no_template_reaches_what_python_is_made_of():
    for environment in (server.Exporter(template_name="lab").environment, server._SIGN_IN.environment):
        with pytest.raises(SecurityError):
            environment.from_string("{{ ''.__class__.__mro__[1].__subclasses__() }}").render()


def test_a_cookie_is_for_the_server_alone(served):
    browser = Browser(served)
    headers = browser.sign_in("Amina Yusuf", PASSWORD)[1]
    cookie = next(c for c in headers.get_all("Set-Cookie") if c.startswith("username"))
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "expires" in cookie.lower()


def test_after_signing_in_nobody_is_sent_to_another_place(served):
    browser = Browser(served)
    form = browser.get("/login?next=https://elsewhere.example/")[2]
    token = re.search(r'_xsrf" value="([^"]+)', form)[1]
    for there in ("https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example"):
        where = browser.post(f"/login?{urlencode({'next': there})}", name="Kofi", password=PASSWORD, _xsrf=token)[1]
        assert "elsewhere" not in (where["Location"] or "").partition("/")[0] and where["Location"].startswith("/"), (
            where
        )
        assert not where["Location"].startswith("//")


def test_a_page_is_made_for_whoever_signed_in_and_asks_nobody_else_for_anything(served):
    browser = Browser(served)
    browser.sign_in("Kofi", PASSWORD)
    assert browser.get("/")[1]["Location"] == "/voila/render/00_start_here.ipynb"
    status, _, page = browser.get("/voila/render/00_start_here.ipynb")
    assert status == 200 and "Kofi" in page and "Sign out" in page
    fetched = re.findall(r"""(?:src|href)=["'](https?:)?//[^"']+""", page)
    assert fetched == [] and "Traceback" not in page
    assert browser.post("/sign-out")[0] == 403, "only our own form signs out"
    token = re.search(r'_xsrf" value="([^"]+)', page)[1]
    assert browser.post("/sign-out", _xsrf=token)[0] == 302
    assert browser.get("/voila/render/00_start_here.ipynb")[0] == 302


def test_whose_access_ends_is_out_at_once(served, place):
    browser = Browser(served)
    db = Database(f"sqlite:///{place}/jumbe.db")
    with contextlib.closing(db):
        with db.transaction() as tx:
            row = people.add(tx, "Esi Mensah", "233244000009", "viewer", by=CLI)
            store.keep(tx, row, hashed(PASSWORD, row), by=CLI)
        browser.sign_in("Esi Mensah", PASSWORD)
        assert browser.get("/")[1]["Location"].endswith("00_start_here.ipynb")
        with db.transaction() as tx:
            store.keep(tx, people.by_id(tx, row.id), hashed("a new one of hers", row), by=CLI)
        assert browser.get("/")[1]["Location"].startswith("/login"), "another password"
        browser.sign_in("Esi Mensah", "a new one of hers")
        with db.transaction() as tx:
            people.remove(tx, people.by_id(tx, row.id), by=CLI)
        assert browser.get("/")[1]["Location"].startswith("/login"), "no access"


def test_a_page_presses_the_buttons_of_its_panel_and_runs_nothing(served, tmp_path):
    lead = Browser(served)
    lead.sign_in("Amina Yusuf")
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    with Panel(lead, "00_start_here") as page:
        page.send(
            "execute_request", code=code, silent=False, store_history=False, user_expressions={}, allow_stdin=False
        )
        assert page.ask("who")["name"] == "Amina Yusuf"
        assert "no such button" in page.ask("__class__")
    assert not (tmp_path / "ran").exists()
    for cookie, origin in (("", served), (lead.cookie, "https://elsewhere.example")):
        address = f"{served.replace('http', 'ws', 1)}/api/kernels/{page.kernel}/channels"
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            websocket.create_connection(address, cookie=cookie, origin=origin, timeout=HANG_S)


@pytest.mark.parametrize("ends", ["access", "password"])
def test_a_page_that_is_open_does_nothing_more_for_whose_session_ended(served, place, ends):
    with contextlib.closing(Database(f"sqlite:///{place}/jumbe.db")) as db:
        with db.transaction() as tx:
            row = people.add(tx, "Efua", f"23324400001{len(ends)}", "lead", by=CLI)
            store.keep(tx, row, hashed(PASSWORD, row), by=CLI)
        inside = Browser(served)
        inside.sign_in(row.phone)
        with Panel(inside, "01_case_groups") as page:
            mark = page.ask("create", short="mine", name="Mine")["mark"]
            with db.transaction() as tx:
                if ends == "access":
                    people.remove(tx, people.by_id(tx, row.id), by=CLI)
                else:
                    store.keep(tx, row, hashed("a new one of hers", row), by=CLI)
            with pytest.raises(ConnectionError):
                page.ask("confirm", mark=mark)
        with db.reading() as tx:
            assert groups.find(tx, "mine") is None


def test_an_open_notebook_of_the_lab_ends_with_the_session_too(place, tmp_path):
    with desk(place, "--lab") as address, contextlib.closing(Database(f"sqlite:///{place}/jumbe.db")) as db:
        with db.transaction() as tx:
            row = people.add(tx, "Abla", "233244000021", "lead", by=CLI)
            store.keep(tx, row, hashed(PASSWORD, row), by=CLI)
        lead = Browser(address)
        lead.sign_in("Abla")
        lead.get("/lab")
        kernel = json.loads(lead.send("/api/kernels", b"{}")[2])["id"]
        line = websocket.create_connection(
            f"{address.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels",
            cookie=lead.cookie,
            origin=address,
            timeout=HANG_S,
        )
        with contextlib.closing(line):
            run = {"silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
            line.send(desks.message("execute_request", code=f"open({str(tmp_path / 'first')!r}, 'w')", **run))
            desks.until((tmp_path / "first").exists, "the lab runs code")
            with db.transaction() as tx:
                store.keep(tx, row, hashed("a new one of hers", row), by=CLI)
            line.send(desks.message("execute_request", code=f"open({str(tmp_path / 'second')!r}, 'w')", **run))
            assert [
                heard for heard in desks.hear(line) if heard["msg_type"] == "execute_input" and "second" in str(heard)
            ] == []
            line.shutdown()
        assert not (tmp_path / "second").exists()


def test_with_nobody_who_could_sign_in_it_does_not_start(tmp_path, db):
    for leads_only in (False, True):
        with pytest.raises(Misconfigured, match="jumbe desk password"):
            server.someone_signs_in(db, leads_only=leads_only)


def test_the_lab_is_for_leads_alone_and_on_this_machine(place):
    with desk(place, "--lab") as address:
        assert Browser(address).get("/lab")[1]["Location"].startswith("/login")
        assert Browser(address).get("/api/contents")[0] == 403
        assert Browser(address).get("/api/contents?token=")[0] == 403
        status, _, told = Browser(address).sign_in("Kofi", PASSWORD)
        assert status == 401 and "for leads" in told
        lead = Browser(address)
        assert lead.sign_in("Amina Yusuf", PASSWORD)[0] == 302
        names = {one["name"] for one in json.loads(lead.get("/api/contents")[2])["content"]}
        assert "00_start_here.ipynb" in names and not any(name.endswith(".py") for name in names)
        assert lead.get("/api/terminals")[0] == 404


# ------------------------------------------------------------------------------------------ its kernels

SHORT = "from admin_notebooks.pages import server\nserver.LEFT_S, server.LOOK_S = 2, 1"


@pytest.mark.processes
def test_on_postgresql_a_page_comes_up_and_acts_and_when_it_is_left_its_kernel_and_its_connection_end(
    postgres, tmp_path
):
    with postgres.database(upgraded=False) as there:
        with contextlib.closing(Database(there)) as db:
            make(db)
            desks.with_password(db, desks.LEAD)
            with db.reading() as tx:
                person, head = people.person(tx, desks.LEAD).id, audit.head(tx)
        connections = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{postgres_name(there)}' AND pid <> pg_backend_pid()"
        with desk(tmp_path, code=SHORT, DATABASE_URL=there) as address:
            inside = Browser(address)
            inside.sign_in("Lena")
            before = postgres.count(connections)
            with Panel(inside, "01_case_groups") as page:
                adding = page.ask("add", short="mothers", typed="p-101")
                assert adding["says"] == "Add 1 case to New mothers"
                assert (
                    page.ask("confirm", mark=adding["mark"])["says"]
                    == "1 case added to New mothers. It has 26 cases now."
                )
                (kernel,) = desks.kernels_of(address)
                assert postgres.count(connections) > before
                assert inside.get("/voila/render/00_start_here.ipynb")[0] == 200
                desks.until(lambda: desks.kernels_of(address) == [kernel], "the kernel of a later page, which was left")
                assert page.ask("who")["name"], "a page that is open keeps its kernel"
            desks.until(lambda: not desks.kernels_of(address), "the kernel of a page that was left")
            desks.until(lambda: postgres.count(connections) == before, "its connection")
        with contextlib.closing(Database(there)) as db, db.reading() as tx:
            done = [line for line in audit.list_last(tx, 9) if line.id > head.id]
            assert ("groups.add", person, "desk") in [(line.verb, line.person_id, line.door) for line in done]


def postgres_name(address):
    return address.rpartition("/")[2].partition("?")[0]


def test_a_page_that_never_came_up_leaves_no_kernel(place):
    """Somebody who looks at the address and goes away at once, as a link's preview does with a session."""
    with desk(place, code=SHORT) as address:
        inside = Browser(address)
        inside.sign_in("Kofi")
        assert inside.get("/voila/render/00_start_here.ipynb")[0] == 200
        assert len(desks.kernels_of(address)) == 1
        desks.until(lambda: not desks.kernels_of(address), "the kernel of a page that nobody opened")
