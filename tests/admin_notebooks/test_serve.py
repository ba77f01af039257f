"""The door of the desk: who comes in, what stays shut, and a whole journey through a real browser."""

import contextlib
import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlencode

import pytest
from openpyxl import Workbook

from bot.demo import SUPERVISOR, make
from storage import audit, contacts, groups, passwords, people
from storage.contacts import Wanted
from storage.database import Database
from tests.desk import library
from tests.pages import ROOT
from tests.rehearsal import CHROMIUM, QUIET
from tests.world import TEST

argon2 = library("argon2")
library("voila")
from admin_notebooks import serve  # noqa: E402

WORDS = "three green bottles"
HOSTILE = "<img src=x onerror=alert(1)>"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def with_password(db, person, words=WORDS):
    with db.transaction() as tx:
        passwords.keep(tx, person, CHEAP.hash(words), by=TEST)
    return person


# ------------------------------------------------------------------------------------------ the doorkeeper


class Ticks:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def keeper(db, world):
    made = serve.Doorkeeper(db, Ticks(), CHEAP)
    with_password(db, world.person("Esi", "233241110001"))
    return made


def let_in(keeper, name="Esi", words=WORDS, address="10.0.0.1"):
    row = keeper.let_in(name, words, address)
    return row.name if row is not None else None


def test_a_name_or_number_and_its_password_come_in_and_are_written_down(keeper, db):
    assert let_in(keeper) == let_in(keeper, "+233 24 111 0001") == let_in(keeper, "esi") == "Esi"
    with db.reading() as tx:
        assert [line.verb for line in audit.list_last(tx, 3)] == ["people.sign-in"] * 3


@pytest.mark.parametrize(
    ("name", "words"), [("Esi", "three green bottle"), ("Esi", ""), ("nobody", WORDS), ("", ""), ("Es", WORDS)]
)
def test_whatever_does_not_fit_stays_out(keeper, name, words):
    assert let_in(keeper, name, words) is None


def test_after_five_wrong_passwords_a_name_waits_a_quarter_of_an_hour(keeper):
    for _ in range(5):
        assert let_in(keeper, words="guess") is None
    assert keeper.has_to_wait("ESI", "10.9.9.9")
    assert let_in(keeper, address="10.9.9.9") is None
    keeper._clock.now += 901
    assert let_in(keeper) == "Esi"


def test_whoever_tries_many_names_from_one_address_waits_too(keeper):
    for n in range(20):
        let_in(keeper, f"name {n}", "guess")
    assert let_in(keeper) is None
    assert let_in(keeper, address="10.0.0.2") == "Esi"


def test_of_two_with_one_name_the_password_decides_and_if_it_is_one_too_nobody(keeper, db, world):
    with_password(db, world.person("Esi", "233241110002"), "four green bottles")
    assert let_in(keeper, words="four green bottles") == "Esi"
    with_password(db, world.person("Esi", "233241110003"))
    assert let_in(keeper) is None
    assert let_in(keeper, "233241110003") == "Esi"


def test_whose_access_has_ended_is_known_no_more(keeper, db, world):
    world.person("Efua", "233241110009")
    person = keeper.let_in("Esi", WORDS, "10.0.0.1")
    assert keeper.is_known(str(person.id))
    with db.transaction() as tx:
        people.remove(tx, people.by_id(tx, person.id), by=TEST)
    assert not keeper.is_known(str(person.id))
    assert let_in(keeper) is None
    assert not any(keeper.is_known(forged) for forged in ("", "x", "999", "1 or 1"))


def test_a_notebook_is_told_who_is_there_before_anything_of_it_runs():
    nbformat = library("nbformat")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])

    def handler(name):
        return type("H", (), {"current_user": type("U", (), {"username": name})})

    made = serve.introduce(handler("7"), notebook=book, cwd="/")
    assert made.cells[0].source == "import os; os.environ['DESK_PERSON'] = '7'"
    for forged in ("", "7'; import os #", "-1", "7\n"):
        with pytest.raises(PermissionError):
            serve.introduce(handler(forged), notebook=book, cwd="/")


# ------------------------------------------------------------------------------------------ the command


def test_the_desk_does_not_open_while_nobody_can_sign_in(jumbe):
    status, _, err = jumbe("desk", "--port", "1")
    assert (status, err) == (
        2,
        "jumbe: nobody can sign in at the desk: give somebody a password with 'jumbe desk password PHONE'\n",
    )


def test_a_password_comes_by_a_pipe_is_long_enough_and_can_be_taken_away(jumbe, monkeypatch):
    jumbe("people", "add", "--name", "Esi", "--phone", "233241110001", "--role", "lead")

    def given(words, *more):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{words}\n"))
        return jumbe("desk", "password", "233241110001", *more)

    assert given("too short")[0] == 2
    assert given(WORDS)[1] == "Esi signs in at the desk as Esi, or by the number 233241110001\n"
    assert given("", "--forget")[1] == "Esi cannot sign in any more\n"
    assert given("", "--forget")[1] == "Esi had no password\n"
    assert "registered" in jumbe("desk", "password", "233241119999")[2]


def test_jupyterlab_stays_on_this_machine_and_saves_nothing_that_it_showed(tmp_path):
    told = serve.lab_arguments(tmp_path, 8888)
    assert "--ServerApp.ip=127.0.0.1" in told
    assert "--ContentsManager.pre_save_hook=admin_notebooks.saving.pre_save" in told
    assert "--LabApp.news_url=" in told
    assert not any("token" in word or "password" in word for word in told)  # its own token stays


# ------------------------------------------------------------------------------------------ the server


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A desk that serves the demo's programme: its port and its database."""
    path = tmp_path_factory.mktemp("desk") / "demo.db"
    db = Database(f"sqlite:///{path}")
    make(db)
    with db.transaction() as tx:
        (ama,) = contacts.save(tx, [Wanted(None, {"external_id": "hostile", "name": HOSTILE})], by=TEST)
        groups.add(tx, groups.group(tx, "anc").id, [ama], by=TEST)
        person = people.person(tx, SUPERVISOR)
    with_password(db, person)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "DATABASE_URL": f"sqlite:///{path.name}", "PYTHONPATH": str(ROOT)}
    log = path.with_suffix(".log").open("wb")
    command = [sys.executable, "-m", "bot", "desk", "--port", str(port)]
    server = subprocess.Popen(command, cwd=path.parent, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        assert server.poll() is None, path.with_suffix(".log").read_text()
        yield port, db
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        log.close()
        db.close()


def ask(port, path, method="GET", body=None, **headers):
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        line.request(method, path, body, headers)
        answer = line.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")
    finally:
        line.close()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 302), ("/voila/tree/", 302), ("/voila/render/01_case_groups.ipynb", 302), ("/voila/render/../../etc/passwd", 302),
        ("/voila/files/01_case_groups.ipynb", 403), ("/voila/files/../demo.db", 403), ("/voila/api/contents", 403),
        ("/api/kernels", 404), ("/api/contents", 404), ("/api/terminals", 404), ("/lab", 404), ("/?token=", 302),
    ],
)  # fmt: skip
def test_nothing_is_open_to_whoever_has_not_signed_in(desk, path, status):
    found, headers, _ = ask(desk[0], path)
    assert found == status
    assert status != 302 or headers["Location"].startswith("/login?next=")


@pytest.mark.processes
def test_the_page_to_sign_in_has_its_headers_and_asks_no_other_host(desk):
    status, headers, page = ask(desk[0], "/login")
    assert status == 200
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"(src|href)=", page)


@pytest.mark.processes
def test_a_wrong_password_says_only_that_it_does_not_fit_and_a_forged_form_is_refused(desk):
    _, headers, page = ask(desk[0], "/login")
    proof = re.search(r'name="_xsrf" value="([^"]+)"', page)[1]
    cookie = headers["Set-Cookie"].split(";")[0]
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    def post(name, words, **more):
        return ask(
            desk[0], "/login", "POST", urlencode({"name": name, "password": words, **more}), Cookie=cookie, **form
        )

    assert post("Samuel", WORDS)[0] == 403  # without the proof of our own page
    nobody, wrong = post("Nobody", "x", _xsrf=proof), post("Lena", "x", _xsrf=proof)
    assert nobody[0] == wrong[0] == 401
    assert "Name and password do not fit." in nobody[2]
    for _ in range(5):
        last = post("Kwame", "guess", _xsrf=proof)
    assert last[0] == 401
    assert post("Kwame", "guess", _xsrf=proof)[0] == 429


@pytest.mark.processes
def test_a_journey_through_case_groups(desk, tmp_path):
    if not CHROMIUM.exists():
        pytest.skip("there is no chromium at /usr/bin/chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    port, db = desk
    hosts, faults = set(), []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(60_000)
        page.on("request", lambda r: hosts.add(r.url.split("/")[2]) if r.url.startswith(("http", "ws")) else None)
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.goto(f"http://127.0.0.1:{port}/")
        page.fill("[name=name]", "Samuel")
        page.fill("[name=password]", WORDS)
        page.click("text=Sign in >> nth=-1")
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
        page.wait_for_selector(".says.good >> text=2 cases out of anc again. It has 32 cases now.")
        too_large = {"name": "big.csv", "mimeType": "x", "buffer": b"x" * (8 * 2**20 + 1)}
        page.set_input_files("input[type=file]", files=[too_large])
        page.wait_for_selector("text=a page takes 8 MB")

        page.click("role=tab[name=Members]")
        page.fill("[aria-label='Search members']", "p-141")
        page.click("td .link >> text=Binta")
        page.click("text=Open the case page")
        page.wait_for_selector("dd >> text=221771230111")
        assert "case=" in page.url
        page.click("text=All cases")
        page.fill("[aria-label='Find a case']", "nobody at all")
        page.wait_for_selector("text=Nobody fits.")
        assert page.locator("text=Upload a sheet of cases").count() == 0  # for leads alone
        page.go_back()
        page.wait_for_selector("dd >> text=221771230111")
        page.screenshot(path=tmp_path / "case.png")

        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("text=Sign out")
        page.wait_for_selector("text=Name or phone number")
        browser.close()
    assert hosts == {f"127.0.0.1:{port}"}
    assert faults == []
    with db.reading() as tx:
        person = people.person(tx, SUPERVISOR).id
        done = [line for line in audit.list_last(tx, 4) if line.verb.startswith("groups.")]
    assert [(line.verb, line.person_id, line.door) for line in done] == [
        ("groups.remove", person, "desk"), ("groups.add", person, "desk"), ("groups.add", person, "desk")
    ]  # fmt: skip


def workbook(*identifiers):
    book = Workbook()
    for cell in ("case_identifier", *identifiers):
        book.active.append([cell])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()
