"""`regrow plan --compare`: methods and rates side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from regrow.cli.options import number, print_json, warn
from regrow.cli.plan_output import suggest_reference
from regrow.cli.tables import print_table, say

if TYPE_CHECKING:
    from regrow.laws.law import Law
    from regrow.planning.frontier import Candidate, Comparison
    from regrow.planning.plan_spec import PlanSpec


#: Columns that a narrow terminal goes without, in this order.
_SPARE = ("FLOPs/token served", "left", "serving", "interval")


def print_comparison(
    laws: Sequence[Law],
    base: PlanSpec,
    asked: Mapping[str, Any],
    *,
    named: str | None,
    family: str | None,
    method: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Compare the laws of this family and method; `asked` holds fields of a `CompareSpec` by name.

    The law for a method that is not said is left out where no method is asked for: the others are the methods.
    """
    from regrow.errors import one_of
    from regrow.methods import ANY
    from regrow.planning.frontier import CompareSpec, compare

    wanted = CompareSpec(base=base, **asked)
    if family is not None:
        one_of(family, sorted({one.family for one in laws}), what="family", where="laws")
    if method is not None:
        one_of(method, sorted({one.method for one in laws}), what="method", where="laws")
    methods = {one.method for one in laws} - {ANY} or {ANY}
    chosen = [one for one in laws if family in (None, one.family) and one.method in ({method} if method else methods)]
    comparison = compare(chosen, wanted)
    if as_json:
        print_json(comparison.to_dict())
    else:
        _print_rows(comparison)
        _print_notes(comparison, verbose=verbose)
        suggest_reference(comparison.candidates[0].plan, named)


def _print_rows(comparison: Comparison) -> None:
    """The rows as a table, and the choice as a sentence."""
    from regrow.planning.cost import say_gpu_time, say_usd
    from regrow.units import format_count

    serves = comparison.spec.served_tokens is not None
    columns = ["", "method", "rate", "left", "tokens", "loss", "interval", "training"]
    columns += ["FLOPs/token served", "serving"] * serves + ["total"] * serves

    def paid(hours: float | None, usd: float | None) -> str:
        if hours is None:
            return "-"
        return f"{say_gpu_time(hours)}, {say_usd(usd)}" if usd is not None else say_gpu_time(hours)

    def cells(row: Candidate) -> list[str]:
        p = row.plan
        ends = "-" if p.loss_low is None else f"{number(p.loss_low)} to {number(p.loss_high)}"
        tokens = "-" if p.tokens is None else format_count(p.tokens)
        shown = [
            ">" if row.chosen else "*" if row.on_frontier else "",
            p.method,
            number(p.pruning_rate),
            format_count(p.params_after),
            tokens,
            number(p.loss),
            ends,
            paid(p.gpu_hours, p.cost_usd),
        ]
        if serves:
            shown += [
                f"{row.inference_flops_per_token:.3g}",
                paid(row.serving_gpu_hours, row.serving_cost_usd),
                paid(row.total_gpu_hours, row.total_cost_usd),
            ]
        return shown

    say(comparison.judgement())
    print_table("", columns, [cells(row) for row in comparison.candidates], spare=_SPARE)
    typer.echo("* on the frontier of loss, parameters left and total cost; > the one to take")
    first, spec = comparison.candidates[0].plan, comparison.spec
    means = f"GPU-hours are of {first.gpu} at MFU {first.mfu:.3g} ({first.mfu_how})"
    if serves:
        means += f", when serving {spec.serving_mfu or first.mfu:.3g}"
        means += f"; N:M sparsity is served at {spec.sparse_speedup:g} times the speed of dense matrices"
    say(means)
    say(comparison.stopping())
    say(comparison.sentence())


def _print_notes(comparison: Comparison, *, verbose: bool) -> None:
    """Rows without an answer, what was refused, and the warnings of all rows; the others with `verbose`."""
    for reason, rows in _by_text((row.name, row.plan.tokens_reason) for row in comparison.candidates).items():
        say(f"no answer: {', '.join(rows)}: {reason}", err=True)
    for refusal in comparison.refused:
        rate = "" if refusal.pruning_rate is None else f" at {refusal.pruning_rate:.3g}"
        say(f"refused: {refusal.method}{rate}: {refusal.why}", err=True)
    found = _by_text((row.name, warning) for row in comparison.candidates for warning in row.plan.warnings)
    everywhere = len(comparison.candidates)
    of_all = [warning for warning, rows in found.items() if len(rows) == everywhere]
    warn(of_all)
    others = [f"{', '.join(rows)}: {warning}" for warning, rows in found.items() if len(rows) < everywhere]
    if verbose:
        warn(others)
    elif others:
        say(f"({len(others)} more of single rows with --verbose; docs/plan.md explains them)", err=True)


def _by_text(pairs: Iterable[tuple[str, str | None]]) -> dict[str, list[str]]:
    """The names that have each text, by the text."""
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        if text is not None:
            found.setdefault(text, []).append(name)
    return found
