"""How the page orders groups, and how it writes numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from regrow.laws import Law
from regrow.laws.forms import FORMS
from regrow.laws.validation import HoldOutResult
from regrow.methods import is_masked
from regrow.runs import RunRecord
from results.evidence import RATES

Scored = TypeVar("Scored", HoldOutResult, Law)


def key(result: HoldOutResult | Law) -> tuple[str, str, str]:
    return result.family, result.method, result.form


def in_order(results: Sequence[Scored]) -> list[Scored]:
    """By family, method and form, each in the order in which the page speaks of them."""
    return sorted(results, key=lambda r: (order_of(r.family, r.method), list(FORMS).index(r.form)))


def order_of(family: str, method: str) -> tuple[str, int]:
    methods = ("none", "depth", "width")
    return family, methods.index(method) if method in methods else len(methods)


def by_place(runs: Sequence[RunRecord]) -> dict[tuple[str, str, int], list[RunRecord]]:
    """The runs of each family, method and size, in the page's order."""
    groups: dict[tuple[str, str, int], list[RunRecord]] = {}
    for run in sorted(runs, key=lambda r: (order_of(r.family, r.method), r.params_before)):
        groups.setdefault((run.family, "control" if run.is_control else run.method, run.params_before), []).append(run)
    return groups


def at_rates(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The runs nearest to each of `RATES`; what has no rate to choose, 2:4 and the controls, stands in the first."""
    places: list[list[RunRecord]] = [[] for _ in RATES]
    for run in runs:
        chosen = not (is_masked(run.method) or run.is_control)
        places[int(np.argmin(np.abs(np.array(RATES) - run.pruning_rate))) if chosen else 0].append(run)
    return places


def number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def as_markdown(rows: Iterator[list[str]]) -> str:
    """A table; the first row is its heading."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def fill(page: str, tables: Mapping[str, Callable[[], str]], only: Collection[str] | None = None) -> str:
    """The page with every marked table, or those in `only`, written anew.

    Raises `ValueError` for a marker that names no table.
    """

    def table(found: re.Match[str]) -> str:
        if found[1] not in tables:
            raise ValueError(f"no table is called {found[1]!r}; there are {', '.join(tables)}")
        if only is not None and found[1] not in only:
            return found[0]
        return f"<!-- table: {found[1]} -->\n\n{tables[found[1]]()}\n\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w-]+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)
