"""Logs that people already have, as run records.

Every format becomes a history: a table with a row per logged step. From there one rule applies to all: held-out
losses come from the loss column, tokens from the tokens column, or else from the step times `tokens_per_step`. A
training loss is never taken for a held-out one unless the user names its column.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import InputError, one_of
from regrow.runs.record import CurvePoint, RunRecord
from regrow.runs.table import LARGEST_LOSS

if TYPE_CHECKING:
    import pandas as pd

#: What a format calls its columns when the user does not say: loss, tokens, step.
_COLUMNS = {
    "trainer-state": ("eval_loss", "num_input_tokens_seen", "step"),
    "wandb-csv": ("eval/loss", "train/num_input_tokens_seen", "train/global_step"),
    "csv": ("loss", "tokens", "step"),
}
FORMATS = tuple(_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class ImportSpec:
    """What a log does not say of its run.

    Attributes:
        run, family, method: names; `method` is `none` for an unpruned control.
        params_before, params_after: parameters before and after pruning.
        loss_before: held-out loss of the unpruned model on the same text, nats/token.
        tokens_per_step: tokens in one optimizer step, where the log has no token counts.
        loss_column, tokens_column, step_column: where the log calls them otherwise.
        pruning_rate: where it is not 1 - after/before.
    """

    run: str
    family: str
    method: str
    params_before: int
    params_after: int
    loss_before: float
    tokens_per_step: int | None = None
    loss_column: str | None = None
    tokens_column: str | None = None
    step_column: str | None = None
    pruning_rate: float | None = None


def import_log(path: str | Path, *, kind: str, spec: ImportSpec) -> RunRecord:
    """Read one log as a run.

    Raises `InputError` for an unknown kind, a file that is not of it, a column that is missing (naming those that
    are there), values that cannot be nats/token, or steps without a way to count tokens.
    """
    loss_default, tokens_default, step_default = _COLUMNS[one_of(kind, FORMATS, what="log format", where="--as")]
    where = str(path)
    history = _READERS[kind](Path(path))
    loss_column = spec.loss_column or loss_default
    if loss_column not in history.columns:
        raise InputError(
            f"no column {loss_column!r}",
            where=where,
            hint=f"name the held-out loss with --loss-column; there are: {', '.join(map(str, history.columns))}",
        )
    rows = history[history[loss_column].notna()]
    losses = _numeric(rows, loss_column, where)
    if losses.size == 0:
        raise InputError(f"{loss_column!r} holds no number", where=where, hint="name another with --loss-column")
    if losses.min() <= 0 or losses.max() > LARGEST_LOSS:
        raise InputError(
            f"{loss_column!r} runs from {losses.min():g} to {losses.max():g}, not nats per token",
            where=where,
            hint="take the logarithm of perplexities, multiply bits by 0.6931",
        )
    tokens = _tokens(rows, spec, tokens_default, step_default, where)
    points = {round(t): float(loss) for t, loss in zip(tokens, losses, strict=True)}
    rate = 1 - spec.params_after / spec.params_before if spec.pruning_rate is None else spec.pruning_rate
    return RunRecord(
        run=spec.run,
        family=spec.family,
        method=spec.method,
        params_before=spec.params_before,
        params_after=spec.params_after,
        pruning_rate=rate,
        loss_before=spec.loss_before,
        curve=tuple(CurvePoint(tokens=t, loss=points[t]) for t in sorted(points)),
        spec={"imported_from": where, "kind": kind, "loss_column": loss_column},
        status="imported",
    )


def _tokens(rows: pd.DataFrame, spec: ImportSpec, tokens_default: str, step_default: str, where: str) -> np.ndarray:
    column = spec.tokens_column or tokens_default
    if column in rows.columns and rows[column].notna().all() and (rows[column] > 0).any():
        return _numeric(rows, column, where)
    if spec.tokens_column is not None:
        raise InputError(f"{column!r} does not hold a token count for every loss", where=where)
    step = spec.step_column or step_default
    if spec.tokens_per_step is None or step not in rows.columns:
        raise InputError(
            "the log does not say how many tokens were trained on",
            where=where,
            hint="give --tokens-per-step (batch size times sequence length times devices), or --tokens-column",
        )
    return _numeric(rows, step, where) * spec.tokens_per_step


def _numeric(rows: pd.DataFrame, column: str, where: str) -> np.ndarray:
    import pandas as pd

    values = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(values).all():
        bad = rows[column].to_numpy()[~np.isfinite(values)][0]
        raise InputError(f"{column!r} holds {bad!r}, not a number", where=where)
    return values


def _read_trainer_state(path: Path) -> pd.DataFrame:
    import pandas as pd

    path = path / "trainer_state.json" if path.is_dir() else path
    try:
        return pd.DataFrame(json.loads(path.read_text())["log_history"])
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), hint="give a trainer_state.json") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            "not a trainer_state.json", where=str(path), hint="the Trainer writes it in each checkpoint"
        ) from None


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"not a CSV file ({str(error).splitlines()[0]})", where=str(path)) from None


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "trainer-state": _read_trainer_state,
    "wandb-csv": _read_csv,
    "csv": _read_csv,
}
