"""What a study may cost: refused when it costs more, or cut to fit by a stated rule. Light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from regrow.errors import InputError, one_of
from regrow.study.cell_plan import CellPlan
from regrow.units import format_count, parse_count, read_fields

REFUSE, CHOOSE = "refuse", "choose"


@dataclass(frozen=True, kw_only=True)
class StudyBudget:
    """A limit on all the cells of a study together, those that are done included.

    Attributes:
        tokens: trained on.
        flops: floating-point operations of training and evaluation.
        hours: of one process (of one GPU, where cells run on GPUs), as the plan estimates them.
        rule: `refuse` a study that costs more, or `choose`: controls first, then the cells of the first seed before
            those of the second, the cheapest first; the first cell that does not fit is left out, and all cells
            after it.
    """

    tokens: int | None = None
    flops: float | None = None
    hours: float | None = None
    rule: str = REFUSE

    def __post_init__(self) -> None:
        read_fields(self, counts=("tokens",), numbers=("flops", "hours"), where="study, budget")
        one_of(self.rule, (REFUSE, CHOOSE), what="rule", where="study, budget")
        limits = [getattr(self, name) for name in _LIMITS]
        if all(limit is None for limit in limits):
            raise InputError("no limit", where="study, budget", hint=f"give {', '.join(_LIMITS)}")
        if any(limit is not None and not limit > 0 for limit in limits):
            raise InputError("a limit is not positive", where="study, budget")

    @classmethod
    def from_dict(cls, content: Any, *, where: str = "study, budget") -> StudyBudget:
        """Read plain data, as YAML gives it. Raises `InputError` for an unknown key or a value that is not a number."""
        if not isinstance(content, Mapping):
            raise InputError(f"{content!r} is not a budget", where=where, hint="write {tokens: 20M} or {hours: 5}")
        for key in content:
            one_of(str(key), [f.name for f in fields(cls)], what="key", where=where)
        values = dict(content)
        for key in ("tokens", "flops"):
            if values.get(key) is not None:
                values[key] = parse_count(values[key], what=f"{where}, {key}")
        if values.get("hours") is not None:
            try:
                values["hours"] = float(values["hours"])
            except (TypeError, ValueError):
                raise InputError(f"{values['hours']!r} is not a number of hours", where=where) from None
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


_LIMITS = ("tokens", "flops", "hours")


def within(budget: StudyBudget, cells: Sequence[CellPlan]) -> tuple[set[str], str | None]:
    """Names of the cells that fit a budget, and a note on what was left out (None if all fit).

    Raises `InputError` with the numbers where the rule is `refuse` and the study costs more, or where a cost that has a
    limit is not known.
    """
    costs = {name: [_cost(cell, name) for cell in cells] for name in _LIMITS if getattr(budget, name) is not None}
    for name, known in costs.items():
        unknown = next((cell.cell for cell, cost in zip(cells, known, strict=True) if cost is None), None)
        if unknown is not None:
            raise InputError(
                f"the {name} of {unknown.name} are not known",
                where="study, budget",
                hint="set the budget in tokens" if name == "flops" else "set the budget in tokens or flops",
            )
    over = [
        f"{_say(name, sum(c for c in known if c))} of at most {_say(name, getattr(budget, name))}"
        for name, known in costs.items()
        if sum(c for c in known if c) > getattr(budget, name)
    ]
    if not over:
        return {cell.cell.name for cell in cells}, None
    if budget.rule == REFUSE:
        raise InputError(
            f"the study's {len(cells)} cells cost {', '.join(over)}",
            where="study, budget",
            hint="take cells out, raise the budget, or let `rule: choose` cut the study to it",
        )
    order = sorted(
        range(len(cells)), key=lambda i: (cells[i].cell.prune is not None, cells[i].seed_rank, cells[i].work)
    )
    spent = dict.fromkeys(costs, 0.0)
    chosen: set[str] = set()
    for i in order:
        new = {name: spent[name] + (known[i] or 0.0) for name, known in costs.items()}
        if any(total > getattr(budget, name) for name, total in new.items()):
            break
        spent = new
        chosen.add(cells[i].cell.name)
    if not chosen:
        raise InputError("not one cell fits", where="study, budget", hint="raise the budget")
    return chosen, f"{len(chosen)} of {len(cells)} cells fit the budget: all cost {', '.join(over)}"


def _cost(cell: CellPlan, name: str) -> float | None:
    if name == "tokens":
        return float(cell.tokens)
    if name == "flops":
        return cell.flops
    return None if cell.seconds is None else cell.seconds / 3600


def _say(name: str, value: float) -> str:
    return f"{value:.3g} hours" if name == "hours" else f"{format_count(value)} {'FLOPs' if name == 'flops' else name}"
