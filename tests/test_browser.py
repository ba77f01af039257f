"""The virtual phones in a real browser: what is typed on one handset is answered there and arrives on another."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from bot import phones, webhooks
from bot.gateways.simulator import Simulator
from bot.worker import Worker
from storage import contacts, groups, messages, migrate, people
from storage.audit import Actor
from storage.contacts import Wanted
from storage.database import Database
from storage.rules import Rules

CHROMIUM = Path("/usr/bin/chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-default-apps", "--disable-sync", "--no-first-run",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # fmt: skip
OPERATOR = Actor("cli")
LEAD, SUPERVISOR, AMA, YAW, AMINA = "233200000001", "233200000002", "233200000011", "233200000012", "201000000013"
RULES = Rules(name="Ward Three", hold_s=0, hours=None, default_gateway="simulator", gateways=frozenset({"simulator"}))
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script> & <b>bold</b>"


class Silent(WSGIRequestHandler):
    """The server of a test writes no line a request."""

    def log(self, *_: Any) -> None:
        pass


@dataclass
class Rehearsal:
    """A rehearsal that runs: the web process in one thread, the worker in another, each with its own database."""

    url: str
    db: Database


def populate(db: Database) -> None:
    with db.transaction() as tx:
        anc = groups.create(tx, "anc", "Antenatal care", by=OPERATOR)
        people.add(tx, "Esi Mensah", LEAD, "lead", by=OPERATOR)
        people.add(tx, "Kofi Boateng", SUPERVISOR, "supervisor", shorts=["anc"], by=OPERATOR)
        named = [("Ama Owusu", AMA, "en"), ("Yaw Darko", YAW, "en"), ("\u0623\u0645\u064a\u0646\u0629", AMINA, "ar")]
        wanted = [
            Wanted(None, {"name": name, "contact_phone_number": phone, "contact_phone_number_is_verified": True, "language_code": language})
            for name, phone, language in named
        ]  # fmt: skip
        groups.add(tx, anc.id, contacts.save(tx, wanted, by=OPERATOR), by=OPERATOR)


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[Rehearsal]:
    address = f"sqlite:///{tmp_path / 'rehearsal.db'}"
    seen, served, worked = (Database(address, RULES) for _ in range(3))
    migrate.upgrade(seen, rehearsal=True)
    populate(seen)
    app = Flask(__name__, static_folder=None)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    url = f"http://127.0.0.1:{server.server_port}"
    book = tmp_path / "phones.db"
    web, sending = (Simulator(book=book, public_url=url, receipts_after_s=0.1) for _ in range(2))
    app.register_blueprint(webhooks.blueprint(served, {web.name: web}, url))
    app.register_blueprint(phones.blueprint(served, web))

    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    worker = Worker(worked, {sending.name: sending}, url)
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}),
        threading.Thread(target=loop.run_until_complete, args=(worker.run(stop),)),
    ]
    for thread in threads:
        thread.start()
    yield Rehearsal(url, seen)
    loop.call_soon_threadsafe(stop.set)
    threads[1].join(30)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    server.shutdown()
    threads[0].join(30)
    server.server_close()
    for db in (seen, served, worked):
        db.close()


@dataclass
class Browser:
    """One page of one browser, with everything it complained of and everybody it asked."""

    page: Any
    faults: list[str]
    asked: list[str]

    def phone(self, name: str) -> Any:
        return self.page.get_by_role("region", name=f"Phone of {name}")

    def type_on(self, name: str, body: str) -> None:
        box = self.phone(name).get_by_role("textbox")
        box.fill(body)
        box.press("Enter")

    def texts(self, name: str) -> Any:
        return self.phone(name).get_by_role("listitem")


@pytest.fixture
def browser(rehearsal: Rehearsal) -> Iterator[Browser]:
    if not CHROMIUM.exists():
        told = f"there is no Chromium at {CHROMIUM}: the virtual phones were not tried in a browser"
        pytest.fail(told) if os.environ.get("CI") == "true" else pytest.skip(told)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        page = chromium.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB", timezone_id="Africa/Accra")
        faults: list[str] = []
        asked: list[str] = []
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{rehearsal.url}/phones")
        page.get_by_role("heading", name="Esi Mensah").wait_for()
        yield Browser(page, faults, asked)
        chromium.close()
    assert faults == []
    assert {re.sub(r"(://[^/]*).*", r"\1", url) for url in asked} <= {rehearsal.url, "data:,"}


def say(db: Database, phone: str, body: str) -> None:
    with db.transaction() as tx:
        messages.queue(tx, phone, body, "text")


def test_a_command_is_answered_on_the_leads_phone_and_its_text_arrives_on_a_cases(
    browser: Browser, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    expect(browser.page.get_by_text("Rehearsal: nothing leaves this machine.")).to_be_visible()
    expect(browser.page.locator(".phone:visible")).to_have_count(4)  # the lead, the supervisor, two cases

    browser.type_on("Esi Mensah", "tell anc The clinic is closed on Friday. Please come on Monday at 9.")
    question = browser.texts("Esi Mensah").last
    expect(question).to_contain_text(re.compile(r"Reply ok \d{6} to send"))
    expect(question).to_contain_text("delivered")
    code = re.search(r"ok (\d{6})", question.inner_text())
    assert code is not None

    browser.type_on("Esi Mensah", f"ok {code[1]}")
    for name in ("Ama Owusu", "Yaw Darko"):
        expect(browser.texts(name).last).to_contain_text("The clinic is closed on Friday.")
        expect(browser.texts(name).last).to_contain_text("delivered")

    browser.type_on("Ama Owusu", "Thank you. I cannot come on Monday, is Tuesday fine?")
    expect(browser.texts("Kofi Boateng").last).to_contain_text("is Tuesday fine?")
    for phone in ("Esi Mensah", "Kofi Boateng", "Ama Owusu", "Yaw Darko"):
        expect(browser.texts(phone).last).to_contain_text(re.compile("delivered|in the inbox"))
    browser.page.screenshot(path=tmp_path / "wide.png")
    browser.page.emulate_media(color_scheme="dark")
    browser.page.screenshot(path=tmp_path / "wide-dark.png")


def test_a_hostile_text_is_shown_as_text(browser: Browser, rehearsal: Rehearsal) -> None:
    from playwright.sync_api import expect

    browser.type_on("Ama Owusu", HOSTILE)
    say(rehearsal.db, YAW, HOSTILE)
    for name in ("Ama Owusu", "Yaw Darko"):
        expect(browser.texts(name).last.locator(".body")).to_have_text(HOSTILE)
    expect(browser.texts("Kofi Boateng").last).to_contain_text("<img src=x")
    assert browser.page.locator(".desk img, .desk script, .desk b").count() == 0
    assert browser.page.title() == "Virtual phones · Ward Three"


def test_news_loses_neither_what_is_being_typed_nor_the_place_read(browser: Browser, rehearsal: Rehearsal) -> None:
    from playwright.sync_api import expect

    for n in range(12):
        say(rehearsal.db, AMA, f"{n}: Please bring your card, your child's card and something to drink to every visit.")
    expect(browser.texts("Ama Owusu").filter(has_text="delivered")).to_have_count(12)
    thread, draft = browser.phone("Ama Owusu").get_by_role("log"), browser.phone("Ama Owusu").get_by_role("textbox")
    draft.fill("I am still wri")
    thread.evaluate("thread => thread.scrollTop = 40")
    say(rehearsal.db, AMA, "the newest")
    expect(browser.texts("Ama Owusu").last).to_contain_text("delivered")
    expect(browser.phone("Ama Owusu").get_by_role("button", name="New text")).to_be_visible()
    assert thread.evaluate("thread => thread.scrollTop") == 40
    expect(draft).to_have_value("I am still wri")
    expect(draft).to_be_focused()
    browser.phone("Ama Owusu").get_by_role("button", name="New text").click()
    expect(browser.phone("Ama Owusu").get_by_role("button", name="New text")).to_be_hidden()
    expect(browser.texts("Ama Owusu").last).to_be_in_viewport()


def test_a_hidden_phone_counts_what_it_got_and_shows_it_when_taken_out(browser: Browser, rehearsal: Rehearsal) -> None:
    from playwright.sync_api import expect

    name = "\u0623\u0645\u064a\u0646\u0629"
    chip = browser.page.get_by_role("group", name="Which phones to show").get_by_role("button", name=name)
    expect(chip).to_have_attribute("aria-pressed", "false")
    say(
        rehearsal.db,
        AMINA,
        "\u0627\u0644\u0639\u064a\u0627\u062f\u0629 \u0645\u063a\u0644\u0642\u0629 \u064a\u0648\u0645 \u0627\u0644\u062c\u0645\u0639\u0629",
    )
    expect(chip.get_by_label("1 unread")).to_be_visible()
    chip.press("Enter")
    expect(browser.phone(name)).to_be_visible()
    expect(browser.phone(name).get_by_role("textbox")).to_be_focused()
    expect(browser.phone(name).get_by_role("textbox")).to_have_css("direction", "rtl")
    expect(chip.locator(".unread")).to_be_hidden()
    browser.page.reload()
    expect(browser.phone(name)).to_be_visible()  # the choice is remembered
    expect(browser.page.locator(".phone:visible")).to_have_count(5)


def test_it_fits_a_small_screen(browser: Browser, rehearsal: Rehearsal, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    browser.page.set_viewport_size({"width": 390, "height": 844})
    browser.type_on("Esi Mensah", "groups")
    expect(browser.texts("Esi Mensah").last).to_contain_text("delivered")
    assert browser.page.evaluate("document.documentElement.scrollWidth") == 390
    phone = browser.phone("Esi Mensah").bounding_box()
    assert phone["x"] >= 0
    assert phone["x"] + phone["width"] <= 390
    assert phone["y"] + phone["height"] <= 844
    browser.page.screenshot(path=tmp_path / "narrow.png")
    browser.page.emulate_media(color_scheme="dark")
    browser.page.screenshot(path=tmp_path / "narrow-dark.png")
