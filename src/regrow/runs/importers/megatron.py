"""Console logs of Megatron-LM and its kin: Megatron-Bridge, Megatron-DeepSpeed, GPT-NeoX.

     iteration     1100/    2000 | consumed samples:       563200 | ... | lm loss: 4.714045E+00 | ...
     validation loss at iteration 1000 | lm loss value: 4.735407E+00 | lm loss PPL: 1.139099E+02 |

The perplexity beside the held-out loss proves that it is in nats. The count of tokens goes first, where the log prints
one; else samples times the sequence length, as batches may have grown on the way. The sequence length is in the list of
arguments at the top (`seq_length ... 2048`), where GPT-NeoX has the batch too. What was read on a test set is left out.

| tool | looked at | held-out loss | counts |
|---|---|---|---|
| NVIDIA/Megatron-LM | d98e8a6, 2026-08-22 | `validation loss at P`, `validation-NAME loss at P` | samples |
| NVIDIA-NeMo/Megatron-Bridge | 0.3.1; 067f987, 2026-08-22 | `validation loss at P` | samples |
| microsoft/Megatron-DeepSpeed | 00caa0e | `validation loss at P` | samples, tokens |
| bigscience-workshop/Megatron-DeepSpeed | main | `NAME loss at P` (often `valid`) | samples, tokens |
| EleutherAI/gpt-neox | ea7aefd, 2026-05-19 | `validation results at P`, `lm_loss value` | iterations |

P is `iteration N`, `iteration N on validation set`, `iteration N on test set`, or `the end of training for ... data`.
Sources: megatron/training/training.py (training_log, evaluate_and_print_results) and the files of that name in the kin.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History, count
from regrow.runs.importers.text import NUMBER, read_lines, to_number

_TRAIN = re.compile(r"\biteration\s+(\d+)\s*/\s*\d+\s*\|(.*)")
_FIELD = re.compile(rf"([A-Za-z][A-Za-z _-]*?)(?: \(ms\))?:\s*({NUMBER})\s*(?:\||$)")
_VALID = re.compile(r"(\S+) (?:loss|results) at (?:iteration (\d+)|the end of training)([^|]*)\|(.*)")
_LOSS = re.compile(rf"\blm[ _]loss value:\s*({NUMBER})")
_PPL = re.compile(rf"\blm[ _]loss(?: PPL|_ppl value):\s*({NUMBER})")
_ARGUMENT = re.compile(r"^\s*(?:\[[^]]*\]:?\s*)?(seq_length|train_batch_size) \.+ (\d+)(?:\D.*)?$")
_KEPT = {"consumed samples", "consumed tokens", "lm loss", "lm_loss", "learning rate"}
TELLING = re.compile(
    rf"\biteration\s+\d+\s*/\s*\d+\s*\|.*(consumed samples:|\blm[ _]loss:)|{_VALID.pattern}.*{_LOSS.pattern}"
    r"|^\s*seq_length \.{5,} \d+"
)


def read(path: Path) -> History:
    rows: list[dict[str, Any]] = []
    stated: dict[str, int] = {}
    tests = iteration = 0
    for line in read_lines(path):
        valid, train = _VALID.search(line), _TRAIN.search(line)
        if valid and (loss := _LOSS.search(valid[4])):
            if "test" in valid[1] or "test" in valid[3]:
                tests += 1
                continue
            column = _column(valid[1])
            row = {"iteration": int(valid[2]) if valid[2] else iteration, column: to_number(loss[1])}
            ppl = _PPL.search(valid[4])
            rows.append(row | ({f"{column} ppl": to_number(ppl[1])} if ppl else {}))
        elif train:
            iteration = int(train[1])
            fields = {name.strip(): to_number(value) for name, value in _FIELD.findall(train[2])}
            kept = {name.replace("lm_loss", "lm loss"): fields[name] for name in _KEPT & fields.keys()}
            rows.append({"iteration": iteration} | kept)
        elif (found := _ARGUMENT.match(line)) is not None:
            stated[found[1]] = int(found[2])
    if not rows:
        raise InputError("not a Megatron-LM log: no iteration line", where=str(path), hint="say which it is: --as")
    notes = (f"left out: {count(tests, 'loss value')} of the test set",) if tests else ()
    length, batch = stated.get("seq_length"), stated.get("train_batch_size")
    per_step = length * batch if length and batch else None
    return History.from_rows(rows, where=str(path), sequence_length=length, tokens_per_step=per_step, notes=notes)


def _column(name: str) -> str:
    """`lm loss validation`, or `lm loss validation-NAME` for one of several held-out sets."""
    plain = re.sub(r"^(validation|valid)\b[-_]?", "", name)
    return f"lm loss validation-{plain}" if plain else "lm loss validation"
