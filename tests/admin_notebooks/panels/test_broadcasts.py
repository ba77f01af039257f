"""A manager's day with a broadcast, in a browser: written, looked at, sent once, delivered, corrected, accounted for."""

import os

import pytest

from tests.parts import library
from tests.patience import HANG_MS

library("voila")

from admin_notebooks.pages.passwords import hashed
from bot.demo import LEAD, make
from storage.broadcasts import content, progress
from storage.contacts import cases, groups, people
from storage.contacts import passwords as store
from storage.contacts.cases import Wanted
from storage.messages import lookups
from storage.rules.hours_and_limits import Rules
from tests.desks import CLI, PASSWORD, desk
from tests.processes import until
from tests.rehearsal import CHROMIUM, QUIET, running

HOSTILE = "<img src=x onerror=alert(1)>"
RULES = Rules(
    name="Demo clinic", time_zone="Africa/Accra", hours=None, hold_s=1, rate_per_s=50,
    default_gateway="simulator", gateways=frozenset({"simulator"}),
)  # fmt: skip


def populate(db):
    make(db)
    with db.transaction() as tx:
        values = {
            "external_id": "hostile",
            "name": HOSTILE,
            "contact_phone_number": "233244129999",
            "language_code": "en",
        }
        (row,) = cases.save(tx, [Wanted(None, values)], by=CLI)
        groups.add(tx, groups.group(tx, "anc").id, [row], by=CLI)
        person = people.person(tx, LEAD)
        store.keep(tx, person, hashed(PASSWORD, person), by=CLI)


@pytest.mark.processes
def test_a_broadcast_from_the_page_to_the_phones(tmp_path):
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip("there is no chromium at /usr/bin/chromium")
    playwright = library("playwright.sync_api", "pip install playwright")
    faults, hosts = [], set()
    with running(tmp_path, RULES, populate) as rehearsal:
        (tmp_path / "jumbe.db").symlink_to(tmp_path / "rehearsal.db")
        settings = {"JUMBE_QUIET_HOURS": "off", "JUMBE_HOLD_S": "1", "JUMBE_TIME_ZONE": "Africa/Accra"}
        with desk(tmp_path, **settings) as address, playwright.sync_playwright() as p:
            browser = p.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(HANG_MS)
            page.on("pageerror", lambda fault: faults.append(str(fault)))
            page.on("request", lambda r: hosts.add(r.url.split("/")[2]) if r.url.startswith(("http", "ws")) else None)
            page.goto(f"{address}/voila/render/03_broadcasts.ipynb")
            page.fill("[name=name]", "Lena")
            page.fill("[name=password]", PASSWORD)
            page.click("button")
            number = journey(page)
            until(lambda: state(rehearsal.db, number) == "done", "everything is sent")
            page.wait_for_selector(".jd >> text=Over. Asked for by Lena")
            page.click(".jd >> text=What became of each")
            page.wait_for_selector(".jd h2 >> text=to Antenatal care")
            page.wait_for_selector(".parts >> text=28 delivered")
            page.click(".parts >> text=skipped")
            page.click(".scroll button >> text=Kwame")
            page.wait_for_selector(f"dialog h2 >> text=Kwame did not get {number}: the number said STOP.")
            page.click("dialog >> text=Close")
            assert page.locator("img[src=x]").count() == 0
            assert page.evaluate("document.querySelector('.picture').naturalWidth") > 300, "the picture is drawn"
            page.set_viewport_size({"width": 390, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            browser.close()
        assert hosts == {address.removeprefix("http://")}
        with rehearsal.db.reading() as tx:
            assert [row.id for row in progress.list_all(tx)] == [number], "a double click is one broadcast"
            bodies = [m.body for m in lookups.list_all(tx) if m.broadcast_id == number and m.state == "delivered"]
        assert len(bodies) == 28
        assert f"Hello {HOSTILE}, we open at 10" in bodies
        assert "Habari Wanjiru, saa nne" in bodies
    assert faults == []


def journey(page):
    """Write in two languages, look at it, mistype the count, send it by a double click; returns its number."""
    page.click(".jd >> text=Write a broadcast")
    page.click(".choices >> text=Antenatal care")
    page.fill("textarea.text", "Hello ")
    page.click(".fields >> text={name}")
    page.locator("textarea.text").press_sequentially(", we open at 10 — come", delay=0)
    page.wait_for_selector(".meter >> text=em dash, needs Unicode")
    page.fill("textarea.text", "Hello {name}, we open at 10")
    page.wait_for_selector(".meter >> text=about 25 of 160 characters")
    page.click(".jd >> text=+ language")
    page.fill("dialog [name=code]", "sw")
    page.click("dialog >> text=Add it")
    page.fill("textarea.text", "Habari {name}, saa nne")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 900})
    page.click(".jd button >> text=Look at it")
    page.wait_for_selector(".jd h2 >> text=28 people get it")
    assert page.locator(".bubble").count() == 6, "three real renderings of each language"
    page.click(".jd >> text=Who?")
    page.wait_for_selector("td >> text=Yaw")
    page.fill(".jd form input[type=text]", "27")
    page.click(".jd form button")
    page.wait_for_selector(".says.bad >> text=Type 28")
    page.fill(".jd form input[type=text]", "28")
    page.dblclick(".jd form button")
    page.wait_for_selector(".says.good >> text=is going to 28 people")
    page.wait_for_selector(".jd h2 >> text=to Antenatal care")
    return int(page.locator(".jd h2").inner_text().split()[0])


def state(db, number):
    with db.reading() as tx:
        told = content.broadcast(tx, number).state
        arrived = progress.progress(tx, number).states.get("delivered", 0)
    return told if arrived == 28 else "sending"
