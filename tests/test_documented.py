"""The pages say what the program does."""

import re

import pytest

from tests import pages


@pytest.mark.parametrize("name", pages.PAGES)
def test_what_a_program_can_print_stands_in_the_page_as_printed(name):
    text = (pages.ROOT / name).read_text(encoding="utf-8")
    assert pages.printed(text) == text, f"{name} is stale: make pages"


def test_every_printed_part_stands_in_a_page():
    everything = "".join((pages.ROOT / name).read_text(encoding="utf-8") for name in pages.PAGES)
    assert set(re.findall(r"<!-- printed: (\w+) -->", everything)) == set(pages.PARTS)


def test_every_link_and_picture_of_a_page_is_there():
    for name in pages.PAGES:
        page = pages.ROOT / name
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{name} points to {target}"


def test_every_file_of_ours_that_a_page_names_is_there():
    """A move leaves a page behind: a name in back quotes is a file beside the page, or one of the whole house."""
    for name in pages.PAGES:
        page = pages.ROOT / name
        for path in re.findall(r"`((?:\w+/)*\w+\.(?:py|toml|js|css))`", page.read_text(encoding="utf-8")):
            there = any(
                (folder / path).exists() for folder in (page.parent, pages.ROOT, pages.ROOT / "bot" / "locales")
            )
            assert there, f"{name}: {path}"


def test_the_readme_names_the_two_commands_that_a_newcomer_needs():
    text = (pages.ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
