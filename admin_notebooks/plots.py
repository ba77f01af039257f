"""Pictures of an audit: drawn offline as SVG, calm, and readable when printed in grey.

One colour in three depths, so that grey paper keeps them apart; what a colour means stands beside it in words, and every
picture says in a sentence what it shows, for whoever cannot see it.  Figures are made without pyplot, which would keep
each of them for ever.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import pandas as pd
from matplotlib import rc_context
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DayLocator, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from admin_notebooks.frames import Frame
from storage.console import count_of

DEEP, MIDDLE, PALE = "#1f4e5f", "#6f98a8", "#c9d8de"
INK, SOFT, LINE = "#22282b", "#5b666b", "#dfe5e8"
WIDTH = 7.2
"""Inches; at 100 dots an inch what a notebook's column and a printed page hold."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # letters stay letters: small, searchable, and drawn in the reader's font
    "svg.hashsalt": "jumbe",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_FONTS = "'DejaVu Sans', 'Segoe UI', Helvetica, Arial, sans-serif"
Axes: TypeAlias = Any
F = TypeVar("F", bound=Callable[..., Any])


def _styled(draw: F) -> F:
    """Draw with our own looks, and leave those of the notebook as they are."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Any:
        with rc_context(_STYLE):
            return draw(*arguments, **options)

    return cast(F, drawn)


class Picture:
    """A figure with the sentence that says what it shows; a notebook draws it as SVG."""

    def __init__(self, figure: Figure, says: str) -> None:
        self.figure = figure
        self.says = says

    def __repr__(self) -> str:
        """What the picture shows, in words."""
        return self.says

    def _repr_svg_(self) -> str:
        return self.svg()

    def fitted(self, width: float) -> str:
        """The same for a place of so many pixels, so that its letters are as large on a phone as on a wide page."""
        return self.svg(min(720, max(320, width)) / 100)

    @_styled
    def svg(self, width: float = WIDTH) -> str:
        """The picture as one SVG element, so many inches wide, that asks no other host for anything."""
        drawn = io.StringIO()
        self.figure.set_figwidth(width)
        # Without its date, so that the same figures draw the same file.
        self.figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None, "Title": self.says})
        svg = drawn.getvalue()
        svg = svg[svg.index("<svg") :].replace("'DejaVu Sans'", _FONTS).replace("DejaVu Sans;", f"{_FONTS};")
        return svg.replace("<svg", '<svg role="img"', 1)


@_styled
def over_time(days: Frame, title: str = "Members") -> Picture:
    """Members at the end of each day as a line, joins above and leaves below it as bars: from `checks.over_time`."""
    if days.empty:
        return _nothing(title)
    figure, (line, bars) = _figure(title, 3.6, rows=(2.2, 1))
    line.fill_between(days.index, days["members"], step="post", color=PALE, linewidth=0)
    line.step(days.index, days["members"], where="post", color=DEEP, linewidth=1.6)
    line.set_ylim(0, max(1, days["members"].max()) * 1.15)
    last = int(days["members"].iloc[-1])
    line.annotate(
        f"{last:,}",
        (days.index[-1], last),
        xytext=(4, 2),
        textcoords="offset points",
        fontweight="bold",
        annotation_clip=False,
    )
    line.tick_params(labelbottom=False)
    by_week = len(days) > 200  # a bar a day would be thinner than a line
    moves = days[["joined", "left"]].resample("7D").sum() if by_week else days
    width = {"width": 6, "align": "edge"} if by_week else {"width": 0.8}
    went = moves["left"][moves["left"] > 0]  # a bar of nothing would still have an edge
    bars.bar(moves.index, moves["joined"], color=MIDDLE, **width)
    bars.bar(went.index, -went, color="white", edgecolor=DEEP, hatch="////", linewidth=0.6, **width)
    bars.axhline(0, color=SOFT, linewidth=0.6)
    bars.set_ylabel(f"left | joined\n{'by week' if by_week else 'by day'}", fontsize=8)
    bars.yaxis.set_major_formatter(lambda value, _place: f"{abs(int(value)):,}")
    for axes in (line, bars):
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    bars.xaxis.set_major_locator(DayLocator() if len(days) < 10 else AutoDateLocator(minticks=2, maxticks=8))
    spare = max(1.5, len(days) * 0.03)
    bars.set_xlim(date2num(days.index[0]) - spare, date2num(days.index[-1]) + spare)
    bars.xaxis.set_major_formatter(ConciseDateFormatter(bars.xaxis.get_major_locator()))
    joined, left = int(days["joined"].sum()), int(days["left"].sum())
    says = f"{title}: {last:,} on {days.index[-1]:%Y-%m-%d}; {joined:,} joined and {left:,} left since {days.index[0]:%Y-%m-%d}."
    return Picture(figure, says)


@_styled
def overlaps(square: Frame, title: str = "Who is in two groups", at_most: int = 12) -> Picture:
    """How many members each two groups share: from `checks.overlaps`; the largest groups, if there are many."""
    if square.empty:
        return _nothing(title)
    sizes = {name: int(square.loc[name, name]) for name in square.index}
    names = sorted(square.index, key=lambda name: (-sizes[name], name))[:at_most]
    shown = square.loc[names, names]
    share = shown.div([max(1, sizes[name]) for name in names], axis=0)
    figure, (axes,) = _figure(title, 1.2 + 0.34 * len(names))
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            count, part = int(shown.loc[name, other]), float(share.loc[name, other])
            if row == column:
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontweight="bold")
            elif count:
                axes.add_patch(_square(column, row, part))
                axes.text(column, row, f"{count:,}", ha="center", va="center", color="white" if part > 0.5 else INK)
            else:
                axes.text(column, row, "·", ha="center", va="center", color=SOFT)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks(
        range(len(names)), names, rotation=0 if len(names) <= 8 else 40, ha="center" if len(names) <= 8 else "left"
    )
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    pairs = [(int(shown.loc[a, b]), a, b) for i, a in enumerate(names) for b in names[i + 1 :] if shown.loc[a, b]]
    most = f"the most between {max(pairs)[1]} and {max(pairs)[2]} ({max(pairs)[0]:,})" if pairs else "none"
    return Picture(figure, f"{title}: {len(pairs)} pairs of groups share members, {most}.")


@_styled
def mix(counts: Frame, title: str, at_most: int = 10) -> Picture:
    """How many have which value, as bars with their counts: from `checks.mix`, or any frame of names and numbers."""
    if counts.empty:
        return _nothing(title)
    names = ["not set" if name is None or name != name or name == "" else str(name) for name in counts.iloc[:, 0]]  # noqa: PLR0124
    numbers = [int(n) for n in counts.iloc[:, 1]]
    if len(names) > at_most:
        rest = sum(numbers[at_most - 1 :])
        names, numbers = [*names[: at_most - 1], f"{len(names) - at_most + 1} others"], [*numbers[: at_most - 1], rest]
    return Picture(
        _bars(title, names, numbers),
        f"{title}: " + ", ".join(f"{n} {c:,}" for n, c in zip(names, numbers, strict=True)) + ".",
    )


@_styled
def findings(table: Frame, title: str = "What was found") -> Picture:
    """The findings that found something, as bars: from `checks.as_frame`; the deeper, the more urgent."""
    some = table[table["count"] > 0]
    if some.empty:
        return Picture(_words(title, "Nothing was found: all is well."), f"{title}: nothing, all is well.")
    depth = {"high": DEEP, "look": MIDDLE, "note": PALE}
    names = [f"{_cut(found, 62)} ({needs})" for found, needs in zip(some["found"], some["needs"], strict=True)]
    numbers = [int(n) for n in some["count"]]
    figure = _bars(title, names, numbers, [depth[needs] for needs in some["needs"]])
    return Picture(
        figure, f"{title}: " + "; ".join(f"{n:,} {f}" for n, f in zip(numbers, some["found"], strict=True)) + "."
    )


@_styled
def delivered(moments: Frame, recipients: int, title: str = "Over time") -> Picture:
    """How many had left and how many had arrived, as two lines against all recipients; `moments` has `sent` and `delivered`
    for each moment at which there were any."""
    if moments.empty:
        return _nothing(title)
    spare = max((moments.index[-1] - moments.index[0]) * 0.04, pd.Timedelta(seconds=1))
    before = pd.DataFrame({"sent": [0], "delivered": [0]}, index=[moments.index[0] - spare])
    lines = pd.concat([before, moments]).cumsum()
    figure, (axes,) = _figure(title, 2.2)
    for name, colour, style in (("sent", MIDDLE, "--"), ("delivered", DEEP, "-")):
        axes.step(lines.index, lines[name], where="post", color=colour, linewidth=1.7, linestyle=style)
    axes.axhline(recipients, color=LINE, linewidth=1)
    axes.set_ylim(0, max(1, recipients) * 1.12)
    axes.set_xlim(date2num(lines.index[0]), date2num(lines.index[-1]))
    sent, arrived = int(lines["sent"].iloc[-1]), int(lines["delivered"].iloc[-1])
    both = sent == arrived
    ends = [(arrived, f"sent and delivered {arrived:,}", "center")] if both else [
        (sent, f"sent {sent:,}", "bottom"), (arrived, f"delivered {arrived:,}", "top")
    ]  # fmt: skip
    for count, words, side in ends:
        axes.annotate(words, (lines.index[-1], count), xytext=(6, 0), textcoords="offset points", va=side,
                      fontweight="bold", annotation_clip=False)  # fmt: skip
    axes.annotate(f"{count_of(recipients, 'recipient')}", (lines.index[0], recipients), xytext=(2, 3), color=SOFT,
                  textcoords="offset points")  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    locator = AutoDateLocator(minticks=2, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=lines.index.tz))
    says = f"{title}: of {count_of(recipients, 'recipient')} {sent:,} were sent and {arrived:,} delivered by {lines.index[-1]:%Y-%m-%d %H:%M}."
    return Picture(figure, says)


@_styled
def funnels(broadcasts: Frame, title: str = "What became of each broadcast", at_most: int = 10) -> Picture:
    """The newest broadcasts as bars of those who have it, those who may still get it and those who did not: from
    `frames.funnels`."""
    some = broadcasts[broadcasts["recipients"] > 0].head(at_most)
    if some.empty:
        return _nothing(title)
    under_way, not_got = (
        some[["on_its_way", "to_go"]].sum(axis=1),
        some[["unclear", "failed", "skipped", "halted"]].sum(axis=1),
    )
    rows, before = range(len(some)), pd.Series(0, index=some.index)
    figure, (axes,) = _figure(title, 1.0 + 0.3 * len(some))
    for name, counts, looks in (
        ("delivered", some["delivered"], {"color": DEEP}),
        ("under way", under_way, {"color": MIDDLE}),
        (
            "did not get it, or it is not known",
            not_got,
            {"color": "white", "edgecolor": DEEP, "hatch": "////", "linewidth": 0.6},
        ),
    ):
        if counts.sum():
            axes.barh(rows, counts, left=before, height=0.68, label=f"{name} ({int(counts.sum()):,})", **looks)
        before += counts
    axes.set_yticks(
        rows, [_cut(f"{number} to {whom}", 34) for number, whom in zip(some["number"], some["whom"], strict=True)]
    )
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=8.5)
    says = f"{title}: of {count_of(int(some['recipients'].sum()), 'recipient')} of the newest {len(some)} {int(some['delivered'].sum()):,} got it, {int(under_way.sum()):,} may still, and {int(not_got.sum()):,} did not or it is not known."
    return Picture(figure, says)


# -- inside ------------------------------------------------------------------------------------------------------------


def _figure(title: str, height: float, *, rows: Sequence[float] = (1,)) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained")
    figure.suptitle(_cut(title, 90), x=0.005, ha="left", fontsize=10.5, fontweight="bold")
    made = figure.subplots(len(rows), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": rows})
    axes: list[Axes] = [row[0] for row in made]
    for one in axes:
        one.set_axisbelow(True)
        one.tick_params(length=0)
    if len(axes) > 1:
        for one in axes:
            one.grid(axis="y", color=LINE, linewidth=0.7)
    return figure, axes


def _bars(title: str, names: Sequence[str], numbers: Sequence[int], colours: Sequence[str] | str = MIDDLE) -> Figure:
    figure, (axes,) = _figure(title, 0.65 + 0.27 * len(names))
    bars = axes.barh(range(len(names)), numbers, color=colours, height=0.68)
    axes.bar_label(bars, [f"{n:,}" for n in numbers], padding=4)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, max([1, *numbers]) * 1.12)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return figure


def _square(column: int, row: int, part: float) -> Any:
    from matplotlib.patches import Rectangle

    colour = DEEP if part > 0.5 else MIDDLE if part > 0.2 else PALE
    return Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, facecolor=colour, linewidth=0)


def _nothing(title: str) -> Picture:
    return Picture(_words(title, "There is nothing to show yet."), f"{title}: there is nothing to show yet.")


def _words(title: str, words: str) -> Figure:
    figure, (axes,) = _figure(title, 1.0)
    axes.axis("off")
    axes.text(0, 0.5, words, transform=axes.transAxes, color=SOFT, va="center")
    return figure


def _cut(text: str, at: int) -> str:
    return text if len(text) <= at else f"{text[: at - 1].rstrip()}…"
