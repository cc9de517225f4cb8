"""What the step counter of each tool counts: one table, with the version that was looked at and its date.

Most tools log the number of optimizer steps that are done. The others are here, as far as their logs are tables; the
readers of console logs say in their first lines what is counted. A token count in the log always goes before steps, so
these rules matter only where there is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from regrow.runs.importers.history import History


@dataclass(frozen=True, kw_only=True)
class Counter:
    """How a tool counts steps.

    Attributes:
        tool: its name, for notes.
        version, date: what was looked at, and when that was released (year-month).
        columns: the columns with the step.
        offset: added to the logged number to get the steps that were done.
        source: where its code says so.
        final: whether an evaluation one step after the last token count was read before any further training.
    """

    tool: str
    version: str
    date: str
    columns: tuple[str, ...]
    offset: int
    source: str
    final: bool = False


COUNTERS = {
    "lightning": Counter(
        tool="PyTorch Lightning",
        version="2.6.6",
        date="2026-09",
        columns=("step", "trainer/global_step"),
        offset=1,
        source="loops/training_epoch_loop.py: validation is logged before _batches_that_stepped is raised",
    ),
    "litgpt": Counter(
        tool="litgpt",
        version="0.5.13",
        date="2026-07",
        columns=("step",),
        offset=1,
        source="pretrain.py: log_dict(step=iter_num - 1), and step=iter_num for the final validation",
        final=True,
    ),
    "automodel": Counter(
        tool="NeMo AutoModel",
        version="0.7.0",
        date="2026-10",
        columns=("step",),
        offset=1,
        source="components/training/step_scheduler.py: a step is yielded before it is raised",
    ),
}


def counter_of(history: History) -> Counter | None:
    """The rule for the tool that wrote the log: as its reader says, or as its columns and its steps show."""
    return COUNTERS.get(history.tool or _by_columns(history) or "")


def _by_columns(history: History) -> str | None:
    if history.has("trainer/global_step"):  # Lightning's W&B logger is the only one to write it
        return "lightning"
    if not history.has("step"):
        return None
    if history.has("iter") and history.has("total_tokens"):
        return "litgpt"
    if history.has("num_tokens_per_step") and history.has("tps_per_gpu"):
        return "automodel"
    if history.has("epoch") and _looks_like_lightning(history):
        return "lightning"
    return None


def _looks_like_lightning(history: History) -> bool:
    """Whether a table is from Lightning's CSVLogger.

    Its file is `metrics.csv`, or each step is one less than a multiple of the interval between them; epochs are whole.
    """
    steps, epochs = _finite(history, "step"), _finite(history, "epoch")
    if steps is None or epochs is None or not np.array_equal(epochs, np.round(epochs)):
        return False
    if any(re.search(r"_(step|epoch)$", name) for name in history.columns if history.has(name)):
        return True  # self.log(..., on_step=True, on_epoch=True) names its two columns so
    if PurePath(history.where).name == "metrics.csv":
        return True
    distinct = np.unique(steps)
    if distinct.size < 3 or not np.array_equal(distinct, np.round(distinct)):
        return False
    interval = int(np.gcd.reduce(np.diff(distinct).astype(int)))
    return interval > 1 and int(distinct[0]) % interval == interval - 1


def _finite(history: History, name: str) -> np.ndarray | None:
    try:
        values = history.numbers(name)
    except ValueError:
        return None
    values = values[np.isfinite(values)]
    return values if values.size else None
