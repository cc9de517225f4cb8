"""How many tokens a run had trained on at each row of its log.

The rule: the log's own count where it has one; else the samples it counts times the length of one; else its optimizer
steps times `tokens_per_step`. Never a speed times a time: logs round both, and a speed leaves out what the run waited
for. A count that is logged in other rows than the losses is read between its neighbours by step.
"""

from __future__ import annotations

import numpy as np

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.names import SAMPLES, STEPS, TOKENS, first_of
from regrow.runs.importers.spec import ImportSpec


def step_column(history: History, spec: ImportSpec) -> str | None:
    """The column with the optimizer step, if the log has one."""
    if spec.step_column is not None and not history.has(spec.step_column):
        raise InputError(f"no column {spec.step_column!r}", where=history.where, hint=f"there are: {history.named()}")
    return spec.step_column or first_of(STEPS, history)


def count_column(history: History, spec: ImportSpec) -> tuple[str, int, str]:
    """The column that tokens come from, tokens in one of its units, and the rule as words.

    Raises `InputError` where the log counts steps or samples and nobody says how many tokens they hold.
    """
    where = history.where
    if spec.tokens_column is not None:
        if not history.has(spec.tokens_column):
            raise InputError(f"no column {spec.tokens_column!r}", where=where, hint=f"there are: {history.named()}")
        return spec.tokens_column, 1, f"tokens from {spec.tokens_column!r}"
    counted = first_of(TOKENS, history)
    # the Trainer writes zeros where it was not asked to count
    if counted is not None and np.nan_to_num(history.numbers(counted)).any():
        unused = "; --tokens-per-step is not used" if spec.tokens_per_step else ""
        return counted, 1, f"tokens from {counted!r}{unused}"
    samples = first_of(SAMPLES, history)
    length = spec.sequence_length or history.sequence_length
    if samples is not None and length is not None:
        return samples, length, f"tokens: {samples!r} times {length:,}"
    step = step_column(history, spec)
    per_step = spec.tokens_per_step or history.tokens_per_step
    if step is not None and per_step is not None:
        whose = "" if spec.tokens_per_step else ", which the log states"
        return step, per_step, f"tokens: {step!r} times {per_step:,}{whose}"
    if samples is not None:
        raise InputError(
            f"the log counts samples ({samples!r}), not tokens", where=where, hint="give --sequence-length"
        )
    if spec.tokens_per_step is not None:
        raise InputError(
            f"no step to multiply by --tokens-per-step; there are: {history.named()}",
            where=where,
            hint="name it with --step-column, or the tokens with --tokens-column",
        )
    raise InputError(
        "the log does not say how many tokens were trained on",
        where=where,
        hint="give --tokens-per-step (batch size times sequence length times devices), or --tokens-column",
    )


def tokens_at(rows: np.ndarray, counts: np.ndarray, steps: np.ndarray | None, where: str) -> tuple[np.ndarray, int]:
    """Counts in these rows, and how many of them lie between logged ones.

    Args:
        rows: indices of the rows asked for.
        counts: the count column; NaN where not logged. It begins at 0 with the run.
        steps: the step column, to read between rows; None where the log has none.

    Raises `InputError` for a row that no count can be given.
    """
    found = counts[rows]
    missing = ~np.isfinite(found)
    if not missing.any():
        return found, 0
    known = np.isfinite(counts) & (np.isfinite(steps) if steps is not None else False)
    at = steps[rows][missing] if steps is not None else np.array([np.nan])
    if steps is None or not np.isfinite(at).all() or not known.any():
        raise InputError(
            "some losses have no token count in their row, and no step to read one by",
            where=where,
            hint="give --step-column, or --tokens-per-step",
        )
    order = np.argsort(steps[known], kind="stable")
    known_steps, known_counts = steps[known][order], counts[known][order]
    if at.max() > known_steps[-1]:
        raise InputError(
            f"a loss at step {at.max():g}, after the last token count at step {known_steps[-1]:g}",
            where=where,
            hint="leave the row out, or give --tokens-per-step with --tokens-column of a full column",
        )
    if known_steps[0] > 0:
        known_steps, known_counts = np.append(0, known_steps), np.append(0, known_counts)
    found[missing] = np.interp(at, known_steps, known_counts)
    exact = int(np.isin(at, known_steps).sum())
    return found, int(missing.sum()) - exact
