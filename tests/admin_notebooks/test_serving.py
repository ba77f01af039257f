"""The desk's server from outside: who comes in, what is shut, and that a page runs as whoever signed in."""

import contextlib
import http.cookiejar
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode

import pytest
from openpyxl import Workbook

from tests.parts import library

library("voila")

from admin_notebooks import serve
from admin_notebooks.passwords import hashed
from bot.demo import SUPERVISOR, make
from storage import audit, contacts, groups, migrate, people
from storage import passwords as store
from storage.audit import Actor
from storage.contacts import Wanted
from storage.database import Database
from storage.errors import Misconfigured
from tests.processes import ROOT, bare_environment, free_port
from tests.rehearsal import CHROMIUM, QUIET

CLI = Actor("cli", None, "test")
LEAD, VIEWER = "233244000001", "233244000002"
HOSTILE = "<img src=x onerror=alert(1)>"
PASSWORD = "four words of hers"


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


@contextlib.contextmanager
def desk(folder, *words, **settings):
    """`jumbe desk` as a process; its address."""
    port = free_port()
    env = (
        bare_environment()
        | {"DATABASE_URL": "sqlite:///jumbe.db", "JUMBE_SIMULATOR": "1", "PYTHONPATH": str(ROOT)}
        | settings
    )
    command = [sys.executable, "-W", "ignore", "-m", "bot", "desk", "--port", str(port), *words]
    with (folder / "desk.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=20).read()
                break
            assert process.poll() is None and time.monotonic() < until, (folder / "desk.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def served(place):
    with desk(place) as address:
        yield address


class Browser:
    """A browser without a screen: cookies, forms, and where it was sent."""

    def __init__(self, address):
        self.address = address
        self.jar = CookieJar(http.cookiejar.DefaultCookiePolicy())
        handlers = [urllib.request.HTTPCookieProcessor(self.jar), _Stay]
        self.opener = urllib.request.build_opener(*handlers)

    def get(self, path, **headers):
        return self._open(urllib.request.Request(self.address + path, headers=headers))

    def post(self, path, **fields):
        return self._open(urllib.request.Request(self.address + path, urlencode(fields).encode()))

    def sign_in(self, name, password):
        form = self.get("/login")[2]
        return self.post("/login", name=name, password=password, _xsrf=re.search(r'_xsrf" value="([^"]+)', form)[1])

    def _open(self, request):
        try:
            answer = self.opener.open(request, timeout=60)
        except urllib.error.HTTPError as told:
            answer = told
        return answer.status, answer.headers, answer.read().decode()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_told):
        return None


SHUT = ["/", "/voila/render/00_start_here.ipynb"]


@pytest.mark.parametrize("path", SHUT)
def test_whoever_did_not_sign_in_is_asked_to(served, path):
    status, headers, body = Browser(served).get(path)
    assert (status, headers["Location"].partition("?")[0]) == (302, "/login") and "Amina" not in body


NOT_THERE = [
    "/api/contents", "/api/contents/serve.py", "/api/kernels", "/api/sessions", "/api/terminals", "/api/status",
    "/voila/tree", "/voila/files/serve.py", "/voila/files/00_start_here.ipynb", "/voila/files/../../jumbe.db",
    "/voila/api/contents", "/voila/render/05_membership_audit.ipynb", "/voila/render/../serve.py",
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
    status, _, page = inside.get("/voila/render/05_membership_audit.ipynb")
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


def test_with_nobody_who_could_sign_in_it_does_not_start(tmp_path, db):
    for leads_only in (False, True):
        with pytest.raises(Misconfigured, match="jumbe desk password"):
            serve.someone_signs_in(db, leads_only=leads_only)


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


@pytest.fixture
def rehearsed(tmp_path):
    """A desk on the demo's programme, with a name in it that is meant to run; its address and its database."""
    with contextlib.closing(Database(f"sqlite:///{tmp_path}/jumbe.db")) as db:
        make(db)
        with db.transaction() as tx:
            (ama,) = contacts.save(tx, [Wanted(None, {"external_id": "hostile", "name": HOSTILE})], by=CLI)
            groups.add(tx, groups.group(tx, "anc").id, [ama], by=CLI)
            person = people.person(tx, SUPERVISOR)
            store.keep(tx, person, hashed(PASSWORD, person), by=CLI)
        with desk(tmp_path) as address:
            yield address, db


@pytest.mark.processes
def test_a_journey_through_case_groups(rehearsed):
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip("there is no chromium at /usr/bin/chromium")
    playwright = library("playwright.sync_api", "pip install playwright")
    address, db = rehearsed
    hosts, faults = set(), []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(60_000)
        page.on("request", lambda r: hosts.add(r.url.split("/")[2]) if r.url.startswith(("http", "ws")) else None)
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.goto(address)
        page.fill("[name=name]", "Samuel")
        page.fill("[name=password]", PASSWORD)
        page.click("button")
        page.click("text=Case groups")
        page.wait_for_selector(".jd table")
        assert page.locator(".card").all_inner_texts() == ["Antenatal care\n31\nanc", "TB treatment\n20\ntb"]  # his own
        assert page.locator("td >> text=onerror").count() == 1
        assert page.locator("img[src=x]").count() == 0

        page.fill("textarea", "nobody")
        page.press("textarea", "Enter")
        page.wait_for_selector(".says.bad >> text=No case has nobody")
        page.fill("textarea", "p-141")
        page.press("textarea", "Enter")
        page.wait_for_selector(".says.good >> text=1 case added to Antenatal care. It has 32 cases now.")
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"

        page.click("text=Upload a sheet")
        sheet = {"name": "june.xlsx", "mimeType": "x", "buffer": workbook("p-142", "p-999", None, "p-143", "p-142")}
        page.set_input_files("input[type=file]", files=[sheet])
        page.wait_for_selector("text=Nothing has been changed yet.")
        assert page.locator("tbody td:first-child").all_inner_texts() == ["3", "6", "2", "5"]  # problems first
        page.dblclick("text=Add 2 cases to Antenatal care")
        page.wait_for_selector(".says.good >> text=2 cases added to Antenatal care. It has 34 cases now.")
        page.click(".says.good >> text=Undo")
        page.wait_for_selector(".says.good >> text=2 cases out of Antenatal care (anc) again. It has 32 cases now.")
        too_large = {"name": "big.csv", "mimeType": "x", "buffer": b"x" * (8 * 2**20 + 1)}
        page.set_input_files("input[type=file]", files=[too_large])
        page.wait_for_selector("text=a page takes 8 MB")

        page.click("text=History")
        page.locator("tbody tr").filter(has_text="added 1 case").first.get_by_text("Undo").dblclick()
        page.wait_for_selector(".says.good >> text=1 case out of Antenatal care (anc) again. It has 31 cases now.")

        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("text=Sign out")
        page.wait_for_selector("text=Your name or phone number")
        browser.close()
    assert hosts == {address.removeprefix("http://")}
    assert faults == []
    with db.reading() as tx:
        person = people.person(tx, SUPERVISOR).id
        done = [line for line in audit.list_last(tx, 6) if line.verb.startswith("groups.")]
    assert [(line.verb, line.person_id, line.door) for line in done] == [
        ("groups.remove", person, "desk"), ("groups.remove", person, "desk"), ("groups.add", person, "desk"), ("groups.add", person, "desk")
    ]  # fmt: skip


def workbook(*identifiers):
    book = Workbook()
    for cell in ("case_identifier", *identifiers):
        book.active.append([cell])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()
