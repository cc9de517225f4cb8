"""How many tokens a run had trained on at each row of its log.

The rule: the log's own count where it has one, in the row of the loss before any other row; else the samples it counts
times the length of one; else its optimizer steps times `tokens_per_step`. Never a speed times a time: logs round both,
and a speed leaves out what the run waited for. A count that is logged in other rows than the losses is read between its
neighbours by step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from regrow.errors import InputError
from regrow.runs.importers.history import History, count
from regrow.runs.importers.names import SAMPLES, STEPS, first_of, token_columns, twin_columns
from regrow.runs.importers.spec import ImportSpec
from regrow.runs.importers.tools import Counter, counter_of

#: batches whose tokens differ less than this ratio count as one: packing and padding move them a little
_SAME_BATCH = 1.02


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Tokens and optimizer steps per row of a log; NaN where a row has none.

    Attributes:
        tokens: trained on, from the column `name`.
        steps: done; None where the log has no step.
        name: the column that tokens come from.
        own: whether the log itself counts tokens.
        tool: how the tool that wrote the log counts, where that needs a rule.
        notes: how it was read, one sentence each.
    """

    tokens: np.ndarray
    steps: np.ndarray | None
    name: str
    own: bool = False
    tool: Counter | None = None
    notes: tuple[str, ...] = ()

    @property
    def counter(self) -> np.ndarray:
        """What tells the order of the rows: steps where the log has them."""
        return self.tokens if self.steps is None else self.steps

    @property
    def per_step(self) -> int | None:
        """Tokens of one optimizer step, where tokens and steps grow together; None where they do not, or one is not
        counted."""
        if self.steps is None:
            return None
        both = np.isfinite(self.tokens) & np.isfinite(self.steps) & (self.steps > 0) & (self.tokens > 0)
        each = self.tokens[both] / self.steps[both]
        alike = len(each) > 1 and each.max() <= _SAME_BATCH * each.min()
        return round(float(np.median(each))) if alike else None


def read_counts(history: History, losses: np.ndarray, spec: ImportSpec) -> Counts:
    """The counts of every row.

    Args:
        losses: rows with a loss.

    Raises `InputError` where the log counts steps or samples and nobody says how many tokens they hold, or for a count
    that is negative.
    """
    tool = counter_of(history)
    steps, notes = _steps(history, spec, tool)
    counts = _token_counts(history, losses, spec)
    if counts is None:
        counts = _samples_or_steps(history, spec, steps, notes)
    bad = counts.tokens < 0
    if bad.any():
        raise InputError(
            f"{counts.name!r} is negative ({np.nanmin(counts.tokens):g})",
            where=history.where,
            hint="tokens count from 0",
        )
    return replace(counts, steps=steps, tool=tool)


def _token_counts(history: History, losses: np.ndarray, spec: ImportSpec) -> Counts | None:
    """The log's own count of tokens, or the column that was named; None where there is none."""
    if spec.tokens_column is not None:
        if not history.has(spec.tokens_column):
            raise InputError(
                f"no column {spec.tokens_column!r}", where=history.where, hint=f"there are: {history.named()}"
            )
        name = spec.tokens_column
        return Counts(tokens=history.numbers(name), steps=None, name=name, own=True, notes=(f"tokens from {name!r}",))
    found = []
    for name in token_columns(history):
        tokens = history.numbers(name)
        if not np.nan_to_num(tokens).any():  # the Trainer writes zeros where it was not asked to count
            continue
        for twin in twin_columns(name, history):
            tokens = _joined(tokens, history.numbers(twin))
        found.append((name, tokens))
    if not found:
        return None
    name, tokens = max(found, key=lambda pair: int((np.isfinite(pair[1]) & losses).sum()))  # the first of equals
    notes = (f"tokens from {name!r}" + ("; --tokens-per-step is not used" if spec.tokens_per_step else ""),)
    return Counts(tokens=tokens, steps=None, name=name, own=True, notes=notes)


def _joined(tokens: np.ndarray, twin: np.ndarray) -> np.ndarray:
    """A count with that of its twin in the rows that lack one, unless the twin counts something else.

    A twin that does not grow with the count (the tokens of a held-out set, read again and again) is left out.
    """
    both = np.where(np.isfinite(tokens), tokens, twin)

    def falls(counts: np.ndarray) -> int:
        return int((np.diff(counts[np.isfinite(counts)]) < 0).sum())

    return both if falls(both) <= falls(tokens) else tokens


def _samples_or_steps(history: History, spec: ImportSpec, steps: np.ndarray | None, notes: tuple[str, ...]) -> Counts:
    """Tokens from samples times their length, or from steps times the tokens of one."""
    samples = first_of(SAMPLES, history)
    length = spec.sequence_length or history.sequence_length
    if samples is not None and length is not None:
        rule = f"tokens: {samples!r} times {length:,}"
        return Counts(tokens=history.numbers(samples) * length, steps=None, name=samples, notes=(rule,))
    name = _step_column(history, spec)
    per_step = spec.tokens_per_step or history.tokens_per_step
    if steps is not None and name is not None and per_step is not None:
        whose = "" if spec.tokens_per_step else ", which the log states"
        rule = f"tokens: {name!r} times {per_step:,}{whose}"
        return Counts(tokens=steps * per_step, steps=None, name=name, notes=(rule, *notes))
    if samples is not None:
        raise InputError(
            f"the log counts samples ({samples!r}), not tokens", where=history.where, hint="give --sequence-length"
        )
    if spec.tokens_per_step is not None:
        calls = [column for column in history.columns if column in history.log_calls and history.has(column)]
        why = f"; {calls[0]!r} counts log calls, not optimizer steps" if calls else ""
        raise InputError(
            f"no step to multiply by --tokens-per-step; there are: {history.named()}{why}",
            where=history.where,
            hint="name it with --step-column, or the tokens with --tokens-column",
        )
    raise InputError(
        "the log does not say how many tokens were trained on",
        where=history.where,
        hint="give --tokens-per-step (batch size times sequence length times devices), or --tokens-column",
    )


def _step_column(history: History, spec: ImportSpec) -> str | None:
    """The column with the optimizer step, if the log has one."""
    if spec.step_column is not None and not history.has(spec.step_column):
        raise InputError(f"no column {spec.step_column!r}", where=history.where, hint=f"there are: {history.named()}")
    return spec.step_column or first_of(STEPS, history)


def _steps(history: History, spec: ImportSpec, tool: Counter | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Optimizer steps done at each row, and a note where they are not the numbers logged."""
    name = _step_column(history, spec)
    if name is None:
        return None, ()
    steps = history.numbers(name)
    if spec.step_offset is not None:
        return steps + spec.step_offset, (f"{spec.step_offset:+d} to {name!r}",) if spec.step_offset else ()
    if tool is None or name not in tool.columns or not tool.offset:
        return steps, ()
    note = f"{tool.tool} logs {name!r} from 0, before the step is counted: {tool.offset} is added (--step-offset)"
    return steps + tool.offset, (note,)


def tokens_at(rows: np.ndarray, counts: Counts, kept: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    """Tokens in these rows, and how those that are not logged there were read.

    Args:
        rows: indices of the rows asked for.
        counts: of every row. A count begins at 0 with the run.
        kept: rows that were not trained again.

    Raises `InputError` for a row that no count can be given.
    """
    found = np.where(kept, counts.tokens, np.nan)[rows]
    missing = ~np.isfinite(found)
    if not missing.any():
        return found, []
    steps = None if counts.steps is None else np.where(kept, counts.steps, np.nan)
    known = np.isfinite(np.where(kept, counts.tokens, np.nan)) & (np.isfinite(steps) if steps is not None else False)
    at = steps[rows][missing] if steps is not None else np.array([np.nan])
    if steps is None or not np.isfinite(at).all() or not known.any():
        raise InputError(
            "some losses have no token count in their row, and no step to read one by",
            where=where,
            hint="give --step-column, or --tokens-per-step",
        )
    order = np.argsort(steps[known], kind="stable")
    known_steps, known_counts = steps[known][order], counts.tokens[known][order]
    if known_steps[0] > 0:
        known_steps, known_counts = np.append(0, known_steps), np.append(0, known_counts)
    beyond = at > known_steps[-1]
    found[missing] = np.interp(at, known_steps, known_counts)
    notes = []
    if beyond.any():
        found[np.flatnonzero(missing)[beyond]], note = _beyond(at[beyond], known_steps, known_counts, counts, where)
        notes.append(note)
    between = int((~np.isin(at, known_steps) & ~beyond).sum())
    if between:
        notes.append(f"the tokens of {count(between, 'evaluation')} read between the counts before and after")
    return found, notes


def _beyond(
    at: np.ndarray, steps: np.ndarray, tokens: np.ndarray, counts: Counts, where: str
) -> tuple[np.ndarray, str]:
    """Tokens at steps after the last count, where no more than a logging interval lies between."""
    if counts.tool is not None and counts.tool.final and at.max() - steps[-1] <= 1:
        note = f"{counts.tool.tool}'s last evaluation is numbered one higher and trained no further: the last count"
        return np.full(len(at), tokens[-1]), note
    earlier = steps < steps[-1]
    if not earlier.any() or at.max() - steps[-1] >= steps[-1] - steps[earlier][-1]:
        raise InputError(
            f"a loss at step {at.max():g}, after the last token count at step {steps[-1]:g}",
            where=where,
            hint="leave the row out, or name a full count with --tokens-column",
        )
    last = np.flatnonzero(earlier)[-1]
    speed = (tokens[-1] - tokens[last]) / (steps[-1] - steps[last])
    note = f"the tokens of {count(len(at), 'evaluation')} after the last count: it goes on as between the last two"
    return tokens[-1] + speed * (at - steps[-1]), note
