"""Take the pictures of the pages anew: `python -m tests.screenshots`, or `... FOLDER` to look at every width.

Of the virtual phones `phones.png`, `phones-faults.png` and `phones-narrow.png` in `bot/phones`, of the desk
`case-groups.png`, `sheet.png`, `broadcast.png` and `audit.png` in `admin_notebooks`.  The programme is the demo's; for
the desk it lived a quarter of a year, until the day on which they are taken.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from admin_notebooks import composer, delivery
from admin_notebooks.desk import Desk
from bot.demo import LEAD, make
from storage.audit import Actor
from storage.contacts import cases, people
from storage.contacts.cases import Wanted
from storage.database import Database
from storage.messages import outbox
from storage.rules.hours_and_limits import Rules
from tests import desks
from tests.pages import ROOT
from tests.patience import HANG_MS
from tests.rehearsal import CHROMIUM, QUIET, Rehearsal, running

PICTURES = ROOT / "bot" / "phones"
RULES = Rules(
    name="Demo clinic", time_zone="Africa/Accra", hold_s=0, hours=None, default_gateway="simulator",
    gateways=frozenset({"simulator"}),
)  # fmt: skip
AMA, AKUA, NOUR, ASHA = "233244120101", "233244120103", "201001234567", "919812340101"
MAGIC = "15005550009"
SIZES = ((390, 844), (820, 1180), (1280, 800), (1920, 1080))


def populate(db: Database) -> None:
    """The demo's programme, and two people who read from the right or in Devanagari."""
    make(db)
    with db.transaction() as tx:
        wanted = [
            Wanted(None, {"external_id": f"p-{n}", "name": name, "contact_phone_number": phone, "language_code": language,
                          "contact_phone_number_is_verified": True, "time_zone": zone})
            for n, name, phone, language, zone in (
                (301, "نور حسن", NOUR, "ar", "Africa/Cairo"),
                (302, "Nobody", MAGIC, "en", None),
            )
        ]  # fmt: skip
        cases.save(tx, wanted, by=Actor("cli"))


class Stage:
    """One page, and the moves that the pictures need."""

    def __init__(self, page: Any, rehearsal: Rehearsal) -> None:
        self.page = page
        self.rehearsal = rehearsal

    def phone(self, name: str) -> Any:
        return self.page.get_by_role("region", name=f"Phone of {name}")

    def say(self, name: str, body: str, answer: str | None = None) -> str:
        """Type on a phone, and wait for an answer there; returns it."""
        box = self.phone(name).get_by_role("textbox")
        box.fill(body)
        box.press("Enter")
        if answer is None:
            return ""
        found = self.phone(name).get_by_role("listitem").filter(has_text=re.compile(answer)).last
        found.get_by_text(re.compile("delivered")).wait_for()
        return str(found.inner_text())

    def text(self, phone: str, body: str) -> None:
        """A text to a phone, as a command would queue it."""
        with self.rehearsal.db.transaction() as tx:
            outbox.queue(tx, phone, body, "text")

    def add(self, asked: str) -> None:
        """Take a phone out by the sheet."""
        self.page.get_by_role("button", name="Phone", exact=True).click()
        self.page.get_by_role("searchbox").fill(asked)
        self.page.locator("#found button[data-phone]").first.wait_for()
        self.page.wait_for_timeout(400)
        self.page.get_by_role("searchbox").press("Enter")
        self.page.locator("#finder[open]").wait_for(state="detached")

    def broadcast(self) -> None:
        """The lead previews, confirms and sends; somebody answers, somebody says stop."""
        asked = self.say("Lena", "tell anc The clinic is closed on Friday. Please come on Monday at 9.", r"ok \d{6}")
        code = re.search(r"ok (\d{6})", asked)
        assert code is not None
        self.say("Lena", f"ok {code[1]}", "is going to")
        self.phone("Ama & Kofi").get_by_text("Please come on Monday at 9.").first.wait_for()
        self.phone("Akua").get_by_text("Please come on Monday at 9.").first.wait_for()
        self.say("Ama & Kofi", "Thank you. I cannot come on Monday, is Tuesday fine?")
        self.phone("Samuel").get_by_text("is Tuesday fine?").wait_for()
        self.say("Akua", "STOP", "no more|stop|START")
        self.settle()

    def settle(self) -> None:
        """Until what was said has come to rest."""
        self.page.wait_for_timeout(2500)

    def faults(self, **asked: Any) -> None:
        """Switch the network's faults, as the page does."""
        answer = self.page.request.post(f"{self.rehearsal.url}/phones/faults", data=asked)
        assert answer.ok

    def shoot(self, file: Path) -> None:
        """A picture of what is seen, without a cursor that blinks."""
        self.page.evaluate("document.activeElement.blur()")
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=file)


def pictures(stage: Stage, folder: Path) -> None:
    """The three of the pages."""
    stage.page.set_viewport_size({"width": 1440, "height": 860})
    stage.broadcast()
    stage.shoot(folder / "phones.png")
    stage.page.set_viewport_size({"width": 390, "height": 760})
    stage.page.emulate_media(color_scheme="dark")
    stage.page.get_by_role("group", name="Which phones to show").get_by_role("button", name="Lena").click()
    stage.shoot(folder / "phones-narrow.png")
    stage.page.emulate_media(color_scheme="light")
    stage.page.set_viewport_size({"width": 1440, "height": 860})
    stage.phone("Akua").get_by_role("button", name="Card of Akua").click()
    stage.phone("Samuel").get_by_role("button", name="Put away").click()
    stage.faults(delay_s=5, undelivered=100, twice=True)
    stage.page.get_by_role("button", name="Network", exact=True).click()
    stage.text(AMA, "Please bring your card on Monday.")
    stage.phone("Ama & Kofi").get_by_text("undelivered").wait_for()
    stage.settle()
    stage.shoot(folder / "phones-faults.png")
    stage.faults()


def every_width(stage: Stage, folder: Path) -> None:
    """All that can look wrong, at every width, light and dark: to be looked at, not kept."""
    page = stage.page
    page.get_by_role("button", name="Network", exact=True).click()
    for asked in ("p-301", "p-302", "+44 7700 900123", "Asha", "Moussa"):
        stage.add(asked)
    stage.text(NOUR, "العيادة مغلقة يوم الجمعة. يرجى الحضور يوم الاثنين الساعة 9.")
    stage.say("نور حسن", "شكرا، سآتي يوم الاثنين")
    stage.text(ASHA, "क्लिनिक शुक्रवार को बंद है। कृपया सोमवार को 9 बजे आएं।")
    stage.text(MAGIC, "Please bring your card on Monday.")
    stage.text(AKUA, "This one meets a STOP, and stays here.")
    for n in range(9):
        stage.text(
            AMA, f"{n + 1}: Please bring your card, your child's card and something to drink to every visit – thanks…"
        )
    stage.settle()
    stage.faults(delay_s=4, disorder=True, lost_texts=33, undelivered=33, gateway="up")
    stage.say("Lena", "groups")
    stage.text(AMA, "On its way, or not.")
    stage.text(ASHA, "A text that is lost, perhaps.")
    stage.settle()
    stage.settle()
    for width, height in SIZES:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(200)
            stage.shoot(folder / f"{width}-{scheme}.png")
        if width < 700:
            page.get_by_role("group", name="Which phones to show").get_by_role("button", name="Ama & Kofi").click()
        stage.phone("Ama & Kofi").get_by_role("button", name="Card of Ama & Kofi").click()
        page.get_by_role("button", name="Network", exact=True).click()
        page.wait_for_timeout(900)
        stage.shoot(folder / f"{width}-card.png")
        page.get_by_role("button", name="Network", exact=True).click()
        stage.phone("Ama & Kofi").get_by_role("button", name="Card of Ama & Kofi").click()
        stage.phone("Ama & Kofi").get_by_role("textbox").fill("Can I come on Tuesday? My son’s card is lost")
        page.screenshot(path=folder / f"{width}-typing.png")
        stage.phone("Ama & Kofi").get_by_role("textbox").fill("")
        page.get_by_role("button", name="Phone", exact=True).click()
        page.get_by_role("searchbox").fill("a")
        page.wait_for_timeout(600)
        page.screenshot(path=folder / f"{width}-add.png")
        page.keyboard.press("Escape")
        if width > 700:
            page.get_by_role("button", name="Keys").click()
            page.screenshot(path=folder / f"{width}-keys.png")
            page.keyboard.press("Escape")


# -- the desk ----------------------------------------------------------------------------------------------------------

SHEET = ["p-141", "p-999", "+233 24 412 0101", "p-142", "p-105", "p-14l", "1.55512E+10", "p-143", "p-142"]
"""What somebody would type: right ones, a slip, a shared phone, a number that Excel shortened, one twice."""


def desk_pictures(folder: Path, *, every_width: bool) -> None:
    """Those of the desk, and then all of its pages at two widths, to be looked at."""
    with (
        tempfile.TemporaryDirectory() as room,
        running(Path(room), RULES, desks.lived) as rehearsal,
        desks.desk(Path(room), DATABASE_URL="sqlite:///rehearsal.db") as address,
        desks.chromium(viewport={"width": 1280, "height": 800}) as seen,
    ):
        page = seen.page
        page.on("pageerror", lambda fault: print("page:", fault))
        _sent(rehearsal.db)
        seen.sign_in(address, "Lena")
        for name, comes_up, act in (
            ("01_case_groups", ".jd table", lambda: _kept(page, folder / "case-groups.png", 600)),
            ("01_case_groups", ".jd table", lambda: _upload(page, folder)),
            ("03_broadcasts", "text=Write a broadcast", lambda: _compose(page, folder)),
            ("05_membership_audit", "img[alt^='Members by gateway']", lambda: _kept(page, folder / "audit.png", 860)),
        ):
            page.goto(f"{address}/voila/render/{name}.ipynb")
            page.wait_for_selector(comes_up)
            act()
        if every_width:
            for name in (path.stem for path in sorted((ROOT / "admin_notebooks").glob("0[0-5]*.ipynb"))):
                page.goto(f"{address}/voila/render/{name}.ipynb")
                page.wait_for_selector(".jd button:visible, .jd table:visible")
                page.wait_for_timeout(3000)
                for width, height in SIZES:
                    page.set_viewport_size({"width": width, "height": height})
                    page.wait_for_timeout(300)
                    page.screenshot(path=folder / f"{name}-{width}.png", full_page=True)


def _sent(db: Database) -> None:
    """Two broadcasts that arrived."""
    with db.reading() as tx:
        lena = people.person(tx, LEAD).id
    writing = Desk(db, lena, "03_broadcasts")
    for shorts, text in (
        (["anc"], "The clinic is closed on Friday. Please come on Monday at 9."),
        (["visits"], "Hello {name|friend}, we visit you on Tuesday."),
    ):
        looked = composer.look(writing, {"en": text}, shorts=shorts)
        composer.confirm(writing, looked["number"], str(looked["recipients"]))
    desks.until(
        lambda: all(row["parts"]["delivered"] and not row["is_open"] for row in delivery.list_broadcasts(writing)[1]),
        "sent",
    )


def _upload(page: Any, folder: Path) -> None:
    page.click(".card >> text=Antenatal care")
    page.click("[role=tab] >> text=Upload a sheet")
    page.set_input_files(
        "input[type=file]", files=[{"name": "june.xlsx", "mimeType": "x", "buffer": desks.workbook(*SHEET)}]
    )
    page.wait_for_selector("text=Nothing has been changed yet.")
    _kept(page, folder / "sheet.png", 1040)


def _compose(page: Any, folder: Path) -> None:
    page.click("text=Write a broadcast")
    page.click(".choices >> text=Antenatal care")
    page.fill("textarea.text", "Hello {name|friend}, your next visit is on Monday at 9. Please bring your card.")
    page.click("text=+ language")
    page.fill("dialog input[name=code]", "sw")
    page.click("dialog >> text=Add it")
    page.fill("textarea.text", "Habari {name|rafiki}, tembelea kliniki Jumatatu saa tatu. Tafadhali lete kadi yako.")
    page.get_by_role("button", name="Look at it").click()
    page.wait_for_selector(".bubble >> text=Habari")
    _kept(page, folder / "broadcast.png", 1040)


def _kept(page: Any, file: Path, height: int) -> None:
    """A picture of a page in few colours, so that it weighs little."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(500)
    page.screenshot(path=file)
    with Image.open(file) as taken:
        taken.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(file, optimize=True)
    page.set_viewport_size({"width": 1280, "height": 800})


def main() -> None:
    """Take them."""
    from playwright.sync_api import sync_playwright

    looked_at = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    desk_pictures(looked_at or ROOT / "admin_notebooks", every_width=looked_at is not None)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), RULES, populate) as rehearsal,
        sync_playwright() as p,
    ):
        chromium = p.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        page = chromium.new_page(locale="en-GB", timezone_id="Africa/Accra", viewport={"width": 1440, "height": 860})
        page.set_default_timeout(HANG_MS)
        page.on("pageerror", lambda fault: print("page:", fault))
        page.on("console", lambda said: print("console:", said.text) if said.type in ("error", "warning") else None)
        page.goto(f"{rehearsal.url}/phones")
        page.get_by_role("heading", name="Lena").wait_for()
        stage = Stage(page, rehearsal)
        pictures(stage, looked_at or PICTURES)
        if looked_at:
            every_width(stage, looked_at)
        chromium.close()


if __name__ == "__main__":
    main()
