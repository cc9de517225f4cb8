"""NeMo 2's console log.

    Training epoch 0, iteration 28/99 | lr: 5.6e-06 | global_batch_size: 32 | global_step: 28 |
    reduced_train_loss: 2.778 | train_step_timing in s: 0.189 | consumed_samples: 928 | val_loss: 2.861 | val_ppl: 17.57

(one line). `val_loss` repeats the last validation in every line until the next one, so it is read where it changes,
with the samples of the line before: those trained on when it was read. A validation that prints the very same digits
as the one before it can't be seen. Samples of the first line are often missing. Source: NVIDIA-NeMo/NeMo,
nemo/lightning/pytorch/callbacks/progress_printer.py, and logs in NVIDIA-BioNeMo/bionemo-recipes#740.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History
from regrow.runs.importers.text import NUMBER, read_lines, to_number

TELLING = re.compile(r"Training epoch \d+, iteration \d+(?:/\d+)? \|(.*)")
_FIELD = re.compile(rf"\s*([A-Za-z_]+): ({NUMBER})\s*(?:\||$)")
_HELD_OUT = ("val_loss", "val_ppl")


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    last: dict[str, float] = {}
    before: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    for line in read_lines(path):
        found = TELLING.search(line)
        if found is None:
            continue
        fields = {name: to_number(value) for name, value in _FIELD.findall(found[1])}
        # the step printed is that of the batch, counted from 0; after it one more has been trained on
        step = None if "global_step" not in fields else int(fields["global_step"]) + 1
        held_out = {name: fields[name] for name in _HELD_OUT if name in fields}
        if held_out and held_out != last:
            if before is None:
                notes = ("the validation that the first line repeats is left out: it was read before this log begins",)
            else:
                rows.append({**before, **held_out})
            last = held_out
        before = {"global_step": step, "consumed_samples": fields.get("consumed_samples")}
        rows.append({**before, "reduced_train_loss": fields.get("reduced_train_loss")})
    if not rows:
        raise InputError("not a NeMo log: no line of a training step", where=str(path), hint="say which it is: --as")
    return History.from_rows(rows, where=str(path), notes=notes)
