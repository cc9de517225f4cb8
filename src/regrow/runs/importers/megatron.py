"""Megatron-LM's console log (and that of its kin: Megatron-DeepSpeed, Megatron-Bridge).

     iteration     1100/    2000 | consumed samples:       563200 | ... | lm loss: 4.714045E+00 | ...
     validation loss at iteration 1000 | lm loss value: 4.735407E+00 | lm loss PPL: 1.139099E+02 |
     validation loss at the end of training for val data | lm loss value: 4.341037E+00 | ...

The perplexity beside the held-out loss proves that it is in nats. Samples times the sequence length are tokens: batches
may have grown on the way, so iterations are not used where samples are there. The sequence length is in the list of
arguments at the top (`seq_length ... 2048`). What was read on the test set is left out. Source: NVIDIA/Megatron-LM,
megatron/training/training.py (training_log, evaluate_and_print_results).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History, count
from regrow.runs.importers.text import NUMBER, clean, read_lines, to_number

_TRAIN = re.compile(r"\biteration\s+(\d+)\s*/\s*\d+\s*\|(.*)")
_FIELD = re.compile(rf"([A-Za-z][A-Za-z _-]*?)(?: \(ms\))?:\s*({NUMBER})\s*(?:\||$)")
_VALID = re.compile(rf"validation loss at (iteration (\d+)|the end of training)([^|]*)\|.*?lm loss value:\s*({NUMBER})")
_PPL = re.compile(rf"lm loss PPL:\s*({NUMBER})")
_LENGTH = re.compile(r"^\s*seq_length \.+ (\d+)\s*$")
_KEPT = {"consumed samples", "lm loss", "learning rate"}


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return False
    text = clean(head)
    return _TRAIN.search(text) is not None and ("consumed samples:" in text or "lm loss" in text)


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    length, tests = None, 0
    iteration = None
    for line in read_lines(path):
        valid, train = _VALID.search(line), _TRAIN.search(line)
        if valid:
            if "test" in valid[3]:
                tests += 1
                continue
            at = int(valid[2]) if valid[2] else iteration
            ppl = _PPL.search(line)
            row = {"iteration": at, "lm loss validation": to_number(valid[4])}
            rows.append(row | ({"lm loss validation ppl": to_number(ppl[1])} if ppl else {}))
        elif train:
            iteration = int(train[1])
            fields = {name.strip(): to_number(value) for name, value in _FIELD.findall(train[2])}
            rows.append({"iteration": iteration} | {name: fields[name] for name in _KEPT & fields.keys()})
        elif (found := _LENGTH.match(line)) is not None:
            length = int(found[1])
    if not rows:
        raise InputError("not a Megatron-LM log: no iteration line", where=str(path), hint="say which it is: --as")
    notes = (f"left out: {count(tests, 'loss value')} of the test set",) if tests else ()
    return History.from_rows(rows, where=str(path), sequence_length=length, notes=notes)
