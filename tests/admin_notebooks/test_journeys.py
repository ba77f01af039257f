"""What a manager and an analyst go through in a real browser: the pages, the lab, and a page whose kernel died."""

import contextlib
import io
import json
import os
import re
import signal

import pytest
from openpyxl import load_workbook

from tests.parts import library

library("voila")
library("jupyterlab")

from admin_notebooks.desk import Desk
from bot.demo import LEAD, SUPERVISOR
from storage import audit
from storage.contacts import groups, people
from storage.database import Database
from storage.messages import lookups
from tests import desks
from tests.desks import chromium, desk

pytestmark = pytest.mark.processes

WELL = ".says.good >> text=Everything is well"
"""What the panel of the first page says; the words above it say so too, before the panel is there."""


def downloaded(page, label):
    with page.expect_download() as waits:
        page.click(f"text={label}")
    return load_workbook(io.BytesIO(waits.value.path().read_bytes()))


def test_a_journey_of_a_manager_through_the_pages(rehearsal, tmp_path):
    with desk(tmp_path, DATABASE_URL="sqlite:///rehearsal.db") as address, chromium() as seen:
        page = seen.page
        seen.sign_in(address, "Samuel")

        page.click("text=Case groups")
        page.wait_for_selector(".jd table")
        assert page.locator(".card").all_inner_texts() == ["Antenatal care\n31\nanc", "TB treatment\n20\ntb"]  # his own
        assert page.locator("td >> text=onerror").count() == 1
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("#rendered_cells .jp-RenderedHTMLCommon table").count() == 0, (
            "no table of an analyst's cell"
        )
        add_by_hand(page)
        upload(page)
        take_back_later(page)
        page.click("[role=tab] >> text=Members")
        page.wait_for_selector("td a >> text=Achieng")
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.wait_for_selector("td .chip >> text=said STOP")
        assert page.locator(".jd main").evaluate("one => one.scrollWidth - one.clientWidth") == 0, "nothing is cut off"
        page.set_viewport_size({"width": 1280, "height": 860})

        page.click("td a >> text=Achieng")
        page.click("dialog >> text=Open the whole case")
        page.wait_for_selector("text=254712340103")
        assert "case=" in page.url

        look_at_the_audit(page)
        number = broadcast(page)
        page.click("text=What became of each")
        page.wait_for_selector(".parts >> text=20 delivered")
        assert f"number={number}" in page.url
        page.wait_for_selector(".picture")

        page.click("text=Sign out")
        page.wait_for_selector("text=Your name or phone number")
    assert seen.hosts == {address.removeprefix("http://")}
    assert seen.faults == []
    with rehearsal.db.reading() as tx:
        person = people.person(tx, SUPERVISOR).id
        done = [(line.verb, line.person_id, line.door) for line in audit.list_last(tx, 30) if line.person_id == person]
        sent = [row.state for row in lookups.list_all(tx, direction="out") if row.broadcast_id == number]
    verbs = [verb for verb, _, door in reversed(done) if verb.startswith(("groups.", "broadcasts.")) and door == "desk"]
    assert verbs == ["groups.add", "groups.add", "groups.remove", "groups.remove", "broadcasts.launch"]
    assert sent == ["delivered"] * 20


def add_by_hand(page):
    """A wrong identifier says so; the right one is in at once, and the cursor stays."""
    page.fill("textarea", "nobody")
    page.press("textarea", "Enter")
    page.wait_for_selector(".says.bad >> text=No case has nobody")
    page.fill("textarea", "p-141")
    page.press("textarea", "Enter")
    page.wait_for_selector(".says.good >> text=1 case added to Antenatal care. It has 32 cases now.")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"


def upload(page):
    """An empty sheet to fill in; one with every verdict, problems first; done once, checked, taken back; one too large."""
    page.click("text=Upload a sheet")
    assert downloaded(page, "Download an empty sheet").active["A1"].value == "case_identifier"
    rows = ["p-142", "p-999", None, "p-143", "p-142", "p-105", "233244120101", "no-phone", "gone", "1.55512E+10"]
    page.set_input_files(
        "input[type=file]", files=[{"name": "june.xlsx", "mimeType": "x", "buffer": desks.workbook(*rows)}]
    )
    page.wait_for_selector("text=Nothing has been changed yet.")
    shown = dict(
        zip(
            page.locator("tbody td:first-child").all_inner_texts(),
            page.locator("tbody .chip").all_inner_texts(),
            strict=True,
        )
    )
    assert shown == {
        "11": "cannot be read", "3": "not found", "8": "several cases fit", "9": "no phone number", "10": "closed",
        "6": "twice in the sheet", "7": "already in", "2": "will be added", "5": "will be added",
    }  # fmt: skip
    assert set(list(shown)[:6]) == {"11", "3", "8", "9", "10", "6"}, "what has to be looked at stands first"
    page.dblclick("text=Add 2 cases to Antenatal care")
    page.wait_for_selector(".says.good >> text=2 cases added to Antenatal care. It has 34 cases now.")
    checked = downloaded(page, "Download the checked sheet").active
    verdicts = [row[1].value for row in checked.iter_rows(min_row=2)]
    assert {"add", "not_found", "ambiguous", "no_phone", "closed", "duplicate", "already_in", "unreadable"} <= set(
        verdicts
    )
    page.click(".says.good >> text=Undo")
    page.wait_for_selector(".says.good >> text=2 cases out of Antenatal care (anc) again. It has 32 cases now.")
    too_large = {"name": "big.csv", "mimeType": "x", "buffer": b"x" * (8 * 2**20 + 1)}
    page.set_input_files("input[type=file]", files=[too_large])
    page.wait_for_selector("text=a page takes 8 MB")


def take_back_later(page):
    """What was done before is in the history, and is taken back once however often it is clicked."""
    page.click("text=History")
    page.locator("tbody tr").filter(has_text="added 1 case").first.get_by_text("Undo").dblclick()
    page.wait_for_selector(".says.good >> text=1 case out of Antenatal care (anc) again. It has 31 cases now.")


def look_at_the_audit(page):
    """What was found, which ones, and the pictures; of one's own groups only."""
    page.click("nav >> text=Membership audit")
    page.wait_for_selector(".findings >> text=share a phone number")
    assert page.locator("select option").all_inner_texts() == ["Every group", "Antenatal care", "TB treatment"]
    page.select_option("select", "anc")
    page.wait_for_selector(".audit[aria-busy=false] .findings")
    page.click(".findings li:has-text('have no phone number') >> text=Which")
    page.wait_for_selector(".which >> text=Yaw")
    assert page.locator(".which img[src=x]").count() == 0 and page.locator(".which >> text=onerror").count() == 1
    page.wait_for_selector("img[alt^='Members by gateway']")
    widths = page.locator(".picture").evaluate_all("all => all.map((one) => one.naturalWidth)")
    assert len(widths) == 5 and min(widths) > 300


def broadcast(page):
    """Written in two languages, looked at, sent by the count, and watched until the phones have it; its number."""
    page.click("nav >> text=Broadcasts")
    page.click("text=Write a broadcast")
    page.click(".choices >> text=TB treatment")
    page.fill("textarea.text", "Hello {name|friend}, the clinic is closed on Friday.")
    page.click("text=+ language")
    page.fill("dialog input[name=code]", "sw")
    page.click("dialog >> text=Add it")
    page.fill("textarea.text", "Habari {name}, kliniki imefungwa Ijumaa.")
    page.get_by_role("button", name="Look at it").click()
    page.wait_for_selector("text=20 people get it")
    page.wait_for_selector(".bubble >> text=Habari")
    typed = page.get_by_label("Type 20 to send")
    typed.fill("19")
    page.click("text=Send to 20 people")
    page.wait_for_selector(".says.bad")
    typed.fill("20")
    page.click("text=Send to 20 people")
    page.wait_for_selector("text=20 of 20 sent")
    page.wait_for_selector("text=Over. Asked for by Samuel")
    return int(re.match(r"\d+", page.locator(".top h2").inner_text())[0])


def test_a_page_whose_kernel_died_says_so_and_how_to_go_on(rehearsal, tmp_path):
    with desk(tmp_path, DATABASE_URL="sqlite:///rehearsal.db") as address, chromium() as seen:
        page = seen.page
        seen.sign_in(address, "Lena")
        page.wait_for_selector(WELL)
        (kernel,) = desks.kernels_of(address)
        bar = page.locator(".gone")
        assert not bar.is_visible()
        desks.kill(kernel)
        bar.wait_for()  # the server says it at once; else the page asks each 15 seconds and waits for ten
        assert "has lost its connection. What you see may be old." in bar.inner_text()
        bar.get_by_text("Reload").click()
        page.wait_for_selector(WELL)
        assert not bar.is_visible()


def test_a_page_that_waits_for_a_long_work_is_not_told_to_reload_amid_it(rehearsal, tmp_path):
    with desk(tmp_path, DATABASE_URL="sqlite:///rehearsal.db") as address, chromium() as seen:
        page = seen.page
        page.clock.install()
        seen.sign_in(address, "Lena")
        page.wait_for_selector(WELL)
        (kernel,) = desks.kernels_of(address)
        bar = page.locator(".gone")
        os.kill(kernel, signal.SIGSTOP)  # as one that is busy: it hears, and answers nobody yet
        try:
            page.get_by_role("button", name="Try", exact=True).click()
            page.clock.run_for(28_000)  # longer than it takes to ask whether anybody is there, and to give up
            assert not bar.is_visible()
        finally:
            os.kill(kernel, signal.SIGCONT)
        page.wait_for_selector("text=A rehearsal: nothing was sent")
        assert not bar.is_visible()


KEEP_SENTENCES = """() => {
  window.sentences = [];
  const keep = () => document.querySelectorAll(".says").forEach((one) => {
    if (sentences.at(-1) !== one.innerText) sentences.push(one.innerText);
  });
  new MutationObserver(keep).observe(document.body, { childList: true, subtree: true });
}"""
"""From now on the page keeps every sentence that it shows, also one that is taken away again."""


def test_what_a_page_was_not_told_of_is_told_when_it_is_opened_again_and_taken_back_once(rehearsal, tmp_path):
    with rehearsal.db.reading() as tx:
        lena = Desk(rehearsal.db, people.person(tx, LEAD).id, "02_cases")
    made = lena.upload_cases("new.csv", b"external_id,name\nnew-1,Ama Serwaa\n")
    made.confirm()
    with desk(tmp_path, DATABASE_URL="sqlite:///rehearsal.db") as address, chromium() as seen:
        page = seen.page
        seen.sign_in(address, "Lena")
        page.wait_for_selector(WELL)
        asked = json.dumps({"mark": made.mark, "says": made.says})
        page.evaluate("asked => sessionStorage.setItem('jumbe.unanswered', asked)", asked)
        page.goto(f"{address}/voila/render/02_cases.ipynb")
        page.wait_for_selector(".says.good >> text=1 case created.")
        page.evaluate(KEEP_SENTENCES)
        page.locator(".says.good >> text=Undo").dblclick()
        page.wait_for_selector(".says.good >> text=1 case that was made is closed.")
        page.locator("input[type=search]").first.fill("zzzz")
        page.wait_for_selector("text=Nobody fits")  # its kernel has answered all that was asked before
        assert page.evaluate("sentences").pop() == "1 case that was made is closed."
        assert page.evaluate("sessionStorage.length") == 0
    assert seen.faults == []


def test_a_journey_of_an_analyst_through_the_lab(rehearsal, tmp_path):
    with desk(tmp_path, "--lab", DATABASE_URL="sqlite:///rehearsal.db") as address, chromium() as seen:
        page = seen.page
        seen.sign_in(f"{address}/lab/tree/05_membership_audit.ipynb", "Lena")
        run_all(page)
        page.wait_for_selector(".jp-OutputArea-output table >> text=share a phone number with another open case")
        page.wait_for_selector(".jp-RenderedSVG img")
        assert page.locator(".jp-RenderedSVG img").first.evaluate("one => one.naturalWidth") > 500
        page.locator(".jp-WindowedPanel-outer").evaluate("one => one.scrollTop = 0")
        page.wait_for_selector(".jd .findings >> text=share a phone number")
        kept = tmp_path / "notebooks" / "05_membership_audit.ipynb"
        before = kept.stat().st_mtime_ns
        page.click("[data-command='docmanager:save'], button[title^='Save']")
        desks.until(lambda: kept.stat().st_mtime_ns != before and is_whole(kept), "the notebook is saved")
        book = json.loads(kept.read_text(encoding="utf-8"))
        cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        assert [(cell["outputs"], cell["execution_count"]) for cell in cells] == [([], None)] * len(cells)
        assert "widgets" not in book["metadata"] and "233244120101" not in kept.read_text(encoding="utf-8")
        assert page.locator(".jd .findings >> text=share a phone number").is_visible(), (
            "what was shown stays on the screen"
        )

        page.goto(f"{address}/lab/tree/06_sms_lab.ipynb?reset")  # alone: the one before would be run again
        run_all(page)
        page.wait_for_selector("text=a rehearsal: nothing left, nothing was kept")
        page.wait_for_selector("text=Hello from the lab.")
    assert seen.hosts == {address.removeprefix("http://")}
    with contextlib.closing(Database(f"sqlite:///{tmp_path}/rehearsal.db")) as db, db.reading() as tx:
        assert groups.find(tx, "lab") is None


def is_whole(notebook):
    """Whether all of a notebook is written: Jupyter empties the file first."""
    try:
        return bool(json.loads(notebook.read_text(encoding="utf-8")))
    except json.JSONDecodeError:
        return False


def run_all(page):
    page.wait_for_selector("text=/ipykernel.*Idle/")
    page.click(".lm-MenuBar-itemLabel >> text=Run")
    page.click("[data-command='runmenu:run-all']")
