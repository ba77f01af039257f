"""The virtual phones in a real browser: what is typed on one handset is answered there and arrives on another."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bot.gateways.simulator_network import Network
from storage.audit import Actor
from storage.contacts import cases, groups, people
from storage.contacts.cases import Wanted
from storage.database import Database
from storage.messages import outbox
from storage.rules import segments
from storage.rules.hours_and_limits import Rules
from tests.patience import HANG_MS
from tests.rehearsal import CHROMIUM, QUIET, Rehearsal, prepared, running

OPERATOR = Actor("cli")
LEAD, SUPERVISOR, AMA, YAW, AMINA = "233200000001", "233200000002", "233200000011", "233200000012", "201000000013"
RULES = Rules(name="Ward Three", hold_s=0, hours=None, default_gateway="simulator", gateways=frozenset({"simulator"}))
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script> & <b>bold</b>"


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
        groups.add(tx, anc.id, cases.save(tx, wanted, by=OPERATOR), by=OPERATOR)


@pytest.fixture(scope="module")
def programme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programme on the phones, made once and copied for each test."""
    return prepared(tmp_path_factory.mktemp("programme") / "rehearsal.db", RULES, populate)


@pytest.fixture
def rehearsal(tmp_path: Path, programme: Path) -> Iterator[Rehearsal]:
    shutil.copy(programme, tmp_path)
    with running(tmp_path, RULES, populate) as runs:
        yield runs


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

    def add(self, asked: str, name: str) -> None:
        """Take a phone out by the sheet, with the keyboard."""
        self.page.get_by_role("button", name="Phone", exact=True).click()
        self.page.get_by_role("searchbox").fill(asked)
        self.page.locator("#found").get_by_role("button", name=name).wait_for()
        self.page.get_by_role("searchbox").press("Enter")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all; each test has a window of its own, that remembers nothing of another's."""
    if not CHROMIUM.exists():
        told = f"there is no Chromium at {CHROMIUM}: the virtual phones were not tried in a browser"
        pytest.fail(told) if os.environ.get("CI") == "true" else pytest.skip(told)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=HANG_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield launched
        launched.close()


@pytest.fixture
def browser(rehearsal: Rehearsal, chromium: Any) -> Iterator[Browser]:
    window = chromium.new_context(
        viewport={"width": 1440, "height": 900}, locale="en-GB", timezone_id="Africa/Accra", reduced_motion="reduce"
    )
    page = window.new_page()
    faults: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{rehearsal.url}/phones")
    page.get_by_role("heading", name="Esi Mensah").wait_for()
    yield Browser(page, faults, asked)
    window.close()
    assert faults == []
    assert {re.sub(r"(://[^/]*).*", r"\1", url) for url in asked} <= {rehearsal.url, "data:,"}


def say(db: Database, phone: str, body: str) -> None:
    with db.transaction() as tx:
        outbox.queue(tx, phone, body, "text")


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
    expect(chip.locator(".unread")).to_have_text("1 unread")
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


# The network misbehaves


def test_faults_are_switched_on_the_page_seen_in_a_bar_and_ended_by_one_button(
    browser: Browser, rehearsal: Rehearsal
) -> None:
    from playwright.sync_api import expect

    bar = browser.page.locator(".faulty")
    expect(bar).to_be_hidden()
    browser.page.get_by_role("button", name="Network", exact=True).click()
    panel = browser.page.get_by_role("region", name="The simulated network")
    panel.get_by_label("Phones out of reach").select_option("all")
    expect(bar).to_contain_text("100 % of phones out of reach")
    panel.get_by_label("Delay").focus()
    panel.get_by_label("Delay").press("ArrowRight")
    expect(bar).to_contain_text("texts take 1 s")

    say(rehearsal.db, AMA, "Nobody reads this")
    failing = browser.texts("Ama Owusu").last
    expect(failing).to_contain_text("undelivered: the phone was off or out of reach (gateway 30003)")
    browser.type_on("Yaw Darko", "hello")
    expect(browser.texts("Yaw Darko").last).to_contain_text("on its way to us")
    expect(browser.texts("Yaw Darko").first).to_contain_text("in the inbox")

    bar.get_by_role("button", name="Back to normal").click()
    expect(bar).to_be_hidden()
    expect(panel.get_by_label("Phones out of reach")).to_have_value("0")
    expect(panel.get_by_label("Delay")).to_have_value("0")
    say(rehearsal.db, AMA, "This one arrives")
    expect(browser.texts("Ama Owusu").last).to_contain_text("delivered")


def test_a_seed_that_is_none_is_said_and_refuses_no_other_switch(browser: Browser) -> None:
    from playwright.sync_api import expect

    bar = browser.page.locator(".faulty")
    browser.page.get_by_role("button", name="Network", exact=True).click()
    panel = browser.page.get_by_role("region", name="The simulated network")
    panel.get_by_label("Seed").fill("-5")
    panel.get_by_label("Seed").press("Tab")
    assert browser.page.evaluate("document.querySelector('[name=seed]').validity.valid") is False
    panel.get_by_label("told twice").check()
    expect(bar).to_contain_text("everything told twice")


def test_a_switch_that_the_server_refuses_goes_back_and_says_why(browser: Browser) -> None:
    from playwright.sync_api import expect

    browser.page.get_by_role("button", name="Network", exact=True).click()
    panel = browser.page.get_by_role("region", name="The simulated network")
    browser.page.evaluate("document.querySelector('[name=lost_texts]').add(new Option('all of them and more', '200'))")
    panel.get_by_label("Texts lost").select_option("200")
    expect(panel.get_by_role("alert")).to_have_text("Not changed: lost_texts is a whole number from 0 to 100.")
    expect(panel.get_by_label("Texts lost")).to_have_value("0")
    browser.faults.clear()  # the browser logs that the server said 400


def test_a_page_that_stood_still_undoes_nobody_elses_fault(browser: Browser, rehearsal: Rehearsal) -> None:
    from playwright.sync_api import expect

    browser.page.get_by_role("button", name="Network", exact=True).click()
    panel = browser.page.get_by_role("region", name="The simulated network")
    panel.get_by_label("Delay").focus()
    Network(rehearsal.book).change_faults({"delay_s": 7})  # another tab, while this one holds the switch
    expect(browser.page.locator(".faulty")).to_contain_text("texts take 7 s")
    panel.get_by_label("told twice").check()
    expect(browser.page.locator(".faulty")).to_contain_text("texts take 7 s · everything told twice")


def test_a_page_that_nobody_sees_asks_for_nothing_and_goes_on_when_it_is_seen(browser: Browser) -> None:
    hide = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true });"
    browser.page.clock.install()
    browser.page.reload()
    browser.page.get_by_role("heading", name="Esi Mensah").wait_for()
    browser.page.evaluate(hide % "true")
    browser.page.clock.run_for(10_000)
    browser.page.wait_for_load_state("networkidle")  # what it had begun to ask
    before = len(browser.asked)
    browser.page.clock.run_for(60_000)
    assert browser.page.evaluate("document.hidden")
    assert len(browser.asked) == before
    with browser.page.expect_request("**/threads*"):
        browser.page.evaluate(hide % "false" + "document.dispatchEvent(new Event('visibilitychange'))")


def test_the_smallest_screen_scrolls_up_and_down_only(browser: Browser) -> None:
    browser.page.set_viewport_size({"width": 320, "height": 640})
    browser.page.get_by_role("button", name="Network", exact=True).click()
    assert browser.page.evaluate("document.documentElement.scrollWidth") == 320


# Cards and added phones


def test_a_card_shows_groups_and_changes_when_the_phone_says_stop(browser: Browser) -> None:
    from playwright.sync_api import expect

    browser.phone("Ama Owusu").get_by_role("button", name="Card of Ama Owusu").click()
    card = browser.phone("Ama Owusu").get_by_role("complementary")
    expect(card).to_contain_text(re.compile("Groups.*anc"))
    expect(card).to_contain_text("two-way: this case owns the number")
    expect(card).to_contain_text("it never said stop")
    browser.type_on("Ama Owusu", "STOP")
    expect(card).to_contain_text("said STOP: gets nothing until it says START")
    browser.phone("Esi Mensah").get_by_role("button", name="Card of Esi Mensah").click()
    expect(browser.phone("Esi Mensah").get_by_role("complementary")).to_contain_text(re.compile("Role.*lead"))


def test_a_phone_is_added_for_a_case_and_for_a_stranger_kept_over_a_reload_and_closed(
    browser: Browser, rehearsal: Rehearsal
) -> None:
    from playwright.sync_api import expect

    with rehearsal.db.transaction() as tx:
        wanted = [
            Wanted(None, {"external_id": f"q-{n}", "name": f"Case {n}", "contact_phone_number": f"2332100{n:05}"})
            for n in range(60)
        ]
        cases.save(tx, wanted, by=OPERATOR)
    browser.add("q-59", "Case 59")
    expect(browser.phone("Case 59")).to_be_visible()
    expect(browser.phone("Case 59").get_by_role("textbox")).to_be_focused()
    browser.add("+44 7700 900123", "A stranger")
    stranger = "+447700900123"
    browser.type_on(stranger, "Who are you?")
    expect(browser.texts(stranger).first).to_contain_text("kept; from a stranger")
    expect(browser.texts(stranger).last).to_contain_text("delivered")
    browser.page.reload()
    expect(browser.phone("Case 59")).to_be_visible()
    browser.phone(stranger).get_by_role("button", name="Close the phone").click()
    expect(browser.phone(stranger)).to_have_count(0)
    browser.page.reload()
    expect(browser.phone("Case 59")).to_be_visible()
    expect(browser.phone(stranger)).to_have_count(0)


def test_a_text_to_a_magic_number_shows_the_reason_of_the_gateway(browser: Browser) -> None:
    from playwright.sync_api import expect

    browser.page.get_by_role("button", name="Phone", exact=True).click()
    browser.page.get_by_role("button", name="+15005550009").click()
    browser.type_on("+15005550009", "help")
    expect(browser.texts("+15005550009").last).to_contain_text(
        "refused: the number is not a mobile phone (gateway 21614)"
    )


# How it is read and used


def test_a_text_that_is_read_from_the_right_begins_on_the_right(browser: Browser, rehearsal: Rehearsal) -> None:
    from playwright.sync_api import expect

    say(rehearsal.db, AMA, "\u05e9\u05dc\u05d5\u05dd, Ama")
    body = browser.texts("Ama Owusu").last.locator(".body")
    expect(body).to_have_css("direction", "rtl")
    expect(body).to_have_css("text-align", "start")
    expect(browser.texts("Ama Owusu").last).to_contain_text("Unicode: \u201c\u05e9\u201d")
    browser.type_on("Ama Owusu", "Thank you")
    expect(browser.texts("Ama Owusu").last.locator(".body")).to_have_css("direction", "ltr")


COUNTED = (
    "", "a", "a" * 160, "a" * 161, "a" * 306, "a" * 307, "\u20ac" * 80, "\u20ac" * 81, "a" * 152 + "\u20ac" + "a" * 160,
    "\u0219", "x\u0219" * 35, "x\u0219" * 36, "\U0001f44b" * 35, "\U0001f44b" * 36, "a" * 66 + "\U0001f44b" * 3, "\n^{}\u2019",
    "".join(map(chr, range(0x20, 0x250))), *map(chr, range(1, 0x180)), *map(chr, range(0x390, 0x3c0)),
)  # fmt: skip


def test_what_is_typed_is_counted_as_the_gateway_counts_it(browser: Browser) -> None:
    counted = browser.page.evaluate(
        "async (texts) => { const { count } = await import('/phones/static/segments.js'); return texts.map(count); }",
        list(COUNTED),
    )
    right = [segments.count(text) for text in COUNTED]
    assert [(c["units"], c["parts"], c["forcedBy"]) for c in counted] == [
        (r.units, r.parts, r.forced_by) for r in right
    ]
    browser.phone("Ama Owusu").get_by_role("textbox").fill("my son\u2019s card")
    assert "1 SMS \u00b7 Unicode because of \u201c\u2019\u201d" in browser.phone("Ama Owusu").inner_text()


def test_everything_can_be_done_by_the_keyboard(browser: Browser) -> None:
    from playwright.sync_api import expect

    page = browser.page
    page.keyboard.press("1")
    expect(browser.phone("Esi Mensah").get_by_role("textbox")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(browser.phone("Kofi Boateng").get_by_role("textbox")).to_be_focused()
    page.keyboard.type("groups")
    page.keyboard.press("ArrowRight")  # a draft keeps its arrows
    expect(browser.phone("Kofi Boateng").get_by_role("textbox")).to_be_focused()
    page.keyboard.press("Enter")
    expect(browser.texts("Kofi Boateng").last).to_contain_text("delivered")
    page.keyboard.press("Escape")
    expect(browser.phone("Kofi Boateng").get_by_role("log")).to_be_focused()
    page.keyboard.press("i")
    expect(browser.phone("Kofi Boateng").get_by_role("complementary")).to_contain_text("supervisor")
    page.keyboard.press("a")
    expect(page.get_by_role("dialog", name="Add a phone")).to_be_visible()
    page.keyboard.type("ama")
    expect(page.locator("#found").get_by_role("button")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Add a phone")).to_be_hidden()
    page.keyboard.press("n")
    expect(page.get_by_label("Gateway")).to_be_focused()


def test_the_palette_is_the_systems_until_one_is_chosen_and_stays_chosen(browser: Browser) -> None:
    from playwright.sync_api import expect

    page, body = browser.page, browser.page.locator("body")
    light, dark = "rgb(244, 242, 237)", "rgb(16, 19, 18)"
    expect(body).to_have_css("background-color", light)
    page.emulate_media(color_scheme="dark")
    expect(body).to_have_css("background-color", dark)
    page.get_by_role("button", name="Theme").click()
    expect(body).to_have_css("background-color", light)
    page.reload()
    expect(body).to_have_css("background-color", light)


def test_a_narrow_screen_shows_one_phone_and_switches_to_another(browser: Browser, rehearsal: Rehearsal) -> None:
    from playwright.sync_api import expect

    browser.page.set_viewport_size({"width": 390, "height": 844})
    expect(browser.page.locator(".phone:visible")).to_have_count(1)
    say(rehearsal.db, YAW, "Please come on Monday")
    switcher = browser.page.get_by_role("group", name="Which phones to show")
    expect(switcher.get_by_role("button", name=re.compile("Yaw Darko.*1 unread"))).to_be_visible()
    expect(browser.page).to_have_title("(1) Virtual phones \u00b7 Ward Three")
    switcher.get_by_role("button", name="Yaw Darko").click()
    expect(browser.page.locator(".phone:visible")).to_have_count(1)
    expect(browser.texts("Yaw Darko").last).to_contain_text("Please come on Monday")
    expect(browser.page).to_have_title("Virtual phones \u00b7 Ward Three")
    browser.phone("Yaw Darko").get_by_role("button", name="Card of Yaw Darko").click()
    expect(browser.phone("Yaw Darko").get_by_role("complementary")).to_be_visible()
    assert browser.page.evaluate("document.documentElement.scrollWidth") == 390
