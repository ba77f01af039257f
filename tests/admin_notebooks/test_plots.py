"""The pictures: drawn offline, the same each time, readable in grey, and said in a sentence."""

import itertools
import re
from xml.etree import ElementTree

import pytest

from tests.parts import library

pd = library("pandas")
library("matplotlib")
from admin_notebooks import plots

HOSTILE = '<img src=x onerror="alert(1)"> $\\frac{1}{0}$ & Śliwa'


def days(joined, left):
    table = pd.DataFrame(
        {"joined": joined, "left": left}, index=pd.date_range("2026-05-01", periods=len(joined), name="day")
    )
    table["members"] = (table["joined"] - table["left"]).cumsum()
    return table


SQUARE = pd.DataFrame([[30, 10], [10, 20]], index=["anc", HOSTILE], columns=["anc", HOSTILE])
TABLE = pd.DataFrame({"found": ["have no number", "fine"], "count": [3, 0], "needs": ["look", "high"]})
PICTURES = {
    "over_time": lambda: plots.over_time(days([30, 0, 5], [0, 4, 0]), HOSTILE),
    "long": lambda: plots.over_time(days([3] * 400, [1] * 400)),
    "one day": lambda: plots.over_time(days([3], [0])),
    "nothing": lambda: plots.over_time(days([], [])),
    "overlaps": lambda: plots.overlaps(SQUARE),
    "no overlaps": lambda: plots.overlaps(SQUARE.iloc[:0, :0]),
    "mix": lambda: plots.mix(pd.DataFrame({"language_code": ["sw", None, HOSTILE], "cases": [5, 3, 1]}), "Languages"),
    "findings": lambda: plots.findings(TABLE),
    "no findings": lambda: plots.findings(TABLE.iloc[1:]),
}


@pytest.fixture(params=PICTURES)
def picture(request):
    return PICTURES[request.param]


def test_a_picture_is_svg_that_asks_no_host_for_anything_and_runs_nothing(picture):
    svg = picture().svg()
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("}svg")
    for element in root.iter():
        assert not re.search(r"(script|foreignObject|}img)$", element.tag), element.tag
        for name, value in element.attrib.items():
            if name.endswith(("href", "src")):
                assert value.startswith("#"), value
    assert "@import" not in svg
    assert len(svg) < 200_000


def test_the_same_figures_draw_the_same_file(picture):
    assert picture().svg() == picture().svg()


def test_a_picture_says_in_a_sentence_what_it_shows(picture):
    says = repr(picture())
    assert says.endswith(".")
    assert says in "".join(ElementTree.fromstring(picture().svg()).itertext())


def test_what_a_picture_says_has_its_figures():
    assert repr(PICTURES["over_time"]()).endswith("31 on 2026-05-03; 35 joined and 4 left since 2026-05-01.")
    assert repr(PICTURES["mix"]()).startswith("Languages: sw 5, not set 3, ")
    assert repr(PICTURES["findings"]()) == "What was found: 3 have no number."
    assert "(10)" in repr(PICTURES["overlaps"]())


def test_the_letters_of_a_picture_stay_letters(picture):
    """So that it is small, can be searched, and is drawn in the reader's own font."""
    text = "".join(ElementTree.fromstring(PICTURES["over_time"]().svg()).itertext())
    assert HOSTILE in text


def test_many_values_are_put_together():
    counts = pd.DataFrame({"zone": [f"z{n}" for n in range(30)], "cases": [30 - n for n in range(30)]})
    assert "21 others 231" in repr(plots.mix(counts, "Zones"))
    wide = pd.DataFrame(1, index=[f"g{n}" for n in range(40)], columns=[f"g{n}" for n in range(40)])
    assert len(plots.overlaps(wide).svg()) < 200_000


def test_the_three_depths_stay_apart_on_grey_paper():
    def grey(colour):
        red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    depths = [grey(c) for c in (plots.DEEP, plots.MIDDLE, plots.PALE, "#ffffff")]
    assert min(b - a for a, b in itertools.pairwise(depths)) > 35


def test_a_picture_leaves_the_looks_of_the_notebook_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    PICTURES["mix"]().svg()
    assert dict(matplotlib.rcParams) == before


def test_the_funnels_show_who_has_it_who_may_still_and_who_did_not():
    parts = {
        "delivered": [30, 0],
        "on_its_way": [2, 0],
        "to_go": [0, 5],
        "unclear": [1, 0],
        "failed": [3, 0],
        "skipped": [4, 1],
        "halted": [0, 0],
    }
    told = plots.funnels(
        pd.DataFrame({"number": [2, 1], "whom": ["Antenatal <care>", "TB"], "recipients": [40, 6], **parts})
    )
    assert repr(told).endswith(
        "of 46 recipients of the newest 2 30 got it, 7 may still, and 9 did not or it is not known."
    )
    svg = told.svg()
    assert "2 to Antenatal &lt;care&gt;" in svg and "delivered (30)" in svg
    nothing = pd.DataFrame({"number": [], "whom": [], "recipients": [], **{part: [] for part in parts}})
    assert "nothing to show" in repr(plots.funnels(nothing))
