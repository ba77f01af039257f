"""The page of cases in a browser: found, changed, loaded by a sheet, and a hostile name is text wherever it stands."""

import pytest

from tests.parts import library

library("voila")
library("jupyterlab")

from bot.demo import SUPERVISOR
from storage import audit
from storage.contacts import people
from tests.desks import CLI, HOSTILE, chromium, desk

SHEET = f"caseid,external_id,name,district\n,p-102,Kofi Mensah,Kisumu\n,hostile,,\n,new-1,{HOSTILE},\n,,Nobody,\n"


@pytest.mark.processes
def test_a_journey_through_cases(rehearsal, tmp_path):
    with rehearsal.db.transaction() as tx:
        people.change(tx, people.person(tx, SUPERVISOR), role="lead", by=CLI)
    with desk(tmp_path, DATABASE_URL="sqlite:///rehearsal.db") as address, chromium() as seen:
        page = seen.page
        seen.sign_in(f"{address}/voila/render/02_cases.ipynb?case=p-101", "Samuel")
        page.wait_for_selector("text=This case owns the number since")  # the address outlived the door

        page.click("button:text-is('Change')")
        page.fill("[name=language_code]", "sw")
        page.click("text=See what would change")
        page.wait_for_selector("text=Nothing has been changed yet.")
        assert page.locator(".case .events li").first.inner_text() == "Language: en → sw"
        page.dblclick("text=Change the language of Ama")
        page.wait_for_selector(".says.good >> text=Changed the language of Ama.")
        page.click(".says.good >> text=Undo")
        page.wait_for_selector("text=1 case is as before.")

        page.click("ol a >> text=Kofi")  # who waits for her number
        page.wait_for_selector("text=It is number 1 of those who wait")
        page.go_back()
        page.wait_for_selector("text=1 other waits for it.")
        page.click("text=All cases")
        page.fill("input[type=search]", "hostile")
        page.wait_for_selector("td >> text=onerror")
        page.press("input[type=search]", "Enter")
        page.wait_for_selector("h2 >> text=onerror")

        page.set_viewport_size({"width": 390, "height": 844})
        page.click("text=All cases")
        page.click("text=Load a sheet")
        page.set_input_files("input[type=file]", files=[{"name": "j.csv", "mimeType": "x", "buffer": SHEET.encode()}])
        page.wait_for_selector("text=Nothing has been changed yet.")
        assert page.locator("td.n").all_inner_texts() == ["5", "2", "3", "4"]  # problems first
        assert page.locator(".cells >> nth=1").inner_text() == "Name: Kofi → Kofi Mensah\ndistrict: Kisumu"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.dblclick("text=Create 1 case, change 1 case")
        page.wait_for_selector(".says.good >> text=1 case created, 1 case changed.")
        with page.expect_download() as checked:
            page.click("text=Download the checked sheet")
        assert checked.value.suggested_filename == "checked.xlsx"
        page.click(".says.good >> text=Undo")
        page.wait_for_selector("text=1 case is as before, 1 case that was made is closed.")
        assert page.locator("img[src=x]").count() == 0
    assert seen.faults == []
    with rehearsal.db.reading() as tx:
        verbs = [line.verb for line in audit.list_last(tx, 20) if line.verb.startswith("cases.")]
    assert verbs[:4] == ["cases.undo", "cases.import", "cases.undo", "cases.change"]
