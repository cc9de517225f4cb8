"""Composer and llm-foundry: the file of the `FileLogger`, and the console log.

    [metric][batch=100]: time/token: 409600
    [metric][batch=100]: metrics/eval/LanguageCrossEntropy: 2.8123

Each value is a line, with the number of batches done. `time/token` counts the tokens trained on. The console prints
blocks instead: a line of progress such as `[batch=100/2000]:` and below it ` Train NAME: VALUE` or ` Eval NAME: VALUE`;
an evaluation belongs to the block of training before it. In W&B, MLflow and TensorBoard the names are the same. Looked
at: mosaicml 0.32.1 (2025-07) and llm-foundry 0.22.0 (2025-07), composer/loggers/file_logger.py, console_logger.py and
composer/trainer/trainer.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import NUMBER, read_lines, to_number

_LOGGED = re.compile(rf"^\[metric\]\[batch=(\d+)\]: (\S.*?): ({NUMBER})\s*$")
_BLOCK = re.compile(r"\[(?:epoch=\d+\]\[)?(Eval )?batch=(\d+)(?:/\d+)?\]")
_VALUE = re.compile(rf"^\s+(?:rank\d+: *)?(Train|Eval) (\S.*?): ({NUMBER})\s*$")
TELLING = re.compile(
    r"^\[metric\]\[batch=\d+\]: |^\s+(Train|Eval) (time/|loss/train/|metrics/(train|eval))\S*: [\d.]+\s*$"
)


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    batch: int | None = None
    for line in read_lines(path):
        if found := _LOGGED.search(line):
            _put(rows, int(found[1]), found[2], to_number(found[3]))
        elif found := _VALUE.search(line):
            value = to_number(found[3])
            if found[2] == "time/batch":
                batch = int(value)
            _put(rows, batch, found[2], value)
        elif (found := _BLOCK.search(line)) and not found[1]:
            batch = int(found[2])
    if not rows:
        raise InputError("not a log of Composer: no metric", where=str(path), hint="say which it is: --as")
    return History.from_rows(rows, where=str(path))


def _put(rows: list[dict[str, Any]], batch: int | None, name: str, value: float) -> None:
    """Add a value to the row of its batch, or to a new one where the row has such a value already."""
    if not rows or rows[-1]["batch"] != batch or name in rows[-1]:
        rows.append({"batch": batch})
    rows[-1][name] = value
