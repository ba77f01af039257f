"""Rounds in turn, medians, and one comparison a line: what Jumbe does, what it is held against, and the goal.

Machines are noisy, so nothing is compared with a figure of another run.  All that belongs to one comparison runs in the same
rounds, in an order that is drawn anew for each round, and the median of an odd number of rounds counts.
"""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Comparison:
    """One line of the table; `at_least` or `at_most` is the goal of the ratio (or, without `theirs`, of the figure)."""

    work: str
    unit: str
    ours: float
    against: str = ""
    theirs: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def ratio(self) -> float:
        """Ours over theirs; or the figure itself where the goal is of the figure."""
        return self.ours if self.theirs is None else self.ours / self.theirs

    @property
    def reached(self) -> bool:
        """Whether the goal is met; without a goal it is only told."""
        low = self.at_least is None or self.ratio >= self.at_least
        return low and (self.at_most is None or self.ratio <= self.at_most)

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return f"at most {self.at_most:g}" if self.at_most is not None else ""

    @property
    def verdict(self) -> str:
        """Reached, or by how much not."""
        if not self.goal:
            return ""
        if self.reached:
            return "reached"
        wanted = self.at_least if self.at_least is not None else self.at_most
        assert wanted
        return f"missed by {abs(self.ratio / wanted - 1):.0%}"


@dataclass
class Spent:
    """What a stretch of work took: by the clock, and of CPU, in seconds."""

    clock_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def spending(*, children: bool = False) -> Iterator[Spent]:
    """Measure what is done inside, by this process; with `children` also by those that it waited for."""
    spent = Spent()
    clock, cpu = time.perf_counter(), _cpu_s(children=children)
    yield spent
    spent.clock_s, spent.cpu_s = time.perf_counter() - clock, _cpu_s(children=children) - cpu


def _cpu_s(*, children: bool) -> float:
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + (of_children.ru_utime + of_children.ru_stime if children else 0.0)


@dataclass
class Rounds:
    """What was measured: by name a list of figures, one a round."""

    seen: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, figure: float) -> None:
        """One figure of this round."""
        self.seen.setdefault(name, []).append(figure)

    def __getitem__(self, name: str) -> float:
        return statistics.median(self.seen[name])

    def __contains__(self, name: str) -> bool:
        return name in self.seen


def in_turn(
    rounds: int, dice: random.Random, works: Mapping[str, Callable[[Rounds], None]], *, warm: bool = True
) -> Rounds:
    """Run each work once a round, in an order drawn for the round; with `warm` a round before that counts for nothing."""
    assert rounds % 2, "a median wants an odd number"
    if warm:
        for work in works.values():
            work(Rounds())
    found = Rounds()
    for _ in range(rounds):
        for name in dice.sample(list(works), len(works)):
            works[name](found)
    return found


def percentile(figures: list[float], share: float) -> float:
    """The figure below which this share of them lies."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
